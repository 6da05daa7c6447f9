"""Labelled questions of others, split the same way every time: a fifth of each label is held out."""

import json
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

DATA = Path(__file__).parents[2] / "shared/data/routing"
HELD_OUT_SHARE = 5
SPLIT_SEED = 2026
MISSPELT_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Texts with their labels, and which rows to learn from and to test on; `outside` are texts of no label."""

    name: str
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    targets: npt.NDArray[np.intp]
    learn: npt.NDArray[np.intp]
    test: npt.NDArray[np.intp]
    outside: tuple[str, ...] = ()


def load_clinc() -> LabelledSet:
    """CLINC150: short requests of 150 intents, and some of none."""
    rows = _read("clinc150.jsonl")
    inside = [(row["text"], row["intent"]) for row in rows if row["intent"] != "oos"]
    return _split("CLINC150", inside, tuple(row["text"] for row in rows if row["intent"] == "oos"))


def load_mmlu_pro() -> LabelledSet:
    """MMLU-Pro: exam questions of 14 categories, without their options."""
    return _split("MMLU-Pro", [(row["question"], row["category"]) for row in _read("mmlu_pro.jsonl")])


def choose_shots(data: LabelledSet, shots: int, seed: int) -> npt.NDArray[np.intp]:
    """As many rows of each label to learn from."""
    random = np.random.default_rng(seed)
    rows = [random.permutation(data.learn[data.targets[data.learn] == at])[:shots] for at in range(len(data.labels))]
    return np.concatenate(rows)


def misspell(texts: Sequence[str], seed: int) -> list[str]:
    """One random edit (a letter dropped, added, replaced or swapped) in a fifth of each text's words."""
    random = np.random.default_rng(seed)
    return [_misspell(text, random) for text in texts]


def _misspell(text: str, random: np.random.Generator) -> str:
    words = text.split(" ")
    long = [at for at, word in enumerate(words) if len(word) > 1]
    if not long:
        return text
    for at in random.choice(long, size=max(1, round(MISSPELT_SHARE * len(long))), replace=False):
        word, letter = words[at], string.ascii_lowercase[random.integers(26)]
        place = int(random.integers(len(word) - 1))
        words[at] = (
            word[:place] + word[place + 1 :],
            word[:place] + letter + word[place:],
            word[:place] + letter + word[place + 1 :],
            word[:place] + word[place + 1] + word[place] + word[place + 2 :],
        )[int(random.integers(4))]
    return " ".join(words)


def _read(name: str) -> list[dict[str, str]]:
    path = DATA / name
    if not path.exists():
        raise SystemExit(f"{path} is not there; put the routing data beside the checkout, as its README says")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _split(name: str, rows: Sequence[tuple[str, str]], outside: tuple[str, ...] = ()) -> LabelledSet:
    labels = tuple(sorted({label for _, label in rows}))
    targets = np.array([labels.index(label) for _, label in rows], dtype=np.intp)
    random = np.random.default_rng(SPLIT_SEED)
    test = []
    for at in range(len(labels)):
        own = random.permutation(np.flatnonzero(targets == at))
        test.append(own[: len(own) // HELD_OUT_SHARE])
    held_out = np.sort(np.concatenate(test))
    learn = np.setdiff1d(np.arange(len(rows)), held_out)
    return LabelledSet(name, tuple(text for text, _ in rows), labels, targets, learn, held_out, outside)
