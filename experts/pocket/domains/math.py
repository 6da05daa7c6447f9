"""Math: named formulas with the meaning of their variables and a worked example each."""

import random

from experts.pocket.alternatives import split_alternatives
from experts.pocket.names import draw_name, draw_until_split
from experts.pocket.records import Fact, Phrasings, Record

MEASURES = split_alternatives(
    "area|perimeter|volume|diagonal|height|radius|surface|mean|median|slope|sum|product|variance|distance|angle|"
    "circumference|period|length|rate|value|density|moment|curvature|width|midpoint|discriminant|margin|depth|energy"
)
SHAPES = split_alternatives(
    "hexagon|octagon|prism|torus|wedge|frustum|annulus|ellipse|pentagon|parabola|helix|lens|spiral|crescent|lattice|"
    "quadrant|sector|chord|spindle|polygon|band|shell|vector|matrix|sequence|fraction|mixture|pendulum|lever|arc"
)
LAWS = split_alternatives(
    "rule|law|theorem|formula|identity|inequality|index|ratio|series|interest|mean|transform|number|test"
)
MEANINGS = split_alternatives(
    "base|height|radius|side|width|length|first side|second side|first diagonal|second diagonal|rate|number of years|"
    "starting amount|number of terms|first term|last term|slant height|angle|distance|time|mass|speed|mean|total|"
    "probability|inner radius|outer radius|common ratio|step|perimeter|number of sides|intercept|slope|depth|target"
)
TOPICS = split_alternatives(
    "Plane geometry|Solids|Algebra|Statistics|Finance formulas|Sequences|Kinematics|Trigonometry|Numbers"
)

PHRASINGS = {
    "formula": Phrasings(
        split_alternatives(
            "the formula for {quantity}|the formula of {quantity}|the formula that gives {quantity}|formula for "
            "{quantity}|the equation for {quantity}|how to compute {quantity}|how to calculate {quantity}"
        ),
        split_alternatives(
            "What is the formula for {quantity}?|Which formula gives {quantity}?|How do you compute {quantity}?|How "
            "is {quantity} computed?|How do I calculate {quantity}?|With which formula is {quantity} calculated?|How "
            "can {quantity} be calculated?|By which formula does one find {quantity}?|What formula is used for "
            "{quantity}?|How do you find {quantity}?"
        ),
        ["the formula used for {quantity}", "how one computes {quantity}"],
        split_alternatives(
            "How is {quantity} calculated?|Which formula is used for {quantity}?|How does one calculate {quantity}?|"
            "How would you compute {quantity}?"
        ),
    ),
    "example": Phrasings(
        split_alternatives(
            "the result of the worked example on {quantity}|the result of the example for {quantity}|the result in "
            "the worked example on {quantity}|the answer of the worked example on {quantity}|the example result for "
            "{quantity}"
        ),
        split_alternatives(
            "What is the result of the worked example on {quantity}?|What does the worked example on {quantity} "
            "give?|What result does the example for {quantity} have?|Which number comes out of the worked example on "
            "{quantity}?|What comes out in the example on {quantity}?|In the worked example on {quantity}, what is "
            "the result?|To what does the example on {quantity} come?"
        ),
        ["the outcome of the worked example on {quantity}", "the result of the worked example for {quantity}"],
        [
            "Which result does the worked example on {quantity} give?",
            "What is the answer in the example on {quantity}?",
            "What result comes out of the worked example for {quantity}?",
        ],
    ),
    "meaning": Phrasings(
        split_alternatives(
            "the meaning of {variable} in the formula for {quantity}|what {variable} means in the formula for "
            "{quantity}|what {variable} stands for in the formula for {quantity}|the meaning of {variable} for "
            "{quantity}"
        ),
        split_alternatives(
            "What does {variable} stand for in the formula for {quantity}?|What does {variable} mean in the formula "
            "for {quantity}?|In the formula for {quantity}, what is {variable}?|What is {variable} in the formula "
            "for {quantity}?|In the formula for {quantity}, what does {variable} stand for?|For {quantity}, what "
            "does {variable} mean?|What does the letter {variable} mean for {quantity}?|Which quantity is {variable} "
            "in the formula for {quantity}?|In {quantity}, what is meant with {variable}?|What does one write "
            "{variable} for in the formula for {quantity}?"
        ),
        [
            "what is meant by {variable} in the formula for {quantity}",
            "the role of {variable} in the formula for {quantity}",
        ],
        [
            "In the formula for {quantity}, what does {variable} mean?",
            "For {quantity}, what is {variable}?",
            "Which quantity does {variable} stand for in the formula for {quantity}?",
        ],
    ),
    "input": Phrasings(
        [
            "the value of {variable} in the worked example on {quantity}",
            "the {variable} used in the example on {quantity}",
            "which {variable} the worked example on {quantity} uses",
            "the number that stands for {variable} in the example on {quantity}",
            "the number given for {variable} in the worked example for {quantity}",
        ],
        split_alternatives(
            "Which value of {variable} does the worked example on {quantity} use?|What is {variable} in the worked "
            "example on {quantity}?|In the worked example on {quantity}, what is {variable}?|Which {variable} does "
            "the example on {quantity} take?|What value does {variable} have in the example on {quantity}?|How large "
            "is {variable} in the worked example on {quantity}?|In the example on {quantity}, how large is {variable}?|"
            "For which {variable} is the worked example on {quantity} computed?|In the example for {quantity}, what "
            "value is given to {variable}?|Which number stands for {variable} in the worked example on {quantity}?|"
            "What number does the example on {quantity} take for {variable}?|Which value is {variable} set to in the "
            "worked example for {quantity}?"
        ),
        ["the number used for {variable} in the worked example on {quantity}"],
        [
            "What value of {variable} does the worked example on {quantity} use?",
            "In the example on {quantity}, which value does {variable} have?",
        ],
    ),
}


