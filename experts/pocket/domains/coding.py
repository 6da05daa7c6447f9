"""Coding: the functions of a small pipeline, from its documentation and from its source."""

import random
import zlib

from experts.pocket.alternatives import split_alternatives
from experts.pocket.names import draw_name, is_held_out
from experts.pocket.records import Fact, Phrasings, Record

# base form, third person, gerund
VERBS = [
    tuple(forms.split("/"))
    for forms in split_alternatives(
        "load/loads/loading|read/reads/reading|fetch/fetches/fetching|parse/parses/parsing|clean/cleans/cleaning|"
        "drop/drops/dropping|remove/removes/removing|count/counts/counting|sum/sums/summing|group/groups/grouping|"
        "merge/merges/merging|sort/sorts/sorting|filter/filters/filtering|write/writes/writing|save/saves/saving|"
        "render/renders/rendering|format/formats/formatting|send/sends/sending|plot/plots/plotting|"
        "rank/ranks/ranking|check/checks/checking|validate/validates/validating|split/splits/splitting|"
        "join/joins/joining|scale/scales/scaling|round/rounds/rounding|fill/fills/filling|map/maps/mapping|"
        "export/exports/exporting|archive/archives/archiving|compress/compresses/compressing|"
        "schedule/schedules/scheduling|retry/retries/retrying|compute/computes/computing|find/finds/finding|"
        "list/lists/listing|convert/converts/converting|label/labels/labelling|mask/masks/masking|"
        "index/indexes/indexing|measure/measures/measuring|detect/detects/detecting|print/prints/printing|"
        "open/opens/opening"
    )
]
SYNONYMS = {
    "load": "read",
    "read": "load",
    "fetch": "load",
    "drop": "remove",
    "remove": "drop",
    "save": "write",
    "write": "save",
    "clean": "tidy",
    "sum": "add up",
    "compute": "calculate",
    "merge": "join",
    "join": "merge",
    "check": "validate",
    "validate": "check",
    "render": "format",
    "find": "detect",
}
_SYNONYM_FORMS = {
    "tidy": ("tidies", "tidying"),
    "add up": ("adds up", "adding up"),
    "calculate": ("calculates", "calculating"),
}
ADJECTIVES = split_alternatives(
    "raw|daily|empty|duplicate|late|weekly|hourly|broken|final|monthly|old|missing|invalid|clean|stale|pending|"
    "active|numeric|hidden|top|slow|open|closed|new|foreign|local|remote|signed|sorted|merged"
)
NOUNS = split_alternatives(
    "events|rows|totals|reports|sessions|users|orders|columns|records|prices|readings|visits|files|tables|messages|"
    "charts|alerts|devices|regions|segments|counters|labels|values|metrics|batches|stations|tickets|invoices|errors|"
    "summaries|sensors|signals|clicks|jobs|logs|pages|items|keys|tags|scores"
)
TAILS = split_alternatives(
    "from a CSV file|from the input folder|by day|by user|by region|into one table|to a JSON file|to the report|as "
    "text|before the run|after the run|with a median|of the last week|for every device|in memory|per hour|to the "
    "console|from the archive|of one station|into a database"
)
RETURNS = split_alternatives(
    "list[Event]|list[Row]|dict[str, int]|dict[str, float]|int|float|str|bool|None|Path|list[str]|set[str]|"
    "tuple[int, int]|Table|Report|dict[str, list[Row]]|list[float]|Summary|Frame|list[dict[str, str]]"
)
PARAMETERS = split_alternatives(
    'limit=1000|limit=50|limit=10|encoding="utf-8"|strict=True|strict=False|delimiter=","|window=7|window=24|'
    'top=5|top=20|retries=3|timeout=30|digits=2|digits=4|sep=";"|fill=0.0|dry_run=False|verbose=True|threshold=0.5|'
    'unit="day"|unit="hour"|descending=True|size=256|width=80|suffix=".json"|skip=1|level=6|seed=17|'
    'missing=None|batch=64|days=30|keep="last"|keep="first"|min_count=2|factor=1.5|header=True|pause=0.25|'
    "quote=None|depth=4|max_rows=500"
)
STEMS = split_alternatives(
    "reader|source|loader|parse|filters|tidy|merge|stats|totals|groups|export|render|charts|jobs|store|checks|alerts|"
    "windows|schema|sessions|archive|sync|labels|metrics|tables|output|cache|rules|batch|feeds"
)
BODIES = (
    "    return [{v} for {v} in {p} if {v}]",
    "    result = {p}\n    return result",
    "    return {stem}_{p}({p})",
    "    with open({p}) as stream:\n        return decode(stream)",
    "    if not {p}:\n        return {p}\n    return convert({p})",
    "    return sorted({p}, key=rank)",
    "    {v} = prepare({p})\n    return finish({v})",
)

