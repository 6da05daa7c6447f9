"""What travels between the gateway and an expert's replica: in goes a sub-query with its vector, out come events.

Prompts stay on the expert's node, and so does the text of every passage that the answer does not cite.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from router.question import Citation, Failure, Turn, Usage, Vector


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to generate; None leaves a setting to the engine. Names and meanings are OpenAI's."""

    max_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_format: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ExpertRequest:
    """One sub-query for one variant of one domain's expert.

    `vector` is the embedding of `text`; None asks without passages. `turns` are earlier turns and the caller's system
    messages, oldest first. `score` asks for the log-probabilities in `Finished`.
    """

    request_id: str
    domain: str
    variant: str
    text: str
    vector: Vector | None = field(repr=False, compare=False)
    sampling: Sampling
    turns: tuple[Turn, ...] = ()
    score: bool = False
    traceparent: str | None = None
    """The span of the sub-query, as W3C Trace Context writes it; None where nothing is traced."""


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Always the first event: what the prompt's passages are, numbered from 1 as the prompt numbers them, textless."""

    citations: tuple[Citation, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Text as it is generated; one event carries all that has gathered since the last."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of an answer that succeeded; `cited` are the passages that it cites, with their text.

    `logprob_mean` and `logprob_min` are of its tokens as sampled, natural logarithms; None where nobody asked.
    """

    finish_reason: Literal["stop", "length"]
    usage: Usage
    timings_s: Mapping[str, float]
    cited: tuple[Citation, ...] = ()
    logprob_mean: float | None = None
    logprob_min: float | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The last event of an answer that did not."""

    failure: Failure
    status: int = 503
    """HTTP status when this failure is the whole response; 400 for what the caller must change."""
    param: str | None = None


ExpertEvent = Retrieved | TextDelta | Finished | Failed


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """What one replica of an engine reports for `guildhall status`; counters since the replica started."""

    engine: str
    replica: str
    node: str
    running: int
    requests: Mapping[str, int]
    completion_tokens: Mapping[str, int]
    index_versions: Mapping[str, str]
    uptime_s: float
    problems: Mapping[str, str] = field(default_factory=dict)
    """Why a domain could not be brought to what the fleet file asks for; the others are not touched by it."""
    index_problems: Mapping[str, str] = field(default_factory=dict)
    """Why a domain's index, which answers, does not serve what was committed to it last."""
    kv_tokens: int = 0
    """Tokens that its KV cache holds."""
    asleep: bool = False
    """Whether its engine has given its GPU's memory back until the next request."""
    quotas: Sequence[Mapping[str, Any]] = ()
    """What each engine of its node may use and why: `cluster.quota_reasons.QuotaReason`."""


class Experts(Protocol):
    """The gateway's way to experts; `deployments.serve_experts` is the real one.

    `answer` yields events and never raises for an expert's failure: that is a `Failed` event. Closing the iterator
    (or cancelling the task that reads it) stops the generation and gives back what it held.
    """

    def answer(self, request: ExpertRequest) -> AsyncIterator[ExpertEvent]: ...

    def complete(
        self, domain: str, variant: str, body: Mapping[str, Any], request_id: str
    ) -> AsyncIterator[Mapping[str, Any]]:
        """OpenAI completion bodies: one item, or one per chunk where body["stream"] is true.

        Raises ExpertUnavailable or Overloaded; a body with "error" is the engine's own refusal.
        """
        ...

    async def observe(self) -> tuple[ReplicaState, ...]: ...