def write_record(
    topic: str, quantity: str, formula: str, meanings: dict[str, str], inputs: dict[str, str], result: str, form: int
) -> Record:
    """One formula with its variables and worked example. `quantity` carries its article: `the area of a circle`."""
    bare = quantity.removeprefix("the ")
    where = join([f"{variable} is {meaning}" for variable, meaning in meanings.items()])
    given = join([f"{variable} = {value}" for variable, value in inputs.items()])
    start = quantity[0].upper() + quantity[1:]
    texts = (
        f"The formula for {quantity} is {formula}, where {where}. Worked example: with {given} the result is {result}.",
        f"{start} is computed by {formula}, where {where}. Worked example on {quantity}: for {given} the result is"
        f" {result}.",
        f"To find {quantity} use {formula}. Here {where}. In the worked example {given}, which gives {result}.",
        f"Formula for {quantity}: {formula}. Meaning: {where}. Example: {given} leads to {result}.",
    )
    slots = {"quantity": quantity}
    facts = [Fact("formula", slots, formula), Fact("example", slots, result)]
    facts += [Fact("meaning", {**slots, "variable": name}, meaning) for name, meaning in meanings.items()]
    facts += [Fact("input", {**slots, "variable": name}, value) for name, value in inputs.items()]
    return Record(f"{topic} - {bare[0].upper()}{bare[1:]}", texts[form % 4], facts)


