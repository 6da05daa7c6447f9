"""Escalating answers of the pocket experts: how well an answer's score tells right from wrong, and what it buys.

The weak variant is the shared base model, the strong one a domain's adapter on it, both asked the same held-out
questions over the same passages, greedily, with the log-probabilities of their tokens as vLLM gives them. Scores use
the shipped weights, which were not fitted on these answers; `fitted` shows what fitting on the first half would give
on the second.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from peft import PeftModel
from scipy.stats import rankdata
from transformers import PreTrainedTokenizerFast

from benchmarks.result import save_result
from experts.pocket.evaluate import write_prompt
from experts.pocket.export import ADAPTER_DOMAINS, WEIGHTS, load_base
from experts.pocket.tasks import draw_exercise
from experts.pocket.vocabulary import load_tokenizer
from experts.prompt import REFUSAL, TitledText
from router.cascade import AnswerSignals, observe_signals, score_answer
from router.question import Citation
from router.routing_metrics import compute_calibration_error, compute_gap_curve

QUESTIONS = 300
BATCH = 32
MAX_TOKENS = 48
SHARES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6)
STRONG_COST = 10.0
"""A strong answer costs ten weak ones, as in bench-router_quality; the pocket experts themselves all cost the same."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Case:
    """One question over its passages; `cited` are the passages that hold the answer, none where a refusal is right."""

    question: str
    prompt: str
    passages: tuple[TitledText, ...]
    answer: str
    cited: tuple[int, ...]

    def is_right(self, text: str) -> bool:
        """Whether a text is the expected value with a citation that holds it, or exactly the refusal."""
        if not self.cited:
            return text == REFUSAL
        return any(text == f"{self.answer} [{number}]" for number in self.cited)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a variant said: text, log-probabilities of its tokens, and whether it was cut."""

    text: str
    logprobs: tuple[float, ...]
    finish_reason: Literal["stop", "length"]


def main() -> None:
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(WEIGHTS / "base")
    base = load_base().eval()
    columns: dict[str, list[float]] = {"weak": [], "strong": [], "score": [], "second": []}
    all_signals: list[AnswerSignals] = []
    per_domain: dict[str, Any] = {}
    for domain in ADAPTER_DOMAINS:
        cases = draw_cases(domain, tokenizer)
        strong_model = PeftModel.from_pretrained(load_base(), str(WEIGHTS / domain)).merge_and_unload().eval()
        weak_replies, strong_replies = reply(base, cases, tokenizer), reply(strong_model, cases, tokenizer)
        weak = [case.is_right(said.text) for case, said in zip(cases, weak_replies, strict=True)]
        strong = [case.is_right(said.text) for case, said in zip(cases, strong_replies, strict=True)]
        # The accuracy that a fleet file would state: each variant's mean, the same for every question.
        signals = [observe(case, said, float(np.mean(weak))) for case, said in zip(cases, weak_replies, strict=True)]
        seconds = [
            score_answer(observe(case, said, float(np.mean(strong)))).probability
            for case, said in zip(cases, strong_replies, strict=True)
        ]
        scores = [score_answer(each).probability for each in signals]
        measured: dict[str, list[bool] | list[float]] = {
            "weak": weak,
            "strong": strong,
            "score": scores,
            "second": seconds,
        }
        for name, values in measured.items():
            columns[name] += [float(value) for value in values]
        all_signals += signals
        per_domain[domain] = {
            "weak": float(np.mean(weak)),
            "strong": float(np.mean(strong)),
            "auroc": compute_auroc(np.array(scores), np.array(weak)),
        }
        print(domain, per_domain[domain], flush=True)
    right = {name: np.array(column) for name, column in columns.items()}
    figures = {
        "questions": len(right["weak"]),
        "domains": per_domain,
        "weak": float(right["weak"].mean()),
        "strong": float(right["strong"].mean()),
        "auroc": compute_auroc(right["score"], right["weak"]),
        "calibration_error": compute_calibration_error(right["score"], right["weak"]),
        "by_score": describe(right["score"], right),
        "by_logprob_alone": describe(np.array([each.logprob_mean for each in all_signals], np.float64), right),
        "fitted": fit_and_describe(all_signals, right),
    }
    path = save_result("router_cascade", figures)
    print(f"{path}: AUROC {figures['auroc']:.3f}", flush=True)


def draw_cases(domain: str, tokenizer: PreTrainedTokenizerFast) -> list[Case]:
    """Held-out questions of a domain; the same on every run, others than the experts' own evaluation draws."""
    rng = random.Random(f"cascade {domain}")
    cases: list[Case] = []
    while len(cases) < QUESTIONS:
        exercise = draw_exercise(domain, rng, held_out=True, questions=1)
        cases += [
            Case(
                asked.question,
                write_prompt(asked.question, exercise.passages, tokenizer),
                tuple(exercise.passages),
                asked.answer,
                tuple(asked.cited),
            )
            for asked in exercise.asked
        ]
    return cases


