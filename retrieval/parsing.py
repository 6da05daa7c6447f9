"""The bytes of a whole document to its content, by what its name ends in."""

from retrieval.document import CannotRead, Content
from retrieval.formats.plain import decode_text, parse_plain

# Formats with one document in a file; CSV and JSONL have one in a row.
PARSED_SUFFIXES = (".txt", ".md", ".html", ".htm", ".pdf", ".py")
SUFFIXES = (*PARSED_SUFFIXES, ".csv", ".jsonl")
# What people keep documents in and nothing here reads: worth a word when it lies in a folder, unlike a picture.
FOREIGN_SUFFIXES = (
    *(".doc", ".docx", ".odt", ".rtf", ".epub", ".ppt", ".pptx", ".odp", ".xls", ".xlsx", ".ods"),
    *(".zip", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".tar"),
)

_SIGNATURES = (
    (b"PK\x03\x04", "a zip archive, as .docx and .xlsx are"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a rar archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document"),
    (b"{\\rtf", "a Rich Text document"),
    (b"%PDF-", "a PDF"),
)
_PDF_BEGINS_WITHIN = 1024


def check_signature(suffix: str, head: bytes) -> None:
    """Raise CannotRead when a file begins as something else than its name says; no archive is ever opened."""
    found = next((what for signature, what in _SIGNATURES if head.startswith(signature)), None)
    if suffix == ".pdf":
        if b"%PDF-" not in head[:_PDF_BEGINS_WITHIN]:
            raise CannotRead(f"is {found or 'not a PDF'} in spite of its name; convert it to PDF or text")
    elif found == "a PDF":
        raise CannotRead("is a PDF in spite of its name; rename it to .pdf")
    elif found is not None:
        raise CannotRead(f"is {found}, in spite of its name; convert it to PDF or text")


def parse_content(suffix: str, data: bytes, name: str) -> Content:
    """What a document of one of PARSED_SUFFIXES holds; raises CannotRead, or MemoryError.

    Apart from plain text, a hostile document makes this slow, large or (PDF) end the process: see `parser_process`.
    """
    try:
        return _parse(suffix, data, name)
    except (CannotRead, MemoryError):
        raise
    except Exception as error:
        # Parsers are somebody else's and documents anybody's: none of them ends the reading of the others.
        raise CannotRead(
            f"cannot be parsed ({type(error).__name__}: {str(error)[:200]}); convert it to plain text"
        ) from error


def _parse(suffix: str, data: bytes, name: str) -> Content:
    # Imported when the first document needs them.
    if suffix == ".pdf":
        from retrieval.formats.pdf import parse_pdf

        return parse_pdf(data, name)
    if suffix in (".html", ".htm"):
        from retrieval.formats.html import parse_html

        return parse_html(data, name)
    text = decode_text(data)
    if suffix == ".md":
        from retrieval.formats.markdown import parse_markdown

        return parse_markdown(text, name)
    if suffix == ".py":
        from retrieval.formats.python import parse_python

        return parse_python(text, name)
    return parse_plain(text, name)
