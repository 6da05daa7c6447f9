"""Chat completion requests: OpenAI's body checked field by field, then typed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from deployments.expert_call import Sampling
from deployments.request_fields import Fields, describe_type, quote
from experts.errors import BadRequest, Unsupported
from router.question import Question, Turn
from router.synthesis import Fusion
from router.variant import Budget, Quality

MAX_TOKENS_CEILING = 1_000_000
MAX_STOP_SEQUENCES = 4
MAX_COST = 1_000_000
INT64 = 2**63

Neutral = Mapping[str, tuple[tuple[Any, ...], str]]
"""Parameters that OpenAI knows and Guildhall does not honour: their neutral values, and what to do instead."""

_TOOLS = "describe the task in the messages instead"
_ONE_CHOICE = "send one request per choice"
_NO_LOGPROBS = "remove it; token probabilities are not returned"
_TEXT_ONLY = "send and expect text"

UNSUPPORTED_SAMPLING: Neutral = {
    "n": ((1,), _ONE_CHOICE),
    "logit_bias": (({},), "remove it"),
}
UNSUPPORTED_CHAT: Neutral = {
    **UNSUPPORTED_SAMPLING,
    "tools": (([],), _TOOLS),
    "tool_choice": (("none",), _TOOLS),
    "functions": (([],), _TOOLS),
    "function_call": (("none",), _TOOLS),
    "logprobs": ((False,), _NO_LOGPROBS),
    "top_logprobs": ((0,), _NO_LOGPROBS),
    "audio": ((), _TEXT_ONLY),
    "modalities": ((["text"],), _TEXT_ONLY),
    "prediction": ((), "remove it"),
    "web_search_options": ((), "the experts read their own indexes; remove it"),
    "reasoning_effort": (("none",), "remove it"),
    "verbosity": (("medium",), "remove it and say in the messages how long the answer should be"),
    "moderation": ((), "remove it"),
    "store": ((False,), "answers are not stored; remove it"),
}
# Ignoring these cannot change the answer.
HARMLESS_CHAT = frozenset(
    {
        "user",
        "metadata",
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
    }
)
_SAMPLING_FIELDS = frozenset(
    {"temperature", "top_p", "seed", "stop", "presence_penalty", "frequency_penalty", "max_tokens"}
)
_STREAM_FIELDS = frozenset({"stream", "stream_options"})
KNOWN_CHAT = frozenset(
    {"model", "messages", "max_completion_tokens", "response_format", "guildhall", *_SAMPLING_FIELDS, *_STREAM_FIELDS}
    | HARMLESS_CHAT
    | UNSUPPORTED_CHAT.keys()
)

# The one field that OpenAI does not have; its clients send it with `extra_body`. Responses answer under the same name.
KNOWN_EXTENSION = frozenset({"quality", "max_cost", "fusion"})

_MESSAGE_FIELDS = {"role", "content", "name", "refusal", "annotations", "audio", "function_call", "tool_calls"}
_UNSUPPORTED_MESSAGE: Neutral = {
    "tool_calls": (([],), _TOOLS),
    "function_call": ((), _TOOLS),
    "audio": ((), _TEXT_ONLY),
    "refusal": (("",), "give the refusal as content"),
}


@dataclass(frozen=True, slots=True)
class SamplingRequest:
    """How the caller wants text generated; `max_tokens` None leaves the limit to each domain."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_format: Mapping[str, Any] | None = None

    def with_limit(self, default_max_tokens: int) -> Sampling:
        """The sampling of one sub-query in a domain."""
        return Sampling(
            max_tokens=self.max_tokens if self.max_tokens is not None else default_max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            stop=self.stop,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            response_format=self.response_format,
        )


@dataclass(frozen=True, slots=True)
class Extension:
    """The body's `guildhall` object; what is None is as the fleet file says."""

    quality: Quality | Budget | None = None
    fusion: Fusion | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One chat completion request."""

    model: str
    question: Question
    sampling: SamplingRequest
    stream: bool = False
    include_usage: bool = False
    extension: Extension = Extension()


def parse_chat_request(body: Mapping[str, Any]) -> ChatRequest:
    """The request of a JSON body; raises BadRequest or Unsupported naming the field."""
    fields = Fields(body)
    fields.check_unsupported(UNSUPPORTED_CHAT)
    fields.check_known(KNOWN_CHAT)
    stream, include_usage = parse_stream(fields)
    return ChatRequest(
        model=fields.required_text("model"),
        question=parse_messages(fields),
        sampling=parse_sampling(fields),
        stream=stream,
        include_usage=include_usage,
        extension=parse_extension(fields),
    )


def parse_extension(fields: Fields) -> Extension:
    """What the body asks of Guildhall beyond OpenAI's API."""
    extension = fields.object("guildhall")
    if extension is None:
        return Extension()
    extension.check_known(KNOWN_EXTENSION)
    return Extension(_parse_quality(extension), _parse_fusion(extension))


def _parse_quality(extension: Fields) -> Quality | Budget | None:
    """What the request wants of its variants: a word, or the most that one answer may cost."""
    cost = extension.number("max_cost", 0, MAX_COST, above_low=True)
    word = extension.choice("quality", ("fast", "balanced", "best"))
    if cost is not None and word is not None:
        extension.fail("max_cost", "and quality are both set; send one of them")
    if cost is not None:
        return Budget(cost)
    known: dict[str | None, Quality] = {"fast": "fast", "balanced": "balanced", "best": "best"}
    return known.get(word)


def _parse_fusion(extension: Fields) -> Fusion | None:
    """How the request wants several sub-answers as one."""
    known: dict[str | None, Fusion] = {"join": "join", "synthesize": "synthesize"}
    return known.get(extension.choice("fusion", ("join", "synthesize")))


