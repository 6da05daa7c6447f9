"""Finance: quarterly reports of invented companies."""

import random

from experts.pocket.alternatives import split_alternatives
from experts.pocket.names import draw_names
from experts.pocket.records import Fact, Phrasings, Record

CURRENCIES = "million euros|million dollars|million pounds|million francs|billion euros|billion dollars|million crowns"
SUFFIXES = "Systems|Group|Energy|Foods|Robotics|Logistics|Bank|Labs|Motors|Textiles|Health|Marine|Works|Optics|Air"
_MONEY_METRICS = (
    "revenue|net income|operating profit|research spending|capital expenditure|free cash flow|net debt|order backlog"
    "|gross profit|tax expense|marketing spending|cash position"
)
_PERCENT_METRICS = "operating margin|gross margin|revenue growth|equity ratio|market share"
MONEY_METRICS = _MONEY_METRICS.split("|")
PERCENT_METRICS = _PERCENT_METRICS.split("|")
HEADCOUNT = "headcount"
_ORDINALS = {"Q1": "first", "Q2": "second", "Q3": "third", "Q4": "fourth"}

PHRASINGS = {
    "metric": Phrasings(
        cores=split_alternatives(
            "the {metric} of {company} in {period}|the {period} {metric} of {company}|{company}'s {metric} in "
            "{period}|{company}'s {period} {metric}|the {metric} of {company} for {period}|the {metric} that "
            "{company} reported in {period}|{metric} of {company} in {period}|{company} {metric} {period}|the "
            "{metric} at {company} in {period}|{period} {metric} at {company}"
        ),
        direct=split_alternatives(
            "What {metric} did {company} report in {period}?|How much was the {metric} of {company} in {period}?|How "
            "high was {company}'s {metric} in {period}?|In {period}, what was the {metric} of {company}?|What "
            "{metric} did {company} post for {period}?|Which {metric} does the report of {company} give for "
            "{period}?|For {period}, what {metric} did {company} report?|How large was the {metric} of {company} in "
            "{period}?|What did {company} report as {metric} for {period}?"
        ),
        held_out_cores=[
            "the {metric} figure of {company} for {period}",
            "{metric} for {company} in {period}",
            "{company}'s {metric} for {period}",
        ],
        held_out_direct=[
            "What was {company}'s {metric} during {period}?",
            "At {company}, what was the {metric} in {period}?",
            "What {metric} does {company} show for {period}?",
        ],
    ),
    "headcount": Phrasings(
        cores=split_alternatives(
            "the headcount of {company} in {period}|the number of employees of {company} in {period}|{company}'s "
            "headcount in {period}|how many employees {company} had in {period}|{company} headcount {period}|the "
            "{period} headcount of {company}"
        ),
        direct=split_alternatives(
            "How many employees did {company} have in {period}?|How many people did {company} employ in {period}?|"
            "What was the headcount of {company} in {period}?|In {period}, how many people worked at {company}?|How "
            "many employees did {company} report for {period}?|How many people worked for {company} in {period}?|How "
            "large was the staff of {company} in {period}?"
        ),
        held_out_cores=("the headcount at {company} for {period}", "how many people {company} employed in {period}"),
        held_out_direct=[
            "In {period}, how many employees did {company} have?",
            "How many people were employed by {company} in {period}?",
            "What headcount did {company} report in {period}?",
        ],
    ),
}


def draw_value(metric: str, currency: str, rng: random.Random, near: float | None = None) -> str:
    """A plausible value of a metric, with its unit; `near` is a size to stay within a tenth of."""
    if metric == HEADCOUNT:
        size = (near or rng.uniform(0.1, 40)) * rng.uniform(0.93, 1.07)
        return f"{round(size * 1000):,} employees"
    if metric in PERCENT_METRICS:
        size = min(60.0, near * rng.uniform(0.9, 1.1)) if near else rng.uniform(1, 48)
        return f"{size:.1f} percent"
    size = near * rng.uniform(0.93, 1.07) if near else rng.choice((rng.uniform(2, 99), rng.uniform(100, 999)))
    return f"{size:.1f} {currency}"


