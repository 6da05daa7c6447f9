"""Finance, second edition: figures read from quarterly reports and computed with, the calculation shown."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from experts.pocket.domains import finance
from experts.pocket.domains.finance_questions import PHRASINGS
from experts.pocket.exercise import Asked, Exercise, Skill, Wanted
from experts.pocket.figures import draw_figure, is_held_out_figure, write_figure
from experts.pocket.names import draw_names
from experts.pocket.records import Fact, Record, phrase_question
from experts.pocket.workings import Working, add, subtract, take_percentage
from experts.prompt import REFUSAL

PERCENT = "percent"
# Shown as a share of revenue.
_PROFITS = ("net income", "operating profit", "gross profit", "free cash flow")
_QUARTERS = ("Q1", "Q2", "Q3", "Q4")

# Of an exercise's questions; the forecasts need two and three passages of one company and are possible less often.
_WEIGHTS = {
    "copy": 1.0,
    "growth": 2.0,
    "difference": 1.0,
    "rivals": 0.7,
    "total": 1.0,
    "margin": 1.6,
    "linear forecast": 1.5,
    "seasonal forecast": 3.0,
}


@dataclass(frozen=True, order=True)
class Quarter:
    """One quarter of a year."""

    year: int
    number: int

    def __str__(self) -> str:
        return f"{_QUARTERS[self.number]} {self.year}"

    def shift(self, quarters: int) -> "Quarter":
        """The quarter so many later."""
        year, number = divmod(self.year * 4 + self.number + quarters, 4)
        return Quarter(year, number)


@dataclass(frozen=True)
class Report:
    """One company's quarter: figures in its currency."""

    company: str
    quarter: Quarter
    currency: str
    figures: Mapping[str, Decimal]


@dataclass(frozen=True)
class Computation:
    """A question that reports answer: the figures it takes, and the indexes of their reports, in the order of use."""

    task: str
    slots: Mapping[str, str]
    working: Working
    unit: str
    figures: Sequence[Decimal]
    used: Sequence[int]

    @property
    def key(self) -> tuple[str, ...]:
        """Equal for computations that answer the same question."""
        return (self.task, *(f"{name}={value}" for name, value in sorted(self.slots.items())))


def compute_growth(first: Decimal, last: Decimal) -> Working:
    """The change from the first to the last in percent of the first."""
    change = subtract(max(first, last), min(first, last))
    share = take_percentage(last - first, first)
    return Working((*change.steps, *share.steps), share.result)


def forecast_linear(before: Decimal, last: Decimal) -> Working:
    """The last figure plus the change from the one before."""
    change = subtract(max(before, last), min(before, last))
    forecast = add(last, change.result) if last >= before else subtract(last, change.result)
    return Working((*change.steps, *forecast.steps), forecast.result)


def forecast_seasonal(year_before: Decimal, last: Decimal, season: Decimal) -> Working:
    """The figure of the season a year ago plus the change of the last quarter against its own year before."""
    change = subtract(max(year_before, last), min(year_before, last))
    forecast = add(season, change.result) if last >= year_before else subtract(season, change.result)
    return Working((*change.steps, *forecast.steps), forecast.result)


def list_computations(reports: Sequence[Report]) -> list[Computation]:
    """Everything that can be computed from the reports."""
    found: list[Computation] = []
    for index, report in enumerate(reports):
        found += _compare_with_revenue(index, report)
        for other, later in enumerate(reports):
            if other == index or later.currency != report.currency:
                continue
            for metric in sorted(set(report.figures) & set(later.figures)):
                if later.company == report.company and later.quarter > report.quarter:
                    found += _compare_quarters(reports, index, other, metric)
                if later.company != report.company and later.quarter == report.quarter:
                    found += _compare_rivals(index, other, report, later, metric)
    return found