PHRASINGS = {
    "purpose": Phrasings(
        split_alternatives(
            "the function that {third} {object}|the name of the function that {third} {object}|the function for "
            "{gerund} {object}|which function {third} {object}|the function of the pipeline that {third} {object}|"
            "the function to {base} {object}|the function used for {gerund} {object}"
        ),
        split_alternatives(
            "Which function {third} {object}?|What function {third} {object}?|Which function of the pipeline {third} "
            "{object}?|Which function is used for {gerund} {object}?|With which function do I {base} {object}?|Which "
            "function can {base} {object}?|What is the function that {third} {object}?|Which function should I call "
            "to {base} {object}?|How do I {base} {object}?|Which function of {package} {third} {object}?|Where in "
            "the pipeline is the function that {third} {object}?|Which function in the code {third} {object}?|What "
            "should I call to {base} {object}?|What is called for {gerund} {object}?"
        ),
        ["the pipeline function for {gerund} {object}", "the function with which to {base} {object}"],
        split_alternatives(
            "Which function of the pipeline is {gerund} {object}?|What do I call to {base} {object}?|Which function "
            "does the pipeline use to {base} {object}?|In the pipeline, which function {third} {object}?"
        ),
    ),
    "module": Phrasings(
        split_alternatives(
            "the module of {function}|the module that holds {function}|the file of {function}|where {function} is "
            "defined|the module with the function {function}|the file that contains {function}"
        ),
        split_alternatives(
            "Which module holds {function}?|In which module is {function}?|In which file is {function} defined?|"
            "Where is {function} defined?|Which file contains {function}?|What module contains the function "
            "{function}?|Which module has {function}?|In which module can I find {function}?|Where does {function} "
            "live?"
        ),
        ["the module in which {function} is defined", "the file in which {function} lives"],
        split_alternatives(
            "In what module does {function} live?|Which module defines {function}?|In which file can {function} be "
            "found?|Where can I find {function}?"
        ),
    ),
    "returns": Phrasings(
        split_alternatives(
            "the return type of {function}|what {function} returns|the type that {function} returns|the result type "
            "of {function}|the type of the result of {function}"
        ),
        split_alternatives(
            "What does {function} return?|Which type does {function} return?|What is the return type of {function}?|"
            "What type is returned by {function}?|What is returned by {function}?|Which type has the result of "
            "{function}?|What does the function {function} return?|What kind of value does {function} return?|What "
            "comes back from {function}?|What do I receive from {function}?|What does a call of {function} give me?|"
            "What will I get when I call {function}?|Of which type is the result of {function}?"
        ),
        ["the type returned by {function}", "what the function {function} returns"],
        [
            "What type does {function} return?",
            "Which return type does {function} have?",
            "What do I get back from {function}?",
        ],
    ),
    "default": Phrasings(
        split_alternatives(
            "the default of {parameter} in {function}|the default value of {parameter} in {function}|the default of "
            "the parameter {parameter} of {function}|{function}'s default for {parameter}|the default {parameter} of "
            "{function}"
        ),
        split_alternatives(
            "What is the default of {parameter} in {function}?|What is the default value of {parameter} in "
            "{function}?|Which default does {parameter} have in {function}?|In {function}, what is the default of "
            "{parameter}?|What does {parameter} default to in {function}?|Which value does {parameter} have by "
            "default in {function}?|What is the default of the parameter {parameter} of {function}?|What {parameter} "
            "does {function} use by default?|Which default does {function} give {parameter}?|What default has "
            "{parameter} in {function}?|To which value does {function} set {parameter} by default?|What does "
            "{function} take for {parameter} by default?"
        ),
        ["the value that {parameter} has by default in {function}", "the default for {parameter} in {function}"],
        [
            "To what does {parameter} default in {function}?",
            "In {function}, what does {parameter} default to?",
            "What default does {function} have for {parameter}?",
        ],
    ),
}