def parse_stream(fields: Fields) -> tuple[bool, bool]:
    """Whether to stream, and whether the stream ends with its usage."""
    stream = fields.flag("stream") or False
    options = fields.object("stream_options")
    if options is None:
        return stream, False
    if not stream:
        fields.fail("stream_options", "is set without stream; set stream to true or remove it")
    options.check_known({"include_usage", "include_obfuscation"})
    options.flag("include_obfuscation")
    return stream, options.flag("include_usage") or False


def parse_sampling(fields: Fields) -> SamplingRequest:
    """The sampling settings of a chat or text completion."""
    limits = {
        key: fields.integer(key, 1, MAX_TOKENS_CEILING)
        for key in ("max_completion_tokens", "max_tokens")
        if fields.get(key) is not None
    }
    if len(set(limits.values())) > 1:
        fields.fail(
            "max_tokens", "and max_completion_tokens differ; max_tokens is the older name, send max_completion_tokens"
        )
    return SamplingRequest(
        max_tokens=next(iter(limits.values()), None),
        temperature=fields.number("temperature", 0, 2),
        top_p=fields.number("top_p", 0, 1, above_low=True),
        seed=fields.integer("seed", -INT64, INT64 - 1),
        stop=_parse_stop(fields),
        presence_penalty=fields.number("presence_penalty", -2, 2),
        frequency_penalty=fields.number("frequency_penalty", -2, 2),
        response_format=_parse_response_format(fields),
    )


def _parse_stop(fields: Fields) -> tuple[str, ...]:
    value = fields.get("stop")
    if value is None:
        return ()
    sequences = [value] if isinstance(value, str) else value
    if not isinstance(sequences, list) or not all(isinstance(item, str) for item in sequences):
        fields.fail("stop", f"is {describe_type(value)}, expected a string or an array of strings")
    if len(sequences) > MAX_STOP_SEQUENCES:
        fields.fail("stop", f"has {len(sequences)} sequences, at most {MAX_STOP_SEQUENCES}; remove some")
    if any(not item for item in sequences):
        fields.fail("stop", "has an empty sequence, which would stop every answer at once; remove it")
    return tuple(sequences)


def _parse_response_format(fields: Fields) -> Mapping[str, Any] | None:
    response_format = fields.object("response_format")
    if response_format is None:
        return None
    if response_format.text("type") is None:
        response_format.fail("type", "is missing; send text, json_object or json_schema")
    kind = response_format.choice("type", ("text", "json_object", "json_schema"))
    response_format.check_known({"type", "json_schema"} if kind == "json_schema" else {"type"})
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "json_object"}
    described = response_format.object("json_schema")
    if described is None:
        response_format.fail("json_schema", "is missing; send an object with name and schema")
    described.check_known({"name", "schema", "strict", "description"})
    described.flag("strict")
    described.text("description")
    schema = described.object("schema")
    if schema is None:
        described.fail("schema", "is missing; send a JSON schema")
    name = described.required_text("name")
    return {"type": "json_schema", "json_schema": {"name": name, "schema": described.get("schema"), "strict": True}}


def parse_messages(fields: Fields) -> Question:
    """The last message as the question, the ones before it as turns."""
    messages = fields.array("messages")
    if messages is None:
        fields.fail("messages", "is missing; it is a required array of messages")
    if not messages:
        fields.fail("messages", "is empty; send at least one message with role user")
    turns = [_parse_message(message, f"messages[{position}]") for position, message in enumerate(messages)]
    last = turns[-1]
    if last.role != "user":
        name = f"messages[{len(turns) - 1}].role"
        raise BadRequest(f"{name} is '{last.role}'; the last message must be the user's question", name)
    if not last.text.strip():
        name = f"messages[{len(turns) - 1}].content"
        raise BadRequest(f"{name} is empty; the last message must ask something", name)
    return Question(last.text, tuple(turns[:-1]))


def _parse_message(message: Any, path: str) -> Turn:
    if not isinstance(message, dict):
        raise BadRequest(f"{path} is {describe_type(message)}, expected an object with role and content", path)
    fields = Fields(message, path)
    role = fields.required_text("role")
    if role in ("tool", "function"):
        raise Unsupported(f"{path}.role is '{role}'; tools are not served; {_TOOLS}", f"{path}.role")
    fields.choice("role", ("system", "developer", "user", "assistant"))
    fields.check_unsupported(_UNSUPPORTED_MESSAGE)
    fields.check_known(_MESSAGE_FIELDS)
    fields.text("name")
    known: dict[str, Literal["system", "user", "assistant"]] = {"user": "user", "assistant": "assistant"}
    return Turn(known.get(role, "system"), _parse_content(fields))


def _parse_content(fields: Fields) -> str:
    content = fields.get("content")
    if isinstance(content, str):
        return content
    if content is None:
        fields.fail("content", "is missing; send a string or an array of text parts")
    if not isinstance(content, list):
        fields.fail("content", f"is {describe_type(content)}, expected a string or an array of text parts")
    texts = []
    for position, part in enumerate(content):
        path = f"{fields.name('content')}[{position}]"
        if not isinstance(part, dict):
            raise BadRequest(f"{path} is {describe_type(part)}, expected an object with type and text", path)
        part_fields = Fields(part, path)
        kind = part_fields.required_text("type")
        if kind != "text":
            raise Unsupported(f"{path}.type is {quote(kind)}; only text parts are served; {_TEXT_ONLY}", f"{path}.type")
        part_fields.check_known({"type", "text", "prompt_cache_breakpoint"})
        texts.append(part_fields.required_text("text"))
    return "\n".join(texts)
