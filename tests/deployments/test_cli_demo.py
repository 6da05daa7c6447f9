"""What `make demo` asks, and how it judges the answers."""

from deployments.demo import CODING_QUESTION, FINANCE_QUESTION, describe_environment, find_mistakes, load_questions


def citations(*sources: str) -> dict[str, object]:
    return {"citations": [{"domain": source.split("/")[0], "source": source.split("/")[1]} for source in sources]}


def test_load_questions_has_one_domain_a_reasoned_one_and_two_domains() -> None:
    finance, reasoned, both = load_questions()
    assert finance.text == FINANCE_QUESTION
    assert reasoned.expected[0].domain in {"math", "reasoning"}
    assert [expected.domain for expected in both.expected] == ["finance", "coding"]
    assert both.text.endswith(f", and {CODING_QUESTION}")
    assert both.expected[1].answer == "load_events"


def test_an_answer_with_value_and_source_is_right_however_the_heading_is_spelt() -> None:
    finance = load_questions()[0]
    text = f"The revenue was {finance.expected[0].answer} [1]."
    assert find_mistakes(finance, text, citations("finance/norvane_systems.md#q2-2025-results")) == []
    assert find_mistakes(finance, text, citations("finance/norvane_systems.md#Q2 2025 results")) == []


def test_an_answer_without_its_value_or_its_source_is_wrong() -> None:
    finance, _, both = load_questions()
    right = finance.expected[0].answer
    source = "finance/norvane_systems.md#q2-2025-results"
    assert find_mistakes(finance, f"It was 1{right}.", citations(source)) == [f"expected '{right}' (finance)"]
    assert len(find_mistakes(finance, right, citations("finance/norvane_systems.md#q1-2025-results"))) == 1
    assert len(find_mistakes(finance, right, {})) == 1
    assert len(find_mistakes(both, right, citations(source))) == 2


def test_describe_environment_names_python_cores_memory_and_ray() -> None:
    line = describe_environment()
    for part in ("Python 3", "cores", "GiB memory", "ray 2."):
        assert part in line
