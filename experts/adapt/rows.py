"""Rows that are ready to learn from: read, checked, split and in tokens."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from experts.adapt.encoding import Encoded, encode_examples
from experts.adapt.examine import DataCheck, examine_rows
from experts.adapt.examples import read_examples

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHOWN_FAULTS = 20


@dataclass(frozen=True, slots=True)
class Rows:
    """What a check left of the data; `fingerprint` is over all files as they are, in hex."""

    check: DataCheck
    train: list[Encoded]
    held_out: list[Encoded]
    fingerprint: str


def prepare_rows(
    data: Path, held_out: Path | None, tokenizer: "PreTrainedTokenizerBase", max_tokens: int, seed: int
) -> Rows:
    """Read and check the data; nothing is refused here. Raises ConfigurationError where a file cannot be read."""
    learned = read_examples(data)
    measured = None if held_out is None else read_examples(held_out)
    files = [learned] if measured is None else [learned, measured]
    encoded = {
        (file.path, example.line): row
        for file in files
        for example, row in zip(file.examples, encode_examples(file.examples, tokenizer), strict=True)
    }
    tokens = {place: len(row.input_ids) for place, row in encoded.items()}
    check = examine_rows(learned, measured, tokens, max_tokens, seed)
    return Rows(
        check=check,
        train=[encoded[data, example.line] for example in check.train],
        held_out=[encoded[data if held_out is None else held_out, example.line] for example in check.held_out],
        fingerprint=sha256(" ".join(file.fingerprint for file in files).encode()).hexdigest(),
    )


def refuse_rows(check: DataCheck, broken_rows: Literal["stop", "skip"]) -> str | None:
    """Why nothing is learned from the data; None where it may be."""
    faults = check.faults
    if faults and broken_rows == "stop":
        lines = [
            f"{len(faults)} of {check.rows} rows cannot be learned from, so nothing was trained; mend them, or set "
            "broken_rows: skip to leave them out",
            *map(str, faults[:SHOWN_FAULTS]),
        ]
        if len(faults) > SHOWN_FAULTS:
            lines.append(f"and {len(faults) - SHOWN_FAULTS} more")
        return "\n".join(lines)
    if not check.train or not check.held_out:
        return (
            f"{len(check.train)} rows to learn from and {len(check.held_out)} to measure on, so nothing was trained; "
            "at least one of each is needed"
        )
    return None
