"""Where documents are found, what they are called, and that a bad one is told."""

import io
import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from retrieval.document import CannotRead, Document, Unreadable, build_document
from retrieval.read import parse_document, read_documents


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        stem, _, ending = name.rpartition("_")
        path = folder / f"{stem.replace('__', '/')}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def ids(*sources: str | Path, base: Path | None = None) -> list[str]:
    found = list(read_documents([str(source) for source in sources], base))
    assert all(isinstance(document, Document) for document in found), found
    return [document.id for document in found if isinstance(document, Document)]


def unreadable(*sources: str | Path) -> dict[str, str]:
    found = read_documents([str(source) for source in sources])
    return {Path(one.source).name: one.reason for one in found if isinstance(one, Unreadable)}


def text_of(document: Document | Unreadable) -> str:
    assert isinstance(document, Document), document
    return "\n".join(block.text for section in document.sections for block in section.blocks)


def test_a_folder_gives_its_documents_by_path_and_leaves_out_what_is_hidden_or_none(tmp_path: Path) -> None:
    write(tmp_path, b_txt="b", a__z_MD="# z\n\nz", a_py="x = 1", picture_png="", a___hidden_txt="no")
    write(tmp_path / ".git", c_txt="no")
    (tmp_path / ".d.txt").write_text("no")
    assert ids(tmp_path) == ["a.py", "a/_hidden.txt", "a/z.MD", "b.txt"]


def test_a_file_goes_by_its_name_and_sources_start_at_the_base(tmp_path: Path) -> None:
    write(tmp_path, a__b__c_txt="c", d_txt="d")
    assert ids("a/b/c.txt", "d.txt", base=tmp_path) == ["c.txt", "d.txt"]
    assert ids("a", base=tmp_path) == ["b/c.txt"]


def test_a_pattern_gives_files_with_ids_below_its_fixed_part(tmp_path: Path) -> None:
    write(tmp_path, docs__a_md="a", docs__x__b_md="b", docs__x__c_txt="c", other__d_md="d")
    assert ids("docs/**/*.md", base=tmp_path) == ["a.md", "x/b.md"]
    assert ids(tmp_path / "docs/*/[bc].*") == ["x/b.md", "x/c.txt"]
    assert ids(tmp_path / "d*") == ["docs/a.md", "docs/x/b.md", "docs/x/c.txt"]


def test_a_file_with_a_pattern_in_its_name_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("one")
    (tmp_path / "a1.txt").write_text("other")
    assert ids(tmp_path / "a[1].txt") == ["a[1].txt"]


def test_what_does_not_exist_or_match_is_told(tmp_path: Path) -> None:
    write(tmp_path, a_txt="a")
    found = list(read_documents([str(tmp_path / "none.txt"), str(tmp_path / "*.pdf"), "x" * 5000, str(tmp_path)]))
    assert [type(one) for one in found] == [Unreadable, Unreadable, Unreadable, Document]
    assert "No such file" in found[0].reason  # type: ignore[union-attr]
    assert "matches no file" in found[1].reason  # type: ignore[union-attr]


def test_links_to_folders_are_not_followed_and_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    write(tmp_path, corpus__a_txt="a", secret__key_txt="secret")
    folder = tmp_path / "corpus"
    (folder / "within.txt").symlink_to("a.txt")
    (folder / "out.txt").symlink_to("../secret/key.txt")
    (folder / "gone.txt").symlink_to("nowhere.txt")
    (folder / "all").symlink_to("../secret")
    (folder / "loop").symlink_to(".")
    found = list(read_documents([str(folder)]))
    assert [one.id for one in found if isinstance(one, Document)] == ["a.txt", "within.txt"]
    reasons = unreadable(folder)
    assert set(reasons) == {"out.txt", "gone.txt"}
    assert "link to a file outside its folder" in reasons["out.txt"]
    assert set(unreadable(folder / "**/*.txt")) == {"out.txt", "gone.txt"}


def test_the_second_document_of_an_id_is_told_and_the_first_is_kept(tmp_path: Path) -> None:
    write(tmp_path, a__x_txt="first", b__x_txt="second")
    first, second = read_documents([str(tmp_path / "a"), str(tmp_path / "b")])
    assert text_of(first) == "first"
    assert isinstance(second, Unreadable)
    assert second.source == str(tmp_path / "b" / "x.txt")
    assert "doubled id 'x.txt'" in second.reason


def test_a_bad_document_does_not_keep_the_others_from_being_read(tmp_path: Path) -> None:
    write(tmp_path, a_txt="a", z_txt="z", b_py="def f(:", c_pdf="no pdf", d_docx="word", e_html="<p>e")
    found = list(read_documents([str(tmp_path)]))
    assert [one.id for one in found if isinstance(one, Document)] == ["a.txt", "e.html", "z.txt"]
    assert set(unreadable(tmp_path)) == {"b.py", "c.pdf", "d.docx"}
    assert unreadable(tmp_path / "d.docx")["d.docx"].startswith("ends in '.docx', which is not read; convert it")


def test_a_locked_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, a_txt="a", locked__b_txt="b")
    scan = os.scandir

    def refuse(path: str) -> Iterator[os.DirEntry[str]]:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert "Permission denied; make it readable" in unreadable(tmp_path)["locked"]


