"""Exercises as padded batches: the passages once, then every question as its own branch behind them.

The branches of an exercise share the passages but do not see each other, and their positions all start where the
passages end. Each branch is therefore token for token what is served for that question alone, and the passages are
computed once for all of them.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from experts.pocket.editions import DrawExercise
from experts.pocket.exercise import Exercise, Wanted
from experts.pocket.vocabulary import ASSISTANT, END, MARKS, USER
from experts.prompt import render_messages

# Of a pool: some twenty-five batches, enough to put similar lengths together.
_EXERCISES_PER_1024_TOKENS = 48


@dataclass(frozen=True)
class Encoded:
    """One exercise in tokens. `branch` is 0 for the passages, then 1, 2, ...; `learn` marks the answers' tokens.

    `passage` is the number of the passage that a token belongs to, or, where an answer is about to begin, the number
    that it will cite first (0 where it cites none); -1 elsewhere, and everywhere where there are no passages.
    `tasks` are the tasks of the questions.
    """

    ids: list[int]
    positions: list[int]
    branch: list[int]
    learn: list[bool]
    passage: list[int]
    tasks: list[str]


@dataclass(frozen=True)
class Batch:
    """One step's tokens as arrays, [batch, length], padded on the right; `tasks` are the questions', row by row."""

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    branch: NDArray[np.int8]
    learn: NDArray[np.bool_]
    passage: NDArray[np.int64]
    tasks: list[str]

    def move(self, device: torch.device) -> "Tensors":
        """The arrays on a device."""
        arrays = (self.ids, self.positions, self.branch, self.learn, self.passage)
        ids, positions, branch, learn, passage = (torch.from_numpy(array).to(device) for array in arrays)
        return Tensors(ids, positions, mask_branches(branch), learn, passage, self.tasks)


@dataclass(frozen=True)
class Tensors:
    """A batch where it is computed; `mask` is [batch, 1, length, length], added to attention's scores."""

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    learn: torch.Tensor
    passage: torch.Tensor
    tasks: list[str]


def mask_branches(branch: torch.Tensor) -> torch.Tensor:
    """0 where a token may look, itself and what came before in the passages and in its own branch; else -1e4."""
    length = branch.shape[1]
    same = branch[:, :, None] == branch[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool, device=branch.device).tril()
    seen = causal & (same | (branch[:, None, :] == 0))
    return torch.where(seen, 0.0, -1e4).bfloat16()[:, None]


def encode_exercise(exercise: Exercise, tokenizer: PreTrainedTokenizerFast) -> Encoded:
    """The exercise's tokens, branch by branch."""
    contents = [render_messages(asked.question, exercise.passages)[-1]["content"] for asked in exercise.asked]
    # The question's line is what branches: everything up to its line break is common.
    cut = contents[0].rindex("\nQuestion: ") + 1 if exercise.passages else 0
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
        first = (cited[0] if cited else 0) if exercise.passages else -1
        passage += [-1] * (len(question) - 1) + [first] + [-1] * len(answer)
    return Encoded(ids, positions, branch, learn, passage, [asked.task for asked in exercise.asked])


def _number_passages(prefix: list[int], tokenizer: PreTrainedTokenizerFast) -> list[int]:
    marks = [tokenizer.convert_tokens_to_ids(mark) for mark in MARKS]
    numbers, current = [], 0
    for token in prefix:
        if current < len(marks) and token == marks[current]:
            current += 1
        numbers.append(current or -1)
    return numbers


def collate(encoded: Sequence[Encoded]) -> Batch:
    """The exercises padded to the longest."""
    shape = len(encoded), max(len(one.ids) for one in encoded)
    ids, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    branch, learn = np.full(shape, -1, np.int8), np.zeros(shape, np.bool_)
    passage = np.full(shape, -1, np.int64)
    for row, one in enumerate(encoded):
        size = len(one.ids)
        ids[row, :size], positions[row, :size] = one.ids, one.positions
        branch[row, :size], learn[row, :size], passage[row, :size] = one.branch, one.learn, one.passage
    return Batch(ids, positions, branch, learn, passage, [task for one in encoded for task in one.tasks])


def draw_pool(
    draw: DrawExercise,
    tokenizer: PreTrainedTokenizerFast,
    rng: random.Random,
    mix: Mapping[str, float],
    wanted: Wanted,
    tokens: int,
) -> list[Batch]:
    """A pool of exercises as batches of about `tokens` tokens each, similar lengths together, in random order."""
    domains = rng.choices(list(mix), weights=list(mix.values()), k=tokens * _EXERCISES_PER_1024_TOKENS // 1024)
    exercises = [draw(domain, rng, wanted) for domain in domains]
    encoded = [encode_exercise(exercise, tokenizer) for exercise in exercises if exercise.asked]
    encoded.sort(key=lambda one: len(one.ids))
    groups: list[list[Encoded]] = [[]]
    for one in encoded:
        if groups[-1] and len(one.ids) * (len(groups[-1]) + 1) > tokens:
            groups.append([])
        groups[-1].append(one)
    rng.shuffle(groups)
    return [collate(group) for group in groups]
