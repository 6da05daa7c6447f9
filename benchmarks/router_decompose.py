"""How well questions are split: the boundary head with the rules, the rules alone, the head alone, a connective regex.

On composed questions of the held-out half only: source questions, connectives, forms and pairs of domains that no
training question has. Other draws of that half have been looked at while the rules around the head and its threshold
were chosen, so the figures are of development, not of a blind test. The head alone was trained with the rules' joints
as a feature and goes without it here. `make bench-router_decompose`; a few minutes on one core. Needs ../shared/data.
"""

import json
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.result import save_result
from deployments.environment import read_environment
from deployments.fleet_encoder import FleetEncoder, embed_questions, load_fleet_encoder
from retrieval.encoder import SHIPPED_ENCODER
from retrieval.question_encoder import EncodedTexts, QuestionEncoder, load_question_encoder
from router.boundary_head import BoundaryHead, load_boundary_head
from router.boundary_split import choose_parts, split_with_head
from router.classify import normalise
from router.clause import FUNCTION_WORDS
from router.composed import Composed, Span, build_pool, draw_composed
from router.composed_sources import SourceQuestion, load_sources
from router.encoding import Vectors
from router.planner import RouterSnapshot, plan_query
from router.question import Question
from router.reference import link_parts
from router.split import Part, find_joints, split_question
from router.training import TrainingRows, train_rows

DATA = Path("../shared/data")
QUESTIONS = 2_000
SEED = 11
MAX_PARTS = 6
DOMAIN_EXAMPLES = 200
DOMAIN_QUESTIONS = 400
NATURAL = ("clinc150", "mmlu_pro", "routellm_gsm8k", "routellm_mmlu", "pocket")
LATENCY_REPEATS = 300

Split = Callable[[str, EncodedTexts, int], Sequence[Part]]
"""The parts of the text that is the given row of what was encoded."""

_CONNECTIVE = re.compile(
    r"(?<=[?.!])\s+|\n+|[,;]?\s+(?:and also|as well as|and then|after that|and|also|then|plus|but)\s+|;\s+",
    re.IGNORECASE,
)
# A fleet's domains are wider than MMLU-Pro's categories, of which a linear head tells 14 apart in 78 % of cases.
_AREAS = {
    "money": "banking credit_cards",
    "science": "math physics chemistry engineering gsm8k",
    "life": "health biology psychology",
    "humanities": "law history philosophy",
    "economy": "economics business",
}
_AREA_OF = {name: area for area, names in _AREAS.items() for name in names.split()}


def main() -> None:
    """Draw, encode, split in every way, save."""
    encoder = load_question_encoder(SHIPPED_ENCODER, read_environment().data_dir, print)
    head = load_boundary_head()
    if head.encoder != encoder.fingerprint:
        raise SystemExit(f"the head is for encoder {head.encoder}, this one is {encoder.fingerprint}; train it again")
    composed = draw_composed(build_pool(load_sources(DATA, "held_out"), "held_out"), QUESTIONS, SEED)
    encoded = _join([encoder.encode_texts([made.text]) for made in composed])
    contenders = build_contenders(head)
    figures: dict[str, Any] = {
        "head": {"encoder": head.encoder, "threshold": head.threshold, **head.metadata},
        "questions": len(composed),
        "contenders": {name: measure(composed, encoded, split) for name, split in contenders.items()},
        "needs": measure_needs(composed, encoded, contenders["head and rules"]),
        "domains": measure_domains(composed, load_fleet_encoder(SHIPPED_ENCODER, read_environment().data_dir), head),
        "break_high_level": measure_break(encoder, contenders),
        "latency_us": measure_latency(head, encoder),
    }
    print(json.dumps(figures, indent=1))
    print(save_result("router_decompose", figures))


def build_contenders(head: BoundaryHead) -> dict[str, Split]:
    """Every way to split."""

    def with_head(text: str, encoded: EncodedTexts, row: int) -> Sequence[Part]:
        return split_with_head(text, encoded.states[row], encoded.offsets[row], head, MAX_PARTS)

    def head_alone(text: str, encoded: EncodedTexts, row: int) -> Sequence[Part]:
        offsets = encoded.offsets[row]
        found = head.find_boundaries(text, encoded.states[row], offsets, ())
        return choose_parts(text, found, head.threshold, MAX_PARTS)

    return {
        "head and rules": with_head,
        "head alone": head_alone,
        "rules alone": lambda text, encoded, row: split_question(text, MAX_PARTS),
        "connective regex": lambda text, encoded, row: split_by_regex(text),
    }


