"""Documents to read in tests."""

from collections.abc import Sequence


def build_pdf(
    pages: Sequence[str], title: str = "", bookmarks: Sequence[tuple[str, int]] = (), more: bytes = b""
) -> bytes:
    """A PDF with a line of text for each line of its pages; `more` goes into the trailer."""
    objects: list[bytes] = []

    def add(body: bytes) -> int:
        objects.append(body)
        return len(objects)

    catalog, tree, outlines, font, info = (add(b"") for _ in range(5))
    objects[font - 1] = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
    objects[info - 1] = f"<< /Title ({title}) >>".encode()
    kids = []
    for text in pages:
        shown = "".join(f"({line}) Tj 0 -14 Td " for line in text.split("\n"))
        stream = f"BT /F1 12 Tf 72 720 Td {shown}ET".encode()
        content = add(b"<< /Length %d >>\nstream\n%b\nendstream" % (len(stream), stream))
        kids.append(
            add(
                b"<< /Type /Page /Parent %d 0 R /MediaBox [0 0 612 792] /Contents %d 0 R "
                b"/Resources << /Font << /F1 %d 0 R >> >> >>" % (tree, content, font)
            )
        )
    marks = [len(objects) + 1 + number for number in range(len(bookmarks))]
    for number, (name, page) in enumerate(bookmarks):
        following = b"/Next %d 0 R " % marks[number + 1] if number + 1 < len(marks) else b""
        add(
            b"<< /Title (%b) /Parent %d 0 R %b/Dest [%d 0 R /Fit] >>" % (name.encode(), outlines, following, kids[page])
        )
    objects[outlines - 1] = b"<< /Type /Outlines %b >>" % (
        b"/First %d 0 R /Last %d 0 R /Count %d" % (marks[0], marks[-1], len(marks)) if marks else b""
    )
    objects[catalog - 1] = b"<< /Type /Catalog /Pages %d 0 R /Outlines %d 0 R >>" % (tree, outlines)
    listed = b" ".join(b"%d 0 R" % kid for kid in kids)
    objects[tree - 1] = b"<< /Type /Pages /Count %d /Kids [%b] >>" % (len(kids), listed)
    return assemble_pdf(objects, b"/Info %d 0 R %b" % (info, more))


def assemble_pdf(objects: Sequence[bytes], trailer: bytes = b"") -> bytes:
    """The file of numbered objects; the first is the catalog."""
    data, places = b"%PDF-1.7\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(data))
        data += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    return (
        data
        + b"xref\n0 %d\n0000000000 65535 f \n%btrailer << /Size %d /Root 1 0 R %b >>\nstartxref\n%d\n%%%%EOF"
        % (
            size,
            table,
            size,
            trailer,
            len(data),
        )
    )
