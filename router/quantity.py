"""Figures and dates in a text, brought to one unit so that two statements can be compared.

Written for English, with the digits, symbols and magnitudes that other languages share. What is ambiguous has several
readings ('1.234'), and two figures agree when any of their readings do: a false alarm costs more than a missed one.
"""

import math
import re
from dataclasses import dataclass
from typing import Literal

from router.content_words import split_words, stem

Bound = Literal["is", "at least", "at most"]

_MAGNITUDES = {
    **dict.fromkeys(("thousand", "tausend", "k"), 1e3),
    **dict.fromkeys(("million", "millions", "millionen", "mio", "mln", "mn"), 1e6),
    **dict.fromkeys(("billion", "billions", "bn", "milliarde", "milliarden", "mrd"), 1e9),
    **dict.fromkeys(("trillion", "trillions", "tn"), 1e12),
}
# One letter is a magnitude only where it cannot be a unit: '€5m', '$5B', '5M'.
_LETTER_MAGNITUDES = {"K": 1e3, "m": 1e6, "M": 1e6, "b": 1e9, "B": 1e9}
_CURRENCIES = {
    **dict.fromkeys(("€", "eur", "euro", "euros"), "euro"),
    **dict.fromkeys(("$", "us$", "usd", "dollar", "dollars"), "dollar"),
    **dict.fromkeys(("£", "gbp", "pound", "pounds"), "pound"),
    **dict.fromkeys(("¥", "yen", "jpy"), "yen"),
    **dict.fromkeys(("₹", "inr", "rupee", "rupees"), "rupee"),
    **dict.fromkeys(("chf", "franc", "francs"), "franc"),
    **dict.fromkeys(("cny", "rmb", "yuan"), "yuan"),
}


def _measures() -> dict[str, tuple[str, float]]:
    """Unit words to dimension and factor; single letters and abbreviations keep their case."""
    table: dict[str, tuple[str, float]] = {}
    dimensions: dict[str, dict[str, float]] = {
        "length": {"mm": 1e-3, "cm": 1e-2, "m": 1, "km": 1e3, "mile": 1609.344, "ft": 0.3048, "inch": 0.0254},
        "area": {"m²": 1, "km²": 1e6, "hectare": 1e4, "ha": 1e4, "acre": 4046.8564224},
        "mass": {"mg": 1e-6, "g": 1e-3, "kg": 1, "tonne": 1e3, "ton": 1e3, "lb": 0.45359237, "lbs": 0.45359237},
        "volume": {"ml": 1e-3, "l": 1, "m³": 1e3, "gallon": 3.785411784},
        "time": {"ms": 1e-3, "s": 1, "sec": 1, "min": 60, "h": 3600, "day": 86_400, "week": 604_800},
        "month": {"month": 1, "year": 12},
        "power": {"W": 1, "kW": 1e3, "MW": 1e6, "GW": 1e9},
        "energy": {"Wh": 1, "kWh": 1e3, "MWh": 1e6, "GWh": 1e9, "TWh": 1e12},
        "data": {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "byte": 1},
        "frequency": {"Hz": 1, "kHz": 1e3, "MHz": 1e6, "GHz": 1e9},
        "celsius": {"°C": 1, "degree Celsius": 1},
        "fahrenheit": {"°F": 1, "degree Fahrenheit": 1},
        "percent": {"%": 1, "percent": 1, "per cent": 1, "pct": 1},
        "percentage point": {"percentage point": 1, "pp": 1, "basis point": 0.01},
    }
    for dimension, sizes in dimensions.items():
        for word, factor in sizes.items():
            table[word] = (dimension, factor)
    spelt = {
        "millimetre": "mm", "centimetre": "cm", "metre": "m", "kilometre": "km", "millimeter": "mm",
        "centimeter": "cm", "meter": "m", "kilometer": "km", "square metre": "m²", "square kilometre": "km²",
        "square meter": "m²", "square kilometer": "km²", "milligram": "mg", "gram": "g", "kilogram": "kg",
        "millilitre": "ml", "litre": "l", "milliliter": "ml", "liter": "l", "cubic metre": "m³", "cubic meter": "m³",
        "millisecond": "ms", "second": "s", "minute": "min", "hour": "h", "kilowatt": "kW", "megawatt": "MW",
        "gigawatt": "GW", "watt": "W", "kilowatt hour": "kWh", "foot": "ft", "feet": "ft", "pound-mass": "lb",
        "kilo": "kg", "kilobyte": "KB", "megabyte": "MB", "gigabyte": "GB", "terabyte": "TB",
    }  # fmt: skip
    for word, short in spelt.items():
        table[word] = table[short]
    for word in [word for word in table if len(word) >= 3 and word[-1].isalpha() and word[:-1].islower()]:
        table[word + ("es" if word.endswith("ch") else "s")] = table[word]
    return table