def split_by_regex(text: str) -> list[Part]:
    """Every stretch of three words or more between sentence ends, line breaks and connectives."""
    parts: list[Part] = []
    start = 0
    for begin, end in [*((found.start(), found.end()) for found in _CONNECTIVE.finditer(text)), (len(text), len(text))]:
        if len(text[start:begin].split()) >= 3:
            parts.append(Part(text[start:begin], start, begin))
            start = end
    return parts or [Part(text, 0, len(text))]


def measure(composed: Sequence[Composed], encoded: EncodedTexts, split: Split) -> dict[str, Any]:
    """Span F1, exact questions and wrongly split single ones, over all and for each kind."""
    right = exact_words = tokens_right = 0
    found_parts = true_parts = found_tokens = true_tokens = 0
    kinds: dict[str, list[bool]] = {}
    for row, made in enumerate(composed):
        parts = split(made.text, encoded, row)
        if len(made.spans) == 1:
            kinds.setdefault(made.kind, []).append(len(parts) == 1)
            continue
        matched = sum(_matches(made, at, parts) for at in range(len(made.spans)))
        kinds.setdefault(made.kind, []).append(matched == len(made.spans) == len(parts))
        right += matched
        exact_words += sum(
            any(_words(part.text) == _words(made.text[s.start : s.end]) for part in parts) for s in made.spans
        )
        found_parts += len(parts)
        true_parts += len(made.spans)
        true, found = _label(made.spans, encoded.offsets[row]), _label(parts, encoded.offsets[row])
        tokens_right += int(np.sum((true == found) & (true > 0)))
        found_tokens += int(np.sum(found > 0))
        true_tokens += int(np.sum(true > 0))
    natural = [ok for kind, oks in kinds.items() if kind.removeprefix("whole ") in NATURAL for ok in oks]
    single = [ok for kind, oks in kinds.items() if kind.startswith("whole") for ok in oks]
    several = [ok for kind, oks in kinds.items() if not kind.startswith("whole") for ok in oks]
    return {
        "span_f1": _share(2 * right, found_parts + true_parts),
        "span_f1_same_words": _share(2 * exact_words, found_parts + true_parts),
        "token_f1": _share(2 * tokens_right, found_tokens + true_tokens),
        "questions_split_exactly": _share(sum(several), len(several)),
        "source_questions_wrongly_split": _share(len(natural) - sum(natural), len(natural)),
        "all_single_questions_wrongly_split": _share(len(single) - sum(single), len(single)),
        "right_by_kind": {kind: [_share(sum(oks), len(oks)), len(oks)] for kind, oks in sorted(kinds.items())},
    }


def measure_needs(composed: Sequence[Composed], encoded: EncodedTexts, split: Split) -> dict[str, Any]:
    """Of the hand-written chains that were split exactly, how many have the needs that they were written with."""
    asked = right = 0
    for row, made in enumerate(composed):
        if made.kind != "chain":
            continue
        linked = link_parts(made.text, split(made.text, encoded, row))
        if len(linked) == len(made.spans):
            asked += 1
            right += all(
                {reference.sub_query for reference in part.references} == set(span.needs)
                for part, span in zip(linked, made.spans, strict=True)
            )
    return {"questions": asked, "right": _share(right, asked)}