def write_docs(
    package: str, stem: str, function: str, third: str, thing: str, returns: str, parameters: dict[str, str], form: int
) -> str:
    """The documentation section of one function; `thing` is what it acts on, with its article."""
    takes = " ".join(f"The default of {name} is {value}." for name, value in parameters.items())
    also = join([f"{name} defaults to {value}" for name, value in parameters.items()])
    texts = (
        f"The function {function} in {stem}.py {third} {thing}. It returns {returns}. {takes}",
        f"{function} {third} {thing}. It lives in the module {stem}.py of {package} and returns {returns}. {takes}",
        f"Call {function} of {stem}.py, which {third} {thing}. The return type is {returns}."
        + (f" Its parameter {also}." if also else ""),
        f"In {package} the function {function} {third} {thing}. Module: {stem}.py. Returns: {returns}. {takes}",
    )
    return texts[form % 4].strip()


def join(parts: list[str]) -> str:
    """The parts as one English enumeration."""
    return " and ".join(parts)


def write_source(function: str, purpose: str, first: str, returns: str, parameters: dict[str, str], body: str) -> str:
    """The source of one function: signature, docstring of one line, body."""
    kinds = {name: guess_type(value) for name, value in parameters.items()}
    signature = ", ".join([first, *(f"{name}: {kinds[name]} = {value}" for name, value in parameters.items())])
    return f'def {function}({signature}) -> {returns}:\n    """{purpose}"""\n{body}'


def guess_type(default: str) -> str:
    """The annotation that fits a default value."""
    if default in ("True", "False"):
        return "bool"
    if default == "None":
        return "str | None"
    if default[0] in "\"'":
        return "str"
    return "float" if "." in default else "int"


def list_facts(
    function: str,
    package: str,
    stem: str,
    verbs: list[tuple[str, str, str]],
    thing: str,
    returns: str,
    parameters: dict[str, str],
    seed: int,
) -> list[Fact]:
    """What can be asked of one function; the purpose is asked with one of the verbs, picked by `seed`."""
    base, third, gerund = verbs[seed % len(verbs)]
    purpose = {"base": base, "third": third, "gerund": gerund, "object": thing, "package": package}
    facts = [
        Fact("purpose", purpose, function),
        Fact("purpose", purpose, function),
        Fact("module", {"function": function}, f"{stem}.py"),
        Fact("returns", {"function": function}, returns),
    ]
    facts += [Fact("default", {"function": function, "parameter": n}, value) for n, value in parameters.items()]
    return facts


# Functions of the committed corpus, which neither training nor the held-out set may use.
RESERVED = frozenset(
    split_alternatives(
        "load_events|list_sources|parse_line|drop_duplicates|fill_gaps|clip_outliers|rename_columns|total_by_day|"
        "mean_by_station|top_stations|rolling_mean|render_table|write_summary|plan_runs|next_run|save_totals|"
        "open_archive|prune_archive"
    )
)


def draw_function(rng: random.Random, held_out: bool, taken: set[str]) -> tuple[str, tuple[str, ...], str, str]:
    """A function name, its verb, the thing it acts on and the tail of its purpose."""
    while True:
        verb = rng.choice(VERBS)
        adjective, noun = rng.choice(ADJECTIVES), rng.choice(NOUNS)
        if rng.random() < 0.15:
            adjective = draw_name(rng, held_out).lower()
        if rng.random() < 0.15:
            noun = draw_name(rng, held_out).lower() + "s"
        if rng.random() < 0.15:
            word = draw_name(rng, held_out).lower()
            verb = (word, word + "s", word + "ing")
        name_verb = verb[0] if rng.random() < 0.8 else rng.choice(VERBS)[0]
        shape = rng.random()
        if shape < 0.55:
            name = f"{name_verb}_{noun}"
        elif shape < 0.85:
            name = f"{name_verb}_{adjective}_{noun}"
        elif shape < 0.92:
            name = f"{name_verb}_{adjective}"
        else:
            name = f"{noun}_by_{rng.choice(('day', 'user', 'hour', 'device', 'region'))}"
        thing = f"the {adjective} {noun}"
        # Names are few, so what is held out is the name together with what the function does.
        if name in RESERVED or name in taken or is_held_out(name + thing) != held_out:
            continue
        if name in {"load_events"} or (adjective, noun) == ("raw", "events"):
            continue
        taken.add(name)
        return name, verb, thing, rng.choice(TAILS)


