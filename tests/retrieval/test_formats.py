"""What each format's parser finds."""

import pytest

from retrieval.document import CannotRead, Content
from retrieval.formats.html import parse_html
from retrieval.formats.markdown import parse_markdown
from retrieval.formats.pdf import parse_pdf
from retrieval.formats.python import parse_python
from tests.retrieval.documents import build_pdf


def sections(content: Content) -> list[tuple[str, str | None, str]]:
    return [
        (section.title, section.anchor, "\n".join(block.text for block in section.blocks).strip())
        for section in content.sections
    ]


def test_markdown_underlined_headings_are_headings_and_quoted_ones_are_text() -> None:
    text = "Title\n=====\n\nintro\n\nPart\n----\n\nbody\n\n> ## Quoted\n> text\n\n- item\n\n      # code\n"
    assert sections(parse_markdown(text, "a/b.md")) == [
        ("Title", "title", "intro"),
        ("Title - Part", "part", "body\n\n> ## Quoted\n> text\n\n- item\n\n      # code"),
    ]


def test_markdown_front_matter_may_give_the_title() -> None:
    text = "---\ntitle: 'Rates of 2024'\ntags: [a]\n---\nbody\n\n## S\n\nmore"
    content = parse_markdown(text, "b.md")
    assert content.title == "Rates of 2024"
    assert [title for title, _, _ in sections(content)] == ["Rates of 2024", "Rates of 2024 - S"]


def test_markdown_link_definitions_and_comments_are_kept() -> None:
    text = "# T\n\n[a]: http://example.org\n<!-- note\n\n# not a title -->\n\nx\n"
    ((title, _, found),) = sections(parse_markdown(text, "b.md"))
    assert title == "T"
    assert found == text.removeprefix("# T\n\n").strip()


def test_a_heading_longer_than_a_title_is_also_text() -> None:
    ((title, _, text),) = sections(parse_markdown("# " + "word " * 200, "b.md"))
    assert len(title) == 300
    assert text == ("word " * 200).strip()


def test_html_gives_what_a_reader_sees() -> None:
    page = b"""<!doctype html><html><head><title> Rates
    &amp; Bonds </title><style>p {color: red}</style><script>alert('x')</script></head>
    <body><nav><a href="/">Home</a></nav><p>Intro with <b>bold</b>
    text.<br>New line.</p><script>evil()</script>
    <h2>Yield</h2><div>Loose <span>text</span><p>Paragraph.</p></div><ul><li>One<li>Two <em>items</em></ul>
    <h3>Detail</h3><pre><code>def f():
    return `1`
</code></pre><noscript>no</noscript><template>no</template><img src="http://127.0.0.1:9/x.png" alt="A chart">
    <iframe src="http://127.0.0.1:9/">no</iframe></body></html>"""
    assert sections(parse_html(page, "page.html")) == [
        ("Rates & Bonds", "rates-bonds", "Intro with bold text.\nNew line."),
        (
            "Rates & Bonds - Yield",
            "yield",
            "Loose text\n\nParagraph.\n\n- One\n- Two items\n### Detail\n\n"
            "```\ndef f():\n    return `1`\n```\n\nA chart",
        ),
    ]


def test_html_tables_of_data_are_rows_and_tables_that_lay_out_are_text() -> None:
    page = b"""<h1>T</h1><table><caption>In millions</caption><tr><th>Year<th>Revenue</tr>
    <tr><td>20<b>24</b><td>1|2<br>m</tr><tr><td>2023</table>
    <table><tr><td><h2>Left</h2>menu</td><td>main</td></tr></table>"""
    content = parse_html(page, "page.html")
    assert sections(content) == [
        ("T", "t", "In millions\n| Year | Revenue |\n| --- | --- |\n| 2024 | 1\\|2 m |\n| 2023 |  |"),
        ("T - Left", "left", "menu\n\nmain"),
    ]
    assert [block.kind for block in content.sections[0].blocks] == ["text", "table"]


def test_html_in_the_encoding_that_it_declares() -> None:
    page = '<meta charset="iso-8859-1"><p>Café'.encode("latin-1")
    assert sections(parse_html(page, "p.html")) == [("p", "p", "Café")]
    with pytest.raises(CannotRead, match="not UTF-8"):
        parse_html("<p>Café".encode("latin-1"), "p.html")
    with pytest.raises(CannotRead, match="says it is rot13 and cannot be read as that"):
        parse_html(b"<meta charset=rot13><p>x", "p.html")


def test_pdf_gives_a_section_for_each_page_under_its_bookmark() -> None:
    data = build_pdf(["Cover", "", "First line\nsecond line", "More"], "Annual Report", [("Results", 2)])
    content = parse_pdf(data, "report.pdf")
    assert content.title == "Annual Report"
    assert sections(content) == [
        ("Annual Report", "page-1", "Cover"),
        ("Annual Report - Results", "page-3", "First line\nsecond line"),
        ("Annual Report - Results", "page-4", "More"),
    ]


def test_a_pdf_without_text_says_that_it_may_be_a_scan() -> None:
    with pytest.raises(CannotRead, match=r"no text on its 2 pages, as a scan has; run text recognition"):
        parse_pdf(build_pdf(["", ""]), "scan.pdf")


def test_a_pdf_that_wants_a_password_says_so() -> None:
    encrypt = b"/Encrypt << /Filter /Standard /V 1 /R 2 /O (%b) /U (%b) /P -4 >> /ID [(a) (b)]" % (b"o" * 32, b"u" * 32)
    with pytest.raises(CannotRead, match="is encrypted; save it without its password"):
        parse_pdf(build_pdf(["secret"], more=encrypt), "locked.pdf")


def test_python_gives_one_section_per_top_level_definition_with_its_decorators() -> None:
    source = (
        '"""Module."""\nimport os\n\n@decorated\n@twice(1)\ndef add(a, b):\n    """Sum."""\n    return a + b\n\n\n'
        "class Stack:\n    def push(self): ...\n\nasync def wait(): ...\n"
    )
    assert sections(parse_python(source, "math/sums.py")) == [
        ("sums.py - add", "add", '@decorated\n@twice(1)\ndef add(a, b):\n    """Sum."""\n    return a + b'),
        ("sums.py - Stack", "Stack", "class Stack:\n    def push(self): ..."),
        ("sums.py - wait", "wait", "async def wait(): ..."),
    ]
    assert sections(parse_python("x = '\\d'\n", "conf.py")) == [("conf.py", "conf", "x = '\\d'")]


@pytest.mark.parametrize("source", ["def f(:\n", "(" * 10_000, "x = 1\0"])
def test_python_that_cannot_be_parsed_is_told(source: str) -> None:
    with pytest.raises(CannotRead, match="is not Python that can be parsed"):
        parse_python(source, "half.py")