def measure_domains(composed: Sequence[Composed], encoder: FleetEncoder, head: BoundaryHead) -> dict[str, Any]:
    """Whether a plan names exactly the domains asked, by a router trained on the training half.

    `true parts` is what the classification of the parts as written leaves possible, `sub-queries` the share of those
    parts that is given its domain.
    """
    chosen = _some_of_each([q for q in load_sources(DATA, "train") if _fleet_domain(q.domain) is not None])
    vectors = embed_questions(encoder, [question.stem for question in chosen])
    several = [
        made
        for made in composed
        if len(made.spans) > 1 and all(_fleet_domain(span.domain) is not None for span in made.spans)
    ][:DOMAIN_QUESTIONS]
    figures: dict[str, Any] = {"questions": len(several), "training_questions": len(chosen)}
    for name, name_of in (("areas", _fleet_domain), ("source domains", lambda domain: domain)):
        snapshot = _train(chosen, vectors, [str(name_of(question.domain)) for question in chosen], encoder, head)
        wanted = [[str(name_of(span.domain)) for span in made.spans] for made in several]
        parts = [
            [
                plan_query(Question(part.text), snapshot, encoder, time.perf_counter, whole=True).sub_queries[0].domain
                for part in _true_parts(made)
            ]
            for made in several
        ]
        plans = {
            "head and rules": snapshot,
            "rules alone": replace(snapshot, boundaries=None),
        }
        said = {"true parts": parts} | {
            contender: [
                [
                    part.domain
                    for part in plan_query(Question(made.text), router, encoder, time.perf_counter).sub_queries
                ]
                for made in several
            ]
            for contender, router in plans.items()
        }
        figures[name] = {
            "domains": len(snapshot.trained.head.labels),
            "sub-queries": _share(sum(map(_count_same, parts, wanted)), sum(map(len, wanted))),
            **{
                contender: _share(
                    sum(set(ours) == set(true) for ours, true in zip(found, wanted, strict=True)), len(several)
                )
                for contender, found in said.items()
            },
        }
    return figures


def _train(
    chosen: Sequence[SourceQuestion], vectors: Vectors, names: Sequence[str], encoder: FleetEncoder, head: BoundaryHead
) -> RouterSnapshot:
    """The router of a fleet with these domains, as `guildhall router train` makes it from labelled questions."""
    labels = tuple(sorted(set(names)))
    assert encoder.static is not None
    static = encoder.static.embed([encoder.tokenize(question.stem) for question in chosen])
    targets = np.array([labels.index(name) for name in names], dtype=np.intp)
    rows = TrainingRows(tuple(question.stem for question in chosen), targets, normalise(vectors), static)
    trained = train_rows(labels, rows, on_progress=lambda step: print(f"{len(labels)} domains: {step}"))
    return RouterSnapshot(
        trained=trained,
        static=encoder.static,
        boundaries=head,
        generalist=labels[0],
        confidence_floor=0.0,
        max_sub_queries=MAX_PARTS,
        searched=frozenset(labels),
        refusals={},
        quality=None,
    )


def _count_same(ours: Sequence[str], true: Sequence[str]) -> int:
    return sum(one == other for one, other in zip(ours, true, strict=True))


def measure_break(encoder: QuestionEncoder, contenders: dict[str, Split]) -> dict[str, Any]:
    """QDMR high-level: our sub-queries as steps, `#n` where one needs another's answer (Wolfson et al. 2020).

    The match is the ratio of common words in order to all words, each step after 'return', averaged. 'Kept whole' is
    the score of the question itself as its one step: the match mostly rewards copying.
    """
    path = DATA / "routing" / "break_high_level.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    figures: dict[str, Any] = {"questions": len(rows)}
    said: dict[str, list[list[str]]] = {"head and rules": [], "rules alone": [], "kept whole": []}
    for row in rows:
        text = row["question"].strip()
        encoded = encoder.encode_texts([text])
        for name in ("head and rules", "rules alone"):
            said[name].append(_steps(text, contenders[name](text, encoded, 0)))
        said["kept whole"].append([text.rstrip("? .")])
    for name, steps in said.items():
        matches = [_match(ours, row["steps"]) for ours, row in zip(steps, rows, strict=True)]
        counts = sum(len(ours) == len(row["steps"]) for ours, row in zip(steps, rows, strict=True))
        several = sum(len(ours) > 1 for ours in steps)
        figures[name] = {
            "sequence_match": round(statistics.mean(matches), 4),
            "as_many_steps": _share(counts, len(rows)),
            "split": _share(several, len(rows)),
        }
    return figures