def test_jsonl_and_csv_give_a_document_for_each_row(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "text": "one", "title": "First", "metadata": {"year": 2024, "draft": False, "none": None}},
        {"id": 7, "text": "two\nlines", "topic": "rates"},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    (tmp_path / "rows.csv").write_text(
        '\ufeffid,title,text,year,rate,zip,empty\nc,"Third, last","three ""3""\nlines",2023,1.50,01234,\n'
    )
    third, first, second = read_documents([str(tmp_path)])
    assert isinstance(first, Document)
    assert isinstance(second, Document)
    assert isinstance(third, Document)
    assert (first.id, first.title, first.metadata) == ("a", "First", {"year": 2024, "draft": False})
    assert (second.id, second.title, second.metadata) == ("7", "", {"topic": "rates"})
    assert text_of(second) == "two\nlines"
    assert (third.id, third.title) == ("c", "Third, last")
    assert third.metadata == {"year": 2023, "rate": 1.5, "zip": "01234"}
    assert text_of(third) == 'three "3"\nlines'


def test_bad_rows_are_told_by_line_and_skipped(tmp_path: Path) -> None:
    lines = [
        '{"id": "a", "text": "fine"}',
        "not json",
        "[1]",
        '{"text": "no id"}',
        '{"id": "b"}',
        '{"id": "b", "text": 3}',
        '{"id": "b", "text": " "}',
        '{"id": "b", "text": "t", "metadata": {"tags": ["x"]}}',
        '{"id": "b", "text": "t", "metadata": {"x": NaN}}',
        '{"id": "b", "text": "half \\ud83d"}',
        '{"id": "b\\n", "text": "t"}',
        '{"id": "a", "text": "again"}',
        "[" * 100_000,
        '{"id": "z", "text": "fine"}',
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    found = list(read_documents([str(tmp_path)]))
    assert [one.id for one in found if isinstance(one, Document)] == ["a", "z"]
    bad = unreadable(tmp_path)
    assert list(bad) == [f"rows.jsonl line {number}" for number in range(2, 14)]
    for reason, words in zip(
        bad.values(),
        (
            *("not JSON", "not an object", "no 'id'", "no 'text'", "'text' that is not text", "no text", "a list"),
            *("finite", "surrogate", "cannot be shown", "doubled", "nested too deeply"),
        ),
        strict=True,
    ):
        assert words in reason


def test_bad_rows_of_csv_are_told_by_line_and_skipped(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(
        b'id,text\na,"two\nlines"\nb,one,too many\nc,"quote" wrong\nd,caf\xe9\n\ne,fine\nf,"never closed\n'
    )
    found = list(read_documents([str(tmp_path)]))
    assert [one.id for one in found if isinstance(one, Document)] == ["a", "e"]
    bad = unreadable(tmp_path)
    assert {name: reason.split(";")[0].split(":")[0] for name, reason in bad.items()} == {
        "rows.csv line 4": "has 3 fields, its header 2",
        "rows.csv line 5": "is not CSV",
        "rows.csv line 6": "is not UTF-8",
        "rows.csv line 9": "is not CSV",
    }


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("id;text;title", "has no column id and no column text; its columns are 'id;text;title'"),
        ("id,body", "has no column text"),
        ("id,text,a,a", "two columns of one name"),
        ('"id,text', "a header that is not CSV"),
    ],
)
def test_a_csv_without_the_columns_is_told(tmp_path: Path, header: str, words: str) -> None:
    (tmp_path / "t.csv").write_text(f"{header}\n1,2\n")
    assert words in unreadable(tmp_path)["t.csv"]


def test_rows_are_read_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "endless.jsonl"
    os.mkfifo(path)
    assert "pipe" in unreadable(path)["endless.jsonl"]

    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            line = b'{"id": "a", "text": "b"}\n'
            buffer[: len(line)] = line
            return len(line)

    stdin = io.TextIOWrapper(io.BufferedReader(Endless()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", stdin)
        assert len(list(islice(read_documents(["-"]), 5))) == 5


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"id": "a", "text": "x"}\n\n{"id": "b", "text": "y"}\n', ["a", "b"]),
        (b"\n\nA text.\n\n{not json}\n", ["stdin"]),
        (b"[1, 2]\n", ["stdin"]),
        (b'{"id": "a", "text": "x"}\nnot an object', ["a", "standard input line 2"]),
        (b" \n\n", ["standard input"]),
        (b"caf\xe9", ["standard input"]),
    ],
)
def test_standard_input_is_jsonl_when_it_begins_with_an_object_and_else_a_text(
    monkeypatch: pytest.MonkeyPatch, data: bytes, expected: list[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    found = list(read_documents(["-"]))
    assert [one.id if isinstance(one, Document) else one.source for one in found] == expected


def test_a_file_that_was_sent_is_read_as_its_name_says() -> None:
    (page,) = parse_document("page.html", b"<title>T</title><p>x")
    assert isinstance(page, Document)
    assert (page.id, page.title) == ("page.html", "T")
    rows = list(parse_document("r.jsonl", b'{"id": "1", "text": "x"}\nno'))
    assert [type(row) for row in rows] == [Document, Unreadable]
    (bad,) = parse_document("evil\n.exe", b"MZ")
    assert isinstance(bad, Unreadable)
    assert bad.source == "evil\\n.exe"


def test_the_fingerprint_tells_content_title_and_metadata_apart() -> None:
    prints = {
        build_document("a", text, title, metadata).fingerprint
        for text, title, metadata in (
            ("x", "", None),
            ("y", "", None),
            ("x", "t", None),
            ("x", "", {"a": 1}),
            ("x", "", {"a": "1"}),
        )
    }
    assert len(prints) == 5
    assert build_document("a", "x", "", {"a": 1, "b": 2}).fingerprint == (
        build_document("another", "x", "", {"b": 2, "a": 1}).fingerprint
    )


def test_what_every_passage_carries_is_bounded() -> None:
    with pytest.raises(CannotRead, match="characters of metadata, limit 4096"):
        build_document("a", "x", "", {"a": "y" * 5000})
    with pytest.raises(CannotRead, match="id of 600 characters, limit 512"):
        build_document("a" * 600, "x")
    assert len(build_document("a", "x", "long " * 1000).title) == 300
