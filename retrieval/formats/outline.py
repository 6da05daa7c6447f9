"""What the parsers share: names, headings to sections, and the limits on what comes out."""

import re
from pathlib import PurePosixPath

from retrieval.document import DOCUMENT_BYTES, SECTIONS, Block, BlockKind, CannotRead, Content, Section, clip_title


class Outline:
    """A document as it is parsed: first-level headings give it a title, second-level ones a section.

    Deeper headings stay in the text. Sections without text are left out. Raises CannotRead at a limit.
    """

    def __init__(self, title: str) -> None:
        self.title = clip_title(title)
        self._default = self.title
        self._document = self.title
        self._section = ""
        self._blocks: list[Block] = []
        self._sections: list[Section] = []
        self._chars = 0

    def add_heading(self, level: int, text: str, lines: str) -> None:
        """A heading of level 1 to 6; `lines` is how it stands in the text when it stays there."""
        if level > 2:
            self.add_block("heading", lines)
            return
        self._close()
        title = clip_title(text)
        if level == 1:
            self._document, self._section = title or self._default, ""
            if not self._sections:
                self.title = self._document
        else:
            self._section = title
        if len(title) < len(text.strip()):
            self.add_block("text", text)

    def add_block(self, kind: BlockKind, text: str) -> None:
        """The next lines of the open section."""
        # More blank lines than one say nothing more, and a million of them would be copied with every block.
        kept = text.rstrip("\n")
        self._blocks.append(Block(kind, f"{kept}\n" if len(kept) < len(text) else kept))
        self._count(kept)

    def add_section(self, title: str, anchor: str, kind: BlockKind, text: str) -> None:
        """A section of its own, under no heading."""
        self._sections.append(Section(clip_title(title), anchor, (Block(kind, text),)))
        self._count(text)
        self._check_sections()

    def conclude(self) -> Content:
        """All of it; the outline takes nothing more."""
        self._close()
        return Content(self.title, tuple(self._sections))

    def _close(self) -> None:
        if any(block.text.strip() for block in self._blocks):
            title = f"{self._document} - {self._section}" if self._section else self._document
            self._sections.append(Section(title, _slug(self._section or self._document), tuple(self._blocks)))
            self._check_sections()
        self._blocks = []

    def _check_sections(self) -> None:
        if len(self._sections) > SECTIONS:
            raise CannotRead(f"has more than {SECTIONS:,} sections; split it")

    def _count(self, text: str) -> None:
        self._chars += len(text)
        if self._chars > DOCUMENT_BYTES:
            raise CannotRead(f"holds more than {DOCUMENT_BYTES // 10**6} million characters of text; split it")


def stem_of(name: str) -> str:
    """A file's name without folders and ending: the title of a document that has none."""
    return PurePosixPath(name).stem


def _slug(heading: str) -> str:
    words = re.sub(r"[^\w\s-]", "", heading.lower())
    return re.sub(r"\s+", "-", words.strip()) or "section"
