"""What a small function makes of its items: what becomes of each, and of all of them."""

from collections.abc import Mapping

from experts.pocket.domains.coding_parts import Item, Part, index_parts

MAPS: Mapping[Item, Mapping[str, Part]] = {
    "number": index_parts(
        Part(
            "square",
            ("the squares of {np}", "{np}, each squared"),
            "{x} ** 2",
            lambda x: x * x,
            confused=("double",),
            gives="number",
        ),
        Part(
            "double",
            ("the doubles of {np}", "{np}, each doubled"),
            "{x} * 2",
            lambda x: x + x,
            confused=("square",),
            gives="number",
        ),
        Part(
            "times",
            ("{np}, each times {c}", "{np}, each multiplied by {c}"),
            "{x} * {c}",
            lambda x, c: sum([x] * c),
            "number",
            ("plus",),
            "number",
        ),
        Part(
            "plus",
            ("{np}, each plus {c}", "{np}, each increased by {c}"),
            "{x} + {c}",
            lambda x, c: x - -c,
            "number",
            ("minus", "times"),
            "number",
        ),
        Part(
            "minus",
            ("{np}, each minus {c}", "{np}, each reduced by {c}"),
            "{x} - {c}",
            lambda x, c: x + -c,
            "number",
            ("plus",),
            "number",
        ),
        Part(
            "remainder",
            ("{np}, each modulo {c}", "the remainders of {np} by {c}"),
            "{x} % {c}",
            lambda x, c: x - (x // c) * c,
            "small",
            ("divided",),
            "number",
        ),
        Part(
            "divided",
            ("{np}, each divided by {c} without rest", "the whole parts of {np} divided by {c}"),
            "{x} // {c}",
            lambda x, c: (x - x % c) // c,
            "small",
            ("remainder",),
            "number",
        ),
        Part(
            "absolute",
            ("the absolute values of {np}", "{np}, each without its sign"),
            "abs({x})",
            lambda x: max(x, -x),
            confused=("negated",),
            gives="number",
        ),
        Part(
            "negated",
            ("{np}, each negated", "{np}, each with its sign changed"),
            "-{x}",
            lambda x: 0 - x,
            confused=("absolute",),
            gives="number",
        ),
    ),
    "word": index_parts(
        Part(
            "upper",
            ("{np} in upper case", "{np} in capital letters"),
            "{x}.upper()",
            lambda x: "".join(chr(ord(c) - 32) if "a" <= c <= "z" else c for c in x),
            confused=("lower",),
            gives="word",
        ),
        Part(
            "lower",
            ("{np} in lower case", "{np} in small letters"),
            "{x}.lower()",
            lambda x: "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in x),
            confused=("upper",),
            gives="word",
        ),
        Part(
            "reversed",
            ("{np}, each backwards", "{np}, each reversed"),
            "{x}[::-1]",
            lambda x: "".join(reversed(x)),
            confused=("upper",),
            gives="word",
        ),
        Part(
            "lengths",
            ("the lengths of {np}", "how long each of {np} is"),
            "len({x})",
            lambda x: sum(1 for _ in x),
            confused=("first letter",),
            gives="number",
        ),
        Part(
            "first letter",
            ("the first letters of {np}", "the first letter of each of {np}"),
            "{x}[0]",
            lambda x: next(iter(x)),
            confused=("last letter",),
            gives="word",
        ),
        Part(
            "last letter",
            ("the last letters of {np}", "the last letter of each of {np}"),
            "{x}[-1]",
            lambda x: next(iter(reversed(x))),
            confused=("first letter",),
            gives="word",
        ),
        Part(
            "prefixed",
            ("{np}, each after {c}", "{np}, each with {c} in front"),
            "{c} + {x}",
            lambda x, c: f"{c}{x}",
            "text",
            ("suffixed",),
            "word",
        ),
        Part(
            "suffixed",
            ("{np}, each followed by {c}", "{np}, each with {c} at the end"),
            "{x} + {c}",
            lambda x, c: f"{x}{c}",
            "text",
            ("prefixed",),
            "word",
        ),
        Part(
            "repeated",
            ("{np}, each {c} times in a row",),
            "{x} * {c}",
            lambda x, c: "".join([x] * c),
            "small",
            (),
            "word",
        ),
    ),
    "letter": {},
}

_SAID_FIRST = ("the first {c} of {np}", "only the first {c} of {np}")
_SAID_LAST = ("the last {c} of {np}", "only the last {c} of {np}")
_BOTH = (
    Part("list", ("a list of {np}", "{np} as a list", "the list of {np}"), "{x}", lambda x: x),
    Part(
        "count",
        ("the number of {np}", "the count of {np}"),
        "len({x})",
        lambda x: sum(1 for _ in x),
        confused=("list",),
    ),
    Part("first", _SAID_FIRST, "{x}[:{c}]", lambda x, c: [v for i, v in enumerate(x) if i < c], "small", ("last",)),
    Part(
        "last",
        _SAID_LAST,
        "{x}[-{c}:]",
        lambda x, c: [v for i, v in enumerate(x) if i >= len(x) - c],
        "small",
        ("first",),
    ),
    Part(
        "backwards",
        ("a list of {np} in reverse order",),
        "{x}[::-1]",
        lambda x: list(reversed(x)),
        confused=("list",),
    ),
)


def _sort(values: list[int]) -> list[int]:
    left, ordered = list(values), []
    while left:
        smallest = min(left)
        left.remove(smallest)
        ordered.append(smallest)
    return ordered


ENDINGS: Mapping[Item, Mapping[str, Part]] = {
    "number": index_parts(
        *_BOTH,
        Part("sum", ("the sum of {np}", "the total of {np}"), "sum({x})", lambda x: sum(x), confused=("count", "max")),
        Part(
            "max",
            ("the largest of {np}, or 0 if there are none", "the maximum of {np}, or 0 without any"),
            "max({x}, default=0)",
            lambda x: _sort(x)[-1] if x else 0,
            confused=("min",),
        ),
        Part(
            "min",
            ("the smallest of {np}, or 0 if there are none", "the minimum of {np}, or 0 without any"),
            "min({x}, default=0)",
            lambda x: _sort(x)[0] if x else 0,
            confused=("max",),
        ),
        Part(
            "ascending",
            ("a list of {np} in ascending order", "{np}, sorted from small to large"),
            "sorted({x})",
            _sort,
            confused=("descending", "list"),
        ),
        Part(
            "descending",
            ("a list of {np} in descending order", "{np}, sorted from large to small"),
            "sorted({x}, reverse=True)",
            lambda x: list(reversed(_sort(x))),
            confused=("ascending",),
        ),
        Part(
            "distinct",
            ("a sorted list of {np} without repeats", "{np}, sorted and each only once"),
            "sorted(set({x}))",
            lambda x: [v for i, v in enumerate(_sort(x)) if i == 0 or _sort(x)[i - 1] != v],
            confused=("ascending",),
        ),
    ),
    "word": index_parts(
        *_BOTH,
        Part(
            "joined",
            ("{np} joined by {c}", "one text of {np} with {c} between them"),
            "{c}.join({x})",
            lambda x, c: "".join((c if i else "") + v for i, v in enumerate(x)),
            "mark",
        ),
        Part(
            "ascending",
            ("a list of {np} in alphabetical order", "{np}, sorted by the alphabet"),
            "sorted({x})",
            _sort,
            confused=("list", "longest first"),
        ),
        Part(
            "longest first",
            ("a list of {np} from the longest to the shortest", "{np}, sorted from long to short"),
            "sorted({x}, key=len, reverse=True)",
            lambda x: [v for n in range(99, -1, -1) for v in x if len(v) == n],
            confused=("ascending", "shortest first"),
        ),
        Part(
            "shortest first",
            ("a list of {np} from the shortest to the longest", "{np}, sorted from short to long"),
            "sorted({x}, key=len)",
            lambda x: [v for n in range(100) for v in x if len(v) == n],
            confused=("longest first", "ascending"),
        ),
        Part(
            "distinct",
            ("a sorted list of {np} without repeats", "{np}, sorted and each only once"),
            "sorted(set({x}))",
            lambda x: [v for i, v in enumerate(_sort(x)) if i == 0 or _sort(x)[i - 1] != v],
            confused=("ascending",),
        ),
    ),
    "letter": index_parts(
        Part("count", ("the number of {np}", "the count of {np}"), "len({x})", lambda x: sum(1 for _ in x)),
        Part("joined", ("a text of {np}", "only {np}, as one text"), '"".join({x})', lambda x: "".join(x)),
    ),
}

# What is done with a text as a whole. Any part but the last three can come first.
TEXTS: Mapping[str, Part] = index_parts(
    Part(
        "upper",
        ("{np} in upper case", "{np} in capital letters"),
        "{x}.upper()",
        MAPS["word"]["upper"].means,
        confused=("lower",),
    ),
    Part(
        "lower",
        ("{np} in lower case", "{np} in small letters"),
        "{x}.lower()",
        MAPS["word"]["lower"].means,
        confused=("upper",),
    ),
    Part(
        "backwards",
        ("{np} backwards", "{np} in reverse"),
        "{x}[::-1]",
        lambda x: "".join(reversed(x)),
        confused=("lower",),
    ),
    Part(
        "without",
        ("{np} without any {c}", "{np} with every {c} removed"),
        '{x}.replace({c}, "")',
        lambda x, c: "".join(x.split(c)),
        "text",
    ),
    Part(
        "spaced",
        ("{np} with {c} for every space", "{np} with every space replaced by {c}"),
        '{x}.replace(" ", {c})',
        lambda x, c: c.join(x.split(" ")),
        "text",
        ("without",),
    ),
    Part(
        "occurrences",
        ("how often {c} occurs in {np}", "the number of times that {c} occurs in {np}"),
        "{x}.count({c})",
        lambda x, c: len(x.split(c)) - 1,
        "text",
        ("without",),
    ),
    Part(
        "palindrome",
        ("whether {np} reads the same backwards", "whether {np} is a palindrome"),
        "{x} == {x}[::-1]",
        lambda x: list(x) == list(reversed(x)),
    ),
    Part("word count", ("how many words {np} has",), "len({x}.split())", lambda x: len([w for w in x.split(" ") if w])),
)
FINAL_TEXTS = ("occurrences", "palindrome", "word count")