def _compare_with_revenue(index: int, report: Report) -> list[Computation]:
    revenue = report.figures.get("revenue")
    slots = {"company": report.company, "last": str(report.quarter)}
    return [
        Computation(
            "margin", {**slots, "metric": metric}, take_percentage(value, revenue), PERCENT, (value, revenue), (index,)
        )
        for metric, value in report.figures.items()
        if revenue and metric in _PROFITS and value < revenue
    ]


def _compare_quarters(reports: Sequence[Report], index: int, other: int, metric: str) -> list[Computation]:
    early, late = reports[index], reports[other]
    first, last = early.figures[metric], late.figures[metric]
    slots = {"company": early.company, "metric": metric, "first": str(early.quarter), "last": str(late.quarter)}
    pair = (first, last)
    found = [Computation("total", slots, add(first, last), late.currency, pair, (index, other))]
    if first == last:
        return found
    found.append(Computation("difference", slots, subtract(last, first), late.currency, pair, (other, index)))
    if abs(last - first) < first:
        found.append(Computation("growth", slots, compute_growth(first, last), PERCENT, pair, (other, index)))
    upcoming = {"company": early.company, "metric": metric, "next": str(late.quarter.shift(1))}
    if early.quarter.shift(1) == late.quarter and 2 * last > first:
        forecast = forecast_linear(first, last)
        found.append(Computation("linear forecast", upcoming, forecast, late.currency, pair, (other, index)))
    if early.quarter.shift(4) == late.quarter:
        for third, season in enumerate(reports):
            value = season.figures.get(metric)
            fits = season.company == early.company and season.quarter == early.quarter.shift(1)
            if fits and value is not None and value + last > first:
                forecast = forecast_seasonal(first, last, value)
                used = (other, index, third)
                found.append(Computation("seasonal forecast", upcoming, forecast, late.currency, (*pair, value), used))
    return found


def _compare_rivals(index: int, other: int, report: Report, rival: Report, metric: str) -> list[Computation]:
    more, less = report.figures[metric], rival.figures[metric]
    if more <= less:
        return []
    slots = {"company": report.company, "rival": rival.company, "metric": metric, "last": str(report.quarter)}
    return [Computation("rivals", slots, subtract(more, less), report.currency, (more, less), (index, other))]


def _draw_reports(rng: random.Random, held_out: bool) -> list[Report]:
    """Reports of two companies: quarters that follow each other, last year's, and the rival's; every metric near
    its size in the other quarters."""
    suffixes = rng.sample(finance.SUFFIXES.split("|"), 2)
    companies = [f"{name} {suffix}" for name, suffix in zip(draw_names(rng, held_out, 2), suffixes, strict=True)]
    currency = rng.choice(finance.CURRENCIES.split("|"))
    currencies = [currency, currency if rng.random() < 0.8 else rng.choice(finance.CURRENCIES.split("|"))]
    last = Quarter(rng.randint(2019, 2029), rng.randrange(4))
    layout = rng.choice(("trend", "season", "season", "season", "rivals"))
    if layout == "trend":
        places = [(0, 0), (0, -1), (0, -2), (0, rng.choice((-3, -4, -5))), (1, 0), (1, -1)]
    elif layout == "season":
        places = [(0, 0), (0, -4), (0, -3), (0, -1), (1, 0), (1, -4)]
    else:
        places = [(0, 0), (1, 0), (0, -1), (1, -1), (0, -4), (1, -4)]
    metrics = ["revenue", rng.choice(_PROFITS)]
    metrics += rng.sample([metric for metric in finance.MONEY_METRICS if metric not in metrics], 2)
    decimals, size = rng.choice(((0, 1), (1, 1), (1, 10)))
    centres = {(who, metric): rng.randint(150, 800) * size for who in (0, 1) for metric in metrics}
    for who in (0, 1):
        centres[who, metrics[1]] = max(100 * size, round(centres[who, "revenue"] * rng.uniform(0.05, 0.4)))
        if rng.random() < 0.5:
            centres[who, metrics[1]] = max(12, round(centres[who, "revenue"] * rng.uniform(0.02, 0.1)))

    def draw(centre: int) -> Decimal:
        spread = rng.uniform(0.03, 0.3)
        low, high = max(11, round(centre * (1 - spread))), max(19, round(centre * (1 + spread)))
        if held_out and rng.random() < 0.5:
            return draw_figure(rng, True, min(low, 100), max(high, 999), decimals)
        return draw_figure(rng, False, low, high, decimals)

    reports = []
    for who, shift in places:
        stated = rng.sample(metrics[1:], rng.choice((1, 2))) + (["revenue"] if rng.random() < 0.85 else [])
        figures = {metric: draw(centres[who, metric]) for metric in rng.sample(stated, len(stated))}
        reports.append(Report(companies[who], last.shift(shift), currencies[who], figures))
    return reports


