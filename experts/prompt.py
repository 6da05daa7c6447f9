"""The one prompt. Training and serving both render their messages here, so that they cannot drift apart."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, Protocol, TypedDict

REFUSAL = "The passages do not say."

GROUNDED_INSTRUCTION = (
    "Answer the question from the numbered passages only. Put the number of the passage you used in square "
    f"brackets after the answer. If the passages do not contain the answer, say: {REFUSAL}"
)


class Message(TypedDict):
    """One chat message as OpenAI's API spells it."""

    role: Literal["system", "user", "assistant"]
    content: str


class TitledText(Protocol):
    """What a prompt needs of a passage."""

    @property
    def title(self) -> str: ...
    @property
    def text(self) -> str: ...


def render_messages(question: str, passages: Sequence[TitledText], turns: Sequence[Message] = ()) -> list[Message]:
    """The messages for one sub-query; passages are numbered from 1, in the order given.

    `turns` are the caller's system messages and the conversation so far. All system messages become one, at the front,
    because many chat templates accept no other. Without passages there is nothing to cite and no instruction to.
    """
    instructions = [turn["content"] for turn in turns if turn["role"] == "system"]
    content = question
    if passages:
        instructions.append(GROUNDED_INSTRUCTION)
        numbered = [f"[{number}] {passage.title}: {passage.text}" for number, passage in enumerate(passages, start=1)]
        content = "\n".join([*numbered, f"Question: {question}"])
    system: list[Message] = [{"role": "system", "content": "\n\n".join(instructions)}] if instructions else []
    return [*system, *(turn for turn in turns if turn["role"] != "system"), {"role": "user", "content": content}]


@dataclass(frozen=True, slots=True)
class _ProbePassage:
    title: str
    text: str


def fingerprint_template() -> str:
    """16 hex digits that change with the words, the order or the layout of what `render_messages` makes."""
    passages = (_ProbePassage("title one", "text one"), _ProbePassage("title two", "text two"))
    turns: tuple[Message, ...] = (
        {"role": "system", "content": "system"},
        {"role": "user", "content": "asked before"},
        {"role": "assistant", "content": "answered before"},
    )
    probes = [
        render_messages("question", shown, said) for shown in ((), passages[:1], passages) for said in ((), turns)
    ]
    # Serving looks for the refusal in answers, so it is part of what an expert must have learned.
    return sha256(json.dumps([REFUSAL, probes]).encode()).hexdigest()[:16]
