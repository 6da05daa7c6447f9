"""Exercises as padded batches: the passages once, then every question as its own branch behind them.

The branches of an exercise share the passages but do not see each other, and their positions all start where the
passages end. Each branch is therefore token for token what is served for that question alone, and the passages are
computed once for all of them.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerFast

from experts.pocket.tasks import Exercise, draw_exercise
from experts.pocket.vocabulary import ASSISTANT, END, MARKS, USER
from experts.prompt import render_messages


@dataclass(frozen=True)
class Encoded:
    """One exercise in tokens. `branch` is 0 for the passages, then 1, 2, ...; `learn` marks the answers' tokens.

    `passage` is the number of the passage that a token belongs to, or, where an answer is about to begin, the number
    that it will cite (0 for a refusal); -1 elsewhere.
    """

    ids: list[int]
    positions: list[int]
    branch: list[int]
    learn: list[bool]
    passage: list[int]


@dataclass(frozen=True)
class Batch:
    """Tensors of one step, [batch, length]; `mask` is [batch, 1, length, length], true where attention may look."""

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    learn: torch.Tensor
    passage: torch.Tensor


def encode_exercise(exercise: Exercise, tokenizer: PreTrainedTokenizerFast) -> Encoded:
    """The exercise's tokens, branch by branch."""
    contents = [render_messages(asked.question, exercise.passages)[-1]["content"] for asked in exercise.asked]
    # The question's line is what branches: everything up to its line break is common.
    cut = contents[0].rindex("\nQuestion: ") + 1
    texts = [USER + contents[0][:cut]]
    for content, asked in zip(contents, exercise.asked, strict=True):
        texts += [content[cut:] + END + ASSISTANT, asked.target + END]
    pieces = [encoding.ids for encoding in tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)]
    prefix = pieces[0]
    ids, positions = list(prefix), list(range(len(prefix)))
    branch, learn = [0] * len(prefix), [False] * len(prefix)
    passage = _number_passages(prefix, tokenizer)
    for number in range(len(exercise.asked)):
        question, answer = pieces[1 + 2 * number], pieces[2 + 2 * number]
        ids += question + answer
        positions += range(len(prefix), len(prefix) + len(question) + len(answer))
        branch += [number + 1] * (len(question) + len(answer))
        learn += [False] * len(question) + [True] * len(answer)
        cited = exercise.asked[number].cited
        passage += [-1] * (len(question) - 1) + [cited[0] if cited else 0] + [-1] * len(answer)
    return Encoded(ids, positions, branch, learn, passage)


def _number_passages(prefix: list[int], tokenizer: PreTrainedTokenizerFast) -> list[int]:
    marks = [tokenizer.convert_tokens_to_ids(mark) for mark in MARKS]
    numbers, current = [], 0
    for token in prefix:
        if current < len(marks) and token == marks[current]:
            current += 1
        numbers.append(current or -1)
    return numbers


def collate(encoded: Sequence[Encoded]) -> Batch:
    """The exercises padded on the right to the longest, with the mask that keeps branches apart."""
    length = max(len(one.ids) for one in encoded)

    def pad(rows: list[list[int]], fill: int) -> torch.Tensor:
        return torch.tensor([row + [fill] * (length - len(row)) for row in rows])

    branch = pad([one.branch for one in encoded], -1)
    same = branch[:, :, None] == branch[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    mask = causal & (same | (branch[:, None, :] == 0))
    return Batch(
        ids=pad([one.ids for one in encoded], 0),
        positions=pad([one.positions for one in encoded], 0),
        mask=mask[:, None],
        learn=pad([[int(flag) for flag in one.learn] for one in encoded], 0).bool(),
        passage=pad([one.passage for one in encoded], -1),
    )


@dataclass(frozen=True)
class Difficulty:
    """How hard the exercises are at one moment of training."""

    passages: tuple[int, ...]
    questions: int
    refusal_share: float


def draw_batches(
    tokenizer: PreTrainedTokenizerFast,
    rng: random.Random,
    mix: Mapping[str, float],
    difficulty: Difficulty,
    tokens: int,
    pool: int = 192,
) -> Iterator[Batch]:
    """One pool of exercises as batches of about `tokens` tokens each, similar lengths together, in random order."""
    domains = rng.choices(list(mix), weights=list(mix.values()), k=pool)
    encoded = []
    for domain in domains:
        exercise = draw_exercise(
            domain,
            rng,
            questions=difficulty.questions,
            passages=difficulty.passages,
            refusal_share=difficulty.refusal_share,
        )
        if exercise.asked:
            encoded.append(encode_exercise(exercise, tokenizer))
    encoded.sort(key=lambda one: len(one.ids))
    groups: list[list[Encoded]] = [[]]
    for one in encoded:
        if groups[-1] and len(one.ids) * (len(groups[-1]) + 1) > tokens:
            groups.append([])
        groups[-1].append(one)
    rng.shuffle(groups)
    for group in groups:
        yield collate(group)
