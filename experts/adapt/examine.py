"""The data check: what is wrong with the rows before anything is learned from them."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from experts.adapt.examples import Example, ExampleFile
from experts.prompt import REFUSAL

Kind = Literal["broken", "too long", "contradiction", "leak", "duplicate", "unsupported"]
# Rows of these kinds must be mended or left out; the others are reported, and duplicates are learned once.
FAULTS: tuple[Kind, ...] = ("broken", "too long", "contradiction", "leak")

_SHOWN_PER_KIND = 5
_HELD_OUT_SHARE = 0.1
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_WORD = re.compile(r"[^\W\d_]{4,}")
_CITATION = re.compile(r"\[(\d{1,4}(?: ?, ?\d{1,4})*)\]")


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with one row."""

    kind: Kind
    file: str
    line: int
    detail: str

    def __str__(self) -> str:
        return f"{self.file} line {self.line}: {self.kind}: {self.detail}"


@dataclass(frozen=True, slots=True)
class DataCheck:
    """What was found, and the rows that are left: no fault, no duplicate, nothing held out that is also learned."""

    rows: int
    held_out_rows: int
    findings: tuple[Finding, ...]
    train: tuple[Example, ...]
    held_out: tuple[Example, ...]
    grounded: int

    @property
    def faults(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.kind in FAULTS)

    @property
    def counts(self) -> dict[str, int]:
        found = Counter(finding.kind for finding in self.findings)
        return {kind: found[kind] for kind in (*FAULTS, "duplicate", "unsupported")}

    def describe(self) -> list[str]:
        """The check for people: rows, then each kind with its first rows."""
        said = ", ".join(f"{count} {kind}" for kind, count in self.counts.items() if count)
        lines = [
            f"data: {self.rows} rows, {self.held_out_rows} of them held out; {said or 'nothing found'}",
            f"data: {len(self.train)} rows to learn from, {len(self.held_out)} to measure on",
        ]
        for kind, count in self.counts.items():
            shown = [finding for finding in self.findings if finding.kind == kind][:_SHOWN_PER_KIND]
            lines += [f"  {finding}" for finding in shown]
            if count > len(shown):
                lines.append(f"  … and {count - len(shown)} more {kind}")
        if unsupported := self.counts["unsupported"]:
            share = unsupported / max(self.grounded, 1)
            lines.append(
                f"  {share:.0%} of {self.grounded} answers with a context say what it does not: a warning, since "
                "calculated figures and paraphrases look the same"
            )
        return lines


def examine_rows(
    data: ExampleFile, held_out: ExampleFile | None, tokens: Mapping[tuple[Path, int], int], limit: int, seed: int
) -> DataCheck:
    """Check all rows. `tokens` has the length of every example by file and line; `limit` is the longest allowed.

    Without a file of its own, a tenth of the rows (at least one) is held out, chosen by `seed`.
    """
    findings: list[Finding] = []
    sound: dict[Path, list[Example]] = {}
    files = [data] if held_out is None else [data, held_out]
    for file in files:
        name = file.path.name
        findings += [Finding("broken", name, row.line, row.reason) for row in file.broken]
        kept: list[Example] = []
        for example in file.examples:
            length = tokens[file.path, example.line]
            if length > limit:
                findings.append(Finding("too long", name, example.line, f"{length} tokens, limit {limit}"))
            else:
                kept.append(example)
        kept, wrong = _drop_repeated(kept, name)
        findings += wrong
        sound[file.path] = kept
    if held_out is None:
        learned, measured = split_held_out(sound[data.path], seed)
    else:
        learned = sound[data.path]
        measured, leaked = _drop_leaked(sound[held_out.path], learned, held_out.path.name, data.path.name)
        findings += leaked
    grounded = [
        (file.path.name, example) for file in files for example in sound[file.path] if _is_grounded_answer(example)
    ]
    findings += [
        Finding("unsupported", name, example.line, reason)
        for name, example in grounded
        if (reason := find_unsupported(example)) is not None
    ]
    rows = sum(len(file.examples) + len(file.broken) for file in files)
    held_out_rows = len(measured) if held_out is None else len(held_out.examples) + len(held_out.broken)
    return DataCheck(rows, held_out_rows, tuple(findings), tuple(learned), tuple(measured), len(grounded))


