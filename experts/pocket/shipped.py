"""The records of the shipped corpora: the forms of the training passages, with names kept out of training."""

import random
from collections.abc import Sequence

from experts.pocket.alternatives import split_alternatives
from experts.pocket.domains import coding, finance, generalist, math, reasoning
from experts.pocket.records import Fact, Record
from experts.pocket.shipped_math import FORMULAS

COMPANIES = split_alternatives(
    "Norvane Systems|Quellmark Foods|Brisolde Energy|Tavenport Logistics|Ardenza Motors|Kelsing Labs|Morvay Textiles|"
    "Halquist Bank"
)
QUARTERS = ("Q3 2024", "Q4 2024", "Q1 2025", "Q2 2025")
_CURRENCIES = ("million euros", "million dollars", "million pounds", "million francs")

PEOPLE = split_alternatives(
    "Mira Castellan|Tobias Okonjo|Ines Lindqvist|Rafael Haverford|Greta Brandtner|Samir Sorrentino|Livia Whitlock|"
    "Anton Delacroix|Noor Marchetti|Edda Yamashiro"
)
PLACES = split_alternatives(
    "the Halden Library|the Torvik Museum|the Selmere Bakery|the Brackwater Pool|the Ostermoor Theatre|the Fennimore "
    "Clinic|the Larkspur Garden|the Windhaven Studio"
)
TOWNS = ("Calder", "Rosenau", "Marovia", "Orrin")
TEAMS = (
    ("Ambrine", "Solenne", "Mira Castellan"),
    ("Ithral", "Karsk", "Rafael Haverford"),
    ("Veldra", "Lysette", "Noor Marchetti"),
    ("Dunmarrow", "Thessaly", "Anton Delacroix"),
)

# function | module | third person | thing | tail | returns | parameters
_FUNCTIONS = """
load_events|ingest|loads|the raw events|from a CSV file|list[Event]|limit=1000
list_sources|ingest|lists|the input files|of a folder|list[Path]|suffix=".csv"
parse_line|ingest|parses|the fields|of one event line|Event|delimiter=","
drop_duplicates|clean|drops|the duplicate events|with the same id|list[Event]|key="id"
fill_gaps|clean|fills|the missing values|of a series|list[float]|fill=0.0
clip_outliers|clean|clips|the extreme values|of a series|list[float]|factor=3.0
rename_columns|clean|renames|the old columns|of one event|Event|strict=False
total_by_day|aggregate|sums|the daily totals|of the events|dict[str, float]|field="amount"
mean_by_station|aggregate|computes|the mean values|for every station|dict[str, float]|digits=2
top_stations|aggregate|ranks|the best stations|by total|list[str]|top=5
rolling_mean|aggregate|averages|the last values|over a window|list[float]|window=7
render_table|report|renders|the final table|as text|str|width=40
write_summary|report|writes|the weekly summary|to a text file|Path|encoding="utf-8"
plan_runs|schedule|plans|the coming runs|after a start time|list[datetime]|count=3
next_run|schedule|finds|the next run|after a moment|datetime|hours=6
save_totals|archive|saves|the daily totals|to a JSON file|Path|indent=2
open_archive|archive|opens|the saved totals|of one archive file|dict[str, float]|missing=0
run_pipeline|pipeline|runs|the whole pipeline|from a CSV file to a summary|Path|limit=1000
prune_archive|archive|deletes|the stale files|of the archive folder|int|days=30
"""


def list_finance() -> list[Record]:
    """Four quarters of eight companies, each quarter within a fifth of the one before."""
    rng = random.Random(2025)  # noqa: S311
    records = []
    for index, company in enumerate(COMPANIES):
        currency = _CURRENCIES[index % len(_CURRENCIES)]
        second = ("net income", "operating profit", "free cash flow", "order backlog")[index % 4]
        revenue, margin, staff = rng.uniform(120, 900), rng.uniform(7, 22), rng.randint(900, 24000)
        for number, period in enumerate(QUARTERS):
            revenue *= rng.uniform(0.85, 1.2)
            margin += rng.uniform(-3, 3)
            staff = round(staff * rng.uniform(0.98, 1.04))
            if company == "Norvane Systems":
                revenue = (318.6, 347.2, 380.9, 412.5)[number]
            other = revenue * (
                rng.uniform(1.2, 1.6) if second == "order backlog" else margin * rng.uniform(0.006, 0.009)
            )
            values = {
                "revenue": f"{revenue:.1f} {currency}",
                second: f"{other:.1f} {currency}",
                "operating margin": f"{margin:.1f} percent",
                finance.HEADCOUNT: f"{staff:,} employees",
            }
            form = (index + number) % finance.FORMS
            records.append(finance.write_record(company, period, values, [], form, f"{company} - {period} results"))
    return records


