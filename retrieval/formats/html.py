"""HTML by selectolax (the Lexbor engine): what a reader of the page sees, as Markdown would write it.

Scripts, styles, navigation and embedded pages are left out. Nothing is fetched.
"""

import codecs
import re

from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

from retrieval.document import CannotRead, Content, clip_title, normalize_lines
from retrieval.formats.outline import Outline, stem_of
from retrieval.formats.plain import decode_text

_LEFT_OUT = [
    *("head", "script", "style", "noscript", "template", "svg", "iframe", "object", "embed", "canvas", "nav"),
    *("audio", "video", "datalist"),
]
_INLINE = frozenset(
    {
        *(
            "a",
            "abbr",
            "acronym",
            "b",
            "bdi",
            "bdo",
            "big",
            "cite",
            "code",
            "data",
            "del",
            "dfn",
            "em",
            "font",
            "i",
            "img",
        ),
        *(
            "input",
            "ins",
            "kbd",
            "label",
            "mark",
            "math",
            "meter",
            "output",
            "q",
            "ruby",
            "rb",
            "rp",
            "rt",
            "s",
            "samp",
            "small",
        ),
        *("span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr", "-text"),
    }
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
# Short rows are filled up in tables of this width at most: one row of a million cells would multiply every other.
_PADDED_COLUMNS = 64
_DECLARED = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?([\w-]{1,40})", re.IGNORECASE)


def parse_html(data: bytes, name: str) -> Content:
    """Sections as Markdown has them, code fenced, tables of data with `|` between cells."""
    text = _decode(data)
    try:
        tree = LexborHTMLParser(text)
    except SelectolaxError as error:
        raise MemoryError from error  # Every text is HTML of some kind: nothing else can fail.
    titled = tree.css_first("title")
    title = clip_title(titled.text() if titled is not None else "")
    tree.strip_tags(_LEFT_OUT, recursive=True)
    page = _Page(Outline(title or stem_of(name)))
    if tree.body is not None:
        page.read(tree.body)
    return page.outline.conclude()


def _decode(data: bytes) -> str:
    declared = _DECLARED.search(data[:1024])
    if declared is None or data.startswith(codecs.BOM_UTF8):
        return decode_text(data)
    encoding = declared[1].decode("ascii", "replace").lower()
    if encoding in ("utf-8", "utf8"):
        return decode_text(data)
    try:
        return normalize_lines(data.decode(encoding))
    except (LookupError, UnicodeError, ValueError) as error:
        raise CannotRead(f"says it is {encoding} and cannot be read as that: {error}; convert it to UTF-8") from error


class _Page:
    """Walks a tree by its links, without recursion: pages nest as deep as somebody likes."""

    def __init__(self, outline: Outline) -> None:
        self.outline = outline
        self._inline: list[str] = []

    def read(self, root: LexborNode) -> None:
        node, ancestors = root, list[LexborNode]()
        while True:
            inside = None if self._enter(node) else node.child
            if inside is not None:
                ancestors.append(node)
                node = inside
                continue
            while True:
                self._leave(node)
                if not ancestors:
                    self._end_block()
                    return
                if node.next is not None:
                    node = node.next
                    break
                node = ancestors.pop()

    def _enter(self, node: LexborNode) -> bool:
        """Take what a node begins with; whether all inside it is taken too."""
        tag = node.tag or ""
        if node.is_text_node:
            self._inline.append(re.sub(r"\s+", " ", node.text_content or ""))
            return True
        if tag == "br":
            self._inline.append("\n")
            return True
        if tag in _INLINE:
            if tag == "img" and (seen := node.attributes.get("alt")):
                self._inline.append(f" {seen} ")
            return False
        self._end_block()
        if tag in _HEADINGS:
            text = _flatten(node)
            self.outline.add_heading(_HEADINGS[tag], text, f"{'#' * _HEADINGS[tag]} {text}\n")
            return True
        if tag in ("pre", "textarea", "listing"):
            self._add_code(node.text().strip("\n"))
            return True
        if tag == "table":
            return self._add_table(node)
        if tag == "li":
            self._inline.append("- ")
        return tag in ("-comment", "!--")

    def _leave(self, node: LexborNode) -> None:
        tag = node.tag or ""
        if tag not in _INLINE and tag != "br":
            self._end_block(tight=tag in ("li", "dt", "tr", "option"))

    def _end_block(self, tight: bool = False) -> None:
        lines = [" ".join(line.split()) for line in "".join(self._inline).split("\n")]
        self._inline = []
        text = "\n".join(line for line in lines if line)
        if text and text != "-":
            self.outline.add_block("text", text if tight else f"{text}\n")

    def _add_code(self, text: str) -> None:
        if text.strip():
            longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
            fence = "`" * max(3, longest + 1)
            self.outline.add_block("code", f"{fence}\n{text}\n{fence}\n")

    def _add_table(self, table: LexborNode) -> bool:
        """Whether it is a table of data and was taken; one that lays out a page is read cell by cell."""
        if table.css_first("table table, h1, h2, pre, ul, ol") is not None:
            return False
        rows = [_read_cells(row) for row in table.css("tr")]
        columns = max((len(row) for row in rows), default=0)
        if len(rows) < 2 or columns < 2:
            return False
        if (caption := table.css_first("caption")) is not None:
            self.outline.add_block("text", _flatten(caption))
        rows = [row for row in rows if any(row)] or [[]]
        if columns <= _PADDED_COLUMNS:
            rows = [[*row, *[""] * (columns - len(row))] for row in rows]
        first, *others = rows
        lines = [f"| {' | '.join(row)} |" for row in (first, ["---"] * len(first), *others)]
        self.outline.add_block("table", "\n".join(lines) + "\n")
        return True


def _read_cells(row: LexborNode) -> list[str]:
    cells, cell = [], row.child
    while cell is not None:
        if cell.tag in ("td", "th"):
            cells.append(_flatten(cell).replace("|", "\\|"))
        cell = cell.next
    return cells


def _flatten(node: LexborNode) -> str:
    """The text inside on one line; blocks and line breaks part words."""
    inside = node.traverse(include_text=True)
    seen = ((part.text_content or "") if part.is_text_node else " " * (part.tag not in _INLINE) for part in inside)
    return " ".join("".join(seen).split())
