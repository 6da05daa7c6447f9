"""Response bodies as OpenAI spells them, with Guildhall's own facts in one extra field, `guildhall`."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from experts.fleet import Fleet
from router.consistency import Contradiction
from router.question import SubAnswer, Usage
from router.synthesis import FusionChoice

ROUTED_MODEL = "guildhall"
DONE = b"data: [DONE]\n\n"


def encode_event(body: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def describe_usage(usage: Usage) -> dict[str, int]:
    """OpenAI's usage object."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def sum_usage(answers: Sequence[SubAnswer]) -> Usage:
    """What all sub-answers used together."""
    return Usage(
        sum(answer.usage.prompt_tokens for answer in answers),
        sum(answer.usage.completion_tokens for answer in answers),
    )


def choose_finish_reason(answers: Sequence[SubAnswer]) -> Literal["stop", "length"]:
    """`length` when any part was cut by its limit, else `stop`."""
    return "length" if any(answer.finish_reason == "length" for answer in answers) else "stop"


def describe_sub_answer(answer: SubAnswer) -> dict[str, Any]:
    """One expert's share of the answer: who gave it and why that one."""
    choice = answer.choice
    return {
        "sub_query": answer.sub_query,
        "domain": answer.domain,
        "variant": _name_variant(answer),
        "choice": {
            "predicted": round(choice.predicted, 4),
            "cost": choice.cost,
            "queue": choice.queue,
            "reason": choice.reason,
        }
        if choice is not None
        else None,
        "escalation": asdict(answer.escalation) if answer.escalation is not None else None,
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "failure": asdict(answer.failure) if answer.failure is not None else None,
        "usage": describe_usage(answer.usage),
        "timings_s": _round(answer.timings_s),
    }


def _name_variant(answer: SubAnswer) -> str | None:
    """The variant whose answer is read."""
    escalation = answer.escalation
    if escalation is not None and escalation.kept == "second" and escalation.second is not None:
        return escalation.second.rpartition("/")[2]
    return answer.choice.variant if answer.choice is not None else None


def describe_answer(
    citations: Sequence[Any], answers: Sequence[SubAnswer], timings_s: Mapping[str, float]
) -> dict[str, Any]:
    """What `guildhall` carries when the answer is complete."""
    return {
        "citations": [asdict(citation) for citation in citations],
        "sub_answers": [describe_sub_answer(answer) for answer in answers],
        "timings_s": _round(timings_s),
    }


def describe_fusion(
    choice: FusionChoice, synthesis: SubAnswer | None, contradictions: Sequence[Contradiction]
) -> dict[str, Any]:
    """How the sub-answers became one, and where they contradict each other; citations by the answer's numbers."""
    fusion: dict[str, Any] = {"mode": choice.fusion, "reason": choice.reason}
    if synthesis is not None:
        fusion |= {"usage": describe_usage(synthesis.usage), "timings_s": _round(synthesis.timings_s)}
    return {"fusion": fusion, "contradictions": [_describe_contradiction(item) for item in contradictions]}


def _describe_contradiction(contradiction: Contradiction) -> dict[str, Any]:
    return {
        "kind": contradiction.kind,
        "subject": contradiction.subject,
        "claims": [
            {
                "sub_query": claim.sub_query,
                "domain": claim.domain,
                "text": claim.text,
                "citation": claim.citation.number if claim.citation is not None else None,
                "supported": claim.supported,
            }
            for claim in contradiction.claims
        ],
        "settled": contradiction.settled,
        "reason": contradiction.reason,
    }


def _round(timings_s: Mapping[str, float]) -> dict[str, float]:
    return {name: round(seconds, 6) for name, seconds in timings_s.items()}


@dataclass(frozen=True, slots=True)
class ChatBodies:
    """The bodies of one chat completion; `created` is Unix time in seconds."""

    id: str
    model: str
    created: int

    def completion(self, text: str, finish_reason: str, usage: Usage, guildhall: Mapping[str, Any]) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        message = {"role": "assistant", "content": text, "refusal": None}
        return {
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}],
            "usage": describe_usage(usage),
            "guildhall": guildhall,
        }

    def chunk(
        self,
        delta: Mapping[str, Any],
        finish_reason: str | None = None,
        guildhall: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """One chunk of a streamed answer."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        body = self._chunk([choice])
        return body if guildhall is None else body | {"guildhall": guildhall}

    def usage_chunk(self, usage: Usage) -> dict[str, Any]:
        """The chunk after the last one, when the caller asked for usage: no choices."""
        return self._chunk([]) | {"usage": describe_usage(usage)}

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


def describe_embeddings(
    vectors: npt.NDArray[np.float32], model: str, encoding_format: Literal["float", "base64"]
) -> dict[str, Any]:
    """The body of an embeddings response; base64 is of little-endian float32, as OpenAI's client reads it.

    The encoder does not count its tokens, and embedding costs no expert any, so that usage is zero.
    """
    data = []
    for index, vector in enumerate(vectors):
        encoded = (
            base64.b64encode(vector.astype("<f4").tobytes()).decode()
            if encoding_format == "base64"
            else vector.tolist()
        )
        data.append({"object": "embedding", "index": index, "embedding": encoded})
    return {"object": "list", "data": data, "model": model, "usage": {"prompt_tokens": 0, "total_tokens": 0}}


def list_models(fleet: Fleet, encoder: str, created: int) -> list[dict[str, Any]]:
    """Every model id that this fleet answers to, the routed one first, the encoder last."""
    ids = [ROUTED_MODEL]
    for name, domain in fleet.domains.items():
        ids.append(f"{ROUTED_MODEL}/{name}")
        ids += [f"{ROUTED_MODEL}/{name}/{variant}" for variant in domain.variants]
    return [{"id": id_, "object": "model", "created": created, "owned_by": "guildhall"} for id_ in [*ids, encoder]]
