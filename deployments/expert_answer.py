"""One sub-query answered by a replica: its index asked, the prompt filled, the engine's stream read as events."""

import json
import re
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine
from ray.serve.llm.openai_api_models import ChatCompletionRequest

from deployments.expert_call import ExpertEvent, ExpertRequest, Failed, Finished, Retrieved, TextDelta
from deployments.served_domains import ServedDomain
from experts.errors import GuildhallError, IndexUnavailable
from experts.prompt import Message, render_messages
from retrieval.passage import SearchResult
from router.question import Citation, Failure, Usage

UNKNOWN_LOGPROB = -9999.0
MARKS = re.compile(r"\[(\d{1,4}(?: ?, ?\d{1,4}){0,15})\]")


async def answer_request(
    engine: VLLMEngine, domain: ServedDomain | None, request: ExpertRequest
) -> AsyncGenerator[ExpertEvent, None]:
    """Search, prompt, generate: the events of one answer, a failure as the last of them."""
    started = time.perf_counter()
    if domain is None or request.variant not in domain.model_ids:
        message = explain_not_served(request.domain, request.variant)
        yield Failed(Failure("expert_unavailable", message, retryable=True))
        return
    result = SearchResult((), "")
    if domain.index is not None and request.vector is not None:
        try:
            result = await domain.index.search(request.text, request.vector)
        except GuildhallError as error:
            retryable = isinstance(error, IndexUnavailable)
            yield Failed(Failure("index_unavailable", str(error), retryable))
            return
    retrieved = time.perf_counter()
    citations = _number_citations(request.domain, result)
    yield Retrieved(tuple(replace(citation, text="") for citation in citations), retrieved - started)
    chat = _build_chat_request(request, result, domain.model_ids[request.variant])
    first_token: float | None = None
    texts: list[str] = []
    logprobs: list[float] = []
    finish_reason = "stop"
    usage = Usage()
    async with aclosing(engine.chat(chat)) as items:
        async for item in items:
            if not isinstance(item, str):
                yield _observe_engine_error(item.error, request)
                return
            for chunk in parse_chunks(item):
                if "error" in chunk:
                    yield Failed(Failure("engine_error", str(chunk["error"].get("message")), retryable=True))
                    return
                for choice in chunk["choices"]:
                    text = choice["delta"].get("content") or ""
                    finish_reason = choice.get("finish_reason") or finish_reason
                    logprobs += _read_logprobs(choice)
                    if text:
                        first_token = first_token or time.perf_counter()
                        texts.append(text)
                        yield TextDelta(text)
                if chunk.get("usage"):
                    usage = Usage(chunk["usage"]["prompt_tokens"], chunk["usage"]["completion_tokens"])
    ended = time.perf_counter()
    timings = {
        "retrieve": retrieved - started,
        "first_token": (first_token or ended) - started,
        "generate": ended - retrieved,
    }
    cited = _find_cited("".join(texts), citations)
    yield Finished(
        "length" if finish_reason == "length" else "stop",
        usage,
        timings,
        cited,
        logprob_mean=sum(logprobs) / len(logprobs) if logprobs else None,
        logprob_min=min(logprobs, default=None),
    )


def _number_citations(domain: str, result: SearchResult) -> tuple[Citation, ...]:
    return tuple(
        Citation(
            number=number,
            domain=domain,
            title=hit.passage.title,
            source=hit.passage.source,
            document=hit.passage.document,
            position=hit.passage.position,
            text=hit.passage.text,
            score=hit.score,
            version=result.version,
        )
        for number, hit in enumerate(result.hits, start=1)
    )


def _find_cited(text: str, citations: tuple[Citation, ...]) -> tuple[Citation, ...]:
    """The citations whose number stands in a mark of the text; fusion decides what is really a mark."""
    numbers = {int(number) for mark in MARKS.findall(text) for number in mark.split(",")}
    return tuple(citation for citation in citations if citation.number in numbers)


def _build_chat_request(request: ExpertRequest, result: SearchResult, model_id: str) -> ChatCompletionRequest:
    turns: list[Message] = [{"role": turn.role, "content": turn.text} for turn in request.turns]
    messages = render_messages(request.text, [hit.passage for hit in result.hits], turns)
    sampling = request.sampling
    settings = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "stop": list(sampling.stop) or None,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "response_format": dict(sampling.response_format) if sampling.response_format else None,
        # The chosen tokens' own; without alternatives the engine sorts nothing.
        "logprobs": True if request.score else None,
        "top_logprobs": 0 if request.score else None,
    }
    return ChatCompletionRequest(
        model=model_id,
        messages=messages,
        max_completion_tokens=sampling.max_tokens,
        stream=True,
        stream_options={"include_usage": True},
        request_id=request.request_id,
        **{name: value for name, value in settings.items() if value is not None},
    )


def parse_chunks(item: str) -> list[dict[str, Any]]:
    """The JSON bodies of server-sent events."""
    bodies = [line.removeprefix("data: ") for line in item.splitlines() if line.startswith("data: ")]
    return [json.loads(body) for body in bodies if body != "[DONE]"]


def _read_logprobs(choice: dict[str, Any]) -> list[float]:
    """Log-probabilities of a chunk's tokens, where they were asked for; vLLM writes -9999 where it knows none."""
    tokens = (choice.get("logprobs") or {}).get("content") or ()
    return [token["logprob"] for token in tokens if token["logprob"] > UNKNOWN_LOGPROB]


def explain_not_served(domain: str, variant: str) -> str:
    return f"variant '{domain}/{variant}' is not served here; the fleet is changing, or its log says why; retry"


def _observe_engine_error(error: Any, request: ExpertRequest) -> Failed:
    """What vLLM refused, as data; `error` is the body of OpenAI's error object."""
    status = int(error.code) if str(error.code).isdigit() else 500
    if status == 404:  # The adapter left between the look-up and the engine.
        message = explain_not_served(request.domain, request.variant)
        return Failed(Failure("expert_unavailable", message, retryable=True))
    if 400 <= status < 500:
        # "input_tokens" is vLLM's word for a prompt over the context length; the caller knows no such field.
        param = None if error.param == "input_tokens" else error.param
        return Failed(Failure("invalid_request", error.message, retryable=False), status=status, param=param)
    return Failed(Failure("engine_error", error.message, retryable=True))