def list_math() -> list[Record]:
    """True formulas, section by section."""
    return [
        math.write_record(one.topic, one.quantity, one.formula, one.meanings, one.inputs, one.result, index % 4)
        for index, one in enumerate(FORMULAS)
    ]


def list_coding() -> list[Record]:
    """The documentation of tidemark's functions; its source files are written by hand."""
    records = []
    for index, line in enumerate(_FUNCTIONS.strip().splitlines()):
        function, stem, third, thing, tail, returns, parameter = line.split("|")
        parameters = dict([parameter.split("=", 1)])
        base = next((verb[0] for verb in coding.VERBS if verb[1] == third), third.removesuffix("s"))
        gerund = next((verb[2] for verb in coding.VERBS if verb[1] == third), base.removesuffix("e") + "ing")
        whole = f"{thing} {tail}"
        text = coding.write_docs("tidemark", stem, function, third, whole, returns, parameters, index % 4)
        verbs = [(base, third, gerund)]
        facts = coding.list_facts(function, "tidemark", stem, verbs, thing, returns, parameters, 0)[1:]
        records.append(Record(f"tidemark {stem} - {function}", text, facts))
    return records


def list_reasoning() -> list[Record]:
    """Ten people, eight places and four teams."""
    rng = random.Random(7)  # noqa: S311
    records = []
    jobs = rng.sample(reasoning.JOBS, len(PEOPLE))
    for index, person in enumerate(PEOPLE):
        address = (
            f"{rng.randint(1, 99)} {rng.choice(('Larkspur', 'Halden', 'Windhaven'))} {rng.choice(reasoning.STREETS)}"
        )
        slot = f"{reasoning.draw_time(rng)} on {rng.choice(reasoning.DAYS)}"
        if index == 0:
            slot = "8:15 on Tuesday"
        place = PLACES[index % len(PLACES)]
        records += [
            reasoning.write_work(person, jobs[index], place, index),
            reasoning.write_home(person, TOWNS[index % 4], address, index + 1),
            reasoning.write_training(person, rng.choice(reasoning.SPORTS), slot, PLACES[(index + 3) % 8], index + 2),
        ]
    for index, place in enumerate(PLACES):
        opens, closes = f"{rng.randint(7, 10)}:{rng.choice(('00', '30'))}", f"{rng.randint(17, 21)}:15"
        street = f"{rng.randint(1, 99)} {rng.choice(('Rosenau', 'Calder'))} {rng.choice(reasoning.STREETS)}"
        records += [
            reasoning.write_hours(place, opens, closes, reasoning.DAYS[index % 7], index),
            reasoning.write_location(place, TOWNS[(index + 1) % 4], street, index + 1),
        ]
    for index, (team, room, leader) in enumerate(TEAMS):
        slot = f"{reasoning.draw_time(rng)} on {rng.choice(reasoning.DAYS[:5])}"
        records.append(reasoning.write_meeting(team, room, slot, leader, index))
    return records


