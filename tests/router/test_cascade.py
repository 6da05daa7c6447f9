"""Scoring answers, deciding to escalate, and the budget."""

from typing import Any

import pytest

from experts.fleet import Escalation
from experts.prompt import REFUSAL
from router.cascade import (
    AnswerScore,
    EscalationBudget,
    EscalationTarget,
    choose_target,
    decide_escalation,
    observe_signals,
    score_answer,
)
from router.question import Citation
from router.variant import VariantOption

PASSAGE = Citation(
    1, "law", "Deposits", "d.md", "The landlord returns the deposit of 1,200 euros within 14 days.", 0.9, "v"
)
TARGET = EscalationTarget("law", "full", 0.9)
SETTINGS = Escalation(below=0.5, share=0.25)


def score(answer: str, **settings: Any) -> float:
    given: dict[str, Any] = {"has_passages": True, "finish_reason": "stop", "predicted": 0.7, **settings}
    cited = given.pop("cited", [PASSAGE])
    return score_answer(observe_signals("When is the deposit returned?", answer, cited, **given)).probability


def test_a_supported_answer_is_more_likely_right_than_was_predicted() -> None:
    assert score("The deposit is returned within 14 days [1].") > 0.7


def test_a_figure_that_no_cited_passage_has_brings_a_likely_answer_below_even() -> None:
    assert score("The deposit is returned within 21 days [1].") < 0.5
    assert score("The deposit of 1200 euros is returned [1].") > 0.7, "a comma in a figure is no other figure"


@pytest.mark.parametrize("answer", [REFUSAL, "I don't know.", "I'm sorry, I cannot answer that."])
def test_a_refusal_is_likely_wrong(answer: str) -> None:
    assert score(answer, cited=[]) < 0.3


def test_an_empty_answer_is_wrong() -> None:
    assert score(" [1] ") == 0


def test_unsure_tokens_lower_the_score_and_sure_ones_raise_it() -> None:
    plain = score("within 14 days [1]")
    assert score("within 14 days [1]", logprobs=(-0.02, -0.3)) > plain
    assert score("within 14 days [1]", logprobs=(-0.92, -4.0)) < plain - 0.2


def test_an_answer_that_was_cut_or_cites_nothing_is_less_likely_right() -> None:
    plain = score("within 14 days [1]")
    assert score("within 14 days [1]", finish_reason="length") < plain
    assert score("within 14 days", cited=[]) < plain
    assert score("within 14 days", cited=[], has_passages=False) == pytest.approx(0.7), "nothing could be cited"


def test_the_score_says_what_moved_it_most() -> None:
    signals = observe_signals("q", REFUSAL, [], has_passages=True, finish_reason="stop", predicted=0.7)
    assert score_answer(signals).reason == "predicted 0.70; it refuses"


def decide(probability: float, **settings: Any) -> tuple[bool, str]:
    given: dict[str, Any] = {"refused": False, "target": TARGET, "budget": EscalationBudget(), **settings}
    found = AnswerScore(probability, "because")
    decision = decide_escalation(found, given["refused"], given["target"], SETTINGS, given["budget"])
    assert "because" in decision.reason
    return decision.escalate, decision.code


def test_only_an_answer_below_the_threshold_is_escalated() -> None:
    assert decide(0.5) == (False, "likely_right")
    assert decide(0.49) == (True, "likely_wrong")
    assert decide(0.1, refused=True) == (True, "refused")


def test_without_a_target_or_a_budget_the_first_answer_stays() -> None:
    assert decide(0.1, target=None) == (False, "no_stronger")
    assert decide(0.1, budget=EscalationBudget(0.9)) == (False, "over_share")


def test_the_budget_never_gives_more_than_its_share_and_one() -> None:
    budget, escalated = EscalationBudget(), 0
    for _ in range(1000):
        budget = budget.earn(0.25)
        if budget.tokens >= 1:
            budget, escalated = budget.spend(), escalated + 1
    assert 250 <= escalated <= 251


def test_a_quiet_domain_saves_up_a_bounded_burst() -> None:
    budget = EscalationBudget()
    for _ in range(10_000):
        budget = budget.earn(1)
    assert budget.tokens == 10
    with pytest.raises(ValueError, match="one is needed"):
        EscalationBudget(0.5).spend()


def test_the_target_is_the_likeliest_variant_above_else_the_generalist() -> None:
    quick, full, huge = VariantOption("quick", 0.5, 1), VariantOption("full", 0.8, 5), VariantOption("huge", 0.7, 9)
    general = VariantOption("chat", 0.6, 3)
    options = (quick, full, huge)
    assert choose_target("law", "quick", options, "general", general) == EscalationTarget("law", "full", 0.8)
    assert choose_target("law", "full", options, "general", general) == EscalationTarget("general", "chat", 0.6)
    assert choose_target("general", "chat", (general,), "general", general) is None


def test_of_equally_likely_variants_the_dearer_is_the_stronger() -> None:
    options = (VariantOption("quick", 0.5, 1), VariantOption("full", 0.5, 5))
    general = VariantOption("chat", 0.5, 1)
    target = choose_target("law", "quick", options, "law", general)
    assert target is not None
    assert target.variant == "full"
    assert choose_target("law", "full", options, "law", general) is None
