"""What the gateway's tests serve with: scripted experts, a small fleet, an encoder without weights."""

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from deployments.expert_call import (
    ExpertEvent,
    ExpertRequest,
    Failed,
    Finished,
    ReplicaState,
    Retrieved,
    TextDelta,
)
from deployments.gateway_service import GatewayService, Serving, Target
from deployments.index_settings import IndexSource
from experts.fleet import Fleet
from router.encoding import Tokens
from router.question import Citation, Failure, Plan, Question, Reference, SubQuery, SubQueryId, Usage

DIMENSIONS = 16


@dataclass(frozen=True)
class WordTokens:
    """The words of a text by number; `text` is what they were read from."""

    text: str
    ids: list[int]
    offsets: npt.NDArray[np.int32]


@dataclass(frozen=True)
class WordsEncoded:
    vectors: npt.NDArray[np.float32]
    states: list[npt.NDArray[np.float32]]


class WordEncoder:
    """Vectors from the words of a text: equal texts are equal, shared words are near."""

    fingerprint = "words"
    dimensions = DIMENSIONS
    static = None

    def tokenize(self, text: str) -> WordTokens:
        found = list(re.finditer(r"\S+", text))
        offsets = np.array([word.span() for word in found], dtype=np.int32).reshape(-1, 2)
        return WordTokens(text, [_number(word.group().lower()) for word in found], offsets)

    def encode(self, texts: Sequence[Tokens], /) -> WordsEncoded:
        assert all(isinstance(tokens, WordTokens) for tokens in texts)
        vectors = self.embed_documents([tokens.text for tokens in texts if isinstance(tokens, WordTokens)])
        return WordsEncoded(vectors, [np.zeros((len(tokens.ids), DIMENSIONS), dtype=np.float32) for tokens in texts])

    def embed_documents(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        vectors = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in [*text.lower().split(), ""]:
                vectors[row, _number(word)] += 1
            vectors[row] /= np.linalg.norm(vectors[row])
        return vectors


def _number(word: str) -> int:
    return hashlib.sha256(word.encode("utf-8", "replace")).digest()[0] % DIMENSIONS


def build_fleet(**gateway: Any) -> Fleet:
    """Three domains on two engines."""
    return Fleet.model_validate(
        {
            "name": "test",
            "engines": {"small": {"model": "a/b", "replicas": {"min": 1}}, "large": {"model": "c/d"}},
            "domains": {
                "finance": {
                    "description": "Money, prices, interest and budgets.",
                    "examples": ["What does the loan cost?", "How high is the interest?"],
                    "variants": {"full": {"engine": "small"}, "quick": {"engine": "large"}},
                    "index": {"corpus": "/corpora/finance"},
                    "max_in_flight": 2,
                    "max_tokens": 64,
                    "history_turns": 2,
                },
                "coding": {
                    "description": "Programs, code and languages.",
                    "examples": ["How do I sort a list in Python?"],
                    "variants": {"full": {"engine": "small"}},
                    "max_tokens": 32,
                },
                "general": {
                    "description": "Everything else that people ask.",
                    "variants": {"full": {"engine": "large"}},
                },
            },
            "generalist": "general",
            "gateway": gateway,
            "nodes": {"laptop": {"cpus": 2, "memory_gib": 8}},
        }
    )


@dataclass
class Script:
    """What the fake expert of one domain does."""

    texts: tuple[str, ...] = ("An ", "answer", " [1].")
    finish_reason: Any = "stop"
    failure: Failed | None = None
    """Ends the answer after `texts` instead of Finished."""
    before_s: float = 0.0
    between_s: float = 0.0
    raises: Exception | None = None
    gate: asyncio.Event | None = None
    """Awaited before the first text."""
    logprobs: tuple[float, float] = (-0.1, -0.5)
    """Mean and least, given where the request asks for them."""
    passage: str = "passage"
    """What the one passage says that the answer cites."""


def down(domain: str) -> Failed:
    """A replica that died."""
    return Failed(Failure("expert_unavailable", f"expert '{domain}' failed: its replica died; retry", retryable=True))


@dataclass
class ScriptedExperts:
    """Experts that say what a script says, and note what they were asked and what they hold.

    `scripts` are by "domain/variant" or, for all variants, by domain.
    """

    scripts: dict[str, Script] = field(default_factory=dict)
    states: tuple[ReplicaState, ...] = ()
    requests: list[ExpertRequest] = field(default_factory=list)
    bodies: list[Mapping[str, Any]] = field(default_factory=list)
    open: Counter[str] = field(default_factory=Counter)
    most_open: int = 0
    refusal: Mapping[str, Any] | None = None

    async def answer(self, request: ExpertRequest) -> AsyncIterator[ExpertEvent]:
        self.requests.append(request)
        name = f"{request.domain}/{request.variant}"
        script = self.scripts.get(name) or self.scripts.get(request.domain, Script())
        self.open[request.domain] += 1
        self.most_open = max(self.most_open, self.open.total())
        try:
            if script.raises is not None:
                raise script.raises
            citation = Citation(1, request.domain, "Title", "source.md", "passage", 0.9, "v1")
            yield Retrieved((citation,), 0.002)
            await asyncio.sleep(script.before_s)
            if script.gate is not None:
                await script.gate.wait()
            for text in script.texts:
                yield TextDelta(text)
                await asyncio.sleep(script.between_s)
            if script.failure is not None:
                yield script.failure
            else:
                cited = (replace(citation, text=script.passage),) if "[1]" in "".join(script.texts) else ()
                mean, least = script.logprobs if request.score else (None, None)
                usage = Usage(10, len(script.texts))
                yield Finished(script.finish_reason, usage, {"generate": 0.01}, cited, mean, least)
        finally:
            self.open[request.domain] -= 1

    async def complete(
        self, domain: str, variant: str, body: Mapping[str, Any], request_id: str
    ) -> AsyncIterator[Mapping[str, Any]]:
        self.bodies.append(body)
        script = self.scripts.get(domain, Script())
        self.open[domain] += 1
        try:
            if self.refusal is not None:
                yield {"error": self.refusal}
                return
            if script.raises is not None:
                raise script.raises
            usage = {"prompt_tokens": 4, "completion_tokens": len(script.texts), "total_tokens": 4 + len(script.texts)}
            common = {"id": "engine", "object": "text_completion", "created": 1, "model": "engine"}
            await asyncio.sleep(script.before_s)
            if not body["stream"]:
                choice = {"index": 0, "text": "".join(script.texts), "logprobs": None, "finish_reason": "stop"}
                yield {**common, "choices": [choice], "usage": usage}
                return
            for text in script.texts:
                await asyncio.sleep(script.between_s)
                choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": None}
                yield {**common, "choices": [choice], "usage": None}
            choice = {"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}
            yield {**common, "choices": [choice], "usage": None}
            yield {**common, "choices": [], "usage": usage}
        finally:
            self.open[domain] -= 1

    async def observe(self) -> tuple[ReplicaState, ...]:
        return self.states


def answering_states() -> tuple[ReplicaState, ...]:
    """One replica of each engine of `build_fleet`."""
    return tuple(
        ReplicaState(engine, f"{engine}-1", "node-1", 0, {"finance": 3}, {"finance": 30}, {"finance": "v1"}, 10.0)
        for engine in ("small", "large")
    )


def build_sub_query(position: int, text: str, domain: str, needs: tuple[tuple[str, int], ...] = ()) -> SubQuery:
    """A sub-query; `needs` gives words of its text and the sub-query whose answer they stand for."""
    references = tuple(
        Reference(text.index(words), text.index(words) + len(words), SubQueryId(need)) for words, need in needs
    )
    vector = WordEncoder().embed_documents([text])[0]
    return SubQuery(SubQueryId(position), text, domain, vector, (), "the test says so", references)


def build_plan(*sub_queries: SubQuery) -> Plan:
    """A plan of hand-made sub-queries."""
    return Plan(" ".join(part.text for part in sub_queries), sub_queries, ("the test says so",), {"split": 0.0})


class PlannedService(GatewayService):
    """A gateway service whose routed questions get the plan that the test made."""

    planned: Plan | None = None

    async def plan(
        self, serving: Serving, question: Question, target: Target, whole: bool, *, request_id: str, deadline: float
    ) -> Plan:
        if self.planned is not None and target.domain is None:
            return self.planned
        return await super().plan(serving, question, target, whole, request_id=request_id, deadline=deadline)


async def start_service(
    experts: ScriptedExperts,
    fleet: Fleet | None = None,
    indexes: Mapping[str, IndexSource] | None = None,
    **settings: Any,
) -> PlannedService:
    """A service that is ready to answer."""
    service = PlannedService(lambda _: experts, lambda _: WordEncoder(), **settings)
    service.apply_fleet(fleet if fleet is not None else build_fleet(), indexes)
    await service.wait_loaded()
    return service