def draw_word(rng: random.Random) -> str:
    """A small word, known or invented."""
    known = rng.choice((*NOUNS, *ADJECTIVES, *STEMS, *(verb[0] for verb in VERBS)))
    return known if rng.random() < 0.5 else draw_name(rng, held_out=False).lower()


def draw_stem(rng: random.Random) -> str:
    """The name of a module."""
    return rng.choice(STEMS) if rng.random() < 0.3 else draw_word(rng)


def draw_type(rng: random.Random) -> str:
    """A return type, half of the time around a made-up one."""
    if rng.random() < 0.5:
        return rng.choice(RETURNS)
    word = draw_word(rng)
    inner = rng.choice((word.capitalize(), word))
    return rng.choice(("{}", "list[{}]", "dict[str, {}]", "set[{}]", "tuple[{}, int]")).format(inner)


def draw_parameter(rng: random.Random) -> str:
    """A parameter and its default, as `name=default`."""
    if rng.random() < 0.4:
        return rng.choice(PARAMETERS)
    number = rng.choice((rng.randint(0, 99), rng.randint(100, 5000), rng.randint(1, 99) / 10))
    text = rng.choice((draw_word(rng), "." + draw_word(rng)[:4], rng.choice((",", ";", "utf-8", "ascii"))))
    name = rng.choice(PARAMETERS).split("=")[0] if rng.random() < 0.5 else draw_word(rng)
    return f"{name}={number}" if rng.random() < 0.5 else f'{name}="{text}"'


def draw_scene(rng: random.Random, held_out: bool) -> list[Record]:
    """Sibling functions of one or two modules, as documentation or source, sometimes the same function as both."""
    package = draw_name(rng, held_out).lower()
    stems = [draw_stem(rng) for _ in range(2)]
    taken: set[str] = set()
    records: list[Record] = []
    docs_title = rng.choice(
        ("{package} {stem} - {function}", "{package} {stem}.py - {function}", "{stem} module - {function}")
    )
    for _ in range(5):
        function, verb, thing, tail = draw_function(rng, held_out, taken)
        stem = rng.choice(stems)
        returns = draw_type(rng)
        chosen = [draw_parameter(rng) for _ in range(rng.choice((0, 1, 1, 2)))]
        parameters = dict(pair.split("=", 1) for pair in chosen)
        verbs = [(verb[0], verb[1], verb[2])] * 3
        synonym = SYNONYMS.get(verb[0])
        if synonym in _SYNONYM_FORMS:
            verbs.append((synonym, *_SYNONYM_FORMS[synonym]))
        elif synonym:
            verbs += [(v[0], v[1], v[2]) for v in VERBS if v[0] == synonym]
        facts = list_facts(function, package, stem, verbs, thing, returns, parameters, zlib.crc32(function.encode()))
        whole = f"{thing} {tail}" if rng.random() < 0.7 else thing
        left = [p.split("=")[0] for p in rng.sample(PARAMETERS, 2)]
        absent = [Fact("default", {"function": function, "parameter": p}, "") for p in left if p not in parameters]
        sort = rng.random()
        if sort < 0.6 or sort > 0.85:
            text = write_docs(package, stem, function, verb[1], whole, returns, parameters, rng.randrange(4))
            title = docs_title.format(package=package, stem=stem, function=function)
            records.append(Record(title, text, facts, absent[:1]))
        if sort > 0.6:
            first = rng.choice(("path: Path", "rows: list[Row]", "events: list[Event]", "table: Table", "text: str"))
            body = rng.choice(BODIES).format(v=rng.choice("abrsvx"), p=first.split(":")[0], stem=stem)
            purpose = f"{verb[0].capitalize()} {whole}."
            text = write_source(function, purpose, first, returns, parameters, body)
            records.append(Record(f"{stem}.py - {function}", text, facts, absent[:1]))
    return records


def vary_slots(slots: dict[str, str], rng: random.Random) -> dict[str, str]:
    """Functions are sometimes called with parentheses: `load_events()`."""
    varied = dict(slots)
    if "function" in slots and rng.random() < 0.06:
        varied["function"] = slots["function"] + "()"
    return varied
