"""What finds passages. Apart from the fleet file, whose types take pydantic along: index actors start without it."""

from typing import Literal

SearchMode = Literal["hybrid", "dense", "lexical"]
"""Meaning and words together, or one of them."""