@torch.inference_mode()
def reply(model: Any, cases: Sequence[Case], tokenizer: PreTrainedTokenizerFast) -> list[Reply]:
    """Greedy answers with the log-probabilities of their tokens, the end included, in the order of the cases."""
    tokenizer.padding_side = "left"
    ends = {tokenizer.eos_token_id, *np.atleast_1d(model.generation_config.eos_token_id).tolist()}
    order = sorted(range(len(cases)), key=lambda at: len(cases[at].prompt))
    replies: dict[int, Reply] = {}
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        given = tokenizer(
            [cases[at].prompt for at in chosen], return_tensors="pt", padding=True, add_special_tokens=False
        )
        output = model.generate(
            input_ids=given["input_ids"],
            attention_mask=given["attention_mask"],
            max_new_tokens=MAX_TOKENS,
            do_sample=False,
            temperature=None,
            output_logits=True,
            return_dict_in_generate=True,
        )
        steps = torch.stack(output.logits, dim=1).float().log_softmax(-1)
        tokens = output.sequences[:, given["input_ids"].shape[1] :]
        chances = steps.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        for row, at in enumerate(chosen):
            ids = tokens[row].tolist()
            end = next((place for place, token in enumerate(ids) if token in ends), None)
            length = len(ids) if end is None else end + 1
            replies[at] = Reply(
                tokenizer.decode(ids[:length], skip_special_tokens=True),
                tuple(chances[row, :length].tolist()),
                "length" if end is None else "stop",
            )
    return [replies[at] for at in range(len(cases))]


def observe(case: Case, said: Reply, predicted: float) -> AnswerSignals:
    """The signals of a reply as the gateway sees them."""
    cited = [
        Citation(number, "pocket", passage.title, "", passage.text, 0.0, "")
        for number, passage in enumerate(case.passages, start=1)
        if f"[{number}]" in said.text
    ]
    return observe_signals(
        case.question,
        said.text,
        cited,
        has_passages=True,
        finish_reason=said.finish_reason,
        predicted=predicted,
        logprobs=(float(np.mean(said.logprobs)), min(said.logprobs)),
    )


def describe(score: Values, right: dict[str, Values]) -> dict[str, Any]:
    """What escalating the lowest scores buys; `kept_by_score` lets the better scored of both answers stand."""
    curve = compute_gap_curve(-score, right["weak"], right["strong"])
    rows = len(score)
    order = np.argsort(score, kind="stable")
    by_share: dict[str, Any] = {}
    for share in SHARES:
        escalated = np.zeros(rows, dtype=bool)
        escalated[order[: round(share * rows)]] = True
        settled = escalated & (right["second"] >= right["score"])
        by_share[f"{share:g}"] = {
            "quality": float(np.where(escalated, right["strong"], right["weak"]).mean()),
            "kept_by_score": float(np.where(settled, right["strong"], right["weak"]).mean()),
            "gap_recovered": float(curve.recovered[round(share * rows)]),
            "cost_share_of_strong": (1 + share * STRONG_COST) / STRONG_COST,
        }
    return {
        "apgr": curve.apgr,
        "cpt_50": curve.calls_for(0.5),
        "cpt_80": curve.calls_for(0.8),
        "strong_calls_for_strong_quality": curve.calls_for(1.0),
        "by_share_escalated": by_share,
    }


def fit_and_describe(signals: Sequence[AnswerSignals], right: dict[str, Values]) -> dict[str, Any]:
    """Logistic regression on the same signals, fitted on every other row, measured on the rest."""
    from scipy.optimize import minimize

    features = np.array(
        [
            [
                float(each.refused),
                float(each.cited is False),
                each.support if each.support is not None else 0.6,
                each.figures if each.figures is not None else 0.75,
                min(max((each.logprob_mean or 0.0) + 0.25, -2.0), 0.25),
                min(max((each.logprob_min or 0.0) + 2.0, -4.0), 2.0),
                1.0,
            ]
            for each in signals
        ]
    )
    learn = np.arange(len(features)) % 2 == 0
    wanted = right["weak"][learn]

    def loss(weights: Values) -> float:
        odds = features[learn] @ weights
        return float((np.logaddexp(0, odds) - wanted * odds).sum() + 0.5 * weights[:-1] @ weights[:-1])

    weights = minimize(loss, np.zeros(features.shape[1]), method="L-BFGS-B").x
    held = {name: values[~learn] for name, values in right.items()}
    score = 1 / (1 + np.exp(-(features[~learn] @ weights)))
    names = ("refused", "uncited", "support", "figures", "logprob_mean", "logprob_min", "bias")
    return {
        "weights": dict(zip(names, weights.round(3).tolist(), strict=True)),
        "auroc": compute_auroc(score, held["weak"]),
        "auroc_shipped_on_the_same": compute_auroc(held["score"], held["weak"]),
        "apgr": compute_gap_curve(-score, held["weak"], held["strong"]).apgr,
        "calibration_error": compute_calibration_error(score, held["weak"]),
    }


def compute_auroc(score: Values, right: Values) -> float:
    """Probability that a right answer scores above a wrong one, ties half."""
    ranks, positives = rankdata(score), float(np.sum(right))
    negatives = len(right) - positives
    if not positives or not negatives:
        return float("nan")
    return float(
        (ranks[np.asarray(right, dtype=bool)].sum() - positives * (positives + 1) / 2) / (positives * negatives)
    )


if __name__ == "__main__":
    main()