def split_held_out(examples: Sequence[Example], seed: int) -> tuple[list[Example], list[Example]]:
    """Rows to learn and rows to measure on, each in the order given; a prompt is on one side only."""
    prompts = sorted({_key(one) for one in examples}, key=lambda prompt: sha256(f"{seed} {prompt}".encode()).digest())
    chosen = set(prompts[: max(1, round(len(prompts) * _HELD_OUT_SHARE))] if len(prompts) > 1 else ())
    learned = [example for example in examples if _key(example) not in chosen]
    return learned, [example for example in examples if _key(example) in chosen]


def find_unsupported(example: Example) -> str | None:
    """What an answer says that neither its passages nor its question do; None where it says nothing else.

    A number that stands in neither, a citation of a passage that is not there, or a majority of its words of four
    letters or more that stand in neither.
    """
    cited = {int(number) for mark in _CITATION.findall(example.answer) for number in mark.split(",")}
    if missing := sorted(number for number in cited if not 1 <= number <= len(example.passages)):
        return f"cites passage {missing[0]} of {len(example.passages)}"
    answer = _CITATION.sub(" ", example.answer)
    known = " ".join([*(f"{passage.title} {passage.text}" for passage in example.passages), example.question])
    numbers = {_plain_number(number) for number in _NUMBER.findall(known)}
    for number in _NUMBER.findall(answer):
        if _plain_number(number) not in numbers:
            return f"the number {number} stands in neither context nor question"
    words, there = set(_WORD.findall(answer.casefold())), set(_WORD.findall(known.casefold()))
    absent = sorted(words - there)
    if len(absent) * 2 > len(words):
        return f"most words stand in neither context nor question: {', '.join(absent[:4])}"
    return None


def _is_grounded_answer(example: Example) -> bool:
    return bool(example.passages) and REFUSAL not in example.answer


def _drop_repeated(examples: Sequence[Example], file: str) -> tuple[list[Example], list[Finding]]:
    """The first row of each prompt; no row of a prompt whose answers contradict each other: which one is right?"""
    rows: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        rows[_key(example)].append(example)
    kept: set[int] = set()
    findings: list[Finding] = []
    for same in rows.values():
        first = same[0]
        answers = {_plain(example.answer) for example in same}
        if len(answers) == 1:
            kept.add(first.line)
            findings += [Finding("duplicate", file, example.line, f"line {first.line} again") for example in same[1:]]
            continue
        for example in same:
            other = next(o for o in same if _plain(o.answer) != _plain(example.answer))
            detail = f"answers '{_short(example.answer)}' where line {other.line} answers '{_short(other.answer)}'"
            findings.append(Finding("contradiction", file, example.line, detail))
    findings.sort(key=lambda finding: finding.line)
    return [example for example in examples if example.line in kept], findings


def _drop_leaked(
    measured: Sequence[Example], learned: Iterable[Example], file: str, learned_file: str
) -> tuple[list[Example], list[Finding]]:
    seen = {_key(example): example.line for example in learned}
    kept = [example for example in measured if _key(example) not in seen]
    findings = [
        Finding("leak", file, example.line, f"{learned_file} line {seen[_key(example)]} asks the same")
        for example in measured
        if _key(example) in seen
    ]
    return kept, findings


def _key(example: Example) -> str:
    """The prompt without regard to case, spacing and final stops."""
    return "\n".join(f"{message['role']} {_plain(message['content'])}" for message in example.prompt)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".!? ")


def _plain_number(number: str) -> str:
    """'1,200.50' and '1200.5' alike; commas are taken for thousands where three digits follow."""
    plain = re.sub(r",(?=\d{3}\b)", "", number).replace(",", ".")
    return plain.rstrip("0").rstrip(".") if plain.count(".") == 1 else plain


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 40 else f"{line[:39]}…"
