"""PDF by pypdfium2, the engine of Chrome: the text of each page. Pictures are not read.

PDFium is native code that meets whatever somebody sends, so it runs in `retrieval.parser_process` only.
"""

import pypdfium2 as pdfium

from retrieval.document import CannotRead, Content
from retrieval.formats.outline import Outline, stem_of

# How PDFium writes a hyphen at which a line was broken.
_BROKEN_WORD = ("\ufffe\n", "\x02\n", "\ufffe", "\x02")


def parse_pdf(data: bytes, name: str) -> Content:
    """One section for each page with text, titled by the bookmark that the page lies under."""
    try:
        pdf = pdfium.PdfDocument(data)
        count = len(pdf)
    except pdfium.PdfiumError as error:
        if "password" in str(error).lower():
            raise CannotRead("is encrypted; save it without its password") from error
        raise CannotRead(f"is not a PDF that can be opened: {error}; save it again with a PDF program") from error
    outline = Outline(_read_title(pdf) or stem_of(name))
    bookmarks = _read_bookmarks(pdf)
    chapter = ""
    for number in range(1, count + 1):
        chapter = bookmarks.get(number - 1, chapter)
        title = f"{outline.title} - {chapter}" if chapter else outline.title
        if (text := _read_page(pdf, number, count)).strip():
            outline.add_section(title, f"page-{number}", "text", text)
    content = outline.conclude()
    if not content.sections:
        pages = "1 page" if count == 1 else f"{count} pages"
        raise CannotRead(f"has no text on its {pages}, as a scan has; run text recognition (OCR) over it")
    return content


def _read_page(pdf: pdfium.PdfDocument, number: int, count: int) -> str:
    try:
        page = pdf[number - 1]
        text_page = page.get_textpage()
        text = str(text_page.get_text_range(errors="replace")).replace("\r\n", "\n").replace("\0", "")
        text_page.close()
        page.close()
    except pdfium.PdfiumError as error:
        raise CannotRead(
            f"has a page that cannot be read, {number} of {count}: {error}; save it again with a PDF program"
        ) from error
    for mark in _BROKEN_WORD:
        text = text.replace(mark, "")
    return text


def _read_title(pdf: pdfium.PdfDocument) -> str:
    title = str(pdf.get_metadata_value("Title") or "").replace("\0", "")
    return title.removeprefix("Microsoft Word - ").strip()


def _read_bookmarks(pdf: pdfium.PdfDocument) -> dict[int, str]:
    """Page index to the first bookmark on it."""
    found: dict[int, str] = {}
    try:
        for bookmark in pdf.get_toc(max_depth=3):
            destination = bookmark.get_dest()
            page = destination.get_index() if destination is not None else None
            if page is not None:
                found.setdefault(page, " ".join(bookmark.get_title().split()))
    except pdfium.PdfiumError:
        return found  # A broken table of contents takes nothing from the pages.
    return found
