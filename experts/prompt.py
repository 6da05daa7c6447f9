"""The one prompt. Training and serving both render their messages here, so that they cannot drift apart."""

from collections.abc import Sequence
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


def render_messages(question: str, passages: Sequence[TitledText]) -> list[Message]:
    """The messages for one sub-query; passages are numbered from 1, in the order given.

    Without passages the question goes out alone, because there is nothing to cite.
    """
    if not passages:
        return [{"role": "user", "content": question}]
    numbered = [f"[{number}] {passage.title}: {passage.text}" for number, passage in enumerate(passages, start=1)]
    return [
        {"role": "system", "content": GROUNDED_INSTRUCTION},
        {"role": "user", "content": "\n".join([*numbered, f"Question: {question}"])},
    ]
