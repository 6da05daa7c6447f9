"""Rows of a JSONL file as examples: the prompt as it will be served, and the answer to learn."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from experts.errors import ConfigurationError
from experts.prompt import Message, render_messages

_ROLES = ("system", "user", "assistant")
# A context without a title of its own; served passages have the title of their document.
_UNTITLED = "Context"


@dataclass(frozen=True, slots=True)
class Passage:
    """What a row gives its expert to read."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Example:
    """One row: `prompt` is what `render_messages` makes of question, passages and earlier turns; `line` from 1."""

    line: int
    question: str
    passages: tuple[Passage, ...]
    prompt: tuple[Message, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A row that is no example."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class ExampleFile:
    """All of a file, in its order; `fingerprint` is the SHA-256 of its bytes in hex."""

    path: Path
    examples: tuple[Example, ...]
    broken: tuple[BrokenRow, ...]
    fingerprint: str


class _Unusable(Exception):
    """A row is broken; the text says how."""


def read_examples(path: Path) -> ExampleFile:
    """Every row of a file; blank lines are none. Raises ConfigurationError where the file cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror}); name a JSONL file") from None
    examples: list[Example] = []
    broken: list[BrokenRow] = []
    for line, row in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not row.strip():
            continue
        try:
            examples.append(_read_row(line, row))
        except _Unusable as error:
            broken.append(BrokenRow(line, str(error)))
    return ExampleFile(path, tuple(examples), tuple(broken), sha256(content).hexdigest())


def _read_row(line: int, row: bytes) -> Example:
    try:
        data = json.loads(row)
    except (ValueError, RecursionError) as error:  # of which bytes that are no UTF-8 are one
        raise _Unusable(f"no JSON ({error})") from None
    if not isinstance(data, dict):
        raise _Unusable(f"a JSON object is needed, found {type(data).__name__}")
    if "messages" in data:
        if "response" in data:
            raise _Unusable("both 'messages' and 'response'; keep one")
        *turns, question, answer = _read_messages(data["messages"])
        passages: tuple[Passage, ...] = _read_context(data.get("context"))
        return _make_example(line, question["content"], passages, turns, answer["content"])
    if "response" not in data:
        raise _Unusable(f"neither 'messages' nor 'response'; its keys are {', '.join(map(str, data)) or 'none'}")
    question_text, answer_text = (_read_text(data, name) for name in ("instruction", "response"))
    return _make_example(line, question_text, _read_context(data.get("context")), [], answer_text)


def _make_example(
    line: int, question: str, passages: tuple[Passage, ...], turns: list[Message], answer: str
) -> Example:
    return Example(line, question, passages, tuple(render_messages(question, passages, turns)), answer)


def _read_text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str):
        raise _Unusable(f"'{name}' must be text, found {'nothing' if value is None else type(value).__name__}")
    if not value.strip():
        raise _Unusable(f"'{name}' is empty")
    return value.strip()


def _read_messages(value: Any) -> list[Message]:
    """At least a question and its answer, the answer last; earlier answers are context and are not learned."""
    if not isinstance(value, list) or len(value) < 2:
        raise _Unusable("'messages' must be a list that ends with a user's and an assistant's message")
    messages: list[Message] = []
    for place, item in enumerate(value):
        if not isinstance(item, dict) or item.get("role") not in _ROLES:
            role = item.get("role") if isinstance(item, dict) else item
            raise _Unusable(f"messages[{place}].role is {role!r}, known: {', '.join(_ROLES)}")
        try:
            messages.append({"role": item["role"], "content": _read_text(item, "content")})
        except _Unusable as error:
            raise _Unusable(f"messages[{place}]: {error}") from None
    ends = [message["role"] for message in messages[-2:]]
    if ends != ["user", "assistant"]:
        raise _Unusable(f"'messages' must end with user and assistant, found {' and '.join(ends)}")
    return messages


def _read_context(value: Any) -> tuple[Passage, ...]:
    """Text is one passage; a list holds texts or objects with `title` and `text`, numbered in their order."""
    if value is None or value == "":
        return ()
    passages = []
    for place, item in enumerate(value if isinstance(value, list) else [value]):
        passage = {"text": item} if isinstance(item, str) else item
        if not isinstance(passage, dict):
            raise _Unusable(f"context[{place}] must be text or an object with 'title' and 'text'")
        title = _read_text(passage, "title") if "title" in passage else _UNTITLED
        passages.append(Passage(title, _read_text(passage, "text")))
    return tuple(passages)
