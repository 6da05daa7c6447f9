"""Invented names, from a space too large to memorise, in two parts that never meet: training and held out."""

import random
import zlib
from collections.abc import Callable

from experts.pocket.alternatives import split_alternatives

_ONSETS = split_alternatives("b|br|c|ch|d|dr|f|fl|g|gr|h|j|k|kr|l|m|n|p|pl|pr|qu|r|s|sk|st|t|th|tr|v|w|z")
_VOWELS = ["a", "e", "i", "o", "u", "ai", "au", "ea", "ei", "ia", "io", "ou"]
_CODAS = ["", "", "", "l", "n", "r", "s", "t", "m", "nd", "rn", "ck", "ld", "x", "sh"]

# One name in eight is held out. Evaluation draws only from that part, training only from the rest.
_HELD_OUT_SHARE = 8

# Names of the committed corpora. Neither training nor the held-out set may use them.
RESERVED = frozenset(
    split_alternatives(
        "Norvane|Quellmark|Brisolde|Tavenport|Ardenza|Kelsing|Morvay|Halquist|Castellan|Okonjo|Lindqvist|Haverford|"
        "Brandtner|Sorrentino|Whitlock|Delacroix|Marchetti|Yamashiro|Mira|Tobias|Ines|Rafael|Greta|Samir|Livia|Anton|"
        "Noor|Edda|Halden|Torvik|Selmere|Brackwater|Ostermoor|Fennimore|Larkspur|Windhaven|Calder|Rosenau|Veldra|"
        "Ambrine|Solenne|Ithral|Karsk|Dunmarrow|Lysette|Orrin|Thessaly|Marovia|Guildhall|Tidemark"
    )
)


def is_held_out(name: str) -> bool:
    """Whether a generated name belongs to evaluation; the same on every machine and in every run."""
    return zlib.crc32(name.encode()) % _HELD_OUT_SHARE == 0


def draw_until_split(draw: Callable[[], str], held_out: bool, reserved: frozenset[str] = RESERVED) -> str:
    """The first drawn name on the wanted side of the split that no corpus uses."""
    while True:
        name = draw()
        if name not in reserved and is_held_out(name) == held_out:
            return name


def draw_name(rng: random.Random, held_out: bool) -> str:
    """One capitalised invented word of two or three syllables."""

    def draw() -> str:
        syllables = 2 if rng.random() < 0.75 else 3
        word = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(syllables))
        return (word[:9]).capitalize()

    return draw_until_split(draw, held_out)


def draw_names(rng: random.Random, held_out: bool, count: int) -> list[str]:
    """Distinct invented words."""
    names: list[str] = []
    while len(names) < count:
        name = draw_name(rng, held_out)
        if name not in names:
            names.append(name)
    return names