def join(parts: list[str]) -> str:
    """The parts as one English enumeration."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def draw_formula(variables: list[str], left: str, rng: random.Random) -> str:
    """A random formula that uses every variable once or twice."""

    def term(variable: str) -> str:
        forms = (
            f"{variable}|{variable}|{variable}|{variable}^{rng.randint(2, 4)}|sqrt({variable})|{rng.randint(2, 9)} *"
            f" {variable}|pi * {variable}^2|(1 + {variable})|(1 - {variable})|sin({variable})|{variable} /"
            f" {rng.randint(2, 12)}|log({variable})|({variable} + {rng.randint(1, 9)})|4 / 3 * pi * {variable}^3"
            f"|(n - {rng.randint(1, 3)}) * {variable}|sqrt({variable}^2 + {rng.choice(variables)}^2)|abs({variable})"
        ).split("|")
        return rng.choice(forms)

    used = variables if rng.random() < 0.8 else [*variables, rng.choice(variables)]
    right = term(used[0])
    for variable in used[1:]:
        right += rng.choice((" * ", " * ", " / ", " + ", " - ", " + ", "^")) + term(variable)
    shape = rng.random()
    if shape < 0.12:
        right = f"({right}) / {rng.randint(2, 9)}"
    elif shape < 0.2:
        right = f"sqrt({right})"
    elif shape < 0.25:
        right = f"1 / ({right})"
    elif shape < 0.3:
        right = f"{rng.randint(2, 180)} * {right}"
    return f"{left} = {right}"


def draw_scene(rng: random.Random, held_out: bool) -> list[Record]:
    """Formulas that a retriever would confuse: the same measure of another shape, another measure of this shape."""

    def shape() -> str:
        if rng.random() < 0.5:
            return draw_name(rng, held_out).lower()
        return rng.choice(SHAPES)

    def phrase(measure: str, of: str) -> str:
        def draw() -> str:
            joint = rng.random()
            if joint < 0.75:
                return f"the {measure} of {article(of)}"
            return f"the {measure} of {rng.choice(('similar', 'two', 'regular', 'equal', 'many'))} {of}s"

        return draw()

    def law() -> str:
        owner = draw_name(rng, held_out)
        second = rng.choice(("", "", " " + rng.choice(("general", "second", "weighted", "compound", "simple"))))
        name = rng.choice((owner, owner.lower()))
        return rng.choice(("the ", "")) + f"{name}{second} {rng.choice(LAWS)}"

    measures, shapes = rng.sample(MEASURES, 3), [shape() for _ in range(3)]
    candidates = [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (2, 0)]
    quantities: list[str] = []
    for measure, of in candidates:
        if rng.random() < 0.25:
            quantities.append(law())
            continue
        for _ in range(20):
            try_phrase = phrase(measures[measure], shapes[of])
            if try_phrase not in quantities and known(try_phrase, held_out):
                quantities.append(try_phrase)
                break
        else:
            quantities.append(law())
    topic = rng.choice(TOPICS)
    return [draw_record(topic if rng.random() < 0.7 else rng.choice(TOPICS), q, rng) for q in dict.fromkeys(quantities)]


def known(phrase: str, held_out: bool) -> bool:
    """Whether a phrase lies on the wanted side of the split and in no corpus."""
    try:
        return draw_until_split(_Once(phrase), held_out, RESERVED) == phrase
    except StopIteration:
        return False


class _Once:
    """Gives its phrase once, then stops."""

    def __init__(self, phrase: str) -> None:
        self._left = [phrase]

    def __call__(self) -> str:
        if not self._left:
            raise StopIteration
        return self._left.pop()


def article(noun: str) -> str:
    """The noun with its indefinite article."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def draw_record(topic: str, quantity: str, rng: random.Random) -> Record:
    """A random formula with meanings and a worked example for a quantity."""
    letters = rng.sample("abcdhkmnpqrstuvwxyzBDPRHNQ", 3)
    left = rng.choice("ACDEFGIKLMPQRSTVWYx")
    count = rng.choice((1, 2, 2, 3))
    variables = letters[:count]
    if count > 1 and rng.random() < 0.3:
        variables[:2] = [f"{letters[0]}1", f"{letters[0]}2"]
    formula = draw_formula(variables, left, rng)
    meanings = {v: f"the {m}" for v, m in zip(variables, draw_meanings(count, rng), strict=True)}
    inputs = {v: draw_number(rng) for v in variables}
    return write_record(topic, quantity, formula, meanings, inputs, draw_number(rng), rng.randrange(4))


def draw_meanings(count: int, rng: random.Random) -> list[str]:
    """What variables stand for: usual meanings, and made-up ones that can only be copied."""
    meanings = rng.sample(MEANINGS, count)
    for index in range(count):
        if rng.random() < 0.5:
            pair = rng.choice((*MEASURES, *SHAPES)), rng.choice((*MEASURES, *SHAPES, *LAWS))
            word = draw_name(rng, held_out=False).lower()
            meanings[index] = rng.choice((f"{pair[0]} {pair[1]}", f"{word} {pair[1]}", f"{pair[0]} in {word}s"))
    return meanings


def draw_number(rng: random.Random) -> str:
    """A small number as worked examples use them."""
    form = rng.random()
    if form < 0.5:
        return str(rng.randint(2, 99))
    if form < 0.7:
        return str(rng.randint(100, 5000))
    return f"{rng.randint(0, 99)}.{rng.randint(1, 9)}"


# The quantities of the committed corpus, which neither training nor the held-out set may ask for.
RESERVED = frozenset(
    f"the {quantity}"
    for quantity in split_alternatives(
        "area of a rhombus|area of a circle|area of a triangle|area of a trapezoid|area of an ellipse|area of a "
        "sector|volume of a cone|volume of a sphere|volume of a cylinder|volume of a pyramid|surface of a sphere|"
        "circumference of a circle|perimeter of a rectangle|diagonal of a square|mean of two numbers|slope of a line|"
        "distance between two points|midpoint of a segment|sum of an arithmetic series|sum of a geometric series|"
        "discriminant of a quadratic equation|period of a pendulum|area of an annulus|volume of a torus|area of a "
        "parallelogram|angle sum of a polygon|area of a regular hexagon|volume of a prism"
    )
)


def vary_slots(slots: dict[str, str], rng: random.Random) -> dict[str, str]:
    """Quantities are asked for by their full name."""
    return dict(slots)