_MEASURES = _measures()
_ONES = {
    word: number
    for number, word in enumerate(
        (
            *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"),
            *("twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
        )
    )
}
_TENS = {
    word: 10 * number
    for number, word in enumerate(
        ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"), start=2
    )
}
_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            ("january", "jan"), ("february", "feb"), ("march", "mar"), ("april", "apr"), ("may",), ("june", "jun"),
            ("july", "jul"), ("august", "aug"), ("september", "sept", "sep"), ("october", "oct"),
            ("november", "nov"), ("december", "dec"),
        ),
        start=1,
    )
    for name in names
}  # fmt: skip

_APPROXIMATELY = frozenset({"about", "approximately", "around", "roughly", "circa", "ca", "nearly", "almost", "some"})
_BOUNDS: dict[str, Bound] = {
    "over": "at least",
    "above": "at least",
    "more than": "at least",
    "at least": "at least",
    "exceeding": "at least",
    "under": "at most",
    "below": "at most",
    "less than": "at most",
    "fewer than": "at most",
    "at most": "at most",
    "up to": "at most",
}
_QUALIFIER = (
    r"(?P<qualifier>(?i:about|approximately|around|roughly|circa|ca\.?|nearly|almost|some|~|≈|over|above|more than"
    r"|at least|exceeding|under|below|less than|fewer than|at most|up to))"
)
_DIGITS = r"\d{1,15}(?:[.,'’\u00a0\u2009\u202f]\d{1,15}){0,6}"
_NUMBER_WORD = "(?:" + "|".join([*sorted([*_ONES, *_TENS], key=len, reverse=True), "hundred"]) + r")(?![A-Za-z])"
_WORDS = _NUMBER_WORD + r"(?:[ -](?:and )?" + _NUMBER_WORD + "){0,5}"
_SYMBOL = r"US\$|[€$£¥₹]|(?:EUR|USD|GBP|CHF|JPY|INR|CNY)\b"
_MAGNITUDE = r"(?:thousand|millions?|billions?|trillions?|tausend|millionen|milliarden?|mio|mln|mn|bn|mrd|tn|k)\b\.?"
_UNIT = "|".join(re.escape(word) for word in sorted([*_MEASURES], key=len, reverse=True))
_CURRENCY_WORD = r"euros?|dollars?|pounds?|yen|rupees?|francs?|yuan"

