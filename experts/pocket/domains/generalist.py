"""The generalist: a small invented encyclopedia of rivers, plants, festivals, instruments and more."""

import random

from experts.pocket.alternatives import split_alternatives
from experts.pocket.names import draw_names
from experts.pocket.records import Fact, Phrasings, Record

COLOURS = split_alternatives("white|yellow|violet|crimson|pale blue|orange|pink|deep red|cream|golden|silver|purple")
MONTHS = split_alternatives("January|February|March|April|May|June|July|August|September|October|November|December")
MATERIALS = split_alternatives(
    "walnut|brass|maple|bone|cherry wood|copper|reed|spruce|silver|bamboo|oak|clay|slate|granite|steel"
)
FOODS = split_alternatives(
    "plum cake|smoked trout|barley soup|honey bread|pear cider|chestnut pie|sour cherries|rye pancakes"
)
HABITATS = split_alternatives(
    "salt marshes|dry slopes|pine forests|river banks|alpine meadows|sandy dunes|shaded ravines"
)
NUMBERS = split_alternatives("two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fourteen|twenty")
PARTS = split_alternatives(
    "domains|experts|members|modules|adapters|valleys|islands|villages|chapters|rooms|towers|bridges"
)

_ATTRIBUTE_CORES = (
    "the {attribute} of {entity}|{entity}'s {attribute}|{entity} {attribute}|the {attribute} {entity} has"
    "|the {attribute} of {entity} in the encyclopedia"
)
_ATTRIBUTE_DIRECT = (
    "What is the {attribute} of {entity}?|Which {attribute} does {entity} have?|What {attribute} does {entity} have?"
    "|What {attribute} is given for {entity}?|For {entity}, what is the {attribute}?|What do you know about the"
    " {attribute} of {entity}?|Which is the {attribute} of {entity}?"
)
_HELD_CORES = "the {attribute} that {entity} has|{attribute} of {entity}"
_HELD_DIRECT = (
    "Of {entity}, what is the {attribute}?|What would be the {attribute} of {entity}?|Which {attribute} is given for"
    " {entity}?"
)
PHRASINGS = {
    "attribute": Phrasings(*(s.split("|") for s in (_ATTRIBUTE_CORES, _ATTRIBUTE_DIRECT, _HELD_CORES, _HELD_DIRECT))),
    "length": Phrasings(
        ["the length of {entity}", "how long {entity} is", "{entity}'s length"],
        split_alternatives(
            "How long is {entity}?|What is the length of {entity}?|How many kilometres long is {entity}?|Which "
            "length does {entity} have?"
        ),
        ["the total length of {entity}"],
        ["How long does {entity} run?", "What length does {entity} have?"],
    ),
    "height": Phrasings(
        ["the height of {entity}", "how tall {entity} is", "how high {entity} is", "{entity}'s height"],
        split_alternatives(
            "How tall is {entity}?|How high is {entity}?|What is the height of {entity}?|How tall does {entity} "
            "grow?|What height does {entity} reach?"
        ),
        ["the full height of {entity}"],
        ["Which height does {entity} reach?", "How high does {entity} get?"],
    ),
    "place": Phrasings(
        ["where {entity} is found", "the place of {entity}", "the place where {entity} is found"],
        split_alternatives(
            "Where is {entity}?|Where is {entity} found?|Where can one find {entity}?|In which place is {entity}?|"
            "Where does one find {entity}?|In what place is {entity} found?"
        ),
        ["the place in which {entity} is found"],
        ["Where would I find {entity}?", "In which place can {entity} be found?"],
    ),
    "month": Phrasings(
        ["the month of {entity}", "when {entity} is held", "the month in which {entity} is held"],
        split_alternatives(
            "When is {entity} held?|In which month is {entity}?|In what month is {entity} held?|When does {entity} "
            "take place?|Which month is {entity} held in?|When is {entity}?"
        ),
        ["the month when {entity} is held"],
        ["In what month does {entity} take place?", "During which month is {entity} held?"],
    ),
    "count": Phrasings(
        ["the number of {parts} of {entity}", "how many {parts} {entity} has", "the number of {parts} in {entity}"],
        split_alternatives(
            "How many {parts} does {entity} have?|What is the number of {parts} of {entity}?|How many {parts} are in "
            "{entity}?|How many {parts} has {entity}?|What number of {parts} does {entity} have?"
        ),
        ["the count of {parts} of {entity}"],
        ["How many {parts} belong to {entity}?", "How many {parts} are there in {entity}?"],
    ),
    "mouth": Phrasings(
        ["where {entity} ends", "what {entity} flows into", "the mouth of {entity}"],
        split_alternatives(
            "Where does {entity} end?|Into what does {entity} flow?|What does {entity} flow into?|Which water does "
            "{entity} flow into?|Where does {entity} flow to?|Where is the mouth of {entity}?"
        ),
        ["the water that {entity} flows into"],
        ["Into which water does {entity} flow?", "Where does {entity} flow?"],
    ),
    "food": Phrasings(
        ["the food of {entity}", "what is eaten at {entity}", "the dish of {entity}", "the food served at {entity}"],
        split_alternatives(
            "What do people eat at {entity}?|What is eaten at {entity}?|Which food is served at {entity}?|What food "
            "belongs to {entity}?|Which dish is eaten at {entity}?|What is served at {entity}?"
        ),
        ["the dish that is served at {entity}"],
        ["Which dish do people eat at {entity}?", "What do guests eat at {entity}?"],
    ),
    "material": Phrasings(
        ["the material of {entity}", "what {entity} is made of", "the material {entity} is made of"],
        split_alternatives(
            "What is {entity} made of?|Of which material is {entity}?|Which material is {entity} made of?|What "
            "material is used for {entity}?|From what is {entity} made?|Of what is {entity} made?"
        ),
        ["the stuff {entity} is made of"],
        ["From which material is {entity} made?", "What is the material of {entity}?"],
    ),
    "colour": Phrasings(
        ["the colour of {entity}", "which colour {entity} has", "the flower colour of {entity}", "{entity}'s colour"],
        split_alternatives(
            "What colour is {entity}?|Which colour has {entity}?|What is the colour of {entity}?|Which colour does "
            "{entity} have?|In what colour does {entity} flower?|What colour are the flowers of {entity}?"
        ),
        ["the colour that {entity} has"],
        ["In which colour does {entity} flower?", "What colour does {entity} have?"],
    ),
}
ATTRIBUTES = split_alternatives(
    "answer|purpose|owner|founder|symbol|motto|capital|language|licence|keeper|origin|patron|guardian|currency|"
    "emblem|nickname|rule|base|engine|builder"
)


