"""The one prompt, as training and serving render it."""

from experts.prompt import GROUNDED_INSTRUCTION, Message, render_messages
from retrieval.passage import Passage

PASSAGES = [Passage("It flows north.", "Veldra", "rivers.md#veldra"), Passage("It blooms in May.", "Solenne", "s.md#s")]


def test_passages_are_numbered_from_one_before_the_question() -> None:
    assert render_messages("Where does it flow?", PASSAGES) == [
        {"role": "system", "content": GROUNDED_INSTRUCTION},
        {
            "role": "user",
            "content": "[1] Veldra: It flows north.\n[2] Solenne: It blooms in May.\nQuestion: Where does it flow?",
        },
    ]


def test_without_passages_the_question_goes_out_alone() -> None:
    assert render_messages("Hello {name} [1]", []) == [{"role": "user", "content": "Hello {name} [1]"}]


def test_system_messages_become_one_at_the_front() -> None:
    turns: list[Message] = [
        {"role": "user", "content": "Hello"},
        {"role": "system", "content": "Be brief."},
        {"role": "assistant", "content": "Hello."},
    ]
    messages = render_messages("Why?", PASSAGES, turns)
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[0]["content"] == f"Be brief.\n\n{GROUNDED_INSTRUCTION}"
