"""Lists of short texts, written as one text so that they stay readable in bulk."""


def split_alternatives(text: str) -> list[str]:
    """The alternatives between the bars."""
    return text.split("|")
