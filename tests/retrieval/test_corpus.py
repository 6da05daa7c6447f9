"""What passages a folder of documents gives."""

from pathlib import Path

import pytest

from experts.errors import ConfigurationError
from experts.pocket.corpus import CORPORA, load_passages
from experts.pocket.tasks import DOMAINS
from retrieval.passage import Passage
from retrieval.splitting import PASSAGE_CHARS
from tests.retrieval.corpus_folder import load_corpus


def corpus_of(folder: Path, **files: str) -> tuple[Passage, ...]:
    for name, text in files.items():
        stem, _, ending = name.rpartition("_")
        path = folder / f"{stem.replace('__', '/')}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return load_corpus(folder)


def seen(passages: tuple[Passage, ...]) -> list[tuple[str, str, str]]:
    return [(passage.text, passage.title, passage.source) for passage in passages]


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_shipped_corpora_give_the_passages_that_the_pocket_experts_are_trained_on(domain: str) -> None:
    assert [(passage.title, passage.text) for passage in load_corpus(CORPORA / domain)] == [
        (passage.title, passage.text) for passage in load_passages(domain)
    ]


def test_markdown_gives_one_passage_per_section_under_the_documents_title(tmp_path: Path) -> None:
    text = (
        "# Bonds\n\nWhat a bond is.\n\n## Yield to Maturity\n\nThe rate.\n\n### Detail\n\nStill yield.\n\n"
        "## Risk\nDefault."
    )
    assert seen(corpus_of(tmp_path, bonds_md=text)) == [
        ("What a bond is.", "Bonds", "bonds.md#bonds"),
        ("The rate.\n\n### Detail\n\nStill yield.", "Bonds - Yield to Maturity", "bonds.md#yield-to-maturity"),
        ("Default.", "Bonds - Risk", "bonds.md#risk"),
    ]


def test_a_passage_says_its_document_its_place_and_the_documents_fingerprint(tmp_path: Path) -> None:
    first, second, other = corpus_of(tmp_path, a__b_md="# T\n\none\n\n## S\n\ntwo", c_txt="three")
    assert [(passage.document, passage.position) for passage in (first, second, other)] == [
        ("a/b.md", 0),
        ("a/b.md", 1),
        ("c.txt", 0),
    ]
    assert first.fingerprint == second.fingerprint != other.fingerprint
    assert len(first.fingerprint) == 16


def test_markdown_without_a_title_goes_by_its_file_name(tmp_path: Path) -> None:
    assert [passage.title for passage in corpus_of(tmp_path, notes_md="Text.\n\n## Part\n\nMore.")] == [
        "notes",
        "notes - Part",
    ]


def test_a_heading_inside_a_code_fence_is_code(tmp_path: Path) -> None:
    text = "# Shell\n\n## Comments\n\n```sh\n# not a title\n## not a section\n```\nafter\n\n## Next\n\nend"
    first, second = corpus_of(tmp_path, shell_md=text)
    assert "## not a section" in first.text
    assert first.text.endswith("after")
    assert second.title == "Shell - Next"


def test_sections_of_one_name_get_sources_of_their_own(tmp_path: Path) -> None:
    text = "# T\n\n## Same\n\na\n\n## Same\n\nb\n\n## Same 2\n\nc"
    assert [passage.source for passage in corpus_of(tmp_path, t_md=text)] == [
        "t.md#same",
        "t.md#same-2",
        "t.md#same-2-2",
    ]


def test_a_long_section_is_cut_between_paragraphs(tmp_path: Path) -> None:
    paragraphs = [f"Paragraph {number}. " + "word " * 60 for number in range(10)]
    passages = corpus_of(tmp_path, long_md="# Long\n\n## All\n\n" + "\n\n".join(paragraphs))
    assert all(len(passage.text) <= PASSAGE_CHARS for passage in passages)
    assert all(passage.text.startswith("Paragraph") for passage in passages)
    assert {passage.title for passage in passages} == {"Long - All"}
    assert [passage.source for passage in passages[:2]] == ["long.md#all", "long.md#all-2"]


def test_plain_text_gives_paragraphs_gathered_up_to_the_limit(tmp_path: Path) -> None:
    passages = corpus_of(tmp_path, story_txt="\n\n".join(["one " * 90] * 5))
    assert [passage.source for passage in passages] == ["story.txt#1", "story.txt#2"]
    assert [passage.title for passage in passages] == ["story", "story"]


def test_passages_come_in_the_order_of_paths_and_the_same_each_time(tmp_path: Path) -> None:
    first = corpus_of(tmp_path, b_txt="b", a__z_txt="z", a_txt="a", skipped_json="{}")
    assert [passage.source for passage in first] == ["a.txt#1", "a/z.txt#1", "b.txt#1"]
    assert load_corpus(tmp_path) == first


def test_line_ends_and_byte_order_marks_of_other_systems_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "w.md").write_bytes("\ufeff# W\r\n\r\n## S\r\n\r\nbody\r\n".encode())
    assert seen(load_corpus(tmp_path)) == [("body", "W - S", "w.md#s")]


def test_a_document_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 au lait")
    with pytest.raises(ConfigurationError, match=r"latin\.txt is not UTF-8: .* at byte 3; convert it"):
        load_corpus(tmp_path)
