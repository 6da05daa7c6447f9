"""The one prompt, as training and serving render it."""

from collections.abc import Sequence

import pytest

import experts.prompt
from experts.prompt import GROUNDED_INSTRUCTION, Message, TitledText, fingerprint_template, render_messages
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


def test_the_template_has_the_fingerprint_that_the_shipped_experts_record() -> None:
    """Whoever changes the prompt sees here that every expert has to be trained again."""
    assert fingerprint_template() == "006ba874cb9f6da3"


@pytest.mark.parametrize(
    ("name", "value"),
    [("GROUNDED_INSTRUCTION", GROUNDED_INSTRUCTION + " Be brief."), ("REFUSAL", "They do not say.")],
)
def test_another_wording_is_another_template(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    before = fingerprint_template()
    monkeypatch.setattr(experts.prompt, name, value)
    assert fingerprint_template() != before


def _drop_titles(question: str, passages: Sequence[TitledText], turns: Sequence[Message] = ()) -> list[Message]:
    messages = render_messages(question, passages, turns)
    for passage in passages:
        messages[-1]["content"] = messages[-1]["content"].replace(f"{passage.title}: ", "")
    return messages


def _keep_last_turn(question: str, passages: Sequence[TitledText], turns: Sequence[Message] = ()) -> list[Message]:
    return render_messages(question, passages, turns[-1:])


def _question_first(question: str, passages: Sequence[TitledText], turns: Sequence[Message] = ()) -> list[Message]:
    messages = render_messages(question, passages, turns)
    messages[-1]["content"] = "\n".join(reversed(messages[-1]["content"].split("\n")))
    return messages


@pytest.mark.parametrize("layout", [_drop_titles, _keep_last_turn, _question_first])
def test_another_layout_is_another_template(monkeypatch: pytest.MonkeyPatch, layout: object) -> None:
    before = fingerprint_template()
    monkeypatch.setattr(experts.prompt, "render_messages", layout)
    assert fingerprint_template() != before