def write_report(report: Report, title: str, form: int) -> Record:
    """The report as a passage, as the first edition writes them."""
    values = {metric: f"{write_figure(value)} {report.currency}" for metric, value in report.figures.items()}
    return finance.write_record(report.company, str(report.quarter), values, [], form, title)


def draw_exercise(rng: random.Random, wanted: Wanted) -> Exercise:
    """Questions over reports, each answered by a calculation, by a figure itself or by the refusal."""
    while True:
        reports = _draw_reports(rng, wanted.held_out)
        order = rng.sample(range(len(reports)), len(reports))
        count = rng.choice(wanted.passages)
        # The first three places of a layout are what its computations need most.
        order.sort(key=lambda index: index >= 3 and rng.random() < 0.8)
        shown = [reports[index] for index in rng.sample(order[:count], count)]
        titles = rng.choice(finance.TITLES)
        records = [
            write_report(one, titles.format(company=one.company, period=one.quarter), rng.randrange(finance.FORMS))
            for one in shown
        ]
        asked = _ask(rng, wanted, reports, shown, records)
        if asked:
            return Exercise("finance", records, asked)


def _ask(
    rng: random.Random, wanted: Wanted, reports: Sequence[Report], shown: Sequence[Report], records: Sequence[Record]
) -> list[Asked]:
    computed = [
        one
        for one in list_computations(shown)
        if any(is_held_out_figure(value) for value in one.figures) == wanted.held_out
    ]
    stated = {one.key for one in list_computations(shown)}
    missing = [one for one in list_computations(reports) if one.key not in stated]
    facts = [(fact, number) for number, record in enumerate(records, 1) for fact in record.facts]
    by_task: dict[str, list[Computation]] = {}
    for one in computed:
        by_task.setdefault(one.task, []).append(one)
    asked: list[Asked] = []
    for _ in range(wanted.questions):
        if missing and rng.random() < wanted.refusal_share:
            lacking = rng.choice(missing)
            asked.append(Asked(_phrase(lacking.task, lacking.slots, rng, wanted.held_out), REFUSAL, task="refusal"))
            continue
        tasks = ["copy", *by_task]
        task = rng.choices(tasks, [_WEIGHTS[name] for name in tasks])[0]
        if task == "copy":
            fact, number = rng.choice(facts)
            slots = finance.vary_slots(dict(fact.slots), rng)
            question = phrase_question(Fact(fact.kind, slots, ""), finance.PHRASINGS[fact.kind], rng, wanted.held_out)
            asked.append(Asked(question, fact.answer, (number,), "copy figure"))
            continue
        one = rng.choice(by_task[task])
        question = _phrase(task, one.slots, rng, wanted.held_out)
        result = f"= {write_figure(one.working.result)} {one.unit}"
        cited = tuple(index + 1 for index in one.used)
        asked.append(Asked(question, one.working.write(one.unit), cited, task, "result", True, result))
    return asked


def _phrase(task: str, slots: Mapping[str, str], rng: random.Random, held_out: bool) -> str:
    varied = dict(slots)
    if rng.random() < 0.12:
        varied["company"] = slots["company"].split(" ")[0]
    return phrase_question(Fact(task, varied, ""), PHRASINGS[task], rng, held_out)


SKILLS: Mapping[str, Skill] = {"figures": Skill(draw_exercise, 3.0)}