def list_generalist() -> list[Record]:
    """A small encyclopedia, and what the pocket fleet says about itself."""
    rng = random.Random(3)  # noqa: S311
    records = []
    for index, name in enumerate(("Veldra", "Ithral", "Karsk", "Orrin", "Lysette")):
        mouth = ("the Marovia Sea", "Lake Solenne", "the Ambrine Sea", "Lake Calder", "Thessaly")[index]
        records.append(generalist.write_river(name, rng.randint(80, 1900), mouth, TOWNS[index % 4], index))
    for index, name in enumerate(("Solenne", "Dunmarrow", "Larkspur", "Fennimore", "Thessaly")):
        height = f"{rng.randint(20, 160)} centimetres"
        colour, habitat = generalist.COLOURS[index * 2], generalist.HABITATS[index]
        records.append(generalist.write_plant(name, height, colour, habitat, index))
    for index, name in enumerate(("Ambrine", "Windhaven", "Ostermoor", "Selmere")):
        month, food = generalist.MONTHS[index * 3 + 1], generalist.FOODS[index]
        records.append(generalist.write_festival(name, month, TOWNS[index], food, index))
    for index, name in enumerate(("Lysette", "Torvik", "Brackwater", "Halden")):
        material, strings = generalist.MATERIALS[index * 2], generalist.NUMBERS[index * 2 + 1]
        records.append(generalist.write_instrument(name, material, strings, TOWNS[3 - index], index))
    for index, name in enumerate(("Calder", "Rosenau", "Marovia", "Karsk")):
        kind = ("tower", "bridge", "lighthouse", "windmill")[index]
        height, material = f"{rng.randint(9, 120)} metres", generalist.MATERIALS[index * 2 + 5]
        records.append(generalist.write_building(name, kind, height, material, TOWNS[index], index))
    return records + list_fleet()


def list_fleet() -> list[Record]:
    """What the pocket fleet is: five domains, four adapters on one base."""

    def profile(entity: str, values: dict[str, str], parts: str, count: str, form: int) -> Record:
        return generalist.write_profile(entity, values, parts, count, form, [])

    fleet = {"engine": "one shared base", "purpose": "answers from passages", "training": "from scratch"}
    knows = (
        ("finance", "quarterly reports", "eight", "companies"),
        ("math", "formulas with worked examples", "eight", "topics"),
        ("coding", "the tidemark pipeline", "seven", "modules"),
        ("reasoning", "people, places and schedules", "ten", "people"),
    )
    records = [profile("the Guildhall pocket fleet", fleet, "domains", "five", 0)]
    for domain, subject, count, parts in knows:
        values = {"domain": domain, "knowledge": subject}
        records.append(profile(f"the Guildhall {domain} expert", values, parts, count, 1))
    values = {"knowledge": "rivers, plants, festivals and instruments", "task": "what no other domain owns"}
    records.append(profile("the Guildhall generalist", values, "rivers", "five", 1))
    return records


SHIPPED: dict[str, Sequence[Record]] = {
    "finance": list_finance(),
    "math": list_math(),
    "coding": list_coding(),
    "reasoning": list_reasoning(),
    "generalist": list_generalist(),
}

# Questions that no shipped passage answers.
REFUSED: dict[str, Sequence[Fact]] = {
    "finance": [
        finance.ask("Norvane Systems", "Q2 2023", "revenue", ""),
        finance.ask("Kelsing Labs", "Q1 2025", "research spending", ""),
        finance.ask("Brisolde Energy", "Q4 2022", "operating margin", ""),
        finance.ask("Halquist Bank", "Q2 2025", "market share", ""),
    ],
    "math": [
        Fact("formula", {"quantity": "the volume of an octahedron"}, ""),
        Fact("formula", {"quantity": "the area of a kite"}, ""),
        Fact("example", {"quantity": "the area of a pentagon"}, ""),
        Fact("formula", {"quantity": "the radius of a cone"}, ""),
    ],
    "coding": [
        Fact("module", {"function": "send_alerts"}, ""),
        Fact("default", {"function": "load_events", "parameter": "timeout"}, ""),
        Fact("returns", {"function": "merge_invoices"}, ""),
        Fact("default", {"function": "rolling_mean", "parameter": "retries"}, ""),
    ],
    "reasoning": [
        Fact("home", {"person": "Petra Vanterpool"}, ""),
        Fact("job", {"person": "Oskar Mellish"}, ""),
        Fact("room", {"team": "Bramblewick"}, ""),
        Fact("opening", {"place": "the Pellworth Harbour"}, ""),
    ],
    "generalist": [
        Fact("length", {"entity": "the Pellworth river"}, ""),
        Fact("colour", {"entity": "the Bramblewick plant"}, ""),
        Fact("food", {"entity": "the Vanterpool festival"}, ""),
        Fact("material", {"entity": "the Mellish instrument"}, ""),
    ],
}
