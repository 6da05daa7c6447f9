"""Request bodies: what is taken, what is refused, and in which words."""

import json
from typing import Any

import pytest

from deployments.chat_request import UNSUPPORTED_CHAT, parse_chat_request
from deployments.openai_api import parse_completion_request, parse_embedding_request, parse_plan_request
from deployments.request_fields import parse_json_object
from experts.errors import BadRequest, Unsupported
from router.question import Turn

MESSAGES = [{"role": "user", "content": "What is interest?"}]


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "guildhall", "messages": MESSAGES, **fields}


def refuse(body: dict[str, Any]) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        parse_chat_request(body)
    return caught.value


def test_all_settings_are_taken() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    request = parse_chat_request(
        chat(
            temperature=0,
            top_p=0.5,
            seed=7,
            stop=["a", "b"],
            max_completion_tokens=9,
            presence_penalty=1,
            frequency_penalty=-1,
            response_format=schema,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.seed, sampling.stop) == (0.0, 0.5, 7, ("a", "b"))
    assert (sampling.max_tokens, sampling.presence_penalty, sampling.frequency_penalty) == (9, 1.0, -1.0)
    assert sampling.response_format is not None
    assert (request.stream, request.include_usage) == (True, True)


def test_harmless_fields_nulls_and_neutral_values_are_accepted() -> None:
    parse_chat_request(
        chat(user="u", metadata={"a": "b"}, service_tier="auto", n=1, tools=[], logprobs=False, store=False, seed=None)
    )
    parse_chat_request(chat(**dict.fromkeys(UNSUPPORTED_CHAT)))


def test_text_parts_are_joined_and_developer_is_system() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    question = parse_chat_request(
        chat(messages=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}])
    ).question
    assert question.text == "one\ntwo"
    assert question.turns == (Turn("system", "Be brief."),)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2),
        ("tools", [{"type": "function"}]),
        ("tool_choice", "auto"),
        ("functions", [{}]),
        ("function_call", "auto"),
        ("logprobs", True),
        ("top_logprobs", 3),
        ("audio", {"voice": "x"}),
        ("modalities", ["audio"]),
        ("prediction", {"type": "content"}),
        ("logit_bias", {"1": 1}),
        ("web_search_options", {}),
        ("reasoning_effort", "high"),
        ("store", True),
    ],
)
def test_what_openai_knows_and_we_do_not_serve_is_refused_by_name(name: str, value: Any) -> None:
    error = refuse(chat(**{name: value}))
    assert isinstance(error, Unsupported)
    assert error.param == name
    assert error.message.startswith(name)


def test_a_true_is_not_the_number_one() -> None:
    assert refuse(chat(n=True)).param == "n"


def test_an_unknown_field_names_the_nearest_known_one() -> None:
    error = refuse(chat(temprature=1))
    assert "'temperature'" in error.message
    assert not isinstance(error, Unsupported)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": 10**400}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"seed": 2**63}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": 3}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema",
        ),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages[0].content"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [*MESSAGES, {"role": "assistant", "content": "x"}]}, "messages[1].role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content[0].type",
        ),
        ({"model": None}, "model"),
        ({"model": 3}, "model"),
    ],
)
def test_each_mistake_names_its_field(fields: dict[str, Any], param: str) -> None:
    error = refuse(chat(**fields))
    assert error.param == param
    assert param.split(".")[0] in error.message


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "not JSON"),
        (b'{"model": }', "column 11"),
        (b"[1]", "an array"),
        (b"null", "null"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": "\xff"}', "byte 7"),
        (b'{"a": "x\\u0000"}', "NUL"),
        (b'{"a": {"b": ["\\ud800"]}}', "a.b[0]"),
        (b'{"\\udfff": 1}', "lone surrogate"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "too long"),
    ],
)
def test_a_body_that_is_not_a_json_object_says_where(raw: bytes, says: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_json_object(raw)
    assert says in caught.value.message
    caught.value.message.encode()


def test_a_surrogate_pair_is_a_character() -> None:
    assert parse_json_object(json.dumps({"a": "😀"}).encode()) == {"a": "😀"}


def test_completions_take_one_prompt() -> None:
    request = parse_completion_request(
        {"model": "guildhall/coding", "prompt": ["def f("], "max_tokens": 3, "stop": "x"}
    )
    assert request.engine_body(9) == {"prompt": "def f(", "max_tokens": 3, "stream": False, "stop": ["x"]}
    assert parse_completion_request({"model": "m", "prompt": "a"}).engine_body(9)["max_tokens"] == 9
    for body in (
        {"prompt": ["a", "b"]},
        {"prompt": [1, 2]},
        {"prompt": "a", "echo": True},
        {"prompt": "a", "suffix": "b"},
    ):
        with pytest.raises(Unsupported):
            parse_completion_request({"model": "m", **body})
    with pytest.raises(BadRequest):
        parse_completion_request({"model": "m", "prompt": ""})


def test_embeddings_take_texts_only() -> None:
    assert parse_embedding_request({"model": "m", "input": "a"}).texts == ("a",)
    assert parse_embedding_request({"model": "m", "input": ["a", "b"], "encoding_format": "base64"}).texts == ("a", "b")
    values: tuple[Any, ...] = ([], "", [""], 3, None, ["a"] * 2049, [{}])
    for value in values:
        with pytest.raises(BadRequest):
            parse_embedding_request({"model": "m", "input": value})
    for body in ({"input": [1, 2]}, {"input": [[1]]}, {"input": "a", "dimensions": 3}):
        with pytest.raises(Unsupported):
            parse_embedding_request({"model": "m", **body})


def test_a_plan_takes_a_question_or_messages_but_not_both() -> None:
    assert parse_plan_request({"question": "Why?"}, "guildhall").question.text == "Why?"
    assert parse_plan_request({"messages": MESSAGES}, "guildhall").model == "guildhall"
    for body in ({"question": "a", "messages": MESSAGES}, {"question": " "}, {"question": 1}, {}):
        with pytest.raises(BadRequest):
            parse_plan_request(body, "guildhall")
