"""How documents are cut into passages."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.document import Block, Document, Section, identify
from retrieval.formats.markdown import parse_markdown
from retrieval.splitting import PASSAGE_CHARS, split_blocks, split_document, split_text


def without_space(text: str) -> str:
    return "".join(text.split())


def split_markdown(text: str, limit: int) -> list[str]:
    return [passage.text for passage in split_document(identify("d", parse_markdown(text, "d.md")), limit)]


@pytest.mark.parametrize(
    "text", ["word " * 2000, "line of text\n" * 500, "x" * 5000, "\n\n".join(["ab cd " * 300] * 3)]
)
def test_split_text_never_exceeds_its_limit_and_loses_no_character_but_blanks(text: str) -> None:
    pieces = split_text(text, 1000)
    assert max(map(len, pieces)) <= 1000
    assert without_space("".join(pieces)) == without_space(text)


def test_split_text_cuts_between_paragraphs_else_lines_else_sentences_else_words() -> None:
    assert split_text("aa bb\ncc dd\n\nee ff", 14) == ("aa bb\ncc dd", "ee ff")
    assert split_text("aa bb\n    cc dd", 9) == ("aa bb", "    cc dd")
    assert split_text("One two. Three four. Five", 22) == ("One two. Three four.", "Five")
    assert split_text("one two three", 8) == ("one two", "three")
    assert split_text("onetwothree", 8) == ("onetwoth", "ree")


@given(
    st.lists(st.sampled_from(["a", "word", "x" * 30, " ", "\n", "\n\n", "\n \t\n", ". ", "\u3000", "é", "\x1c"])),
    st.integers(1, 60),
)
def test_any_text_is_cut_under_any_limit_without_loss(parts: list[str], limit: int) -> None:
    text = "".join(parts)
    pieces = split_text(text, limit)
    assert all(len(piece) <= limit and piece.strip() for piece in pieces)
    assert without_space("".join(pieces)) == without_space(text)


LINES = st.text(st.sampled_from("abc .#-|>`~*1é\t"), max_size=40)
FENCED = st.builds(
    lambda fence, lines: "\n".join([f"{fence}py", *lines, fence]),
    st.sampled_from(["```", "~~~~", "  ```"]),
    st.lists(st.text(st.sampled_from("abc #.|"), max_size=20), max_size=6),
)
TABLE = st.builds(
    lambda rows: "\n".join(["| a | b |", "|---|:-:|", *(f"| {row} | {row} |" for row in rows)]),
    st.lists(st.integers(0, 10**9), min_size=1, max_size=20),
)


@settings(deadline=None)
@given(st.lists(LINES | FENCED | TABLE, max_size=12), st.integers(40, 400))
def test_sections_are_cut_under_any_limit_and_without_loss(parts: list[str], limit: int) -> None:
    text = "\n\n".join(parts)
    content = parse_markdown(text, "d.md")
    for section in content.sections:
        whole = "\n".join(block.text for block in section.blocks)
        rest = without_space(whole)
        for piece in split_blocks(section.blocks, limit):
            assert len(piece) <= limit
            assert piece.strip()
        if not any(block.kind in ("code", "table") for block in section.blocks):
            assert without_space("".join(split_blocks(section.blocks, limit))) == rest


@settings(deadline=None)
@given(st.lists(st.text(st.sampled_from("abc .|>`~*1é\t[]:<!\n"), max_size=40)))
def test_markdown_without_headings_is_kept_to_the_last_character(parts: list[str]) -> None:
    text = "\n".join(parts)
    kept = "".join(block.text for section in parse_markdown(text, "d.md").sections for block in section.blocks)
    assert without_space(kept) == without_space(text)


@settings(deadline=None)
@given(st.lists(LINES | FENCED | TABLE, max_size=12), st.integers(40, 400))
def test_code_and_tables_that_fit_are_whole_in_one_passage(parts: list[str], limit: int) -> None:
    for section in parse_markdown("\n\n".join(parts), "d.md").sections:
        pieces = list(split_blocks(section.blocks, limit))
        for block in section.blocks:
            if block.kind in ("code", "table") and block.text.strip() and len(block.text.strip("\n")) <= limit:
                assert any(block.text.strip("\n") in piece for piece in pieces)


def test_a_fence_too_long_for_a_passage_is_closed_and_opened_again() -> None:
    code = "\n".join(f"line {number}" for number in range(100))
    pieces = split_markdown(f"# T\n\n```py\n{code}\n```\n\nafter", 300)
    fenced = [piece for piece in pieces if piece.startswith("```py\n")]
    assert len(fenced) > 2
    assert all(piece.endswith("\n```") for piece in fenced)
    assert "\n".join(piece.removeprefix("```py\n").removesuffix("\n```") for piece in fenced) == code
    assert pieces[-1] == "after"


def test_a_table_too_long_for_a_passage_repeats_its_header_over_whole_rows() -> None:
    header = "| year | revenue |\n| ---- | ------: |"
    rows = [f"| {year} | {year * 7} |" for year in range(1900, 1960)]
    pieces = split_markdown("# T\n\nbefore\n\n" + "\n".join([header, *rows]), 300)
    assert pieces[0] == "before"
    assert all(piece.startswith(f"{header}\n") for piece in pieces[1:])
    assert [row for piece in pieces[1:] for row in piece.split("\n")[2:]] == rows


def test_a_heading_goes_with_what_it_heads() -> None:
    text = f"# T\n\n{'a ' * 80}\n\n### Deep\n\n{'b ' * 80}\n\n### Code\n\n```\n{'c = 1' * 30}\n```\n"
    first, second, third = split_markdown(text, 250)
    assert first.startswith("a a")
    assert second.startswith("### Deep\n\nb b")
    assert third.startswith("### Code\n\n```\nc = 1")


def test_code_in_a_list_is_kept_whole() -> None:
    text = "# T\n\n" + "\n".join(
        f"- item {number} {'x' * 50}\n\n  ```\n  a = 1\n\n  b = 2\n  ```" for number in range(9)
    )
    pieces = split_markdown(text, 250)
    assert sum(piece.count("  ```\n  a = 1\n\n  b = 2\n  ```") for piece in pieces) == 9


def test_ten_thousand_sections_of_one_name_get_sources_of_their_own() -> None:
    section = Section("Same", "same", (Block("text", "x"),))
    document = Document("d", "d", (section,) * 10_000, {}, "0" * 16)
    sources = {passage.source for passage in split_document(document)}
    assert len(sources) == 10_000
    assert {"d#same", "d#same-2", "d#same-10000"} <= sources


def test_passages_are_as_long_as_the_encoder_reads() -> None:
    document = identify("d", parse_markdown("# T\n\n" + "Some sentence here. " * 1000, "d.md"))
    passages = split_document(document)
    assert all(PASSAGE_CHARS - 100 < len(passage.text) <= PASSAGE_CHARS for passage in passages[:-1])
    assert all(passage.text.endswith("here.") for passage in passages)
