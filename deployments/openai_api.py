"""Completion, embedding and plan requests: the bodies beside chat, checked and typed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from deployments.chat_request import (
    KNOWN_CHAT,
    UNSUPPORTED_SAMPLING,
    Neutral,
    SamplingRequest,
    parse_extension,
    parse_messages,
    parse_sampling,
    parse_stream,
)
from deployments.request_fields import Fields, describe_type
from experts.errors import BadRequest, Unsupported
from router.question import Question
from router.variant import Budget, Quality

MAX_EMBEDDING_INPUTS = 2048
"""OpenAI's own limit."""

_UNSUPPORTED_COMPLETION: Neutral = {
    **UNSUPPORTED_SAMPLING,
    "best_of": ((1,), "send one request per choice"),
    "echo": ((False,), "put the prompt before the answer yourself"),
    "logprobs": ((0,), "remove it; token probabilities are not returned"),
    "suffix": (("",), "remove it; experts write onwards only"),
}
_KNOWN_COMPLETION = frozenset(
    {"model", "prompt", "stream", "stream_options", "temperature", "top_p", "seed", "stop", "presence_penalty"}
    | {"frequency_penalty", "max_tokens", "user"}
    | _UNSUPPORTED_COMPLETION.keys()
)


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """One text completion by one expert, without routing, template or passages."""

    model: str
    prompt: str
    sampling: SamplingRequest
    stream: bool = False
    include_usage: bool = False

    def engine_body(self, max_tokens: int) -> dict[str, Any]:
        """The body for the engine; the expert fills in its own model id."""
        sampling = self.sampling.with_limit(max_tokens)
        body: dict[str, Any] = {"prompt": self.prompt, "max_tokens": sampling.max_tokens, "stream": self.stream}
        settings = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            "stop": list(sampling.stop) or None,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
            # Always asked for, because the gateway counts tokens; the caller sees it only when it asked too.
            "stream_options": {"include_usage": True} if self.stream else None,
        }
        return body | {key: value for key, value in settings.items() if value is not None}


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """Texts to embed with the fleet's sentence encoder."""

    model: str
    texts: tuple[str, ...]
    encoding_format: Literal["float", "base64"] = "float"


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """A question to plan without answering it."""

    model: str
    question: Question
    whole: bool = False
    quality: Quality | Budget | None = None


def parse_completion_request(body: Mapping[str, Any]) -> CompletionRequest:
    """The request of a JSON body; raises BadRequest or Unsupported naming the field."""
    fields = Fields(body)
    fields.check_unsupported(_UNSUPPORTED_COMPLETION)
    fields.check_known(_KNOWN_COMPLETION)
    prompt = fields.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
        prompt = prompt[0]
    if isinstance(prompt, list):
        raise Unsupported(
            f"prompt is an array of {len(prompt)}; one string is served; send one request per prompt", "prompt"
        )
    if not isinstance(prompt, str):
        fields.fail("prompt", f"is {describe_type(prompt)}, expected a string")
    if not prompt:
        fields.fail("prompt", "is empty; send the text to continue")
    stream, include_usage = parse_stream(fields)
    return CompletionRequest(fields.required_text("model"), prompt, parse_sampling(fields), stream, include_usage)


def parse_embedding_request(body: Mapping[str, Any]) -> EmbeddingRequest:
    """The request of a JSON body; raises BadRequest or Unsupported naming the field."""
    fields = Fields(body)
    fields.check_unsupported({"dimensions": ((), "remove it; the encoder's own dimensions are returned")})
    fields.check_known({"model", "input", "encoding_format", "dimensions", "user"})
    encoding_format = fields.choice("encoding_format", ("float", "base64"))
    value = fields.get("input")
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list):
        fields.fail("input", f"is {describe_type(value)}, expected a string or an array of strings")
    if not 1 <= len(texts) <= MAX_EMBEDDING_INPUTS:
        fields.fail("input", f"has {len(texts)} texts, expected 1 to {MAX_EMBEDDING_INPUTS}")
    for position, text in enumerate(texts):
        name = f"input[{position}]" if isinstance(value, list) else "input"
        if isinstance(text, int | list):
            raise Unsupported(f"{name} is {describe_type(text)}; token ids are not served; send text", name)
        if not isinstance(text, str):
            raise BadRequest(f"{name} is {describe_type(text)}, expected a string", name)
        if not text.strip():
            raise BadRequest(f"{name} is empty; send at least one character", name)
    return EmbeddingRequest(
        model=fields.required_text("model"),
        texts=tuple(texts),
        encoding_format="base64" if encoding_format == "base64" else "float",
    )


def parse_plan_request(body: Mapping[str, Any], routed_model: str) -> PlanRequest:
    """The request of a JSON body: a bare `question`, or a chat body as it would be sent for an answer."""
    fields = Fields(body)
    fields.check_known(KNOWN_CHAT | {"question"})
    model = fields.text("model") or routed_model
    quality = parse_extension(fields).quality
    if fields.get("question") is None:
        return PlanRequest(model, parse_messages(fields), parse_sampling(fields).response_format is not None, quality)
    if fields.get("messages") is not None:
        fields.fail("question", "is sent beside messages; send one of the two")
    text = fields.required_text("question")
    if not text.strip():
        fields.fail("question", "is empty; ask something")
    return PlanRequest(model, Question(text), quality=quality)
