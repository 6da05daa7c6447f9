"""Which passages a metadata filter lets through, and which filters are refused."""

import pytest

from experts.errors import BadRequest
from retrieval.filters import parse_filter

METADATA: dict[str, str | int | float | bool] = {"year": 2021, "language": "en", "draft": False, "share": 0.5}


@pytest.mark.parametrize(
    "raw",
    [
        {"year": 2021},
        {"year": 2021.0},
        {"year": [2020, 2021]},
        {"language": ["de", "en"], "draft": False},
        {"year": {"gte": 2021, "lte": 2021}},
        {"year": {"gt": 2020, "lt": 2022.5}},
        {"language": {"gte": "e", "lt": "f"}},
        {"share": {"lte": 0.5}},
    ],
)
def test_a_filter_matches_when_every_field_does(raw: object) -> None:
    condition = parse_filter(raw)
    assert condition is not None
    assert condition.matches(METADATA)


@pytest.mark.parametrize(
    "raw",
    [
        {"year": 2020},
        {"year": "2021"},
        {"year": 2021, "language": "de"},
        {"missing": "x"},
        {"missing": {"gte": 0}},
        {"draft": 0},
        {"draft": {"gte": 0}},
        {"year": {"gte": "2000"}},
        {"language": {"gte": 0}},
        {"year": {"gt": 2021}},
        {"year": {"lt": 2021}},
    ],
)
def test_a_filter_does_not_match_another_value_kind_or_a_missing_field(raw: object) -> None:
    condition = parse_filter(raw)
    assert condition is not None
    assert not condition.matches(METADATA)


@pytest.mark.parametrize("raw", [None, {}])
def test_no_filter_is_none(raw: object) -> None:
    assert parse_filter(raw) is None


def test_equal_filters_are_one_key_whatever_their_order() -> None:
    first = parse_filter({"a": [1, "x"], "b": {"gte": 1, "lt": 2}})
    second = parse_filter({"b": {"lt": 2, "gte": 1}, "a": ["x", 1]})
    assert first == second
    assert hash(first) == hash(second)
    assert first != parse_filter({"a": [True, "x"], "b": {"gte": 1, "lt": 2}})


@pytest.mark.parametrize(
    ("raw", "param", "message"),
    [
        ("year = 1", "filter", "is a str, expected a mapping"),
        ([], "filter", "is a list"),
        ({"year": None}, "filter.year", "asks for null"),
        ({"year": []}, "filter.year", "lists 0 values"),
        ({"year": [["a"]]}, "filter.year", "asks for a list"),
        ({"year": float("nan")}, "filter.year", "asks for NaN"),
        ({"year": {}}, "filter.year", "has no bound"),
        ({"year": {"above": 1}}, "filter.year", "has the bound 'above', expected gte, gt, lte, lt"),
        ({"year": {"gte": True}}, "filter.year", "has a bool as its bound gte"),
        ({"year": list(range(1001))}, "filter.year", "lists 1001 values, expected 1 to 1000"),
        ({str(field): 1 for field in range(33)}, "filter", "names 33 fields, limit 32"),
        ({1: 1}, "filter", "has the field name 1"),
    ],
)
def test_nonsense_is_refused_with_its_place(raw: object, param: str, message: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_filter(raw)
    assert refused.value.param == param
    assert message in str(refused.value)
