"""Python source: one section for each top-level function or class. Parsed, never run."""

import ast
import warnings

from retrieval.document import CannotRead, Content
from retrieval.formats.outline import Outline


def parse_python(text: str, name: str) -> Content:
    """Definitions with their decorators; the whole file when it has none."""
    file = name.rsplit("/", 1)[-1]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # What is odd in somebody's source is not ours to print.
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise CannotRead(f"is not Python that can be parsed: {error}; mend it or rename it to .txt") from error
    except MemoryError as error:  # Python's parser says so of deep nesting, too.
        raise CannotRead("is nested too deeply or too large to be parsed as Python; rename it to .txt") from error
    # Not str.splitlines: it also ends lines at form feeds and other characters that Python's own line numbers ignore.
    lines = text.split("\n")
    outline = Outline(file)
    definitions = [
        node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    if not definitions:
        outline.add_section(file, file.removesuffix(".py"), "text", text)
    for node in definitions:
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        outline.add_section(f"{file} - {node.name}", node.name, "text", "\n".join(lines[first - 1 : node.end_lineno]))
    return outline.conclude()
