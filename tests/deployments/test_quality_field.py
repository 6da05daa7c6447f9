"""The request's own field: what it wants of its variants."""

from typing import Any

import pytest

from deployments.chat_request import ChatRequest, parse_chat_request
from experts.errors import BadRequest
from router.variant import Budget


def parse(guildhall: Any) -> ChatRequest:
    body = {"model": "guildhall", "messages": [{"role": "user", "content": "what?"}], "guildhall": guildhall}
    return parse_chat_request(body)


@pytest.mark.parametrize("quality", ["fast", "balanced", "best"])
def test_a_request_says_what_quality_it_wants(quality: str) -> None:
    assert parse({"quality": quality}).extension.quality == quality


def test_a_request_says_what_an_answer_may_cost() -> None:
    assert parse({"max_cost": 3}).extension.quality == Budget(3.0)


@pytest.mark.parametrize("guildhall", [None, {}, {"quality": None}])
def test_without_it_the_fleet_decides(guildhall: Any) -> None:
    assert parse(guildhall).extension.quality is None


@pytest.mark.parametrize(
    ("guildhall", "message"),
    [
        ("fast", "guildhall is a string, expected an object"),
        ({"quality": "good"}, "guildhall.quality is 'good', expected one of fast, balanced, best"),
        ({"quality": 1}, "guildhall.quality is a number, expected a string"),
        ({"qality": "fast"}, "guildhall.qality is not a field of this request; the nearest known is 'quality'"),
        ({"max_cost": 0}, "guildhall.max_cost is 0, expected a number above 0 and up to 1e\\+06"),
        ({"quality": "fast", "max_cost": 2}, "guildhall.max_cost and quality are both set; send one of them"),
    ],
)
def test_a_mistake_in_it_is_named_with_its_path(guildhall: Any, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        parse(guildhall)