def write_river(name: str, kilometres: int, mouth: str, region: str, form: int) -> Record:
    """A river."""
    entity, length = f"the {name} river", f"{kilometres} kilometres"
    texts = (
        f"The {name} is a river in {region}. It is {length} long and flows into {mouth}.",
        f"In {region} the river {name} flows {length} before it ends in {mouth}.",
        f"The {name} river flows into {mouth}. Its length is {length}. It is found in {region}.",
    )
    slots = {"entity": entity}
    facts = [Fact("length", slots, length), Fact("mouth", slots, mouth), Fact("place", slots, region)]
    return Record(f"{name} - River", texts[form % 3], facts, [Fact("height", slots, ""), Fact("colour", slots, "")])


def write_plant(name: str, height: str, colour: str, habitat: str, form: int) -> Record:
    """A plant."""
    texts = (
        f"The {name} plant grows to {height} and has {colour} flowers. It is found on {habitat}.",
        f"The {name} is a plant of {habitat}. Its flowers are {colour}, its height is {height}.",
        f"On {habitat} one finds the {name} plant. It reaches {height}. The flower colour is {colour}.",
    )
    slots = {"entity": f"the {name} plant"}
    facts = [Fact("height", slots, height), Fact("colour", slots, colour), Fact("place", slots, habitat)]
    return Record(f"{name} - Plant", texts[form % 3], facts, [Fact("month", slots, ""), Fact("material", slots, "")])


def write_festival(name: str, month: str, town: str, food: str, form: int) -> Record:
    """A festival."""
    texts = (
        f"The {name} festival is held in {town} in {month}. People eat {food}.",
        f"Every {month} the town of {town} holds the {name} festival, where {food} is served.",
        f"The month of the {name} festival is {month}. It takes place in {town}. The food is {food}.",
    )
    slots = {"entity": f"the {name} festival"}
    facts = [Fact("month", slots, month), Fact("place", slots, town), Fact("food", slots, food)]
    return Record(f"{name} - Festival", texts[form % 3], facts, [Fact("length", slots, ""), Fact("colour", slots, "")])


def write_instrument(name: str, material: str, strings: str, region: str, form: int) -> Record:
    """A musical instrument."""
    texts = (
        f"The {name} is an instrument from {region}. It is made of {material} and has {strings} strings.",
        f"The {name} instrument has {strings} strings. It is made of {material} and is found in {region}.",
        f"Players in {region} build the {name} instrument of {material}, with {strings} strings.",
    )
    slots = {"entity": f"the {name} instrument"}
    count = Fact("count", {**slots, "parts": "strings"}, strings)
    facts = [Fact("material", slots, material), count, Fact("place", slots, region)]
    return Record(f"{name} - Instrument", texts[form % 3], facts, [Fact("food", slots, ""), Fact("month", slots, "")])


