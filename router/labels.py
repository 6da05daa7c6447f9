"""What the router learns from, as JSON Lines, with every mistake named by its line.

Labelled questions are {"text": "...", "domain": "..."}, judged answers {"text": "...", "variant": "domain/variant",
"correct": true}.
"""

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

from experts.errors import BadRequest
from router.quality_training import JudgedAnswer
from router.training import OUT_OF_SCOPE_LABEL, LabelledText

MISTAKES_SHOWN = 20
MAX_TEXT_CHARS = 20_000


Row = TypeVar("Row")


def read_labels(path: Path, known: Collection[str]) -> tuple[LabelledText, ...]:
    """Labelled questions; raises BadRequest with all lines that are none, so that nothing is trained on a part."""
    labels = frozenset(known) | {OUT_OF_SCOPE_LABEL}
    wanted = f"domains are {', '.join(known)}, and '{OUT_OF_SCOPE_LABEL}' for what none of them owns"

    def read(row: dict[str, Any]) -> LabelledText:
        text = _read_text(row, {"text", "domain"})
        return LabelledText(text, _read_name(row, "domain", labels))

    return _read_rows(path, "data", wanted, read)


def read_answers(path: Path, known: Collection[str]) -> tuple[JudgedAnswer, ...]:
    """Judged answers of the variants `known`; raises BadRequest as `read_labels` does."""

    def read(row: dict[str, Any]) -> JudgedAnswer:
        text = _read_text(row, {"text", "variant", "correct"})
        if not isinstance(row["correct"], bool):
            raise _Mistake(f"correct is {_show(row['correct'])}, expected true or false")
        return JudgedAnswer(text, _read_name(row, "variant", known), row["correct"])

    return _read_rows(path, "answers", f"variants are {', '.join(known)}", read)


class _Mistake(Exception):
    """What is wrong with a line."""


def _read_rows(path: Path, option: str, wanted: str, read: Callable[[dict[str, Any]], Row]) -> tuple[Row, ...]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BadRequest(f"{path} cannot be read ({error.strerror}); correct --{option}", option) from error
    except UnicodeDecodeError as error:
        raise BadRequest(f"{path} is not UTF-8 at byte {error.start}; save it as UTF-8", option) from error
    rows: list[Row] = []
    mistakes: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                rows.append(read(_read_object(line)))
            except _Mistake as mistake:
                mistakes.append(f"line {number}: {mistake}")
    if mistakes:
        more = [f"and {len(mistakes) - MISTAKES_SHOWN} more"] if len(mistakes) > MISTAKES_SHOWN else []
        said = f"{path}: {len(mistakes)} line(s) cannot be learned from, and nothing was trained; {wanted}"
        raise BadRequest("\n".join((said, *mistakes[:MISTAKES_SHOWN], *more)), option)
    if not rows:
        raise BadRequest(f"{path} has no rows; write one JSON object per line; {wanted}", option)
    return tuple(rows)


def _read_object(line: str) -> dict[str, Any]:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = error if isinstance(error, ValueError) else "nested too deeply"
        raise _Mistake(f"not JSON ({reason})") from error
    if not isinstance(row, dict):
        raise _Mistake(f"it is {type(row).__name__}, expected an object")
    return row


def _read_text(row: dict[str, Any], keys: set[str]) -> str:
    if set(row) != keys:
        raise _Mistake(f"it has {', '.join(sorted(row)) or 'no keys'}; needed are {', '.join(sorted(keys))} alone")
    text = row["text"]
    if not isinstance(text, str) or not text.strip():
        raise _Mistake("text is empty or no text")
    if len(text) > MAX_TEXT_CHARS:
        raise _Mistake(f"text has {len(text)} characters, at most {MAX_TEXT_CHARS}")
    # Halves of surrogate pairs can be written in JSON and neither be hashed nor saved.
    return text.strip().encode("utf-8", "replace").decode()


def _read_name(row: dict[str, Any], key: str, known: Collection[str]) -> str:
    name = row[key]
    if not isinstance(name, str) or name not in known:
        raise _Mistake(f"{key} {_show(name)} is none of this fleet")
    return name


def _show(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:60]
