"""Exercises drawn ahead of the step, in processes of their own where a GPU would wait for them."""

import multiprocessing
import random
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

from transformers import PreTrainedTokenizerFast

from experts.pocket.batches import Batch, draw_pool
from experts.pocket.editions import EDITIONS
from experts.pocket.exercise import Wanted
from experts.pocket.vocabulary import load_tokenizer

# Every process has one pool in hand and one waiting for it.
_POOLS_PER_PROCESS = 2


@dataclass(frozen=True)
class Source:
    """Where pools come from: an edition's exercises, the domains' weights, a saved tokenizer, a batch's tokens."""

    edition: int
    mix: Mapping[str, float]
    tokenizer: Path
    tokens: int

    def draw(self, seed: str, wanted: Wanted) -> list[Batch]:
        """The pool of a seed."""
        rng = random.Random(seed)  # noqa: S311
        return draw_pool(EDITIONS[self.edition], _load(self.tokenizer), rng, self.mix, wanted, self.tokens)


@cache
def _load(folder: Path) -> PreTrainedTokenizerFast:
    return load_tokenizer(folder)


class Drawing:
    """A context that hands out pools in the order of their seeds, drawn by `processes` others, or here where none.

    Pools that were begun before the wish changed still come as they were wished for.
    """

    def __init__(self, source: Source, seed: str, processes: int) -> None:
        self._source, self._seed, self._processes = source, seed, processes
        self._count = 0
        self._begun: deque[Future[list[Batch]]] = deque()
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        if self._processes:
            # Not forked: the parent has threads of torch.
            context = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(self._processes, context)
        return self

    def __exit__(self, *_: object) -> None:
        if self._executor:
            self._executor.shutdown(cancel_futures=True)

    def take(self, wanted: Wanted) -> list[Batch]:
        """The next pool."""
        if not self._executor:
            return self._source.draw(next(self._seeds()), wanted)
        while len(self._begun) < _POOLS_PER_PROCESS * self._processes:
            self._begun.append(self._executor.submit(self._source.draw, next(self._seeds()), wanted))
        return self._begun.popleft().result()

    def _seeds(self) -> Iterator[str]:
        self._count += 1
        yield f"{self._seed} {self._count}"