_FIGURE = re.compile(
    rf"(?:(?<![A-Za-z]){_QUALIFIER}\s{{0,2}})?"
    rf"(?:(?P<symbol>{_SYMBOL})\s?)?"
    rf"(?<![\w.,/:#-])(?:(?P<sign>[-−])(?=\d))?(?:(?P<digits>{_DIGITS})|(?i:(?P<words>{_WORDS})))"
    rf"(?:[ \u00a0-]?(?i:(?P<magnitude>{_MAGNITUDE}))|(?P<letter>[KmMbB])(?![\w²³]))?"
    rf"(?:[ \u00a0-]?(?:(?P<currency>{_SYMBOL}|(?i:{_CURRENCY_WORD})(?![A-Za-z]))|(?P<unit>{_UNIT})(?![A-Za-z0-9²³])))?"
    r"(?:\s?/\s?(?P<per>[A-Za-z]{1,12})\b|\s(?:per|each)\s(?P<each>[A-Za-z]{1,20})\b"
    r"|\san?\s(?P<every>second|minute|hour|day|night|week|month|year|person|head)\b)?"
)
_NOUN = re.compile(r"[ \u00a0-]([A-Za-z][A-Za-z]{2,30})(?![A-Za-z])")
_AFTER_MORE = re.compile(r"\s(?:more|less|fewer|higher|lower|times|fold)\b|\s?(?:st|nd|rd|th)\b|[-–]?fold\b|[x×]\b")
_YEAR = r"(?P<{0}>1[0-9]{{3}}|20[0-9]{{2}})"
_MONTH = r"(?P<{0}>" + "|".join(sorted((name.capitalize() for name in _MONTHS), key=len, reverse=True)) + r")\b\.?"
_DATE = re.compile(
    r"(?<![\w.,/-])(?:"
    + rf"{_YEAR.format('y1')}-(?P<m1>0[1-9]|1[0-2])-(?P<d1>0[1-9]|[12]\d|3[01])"
    + rf"|(?P<d2>[12]\d|3[01]|0?[1-9])(?:st|nd|rd|th|\.)? (?:of )?{_MONTH.format('m2')}(?:,? {_YEAR.format('y2')})?"
    + rf"|{_MONTH.format('m3')} (?P<d3>[12]\d|3[01]|0?[1-9])(?:st|nd|rd|th)?(?![\d:])(?:,? {_YEAR.format('y3')})?"
    + rf"|{_MONTH.format('m4')},? {_YEAR.format('y4')}"
    + rf"|(?P<q5>Q[1-4])[ /]?(?:of )?{_YEAR.format('y5')}"
    + r"|(?P<q6>Q[1-4])"
    + rf"|{_YEAR.format('y7')}"
    + r")(?![\w%]|[.,/-]\d)"
)
_QUARTERS = {"first quarter": "Q1", "second quarter": "Q2", "third quarter": "Q3", "fourth quarter": "Q4"}
_QUARTER_WORDS = re.compile(r"\b(first|second|third|fourth) quarter(?: of (1\d{3}|20\d{2}))?\b", re.IGNORECASE)
_SLASHED = re.compile(r"(?<![\w/])\d{1,2}/\d{1,2}/\d{2,4}(?![\w/])")
_NOT_NOUNS = split_words(
    "and but for from per than that the this with while was were are has have had will would can could may might "
    "into onto over under about after before since until between when where which who whose whom not also only "
    "each every any all both more less fewer higher lower other another its their his her our your they them "
    "did does said says there then thus because although during within without according out off"
)


@dataclass(frozen=True, slots=True)
class Figure:
    """A stated amount at [start, end) of its text.

    `readings` are pairs (value, step) in the unit's base: the step is the value of the last digit that was stated.
    `unit` is a currency, a dimension, '#noun' for what is counted, or '#' where nothing is named; 'x/hour' is a rate.
    """

    start: int
    end: int
    text: str
    readings: tuple[tuple[float, float], ...]
    unit: str
    bound: Bound = "is"


@dataclass(frozen=True, slots=True)
class Date:
    """A stated date at [start, end) of its text, as exact as it was stated."""

    start: int
    end: int
    text: str
    year: int | None
    month: int | None = None
    day: int | None = None
    quarter: int | None = None


