"""Markdown by markdown-it-py, which knows what is a heading, code or a table; the text itself stays as written."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.token import Token

from retrieval.document import BlockKind, Content
from retrieval.formats.outline import Outline, stem_of

# Blocks only: what stands inside a paragraph is never taken apart.
_PARSER = MarkdownIt("commonmark").enable("table").disable("inline")
_LEAVES: dict[str, BlockKind] = {
    "heading_open": "heading",
    "paragraph_open": "text",
    "html_block": "text",
    "hr": "text",
    "fence": "code",
    "code_block": "code",
    "table_open": "table",
}
_FRONT_MATTER = re.compile(r"---[ \t]*\n(.*?\n)(?:---|\.\.\.)[ \t]*(?:\n|$)", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title:[ \t]*(['\"]?)(.+?)\1[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A block without blocks inside: lines [first, end), and what a section's heading says."""

    kind: BlockKind
    first: int
    end: int
    level: int
    heading: str
    divides: bool


def parse_markdown(text: str, name: str) -> Content:
    """Sections under headings of the first two levels, titled "document - section"; front matter may give the title."""
    outline, body = Outline(stem_of(name)), text
    front = _FRONT_MATTER.match(text)
    if front:
        titled = _FRONT_TITLE.search(front[1])
        outline = Outline(titled[2] if titled else stem_of(name))
        outline.add_block("text", front[0])
        body = "\n" * front[0].count("\n") + text[front.end() :]
    lines = body.split("\n")
    place = 0
    for leaf in _find_leaves(body):
        _add_text(outline, lines[place : leaf.first])
        if leaf.divides:
            outline.add_heading(leaf.level, leaf.heading, "")
        else:
            outline.add_block(leaf.kind, "\n".join(lines[leaf.first : leaf.end]))
        place = leaf.end
    _add_text(outline, lines[place:])
    return outline.conclude()


def _find_leaves(text: str) -> Iterator[_Leaf]:
    tokens = _PARSER.parse(text)
    end = 0
    for place, token in enumerate(tokens):
        kind = _LEAVES.get(token.type)
        # Reference definitions have no token: what lies between leaves is text too.
        if kind is None or token.map is None or token.map[0] < end:
            continue
        end = token.map[1]
        yield _Leaf(kind, token.map[0], end, *_read_heading(tokens, place))


def _read_heading(tokens: list[Token], place: int) -> tuple[int, str, bool]:
    token = tokens[place]
    if token.type != "heading_open":
        return 0, "", False
    level = int(token.tag[1])
    # One inside a quote or a list divides nothing. Its text follows as a token of its own.
    return level, tokens[place + 1].content.strip(), level <= 2 and token.level == 0


def _add_text(outline: Outline, lines: list[str]) -> None:
    if lines:
        outline.add_block("text", "\n".join(lines))
