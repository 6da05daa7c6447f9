"""What passages a folder of documents gives."""

from pathlib import Path

import pytest

from experts.errors import ConfigurationError
from retrieval.corpus import PASSAGE_CHARS, load_corpus, split_text
from retrieval.passage import Passage


def corpus_of(folder: Path, **files: str) -> tuple[Passage, ...]:
    for name, text in files.items():
        stem, _, ending = name.rpartition("_")
        path = folder / f"{stem.replace('__', '/')}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return load_corpus(folder)


def test_markdown_gives_one_passage_per_section_under_the_documents_title(tmp_path: Path) -> None:
    text = (
        "# Bonds\n\nWhat a bond is.\n\n## Yield to Maturity\n\nThe rate.\n\n### Detail\n\nStill yield.\n\n"
        "## Risk\nDefault."
    )
    assert corpus_of(tmp_path, bonds_md=text) == (
        Passage(text="What a bond is.", title="Bonds", source="bonds.md#bonds"),
        Passage(
            text="The rate.\n\n### Detail\n\nStill yield.",
            title="Bonds - Yield to Maturity",
            source="bonds.md#yield-to-maturity",
        ),
        Passage(text="Default.", title="Bonds - Risk", source="bonds.md#risk"),
    )


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


def test_sections_without_text_give_no_passage(tmp_path: Path) -> None:
    assert corpus_of(tmp_path, empty_md="# Title\n\n## One\n\n## Two\n\n") == ()


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


@pytest.mark.parametrize(
    "text", ["word " * 2000, "line of text\n" * 500, "x" * 5000, "\n\n".join(["ab cd " * 300] * 3)]
)
def test_split_text_never_exceeds_its_limit_and_loses_no_character_but_blanks(text: str) -> None:
    pieces = split_text(text, 1000)
    assert max(map(len, pieces)) <= 1000
    assert "".join("".join(pieces).split()) == "".join(text.split())


def test_python_gives_one_passage_per_top_level_definition_with_its_decorators(tmp_path: Path) -> None:
    source = (
        '"""Module."""\nimport os\n\n@decorated\n@twice(1)\ndef add(a, b):\n    """Sum."""\n    return a + b\n\n\n'
        "class Stack:\n    def push(self): ...\n\nasync def wait(): ...\n"
    )
    passages = corpus_of(tmp_path, math__sums_py=source)
    assert [(passage.title, passage.source) for passage in passages] == [
        ("sums.py - add", "math/sums.py#add"),
        ("sums.py - Stack", "math/sums.py#Stack"),
        ("sums.py - wait", "math/sums.py#wait"),
    ]
    assert passages[0].text == '@decorated\n@twice(1)\ndef add(a, b):\n    """Sum."""\n    return a + b'


def test_python_is_read_and_never_run(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    corpus_of(tmp_path / "corpus", evil_py=f"open({str(witness)!r}, 'w').close()\n\ndef f(): ...\n")
    assert not witness.exists()


def test_plain_text_gives_paragraphs_gathered_up_to_the_limit(tmp_path: Path) -> None:
    passages = corpus_of(tmp_path, story_txt="\n\n".join(["one " * 90] * 5))
    assert [passage.source for passage in passages] == ["story.txt#1", "story.txt#2"]
    assert [passage.title for passage in passages] == ["story", "story"]


def test_passages_come_in_the_order_of_paths_and_the_same_each_time(tmp_path: Path) -> None:
    first = corpus_of(tmp_path, b_txt="b", a__z_txt="z", a_txt="a", skipped_json="{}")
    assert [passage.source for passage in first] == ["a.txt#1", "a/z.txt#1", "b.txt#1"]
    assert load_corpus(tmp_path) == first


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "a.txt").write_text("secret")
    (tmp_path / ".b.txt").write_text("secret")
    assert load_corpus(tmp_path) == ()


def test_line_ends_and_byte_order_marks_of_other_systems_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "w.md").write_bytes("\ufeff# W\r\n\r\n## S\r\n\r\nbody\r\n".encode())
    assert load_corpus(tmp_path) == (Passage(text="body", title="W - S", source="w.md#s"),)


def test_a_file_that_is_not_utf8_is_named_with_the_place(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 au lait")
    with pytest.raises(ConfigurationError, match=r"latin\.txt is not UTF-8: .* at byte 3; convert or remove it"):
        load_corpus(tmp_path)


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "gone.md").symlink_to(tmp_path / "nowhere.md")
    with pytest.raises(ConfigurationError, match=r"gone\.md cannot be read"):
        load_corpus(tmp_path)


def test_python_that_cannot_be_parsed_is_named(tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text("def f(:\n")
    with pytest.raises(ConfigurationError, match=r"half\.py is not Python"):
        load_corpus(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere does not exist"):
        load_corpus(tmp_path / "nowhere")