def find_dates(text: str) -> tuple[Date, ...]:
    """The dates, quarters and years of a text, in its order; '03/05/2024' is left out: nobody can say which month."""
    found = []
    for match in _DATE.finditer(text):
        fields = {name[0]: value for name, value in match.groupdict().items() if value is not None}
        month = fields.get("m")
        if set(fields) == {"y"} and _follows_amount(text, match.end()):
            continue
        found.append(
            Date(
                match.start(),
                match.end(),
                match[0],
                int(fields["y"]) if "y" in fields else None,
                (int(month) if month.isdigit() else _MONTHS[month.lower()]) if month else None,
                int(fields["d"]) if "d" in fields else None,
                int(fields["q"][1]) if "q" in fields else None,
            )
        )
    for match in _QUARTER_WORDS.finditer(text):
        quarter = int(_QUARTERS[f"{match[1].lower()} quarter"][1])
        found = [date for date in found if not match.start() <= date.start < match.end()]
        found.append(Date(match.start(), match.end(), match[0], int(match[2]) if match[2] else None, quarter=quarter))
    return tuple(sorted(found, key=lambda date: date.start))


def _follows_amount(text: str, end: int) -> bool:
    """Whether four digits are an amount after all: '1500 metres', '2000 employees'."""
    rest = text[end : end + 40]
    if re.match(rf"[ \u00a0-]?(?:{_SYMBOL}|(?i:{_MAGNITUDE}|{_CURRENCY_WORD})|(?:{_UNIT})(?![A-Za-z0-9]))", rest):
        return True
    noun = _NOUN.match(rest)
    return noun is not None and noun[1].islower() and noun[1].endswith("s") and noun[1] not in _NOT_NOUNS


def find_figures(text: str, dates: tuple[Date, ...]) -> tuple[Figure, ...]:
    """The amounts of a text that are no dates, ordinals, versions, multiples or differences, in its order."""
    taken = [(date.start, date.end) for date in dates]
    taken += [match.span() for match in _SLASHED.finditer(text)]
    found = []
    for match in _FIGURE.finditer(text):
        start = match.start("digits") if match["digits"] else match.start("words")
        if any(begin <= start < end for begin, end in taken):
            continue
        figure = _read_figure(match, text)
        if figure is not None:
            found.append(figure)
    return tuple(found)


def _read_figure(match: re.Match[str], text: str) -> Figure | None:
    digits, words = match["digits"], match["words"]
    number_end = match.end("digits") if digits else match.end("words")
    if digits is not None and number_end < len(text) and text[number_end].isalpha() and match.end() == number_end:
        return None  # a code such as '4x4' or '1990s'
    if _AFTER_MORE.match(text, match.end()) or (match.end() < len(text) and _is_split_number(text, match.end())):
        return None
    readings = _read_digits(digits) if digits is not None else _read_words(words)
    currency = _CURRENCIES.get((match["symbol"] or match["currency"] or "").lower())
    factor, unit = 1.0, currency or ""
    letter = match["letter"]
    if match["magnitude"]:
        factor = _MAGNITUDES[match["magnitude"].lower().rstrip(".")]
    elif letter and (currency or letter == "M"):
        factor = _LETTER_MAGNITUDES[letter]
    elif letter == "m":
        unit = "length"
    elif letter:
        return None
    end = match.end()
    if match["unit"]:
        if match["unit"] == "s" and len(digits or "") == 4 and match.end("digits") == match.start("unit"):
            return None  # a decade: '1990s'
        unit, size = _MEASURES[match["unit"]]
        factor *= size
    if not unit:
        noun = _NOUN.match(text, end)
        if noun is not None and noun[1].lower() not in _NOT_NOUNS:
            unit, end = f"#{stem(noun[1])}", noun.end()
        elif words is not None and words.lower() == "one":
            return None
        else:
            unit = "#"
    per = match["per"] or match["each"] or match["every"]
    if per:
        unit = f"{unit}/{stem({'h': 'hour', 's': 'second', 'min': 'minute'}.get(per, per))}"
    if match["sign"]:
        factor = -factor
    qualifier = (match["qualifier"] or "").lower().rstrip(".")
    scaled = tuple((value * factor, step * abs(factor)) for value, step in readings)
    if qualifier in _APPROXIMATELY or qualifier in ("~", "≈"):
        scaled = tuple((value, max(step, _round_step(value), abs(value) * 0.1)) for value, step in scaled)
    if not all(math.isfinite(value) for value, _ in scaled):
        return None
    return Figure(match.start(), end, text[match.start() : end].strip(), scaled, unit, _BOUNDS.get(qualifier, "is"))


