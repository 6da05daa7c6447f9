"""Documents that are broken, huge or made to harm: each is told with its reason, in bounded memory and time."""

import io
import json
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from retrieval.document import DOCUMENT_BYTES, CannotRead, Document, Unreadable
from retrieval.parser_process import ParserProcess
from retrieval.read import parse_document, read_documents
from retrieval.splitting import PASSAGE_CHARS, split_document
from tests.retrieval.documents import assemble_pdf, build_pdf


def write_zip_bomb(path: Path) -> bytes:
    """A document of Word, as far as its name and its files say, that unfolds to 100 MB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", bytes(100_000_000))
    return path.read_bytes()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    bomb = write_zip_bomb(folder / "bomb.docx")
    for ending in ("pdf", "txt", "html", "csv", "jsonl"):
        (folder / f"bomb.{ending}").write_bytes(bomb)
    (folder / "empty.txt").touch()
    (folder / "empty.pdf").touch()
    (folder / "blank.md").write_text(" \n\n\t")
    (folder / "headings.md").write_text("# A\n\n## B\n")
    with (folder / "huge.txt").open("wb") as file:
        file.truncate(200_000_000)
    (folder / "latin.txt").write_bytes(b"caf\xe9")
    (folder / "utf16.txt").write_text("text", encoding="utf-16")
    (folder / "binary.txt").write_bytes(b"\x7fELF\x02\x00\x00")
    (folder / "garbage.pdf").write_bytes(b"%PDF-1.7\n" + bytes(range(256)) * 100)
    (folder / "cut.pdf").write_bytes(build_pdf(["text"])[:200])
    (folder / "page.txt").write_bytes(build_pdf(["text"]))
    (folder / "loop.pdf").write_bytes(
        assemble_pdf(
            [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Count 2147483647 /Kids [2 0 R 2 0 R] >>"]
        )
    )
    (folder / "pages.pdf").write_bytes(build_pdf(["text"]).replace(b"/Pages /Count 1 ", b"/Pages /Count 2147483647 "))
    (folder / "long_line.jsonl").write_text(
        '{"id": "a", "text": "' + "x" * 11_000_000 + '"}\n{"id": "ok", "text": "y"}\n'
    )
    (folder / "long_quote.csv").write_text('id,text\na,"' + "never closed\n" * 1_000_000)
    (folder / "fine.txt").write_text("fine")
    (folder / "zz.txt").write_text("fine too")
    return folder


WORDS = {
    "binary.txt": "is binary: it holds a null byte at byte 5",
    "blank.md": "has no text",
    "bomb.csv": "is a zip archive, as .docx and .xlsx are, in spite of its name",
    "bomb.docx": "ends in '.docx', which is not read; convert it",
    "bomb.html": "is a zip archive",
    "bomb.jsonl": "is a zip archive",
    "bomb.pdf": "is a zip archive, as .docx and .xlsx are in spite of its name; convert it to PDF or text",
    "bomb.txt": "is a zip archive",
    "cut.pdf": "is not a PDF that can be opened",
    "empty.pdf": "is empty (0 bytes)",
    "empty.txt": "is empty (0 bytes)",
    "garbage.pdf": "is not a PDF that can be opened",
    "headings.md": "has no text",
    "huge.txt": "is 200.0 MB, limit 50 MB for one document; split it, or give its parts as rows of a .jsonl file",
    "latin.txt": "is not UTF-8: unexpected end of data at byte 3; convert it",
    "long_line.jsonl line 1": "is longer than 10 MB, the limit of a row",
    "long_quote.csv line 2": "or close its quote; what follows is not read",
    "loop.pdf": "is not a PDF that can be opened",
    "page.txt": "is a PDF in spite of its name; rename it to .pdf",
    "utf16.txt": "is UTF-16; convert it to UTF-8",
}

# Peak memory counts from a process's start, so the reading is done in one of its own.
READ = """
import json, resource, sys
from retrieval.document import Unreadable
from retrieval.read import read_documents
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = [[one.source, one.reason] if isinstance(one, Unreadable) else one.id for one in read_documents(sys.argv[1:])]
peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(json.dumps({"found": found, "mib": [(peaks[0] - base) / 1024, peaks[1] / 1024]}))
"""


def read_measured(*sources: Path) -> tuple[list[str], dict[str, str], tuple[float, float]]:
    """Ids read, reasons by file, and the MiB that reading took here and in parser processes."""
    done = subprocess.run([sys.executable, "-c", READ, *map(str, sources)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    ids = [one for one in answer["found"] if isinstance(one, str)]
    reasons = {Path(one[0]).name: one[1] for one in answer["found"] if not isinstance(one, str)}
    here, apart = answer["mib"]
    return ids, reasons, (here, apart)


def test_every_hostile_document_is_told_with_its_reason_and_the_others_are_read(hostile: Path) -> None:
    ids, reasons, (here, apart) = read_measured(hostile)
    assert ids == ["fine.txt", "ok", "pages.pdf", "zz.txt"]
    for name, words in WORDS.items():
        assert words in reasons.pop(name), name
    assert not reasons
    assert here < 150
    assert apart < 150


def test_a_document_that_is_one_long_line_is_read_and_cut(tmp_path: Path) -> None:
    line = "one long line of words " * 220_000
    for ending, text in (("txt", line), ("md", line), ("html", f"<p>{line}"), ("py", f"x = '{line}'")):
        (tmp_path / f"line.{ending}").write_text(text)
    (tmp_path / "solid.txt").write_text("x" * 5_000_000)
    (tmp_path / "rows.jsonl").write_text(json.dumps({"id": "row", "text": line}))
    (tmp_path / "rows.csv").write_text(f"id,text\nfield,{line}\n")
    ids, reasons, (here, apart) = read_measured(tmp_path)
    assert ids == ["line.html", "line.md", "line.py", "line.txt", "field", "row", "solid.txt"]
    assert not reasons
    assert here < 200
    assert apart < 300
    began = time.process_time()
    for document in read_documents([str(tmp_path / "solid.txt"), str(tmp_path / "line.txt")]):
        assert isinstance(document, Document)
        passages = split_document(document)
        assert sum(len(passage.text) for passage in passages) >= 4_900_000
        assert max(len(passage.text) for passage in passages) <= PASSAGE_CHARS
    assert time.process_time() - began < 10


def test_ten_thousand_duplicates_are_one_document_or_ten_thousand_by_their_ids(tmp_path: Path) -> None:
    (tmp_path / "same.jsonl").write_text('{"id": "a", "text": "same"}\n' * 10_000)
    (tmp_path / "text.jsonl").write_text("".join(f'{{"id": "{n}", "text": "same"}}\n' for n in range(10_000)))
    found = list(read_documents([str(tmp_path)]))
    documents = [one for one in found if isinstance(one, Document)]
    assert len(documents) == 10_001
    assert len({document.fingerprint for document in documents}) == 1
    doubled = [one for one in found if isinstance(one, Unreadable)]
    assert len(doubled) == 9_999
    assert doubled[-1].source.endswith("same.jsonl line 10000")


@pytest.fixture
def small() -> Iterator[ParserProcess]:
    with ParserProcess(timeout_s=3.0, memory_bytes=256 << 20) as parser:
        yield parser


def test_html_nested_a_hundred_thousand_deep_is_ended_in_time_and_the_next_is_read(small: ParserProcess) -> None:
    with pytest.raises(CannotRead, match=r"takes over 3 s to parse; split it or convert it to plain text"):
        small.parse(".html", b"<div>" * 200_000 + b"x", "deep.html")
    assert small.parse(".html", b"<p>x", "fine.html").sections[0].blocks[0].text == "x\n"


def test_html_nested_deep_is_read_where_there_is_time(tmp_path: Path) -> None:
    (document,) = parse_document("deep.html", b"<p>" + b"<span>" * 3_000 + b"text")
    assert isinstance(document, Document)
    assert document.sections[0].blocks[0].text == "text\n"


def test_a_pdf_that_unfolds_to_gigabytes_costs_itself_only(small: ParserProcess) -> None:
    # 300 MB of operators that draw nothing, deflated twice to some kilobytes.
    inner = zlib.compressobj(9)
    once = b"".join(inner.compress(b"q Q " * 1_000_000) for _ in range(75)) + inner.flush()
    twice = zlib.compress(once, 9)
    assert len(twice) < 100_000
    stream = b"<< /Length %d /Filter [/FlateDecode /FlateDecode] >>\nstream\n%b\nendstream" % (len(twice), twice)
    pdf = assemble_pdf(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R >>",
            stream,
        ]
    )
    with pytest.raises(CannotRead) as told:
        small.parse(".pdf", pdf, "bomb.pdf")
    assert "ended its parser (signal" in str(told.value) or "takes over 3 s to parse" in str(told.value)
    assert small.parse(".pdf", build_pdf(["text"]), "fine.pdf").sections[0].blocks[0].text == "text"


@pytest.mark.parametrize(("suffix", "data"), [(".md", b"a\n\n" * 500_000), (".html", b"<p>a" * 2_000_000)])
def test_a_document_that_takes_too_much_memory_is_told_and_the_next_is_read(suffix: str, data: bytes) -> None:
    with ParserProcess(memory_bytes=128 << 20) as parser:
        with pytest.raises(CannotRead, match=r"over 128 MiB"):
            parser.parse(suffix, data, "large")
        assert parser.parse(".md", b"x", "fine.md").title == "fine"


def test_more_sections_than_a_book_has_are_told() -> None:
    with ParserProcess() as parser, pytest.raises(CannotRead, match="more than 100,000 sections; split it"):
        parser.parse(".html", b"<h2>a</h2>b" * 100_001, "sections.html")


def test_a_parser_that_dies_is_told_and_the_next_document_is_read(small: ParserProcess) -> None:
    small.parse(".md", b"x", "first.md")
    assert small._child is not None
    small._child.kill()
    with pytest.raises(CannotRead, match=r"ended its parser \(signal 9\)"):
        small.parse(".md", b"x", "second.md")
    assert small.parse(".md", b"x", "third.md").title == "third"


def test_python_and_html_are_read_and_never_run(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    evil = f"open({str(witness)!r}, 'w').close()\n\ndef f(): ...\n"
    (document,) = parse_document("evil.py", evil.encode())
    assert isinstance(document, Document)
    (page,) = parse_document("evil.html", b"<body onload='x()'><script src='http://127.0.0.1:9/x.js'></script><p>text")
    assert isinstance(page, Document)
    assert not witness.exists()


def test_a_document_that_grows_while_it_is_read_is_ended_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            buffer[:] = b"x" * len(buffer)
            return len(buffer)

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(Endless(), 1 << 20)))
    (told,) = read_documents(["-"])
    assert isinstance(told, Unreadable)
    assert f"limit {DOCUMENT_BYTES / 1e6:g} MB" in told.reason
