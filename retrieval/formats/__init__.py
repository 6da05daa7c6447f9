"""One module for each format of documents; nothing of a document is executed and nothing it links to is fetched."""
