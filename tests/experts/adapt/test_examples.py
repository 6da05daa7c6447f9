"""Rows become the prompts that are served, or broken rows with their line and reason."""

import json
from pathlib import Path
from typing import Any

import pytest

from experts.adapt.examples import Example, read_examples
from experts.errors import ConfigurationError
from experts.prompt import GROUNDED_INSTRUCTION


def read_one(tmp_path: Path, row: Any) -> Example:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    read = read_examples(path)
    assert read.broken == ()
    return read.examples[0]


def find_reason(tmp_path: Path, text: str | bytes) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    read = read_examples(path)
    assert read.examples == ()
    (broken,) = read.broken
    return broken.reason


def test_a_context_is_rendered_as_served_passages(tmp_path: Path) -> None:
    context = [{"title": "Halden", "text": "Iron costs 3 coins."}, "Tin costs 2 coins."]
    example = read_one(tmp_path, {"context": context, "instruction": "What does iron cost?", "response": "3 coins [1]"})
    system, user = example.prompt
    assert system == {"role": "system", "content": GROUNDED_INSTRUCTION}
    assert user["content"] == (
        "[1] Halden: Iron costs 3 coins.\n[2] Context: Tin costs 2 coins.\nQuestion: What does iron cost?"
    )
    assert example.answer == "3 coins [1]"


def test_messages_keep_their_turns_and_the_last_answer_is_learned(tmp_path: Path) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Iron?"},
        {"role": "assistant", "content": "3 coins"},
        {"role": "user", "content": "And tin?"},
        {"role": "assistant", "content": "2 coins"},
    ]
    example = read_one(tmp_path, {"messages": messages})
    assert list(example.prompt) == messages[:-1]
    assert (example.question, example.answer) == ("And tin?", "2 coins")


def test_a_row_without_a_context_has_no_instruction_to_cite(tmp_path: Path) -> None:
    example = read_one(tmp_path, {"instruction": "What is tin?", "response": "A metal."})
    assert example.prompt == ({"role": "user", "content": "What is tin?"},)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{", "no JSON"),
        (b"\xff\xfe{}", "no JSON"),
        ("[1]", "a JSON object is needed, found list"),
        ("{}", "neither 'messages' nor 'response'; its keys are none"),
        ('{"instruction": "a", "response": " "}', "'response' is empty"),
        ('{"instruction": 3, "response": "a"}', "'instruction' must be text, found int"),
        ('{"response": "a"}', "'instruction' must be text, found nothing"),
        ('{"messages": [], "response": "a"}', "both 'messages' and 'response'"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "'messages' must be a list"),
        (
            '{"messages": [{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}]}',
            "messages[1].role is 'tool'",
        ),
        (
            '{"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]}',
            "must end with user and assistant, found assistant and user",
        ),
        (
            '{"messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": "b"}]}',
            "messages[0]: 'content' is empty",
        ),
        ('{"context": [7], "instruction": "a", "response": "b"}', "context[0] must be text or an object"),
        ('{"context": [{"title": "t"}], "instruction": "a", "response": "b"}', "'text' must be text, found nothing"),
    ],
)
def test_a_broken_row_says_why(tmp_path: Path, row: str | bytes, reason: str) -> None:
    assert reason in find_reason(tmp_path, row)


def test_lines_are_counted_with_blank_and_broken_ones(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = '{"instruction": "a", "response": "b"}'
    path.write_text(f"{good}\n\nbroken\n{good}")
    read = read_examples(path)
    assert [example.line for example in read.examples] == [1, 4]
    assert [row.line for row in read.broken] == [3]


def test_a_file_that_is_not_there_is_the_operators_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"gone\.jsonl: cannot be read"):
        read_examples(tmp_path / "gone.jsonl")