def state_metrics(company: str, period: str, values: dict[str, str], form: int) -> str:
    """The text of one quarter's section; forms 0 to 5 say the same in other words."""
    pairs = list(values.items())
    first, rest = pairs[0], pairs[1:]
    if form == 0:
        said = [f"{metric} of {value}" for metric, value in pairs]
        return f"In {period} {company} reported {join(said)}."
    if form == 1:
        lines = [f"{company} closed {period} with {first[0]} of {first[1]}."]
        lines += [f"Its {metric} was {value}." for metric, value in rest]
        return " ".join(lines)
    if form == 2:
        return f"{company}, {period}: " + "; ".join(f"{metric} {value}" for metric, value in pairs) + "."
    if form == 3:
        lines = [f"The {first[0]} of {company} in {period} was {first[1]}."]
        lines += [f"The {metric} was {value}." for metric, value in rest]
        return " ".join(lines)
    if form == 4:
        said = [f"{metric} came to {value}" for metric, value in pairs]
        return f"For {company} {period} ended as follows: {join(said)}."
    said = [f"the {metric} {value}" for metric, value in rest] or ["the outlook unchanged"]
    return f"{company} reports for {period}: {first[0]} reached {first[1]}, {join(said)}."


FORMS = 6


def join(parts: list[str]) -> str:
    """The parts as one English enumeration."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def write_record(company: str, period: str, values: dict[str, str], absent: list[str], form: int, title: str) -> Record:
    """One quarter of one company as a record."""
    text = state_metrics(company, period, values, form)
    facts = [ask(company, period, metric, value) for metric, value in values.items()]
    return Record(title, text, facts, [ask(company, period, metric, "") for metric in absent])


def ask(company: str, period: str, metric: str, value: str) -> Fact:
    """The fact that a company's metric had a value in a period."""
    if metric == HEADCOUNT:
        return Fact("headcount", {"company": company, "period": period}, value)
    return Fact("metric", {"company": company, "period": period, "metric": metric}, value)


TITLES = ("{company} - {period} results", "{company} - {period}", "{company} quarterly report - {period}")


def draw_scene(rng: random.Random, held_out: bool) -> list[Record]:
    """Reports of two or three companies over the same quarters, as a retriever would confuse them."""
    suffixes = rng.sample(SUFFIXES.split("|"), 3)
    companies = [f"{name} {suffix}" for name, suffix in zip(draw_names(rng, held_out, 3), suffixes, strict=True)]
    year = rng.randint(2019, 2029)
    periods = [f"Q{quarter} {year + shift}" for quarter in (1, 2, 3, 4) for shift in (0, 1)]
    periods = rng.sample(periods, 4)
    metrics = rng.sample([*MONEY_METRICS, *PERCENT_METRICS, HEADCOUNT, HEADCOUNT], 5)
    if rng.random() < 0.5:
        metrics[0] = "revenue"
    metrics = list(dict.fromkeys(metrics))
    pairs = [(companies[0], periods[0]), (companies[0], periods[1]), (companies[1], periods[0])]
    pairs += rng.sample([(companies[0], periods[2]), (companies[1], periods[1]), (companies[2], periods[0])], 3)
    if rng.random() < 0.5:
        pairs = [(companies[0], period) for period in periods] + [
            (companies[1], periods[0]),
            (companies[2], periods[1]),
        ]
    title = rng.choice(TITLES)
    # Most scenes keep a company's numbers close to each other from quarter to quarter, as real ones are.
    steady = rng.random() < 0.6
    sizes = {(company, metric): rng.uniform(2, 60) for company in companies for metric in metrics}
    currencies = {company: rng.choice(CURRENCIES.split("|")) for company in companies}

    def scale(company: str, metric: str) -> float | None:
        size = sizes[company, metric]
        return None if not steady else size * 12 if metric in MONEY_METRICS else size

    records = []
    for company, period in pairs:
        currency = currencies[company] if steady else rng.choice(CURRENCIES.split("|"))
        stated = rng.sample(metrics, min(len(metrics) - 1, rng.choice((2, 3, 3, 4))))
        values = {metric: draw_value(metric, currency, rng, scale(company, metric)) for metric in stated}
        absent = [metric for metric in metrics if metric not in stated]
        form = rng.randrange(FORMS)
        records.append(
            write_record(company, period, values, absent, form, title.format(company=company, period=period))
        )
    return records


def vary_slots(slots: dict[str, str], rng: random.Random) -> dict[str, str]:
    """The slots as people say them: a short company name, a quarter in words."""
    varied = dict(slots)
    if rng.random() < 0.12:
        varied["company"] = slots["company"].split(" ")[0]
    if rng.random() < 0.1:
        quarter, year = slots["period"].split(" ")
        varied["period"] = f"the {_ORDINALS[quarter]} quarter of {year}"
    return varied