def measure_latency(head: BoundaryHead, encoder: QuestionEncoder) -> dict[str, dict[str, dict[str, float]]]:
    """Wall microseconds of the head, of the rules that it asks first, and of the whole split."""
    long = (
        "What was the revenue of Norvane Systems in Q2 2025, and which function of the pipeline loads the raw events? "
        "Also, in which room does the Orbit team meet on Monday, who leads it, and how long is the river Aven from "
        "source to sea? After that tell me the formula for the area of a rhombus."
    )
    figures = {}
    for text in ("what is the capital of the country of the Orl?", long):
        encoded = encoder.encode_texts([text])
        states, offsets = encoded.states[0], encoded.offsets[0]
        joints = find_joints(text)[1]
        figures[f"{len(offsets)} tokens"] = {
            "head": _time(lambda t=text, s=states, o=offsets, j=joints: head.find_boundaries(t, s, o, j)),  # type: ignore[misc]
            "rules": _time(lambda t=text: find_joints(t)),  # type: ignore[misc]
            "split": _time(lambda t=text, s=states, o=offsets: split_with_head(t, s, o, head, 4)),  # type: ignore[misc]
        }
    return figures


def _time(call: Callable[[], object]) -> dict[str, float]:
    seconds = []
    for _ in range(LATENCY_REPEATS):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return {"p50": round(statistics.median(seconds) * 1e6, 1), "p99": round(float(np.quantile(seconds, 0.99)) * 1e6, 1)}


def _matches(made: Composed, at: int, parts: Sequence[Part]) -> bool:
    """Whether a part has all of a span, and beyond it at most what stands between it and its neighbours."""
    span = made.spans[at]
    first = made.spans[at - 1].end if at else 0
    last = made.spans[at + 1].start if at + 1 < len(made.spans) else len(made.text)
    closed = span.end - len(made.text[span.start : span.end]) + len(made.text[span.start : span.end].rstrip(" ?.!:;,"))
    return any(first <= part.start <= span.start and closed <= part.end <= last for part in parts)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _label(spans: Sequence[Part | Span], offsets: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """The number, from 1, of the span that each token is in."""
    labels = np.zeros(len(offsets), dtype=np.int64)
    for number, span in enumerate(spans, start=1):
        labels[(offsets[:, 0] >= span.start) & (offsets[:, 0] < span.end)] = number
    return labels


def _true_parts(made: Composed) -> list[Part]:
    return [Part(made.text[span.start : span.end], span.start, span.end) for span in made.spans]


def _fleet_domain(domain: str) -> str | None:
    """The area of a source's domain; None for what has none: small talk, hand-written sentences, 'other'."""
    source, _, name = domain.partition("/")
    if name in ("assistant", "other", "") or source == "routellm_mmlu":
        return None
    return domain if source == "pocket" else _AREA_OF.get(name, name)


def _some_of_each(sources: Sequence[SourceQuestion]) -> list[SourceQuestion]:
    kept: dict[str, list[SourceQuestion]] = {}
    for question in sources:
        of_domain = kept.setdefault(question.domain, [])
        if len(of_domain) < DOMAIN_EXAMPLES:
            of_domain.append(question)
    return [question for questions in kept.values() for question in questions]


def _steps(text: str, parts: Sequence[Part]) -> list[str]:
    steps = []
    for part in link_parts(text, parts):
        said = part.text
        for reference in reversed(part.references):
            said = f"{said[: reference.start]}#{reference.sub_query}{said[reference.end :]}"
        steps.append(said.rstrip("? ."))
    return steps


def _match(ours: Sequence[str], theirs: Sequence[str]) -> float:
    one, other = (
        re.findall(r"#\d+|\w+|;", " ; ".join(f"return {step.removeprefix('return ')}" for step in steps).lower())
        for steps in (ours, theirs)
    )
    kept = [[word for word in said if word not in FUNCTION_WORDS] for said in (one, other)]
    return SequenceMatcher(None, kept[0], kept[1], autojunk=False).ratio()


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0


def _join(encoded: Sequence[EncodedTexts]) -> EncodedTexts:
    return replace(
        encoded[0],
        vectors=np.concatenate([one.vectors for one in encoded]),
        states=tuple(one.states[0] for one in encoded),
        offsets=tuple(one.offsets[0] for one in encoded),
    )


if __name__ == "__main__":
    main()