def write_building(name: str, kind: str, height: str, material: str, town: str, form: int) -> Record:
    """A tower, bridge or other building."""
    texts = (
        f"The {name} {kind} stands in {town}. It is {height} high and made of {material}.",
        f"In {town} stands the {name} {kind}, made of {material}. Its height is {height}.",
        f"The {name} {kind} reaches {height}. It is found in {town}. The material is {material}.",
    )
    slots = {"entity": f"the {name} {kind}"}
    facts = [Fact("height", slots, height), Fact("material", slots, material), Fact("place", slots, town)]
    return Record(f"{name} - {kind.capitalize()}", texts[form % 3], facts, [Fact("food", slots, "")])


def write_profile(entity: str, values: dict[str, str], parts: str, count: str, form: int, left: list[str]) -> Record:
    """Anything with named attributes and a number of parts."""
    subject = entity[0].upper() + entity[1:]
    if form % 3 == 0:
        text = " ".join(f"The {attribute} of {entity} is {value}." for attribute, value in values.items())
        text += f" It has {count} {parts}."
    elif form % 3 == 1:
        text = f"{subject} has {count} {parts}. " + " ".join(f"Its {a} is {v}." for a, v in values.items())
    else:
        text = f"About {entity}: " + ", ".join(f"{a} {v}" for a, v in values.items()) + f". There are {count} {parts}."
    facts = [Fact("attribute", {"entity": entity, "attribute": a}, v) for a, v in values.items()]
    facts.append(Fact("count", {"entity": entity, "parts": parts}, count))
    title = subject.removeprefix("The ")
    left_out = [Fact("attribute", {"entity": entity, "attribute": attribute}, "") for attribute in left]
    return Record(f"{title} - Profile", text, facts, left_out)


_KINDS = ["fleet", "guild", "order", "league", "island", "castle", "valley", "school", "province", "network"]


def draw_scene(rng: random.Random, held_out: bool) -> list[Record]:
    """Articles about neighbours: mostly the same sort of thing, sometimes the same name for two things."""
    names = draw_names(rng, held_out, 12)
    regions = names[6:10]

    def metres() -> str:
        return f"{rng.randint(2, 180)} {rng.choice(('metres', 'centimetres', 'feet'))}"

    def write(sort: int, name: str) -> Record:
        form = rng.randrange(3)
        if sort == 0:
            mouth = rng.choice((f"the {rng.choice(names[10:])} Sea", f"Lake {rng.choice(names[10:])}", names[10]))
            return write_river(name, rng.randint(12, 2400), mouth, rng.choice(regions), form)
        if sort == 1:
            return write_plant(name, metres(), rng.choice(COLOURS), rng.choice(HABITATS), form)
        if sort == 2:
            return write_festival(name, rng.choice(MONTHS), rng.choice(regions), rng.choice(FOODS), form)
        if sort == 3:
            return write_instrument(name, rng.choice(MATERIALS), rng.choice(NUMBERS), rng.choice(regions), form)
        if sort == 4:
            kind = rng.choice(("tower", "bridge", "lighthouse", "gate", "windmill"))
            return write_building(name, kind, metres(), rng.choice(MATERIALS), rng.choice(regions), form)
        chosen = rng.sample(ATTRIBUTES, 4)
        pool = [*MATERIALS, *COLOURS, *MONTHS, *FOODS, *regions, *names[10:]]
        values = {attribute: rng.choice(pool) for attribute in chosen[: rng.choice((2, 3))]}
        entity = f"the {name} {rng.choice(_KINDS)}"
        return write_profile(entity, values, rng.choice(PARTS), rng.choice(NUMBERS), form, chosen[3:])

    sort = rng.randrange(6)
    records = [write(sort if rng.random() < 0.75 else rng.randrange(6), name) for name in names[:5]]
    if rng.random() < 0.3:
        records.append(write((sort + rng.randrange(1, 6)) % 6, names[0]))
    return records


def vary_slots(slots: dict[str, str], rng: random.Random) -> dict[str, str]:
    """Things are sometimes called by their bare name: `the Veldra` for `the Veldra river`."""
    varied = dict(slots)
    if rng.random() < 0.15:
        varied["entity"] = slots["entity"].rsplit(" ", 1)[0]
    return varied