def _is_split_number(text: str, end: int) -> bool:
    """Whether the digits go on in a way that is no number: a version, a time, a range, a fraction."""
    rest = text[end : end + 4]
    return re.match(r"[.:/–-]\d|\s?(?:–|-|to)\s?\d", rest) is not None


def _read_digits(digits: str) -> tuple[tuple[float, float], ...]:
    """All that a number in digits may mean, each with the value of its last digit."""
    separators = [character for character in digits if not character.isdecimal()]
    groups = re.split(r"[^\d]", digits)
    if not separators:
        return (_with_step(digits, 0),)
    is_grouped = all(len(group) == 3 for group in groups[1:]) and len(groups[0]) <= 3
    *leading, last = separators
    readings = []
    if is_grouped and len(set(separators)) == 1 and not (last in ".," and groups[0] == "0"):
        readings.append(_with_step("".join(groups), 0))
    if last in ".," and last not in leading and len(set(leading)) <= 1:
        body = groups[:-1]
        if all(len(group) == 3 for group in body[1:]) and not (len(separators) == 1 and last == "," and is_grouped):
            readings.append(_with_step("".join(groups), len(groups[-1])))
    return tuple(readings) or ((math.nan, 0.0),)


def _with_step(digits: str, decimals: int) -> tuple[float, float]:
    value = int(digits) / 10**decimals
    return value, 10.0**-decimals if decimals else _plain_step(value)


def _plain_step(value: float) -> float:
    """The step of a whole number: its zeros at the end may be rounding, up to one part in a hundred."""
    if value < 1000:
        return 1.0
    return max(1.0, min(_round_step(value), 10.0 ** math.floor(math.log10(value / 100))))


def _round_step(value: float) -> float:
    """The largest power of ten that divides a whole number; 1 where it is none."""
    whole = abs(value)
    if whole < 1 or whole != math.floor(whole) or whole > 1e15:
        return 0.0
    digits = str(int(whole))
    return float(10 ** (len(digits) - len(digits.rstrip("0"))))


def _read_words(words: str) -> tuple[tuple[float, float], ...]:
    total = 0
    for word in re.split(r"[ -]+", words.lower()):
        if word == "hundred":
            total = max(total, 1) * 100
        elif word != "and":
            total += _ONES[word] if word in _ONES else _TENS[word]
    return ((float(total), 1.0),)


def agree_on_figure(first: Figure, second: Figure) -> bool:
    """Whether two figures of one unit can both be true: equal once the more exact one is rounded like the other."""
    return any(
        _agree(value, step, first.bound, other, other_step, second.bound)
        for value, step in first.readings
        for other, other_step in second.readings
    )


def _agree(value: float, step: float, bound: Bound, other: float, other_step: float, other_bound: Bound) -> bool:
    slack = max(step, other_step) / 2 * (1 + 1e-9) + 1e-12 * max(abs(value), abs(other))
    if bound == "is" and other_bound == "is":
        return abs(value - other) <= slack
    if bound == other_bound:
        return True
    if bound == "is" or other_bound == "is":
        exact, limit, kind = (value, other, other_bound) if bound == "is" else (other, value, bound)
        return exact >= limit - slack if kind == "at least" else exact <= limit + slack
    least, most = (value, other) if bound == "at least" else (other, value)
    return least <= most + slack


def agree_on_date(first: Date, second: Date) -> bool:
    """Whether two dates can both be true: nothing that both state differs."""
    pairs = (
        (first.year, second.year),
        (first.month, second.month),
        (first.day, second.day),
        (_quarter(first), _quarter(second)),
    )
    return all(one is None or other is None or one == other for one, other in pairs)


def _quarter(date: Date) -> int | None:
    return date.quarter if date.quarter is not None else (date.month - 1) // 3 + 1 if date.month is not None else None
