"""Plain text, and bytes to text."""

from retrieval.document import Block, CannotRead, Content, Section, clip_title, normalize_lines
from retrieval.formats.outline import stem_of

UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def parse_plain(text: str, name: str) -> Content:
    """One section named after the file, its passages counted."""
    title = clip_title(stem_of(name))
    return Content(title, (Section(title, None, (Block("text", text),)),))


def decode_text(data: bytes) -> str:
    """UTF-8, with or without a byte order mark, with line ends as `\\n`; raises CannotRead for anything else."""
    if data.startswith(UTF_16):
        raise CannotRead("is UTF-16; convert it to UTF-8")
    if (at := data.find(b"\0")) >= 0:
        raise CannotRead(f"is binary: it holds a null byte at byte {at}; convert it to text or leave it out")
    try:
        return normalize_lines(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise CannotRead(f"is not UTF-8: {error.reason} at byte {error.start}; convert it") from error
