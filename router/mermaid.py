"""Drawing: a plan as a Mermaid flowchart, from the question to its sub-queries and from needed answers onwards."""

import unicodedata
from collections.abc import Mapping
from typing import Any

TEXT_CHARS = 120
"""Characters of a text that a node shows: about four lines of it."""

_PLAIN = frozenset(" .,?'")
_HIDDEN = ("C", "Zl", "Zp")  # control, format (which can turn the direction of writing), unassigned; separators


def draw_plan(plan: Mapping[str, Any]) -> str:
    """A flowchart of a plan as `explain_plan` describes it; `variant`, `confidence` and `tier` are shown where given.

    Whatever the user wrote is text in a quoted label: letters, digits and what cannot mean anything to Mermaid stand as
    they are, all other characters as their code (https://mermaid.js.org/syntax/flowchart.html#entity-codes-to-escape-characters).
    """
    lines = ["flowchart TD", f'  question(["{_label(plan["question"])}"])']
    for part in plan["sub_queries"]:
        node = f"s{int(part['id'])}"
        refused = bool(part.get("refusal"))
        opened, closed = ("{{", "}}") if refused else ("[", "]")
        lines.append(f'  {node}{opened}"{_title(part, refused)}<br/>{_label(part["text"])}"{closed}')
        lines.append(f"  question --> {node}")
        lines += [f"  s{int(need)} -->|answer| {node}" for need in part.get("needs") or ()]
    return "\n".join(lines) + "\n"


def _title(part: Mapping[str, Any], refused: bool) -> str:
    """Who answers, and how sure the router is of it: 'finance/adapter 0.93 encoder'."""
    answers = "/".join(_escape(str(part[name])) for name in ("domain", "variant") if part.get(name))
    confidence = part.get("confidence")
    said = [f"{int(part['id'])}", "refused" if refused else answers]
    said += [f"{float(confidence):.2f}"] if confidence is not None else []
    said += [_escape(str(part["tier"]))] if part.get("tier") else []
    return " ".join(said)


def _label(text: str) -> str:
    """A text as a label on one line, cut where it is long."""
    line = " ".join("".join(" " if _is_hidden(letter) else letter for letter in text[: 20 * TEXT_CHARS]).split())
    shown = line if len(line) <= TEXT_CHARS else line[: TEXT_CHARS - 1].rstrip() + "…"
    # A number with a dot in front makes Mermaid look for a list.
    number = len(shown) - len(shown.lstrip("0123456789"))
    return _escape(shown[:number]) + "".join(_escape(letter, plain=at > 0) for at, letter in enumerate(shown[number:]))


def _escape(text: str, plain: bool = True) -> str:
    return "".join(
        letter if letter.isalnum() or (plain and letter in _PLAIN) or _is_mark(letter) else f"#{ord(letter)};"
        for letter in text
    )


def _is_hidden(letter: str) -> bool:
    return unicodedata.category(letter).startswith(_HIDDEN)


def _is_mark(letter: str) -> bool:
    """An accent or a vowel sign, which belongs to the letter before it."""
    return unicodedata.category(letter).startswith("M")
