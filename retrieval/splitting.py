"""Documents to passages: headings stay with what they head, tables and code whole where they fit."""

import re
from collections.abc import Iterator, Sequence

from retrieval.document import Block, Document
from retrieval.passage import Passage

# all-MiniLM-L6-v2 reads 256 tokens, about 1,100 characters of English: a longer passage is found by its beginning only.
PASSAGE_CHARS = 1200

_BLANK_LINES = re.compile(r"\n(?:[ \t]*\n)+")
# Markdown's fence, also inside quotes and list items.
_FENCE_OPENS = re.compile(r"[ \t>*+\-\d.)]*(`{3,}|~{3,})")
_FENCE_CLOSES = re.compile(r"[ \t>]*(`{3,}|~{3,})[ \t]*$")
_TABLE_RULE = re.compile(r"[ \t>|:\-*+\d.)]*-[ \t>|:\-]*$")
# Where a text is cut, best first, and how much of the separator the piece before it keeps.
_CUTS = (("\n\n", 0), ("\n", 0), (". ", 1), (" ", 0))


def split_document(document: Document, limit: int = PASSAGE_CHARS) -> tuple[Passage, ...]:
    """The passages of a document in its order, none longer than `limit` characters; no text is lost but white space."""
    passages: list[Passage] = []
    sources = _Sources()
    for section in document.sections:
        for number, text in enumerate(split_blocks(section.blocks, limit), start=1):
            passages.append(
                Passage(
                    text=text,
                    title=section.title,
                    source=sources.choose(f"{document.id}#{number if section.anchor is None else section.anchor}"),
                    document=document.id,
                    position=len(passages),
                    fingerprint=document.fingerprint,
                    metadata=document.metadata,
                )
            )
    return tuple(passages)


def split_text(text: str, limit: int = PASSAGE_CHARS) -> tuple[str, ...]:
    """A text in pieces of at most `limit` characters, cut between paragraphs, else lines, else sentences…"""
    return tuple(_cut_text(text, limit))


def split_blocks(blocks: Sequence[Block], limit: int = PASSAGE_CHARS) -> Iterator[str]:
    """Blocks gathered up to `limit` characters.

    A block that is longer is cut, a table between rows and under its header each time, code inside its fences.
    """
    gathered, heads_from = "", None  # Where the headings begin that `gathered` ends with, None without.
    for block in blocks:
        joined = f"{gathered}\n{block.text}" if gathered.strip() else block.text
        # Blocks are as long as documents: only one that may fit is copied to see.
        if len(joined.strip("\n") if len(joined) <= 2 * limit else joined) > limit:
            before = gathered if heads_from is None else gathered[:heads_from]
            lead = "" if heads_from is None else gathered[heads_from:].lstrip("\n")
            if before.strip():
                yield before.strip("\n")
            joined, heads_from = (f"{lead}\n{block.text}" if lead else block.text), (0 if lead else None)
            if len(joined.strip("\n")) > limit:
                yield from _cut_block(block, lead, limit)
                gathered, heads_from = "", None
                continue
            gathered = ""
        if block.kind != "heading":
            heads_from = None if block.text.strip() else heads_from
        elif heads_from is None:
            heads_from = len(joined) - len(block.text)
        gathered = joined
    if gathered.strip():
        yield gathered.strip("\n")


def _cut_block(block: Block, lead: str, limit: int) -> Iterator[str]:
    """The parts of a block too long for one passage, the first of them under the headings before it."""
    if len(lead) > limit // 4:
        yield from _cut_text(lead, limit)
        lead = ""
    room = limit - len(lead) - 1 if lead else limit
    cut = {"code": _cut_code, "table": _cut_table}.get(block.kind, _cut_text)
    for part in cut(block.text, room):
        yield f"{lead}\n{part}" if lead else part
        lead = ""


def _cut_text(text: str, limit: int) -> Iterator[str]:
    text = text.strip("\n")
    if len(text) <= limit:
        if text.strip():
            yield text
        return
    text = _BLANK_LINES.sub("\n\n", text)
    start = 0
    while start < len(text):
        end = _choose_cut(text, start, limit)
        piece = text[start:end].strip("\n").rstrip()
        if piece:
            yield piece
        start = end
        # Of what separates, only line ends and the one space are left out: what follows may be indented.
        if text.startswith("\n", start):
            while text.startswith("\n", start):
                start += 1
        elif text.startswith(" ", start):
            start += 1


def _choose_cut(text: str, start: int, limit: int) -> int:
    if len(text) - start <= limit:
        return len(text)
    for separator, kept in _CUTS:
        at = text.rfind(separator, start + 1, start + limit + len(separator) - kept)
        if at > start and not text[start : at + kept].isspace():
            return at + kept
    return start + limit


def _cut_code(text: str, limit: int) -> Iterator[str]:
    lines = text.strip("\n").split("\n")
    opened = _FENCE_OPENS.match(lines[0])
    if opened is None:
        yield from _cut_text(text, limit)
        return
    closed = len(lines) > 1 and _FENCE_CLOSES.match(lines[-1])
    inner, closer = (lines[1:-1], lines[-1]) if closed else (lines[1:], opened[1])
    room = limit - len(lines[0]) - len(closer) - 2
    if room < limit // 2:
        yield from _cut_text(text, limit)
        return
    for part in _cut_text("\n".join(inner), room):
        yield f"{lines[0]}\n{part}\n{closer}"


def _cut_table(text: str, limit: int) -> Iterator[str]:
    lines = text.strip("\n").split("\n")
    header = "\n".join(lines[:2])
    room = limit - len(header) - 1
    if len(lines) < 3 or not _TABLE_RULE.match(lines[1]) or room < limit // 2:
        yield from _cut_text(text, limit)
        return
    gathered = ""
    for line in lines[2:]:
        joined = f"{gathered}\n{line}" if gathered else line
        if len(joined) <= room:
            gathered = joined
            continue
        if gathered.strip():
            yield f"{header}\n{gathered}"
        *parts, gathered = _cut_text(line, room) if line.strip() else [""]
        for part in parts:
            yield f"{header}\n{part}"
    if gathered.strip():
        yield f"{header}\n{gathered}"


class _Sources:
    """Names within one document, the second of a kind with -2 behind it."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._last: dict[str, int] = {}

    def choose(self, wanted: str) -> str:
        source, number = wanted, self._last.get(wanted, 1)
        while source in self._taken:
            number += 1
            source = f"{wanted}-{number}"
        self._last[wanted] = number
        self._taken.add(source)
        return source
