"""Labelled questions as JSON Lines: {"text": "...", "domain": "..."}, with every mistake named by its line."""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experts.errors import BadRequest
from router.training import OUT_OF_SCOPE_LABEL, LabelledText

MISTAKES_SHOWN = 20
MAX_TEXT_CHARS = 20_000


@dataclass(frozen=True, slots=True)
class _Mistake:
    line: int
    what: str


def read_labels(path: Path, known: Collection[str]) -> tuple[LabelledText, ...]:
    """The rows of a file; raises BadRequest with all lines that are not one, so that nothing is trained on a part."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BadRequest(f"{path} cannot be read ({error.strerror}); correct --data", "data") from error
    except UnicodeDecodeError as error:
        raise BadRequest(f"{path} is not UTF-8 at byte {error.start}; save it as UTF-8", "data") from error
    rows, mistakes = [], []
    for found in _read_lines(text, frozenset(known) | {OUT_OF_SCOPE_LABEL}):
        if isinstance(found, LabelledText):
            rows.append(found)
        else:
            mistakes.append(found)
    if mistakes:
        shown = [f"line {mistake.line}: {mistake.what}" for mistake in mistakes[:MISTAKES_SHOWN]]
        if len(mistakes) > MISTAKES_SHOWN:
            shown.append(f"and {len(mistakes) - MISTAKES_SHOWN} more")
        raise BadRequest(
            "\n".join(
                (
                    f"{path}: {len(mistakes)} line(s) cannot be learned from, and nothing was trained; domains are "
                    f"{', '.join(known)}, and '{OUT_OF_SCOPE_LABEL}' for what none of them owns",
                    *shown,
                )
            ),
            "data",
        )
    if not rows:
        raise BadRequest(f'{path} has no rows; write one {{"text": "...", "domain": "..."}} per line', "data")
    return tuple(rows)


def _read_lines(text: str, known: Collection[str]) -> Iterator[LabelledText | _Mistake]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            row = _read_row(line, known)
            yield _Mistake(number, row) if isinstance(row, str) else row


def _read_row(line: str, known: Collection[str]) -> LabelledText | str:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"not JSON ({error if isinstance(error, ValueError) else 'nested too deeply'})"
    if not isinstance(row, dict) or set(row) != {"text", "domain"}:
        keys = ", ".join(sorted(map(str, row))) if isinstance(row, dict) else type(row).__name__
        return f"it has {keys or 'no keys'}; needed are text and domain, and nothing else"
    text, domain = row["text"], row["domain"]
    if not isinstance(text, str) or not text.strip():
        return "text is empty or no text"
    if len(text) > MAX_TEXT_CHARS:
        return f"text has {len(text)} characters, at most {MAX_TEXT_CHARS}"
    if not isinstance(domain, str) or domain not in known:
        return f"domain {json.dumps(domain, ensure_ascii=False)[:60]} is none of this fleet"
    # Halves of surrogate pairs can be written in JSON and neither be hashed nor saved.
    return LabelledText(text.strip().encode("utf-8", "replace").decode(), domain)
