"""One module per domain: invented records, what can be asked of them, and the phrasings of the questions."""
