"""BM25 over the words of passages: sorted arrays on disk, mapped into memory, searched by numpy.

    <folder>/words.npy     uint64 (words,)      hash of each word, ascending
             held.npy      int32 (words,)       rows that have the word
             starts.npy    int64 (words + 1,)   where the postings of a word begin; a common word has none
             rows.npy      int32 (postings,)    rows that have the word, ascending within a word
             impacts.npy   uint16 (postings,)   what the word adds to the score of each of them, in units
             common.npy    int64 (common,)      places of common words in words.npy, ascending
             columns.npy   uint16 (common, rows + padding)  what a common word adds to every row, in units
             totals.npy    float64 (3,)         rows, words in all of them, score of a unit

Impacts are computed when the index is written, as bm25s does (Lù 2024, arXiv:2407.03618), and a search adds them up:
row by row for rare words, column by column for common ones, which is most of the work. Why it is not bm25s or tantivy:
docs/decisions/0006.
"""

import hashlib
import re
import threading
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.ranking import Mask, Rows, Scores

K1 = 1.5
B = 0.75

# A word of more than this part of the rows is common. A column costs 0.07 ns to add per row of the index, postings
# 2.3 ns per row that has the word; a column takes 2 bytes per row of the index, postings 6 per row that has the word.
COMMON_OVER = 1 / 16
# Impacts are kept in this many steps of the highest of them: a search of small whole numbers takes 0.6 of the time of
# one of floats. Those of 64 words add up to less than 2**16; a longer question is added up in 32 bits.
_STEPS = 1023
# A longer question is searched by its first words.
WORDS_LIMIT = 256
# Scores are looked at in this many strips: the best of every position is one pass of vector instructions.
_STRIPS = 32

FILES = ("words", "held", "starts", "rows", "impacts", "common", "columns", "totals")

# Letters and digits with the marks that belong to them, which \w leaves out; an underscore parts words.
_MARKS = r"\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0963\u0970-\u0dff\u0e31-\u0eff\u102b-\u109f\u17b4-\u17dd"
_WORD = re.compile(rf"[^\W_]+(?:[{_MARKS}]+[^\W_]*)*")
# Scripts written without spaces: pairs of neighbouring characters stand for words, as in Lucene's CJKAnalyzer.
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+"
)

STOP_WORDS = frozenset(
    _WORD.findall(
        "a an and are as at be but by for if in into is it no not of on or such that the their then there these they "
        "this to was will with"
    )
)

_NOTHING: tuple[Scores, Rows] = (np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.int64))
_NEVER = np.float32(-1e30)

_thread = threading.local()


def split_words(text: str) -> list[str]:
    """The words of a text as the index knows them: lower case, without English stop words and endings."""
    return _stem([word for word in _split(text) if word not in STOP_WORDS])


def write_lexical(texts: Iterable[str], folder: Path) -> None:
    """Write the index of texts, row 0 first, into a new or empty folder; the files are not synced."""
    from scipy.sparse import csr_array

    folder.mkdir(parents=True, exist_ok=True)
    known, columns, counts, ends, lengths = _count_words(texts)
    count = len(lengths)
    hashes = np.frombuffer(b"".join(map(_digest, known)), dtype="<u8")
    order = np.argsort(hashes)
    places = np.empty(len(order), dtype=np.int32)
    places[order] = np.arange(len(order))
    table = csr_array((counts, places[columns], ends), shape=(count, len(known))).tocsc()
    starts = table.indptr.astype(np.int64)
    held = np.diff(starts)
    impacts = np.repeat(_idf(held, count), held)
    impacts *= table.data / (table.data + _norms(lengths, _mean(lengths))[table.indices])
    common = np.flatnonzero(held > COMMON_OVER * count)
    unit = float(impacts.max(initial=0)) / _STEPS or 1.0
    # At least one: a row that shares a word is found.
    units = np.maximum(np.rint(impacts / unit), 1).astype(np.uint16)
    in_columns = np.zeros((len(common), _padded(count)), dtype=np.uint16)
    kept = np.ones(len(units), dtype=np.bool_)
    for column, place in zip(in_columns, common, strict=True):
        span = slice(starts[place], starts[place + 1])
        column[table.indices[span]] = units[span]
        kept[span] = False
    in_postings = held.copy()
    in_postings[common] = 0
    arrays = (
        hashes[order],
        held.astype(np.int32),
        np.concatenate([[0], np.cumsum(in_postings)]),
        table.indices[kept].astype(np.int32),
        units[kept],
        common,
        in_columns,
        np.array([count, lengths.sum(dtype=np.int64), unit]),
    )
    for name, values in zip(FILES, arrays, strict=True):
        np.save(folder / f"{name}.npy", values)


def open_lexical(folder: Path) -> "LexicalIndex":
    """Map the files that `write_lexical` wrote; raises OSError or ValueError when they are not those."""
    return LexicalIndex({name: _map(folder / f"{name}.npy") for name in FILES})


class LexicalIndex:
    """An index on disk, mapped; search may be called from several threads."""

    def __init__(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        count, words, unit = arrays["totals"].tolist()
        self.count = int(count)
        self.words_per_row = words / count if count else 0.0
        self._words = arrays["words"]
        self._held = arrays["held"]
        self._starts = arrays["starts"]
        self._rows = arrays["rows"]
        self._impacts = arrays["impacts"]
        self._common = dict(zip(arrays["common"].tolist(), arrays["columns"], strict=True))
        self._unit = np.float32(unit)
        self._scratch: list[npt.NDArray[np.uint16]] = []

    def search(self, text: str, k: int, allowed: Mask | None = None) -> tuple[Scores, Rows]:
        """Up to k rows that share a word with the text, of those allowed, best first; `allowed` has shape (count,)."""
        words = Counter(split_words(text)[:WORDS_LIMIT])
        if words.total() * _STEPS >= 2**16:
            units, rows = self._search(words, k, allowed, np.zeros(_padded(self.count), dtype=np.uint32))
        else:
            scratch = self._take_scratch()
            units, rows = self._search(words, k, allowed, scratch)
            self._scratch.append(scratch)
        return np.multiply(units, self._unit, dtype=np.float32), rows

    def _search(
        self, words: Counter[str], k: int, allowed: Mask | None, added: npt.NDArray[Any]
    ) -> tuple[npt.NDArray[Any], Rows]:
        """As `search`, scores in units; adds them up in an array of zeros."""
        for place, times in zip(self._find(list(words)), words.values(), strict=True):
            if place in self._common:
                for _ in range(times):
                    np.add(added, self._common[place], out=added)
            elif place >= 0:
                span = slice(self._starts[place], self._starts[place + 1])
                impacts = self._impacts[span]
                np.add.at(added, self._rows[span], impacts if times == 1 else impacts * added.dtype.type(times))
        if allowed is not None:
            np.multiply(added[: self.count], allowed, out=added[: self.count])
        return _take_best(added, k)

    def _take_scratch(self) -> npt.NDArray[np.uint16]:
        """Zeros for one search; to be given back. What was used last comes first: it is in the core's cache."""
        try:
            scratch = self._scratch.pop()
        except IndexError:
            # An array of this size made anew costs more in page faults than what is done with it.
            return np.zeros(_padded(self.count), dtype=np.uint16)
        scratch.fill(0)
        return scratch

    def count_rows(self, words: Sequence[str]) -> list[int]:
        """How many rows have each of these words, as `split_words` gives them."""
        return [int(self._held[place]) if place >= 0 else 0 for place in self._find(words)]

    def _find(self, words: Sequence[str]) -> list[int]:
        """The place of each word, -1 for one that no row has."""
        if not len(self._words) or not words:
            return [-1] * len(words)
        hashes = np.frombuffer(b"".join(map(_digest, words)), dtype="<u8")
        places = self._words.searchsorted(hashes)
        is_there = self._words.take(places, mode="clip") == hashes
        return [place if there else -1 for place, there in zip(places.tolist(), is_there.tolist(), strict=True)]


class LexicalDelta:
    """A small index in memory that grows: one thread adds, any number search what was there when they began.

    `base` lends its counts of words, so that scores of both may be compared.
    """

    def __init__(self, base: LexicalIndex | None = None) -> None:
        self._base = base if base is not None and base.count else None
        self._postings: dict[str, tuple[array[int], array[int]]] = {}
        self._lengths = array("i")

    @property
    def count(self) -> int:
        """Rows added so far."""
        return len(self._lengths)

    def add(self, texts: Iterable[str]) -> None:
        """Append texts as the next rows."""
        for text in texts:
            words = Counter(split_words(text))
            row = len(self._lengths)
            for word, times in words.items():
                rows, counts = self._postings.get(word) or self._postings.setdefault(word, (array("i"), array("i")))
                counts.append(times)
                rows.append(row)
            self._lengths.append(words.total())

    def search(self, text: str, k: int, allowed: Mask | None = None, limit: int | None = None) -> tuple[Scores, Rows]:
        """As LexicalIndex.search, over the first `limit` rows, all by default; `allowed` has the shape (limit,)."""
        lengths = _copy(self._lengths)[:limit]
        words = {word: times for word, times in Counter(split_words(text)).items() if word in self._postings}
        if not words or not len(lengths) or k < 1:
            return _NOTHING
        base_held = self._base.count_rows(list(words)) if self._base else [0] * len(words)
        count = len(lengths) + (self._base.count if self._base else 0)
        norms = _norms(lengths, self._base.words_per_row if self._base else _mean(lengths))
        scores = np.zeros(_padded(len(lengths)), dtype=np.float32)
        if allowed is not None:
            np.multiply(~allowed, _NEVER, out=scores[: len(lengths)])
        for (word, times), held in zip(words.items(), base_held, strict=True):
            rows, counts = map(_copy, self._postings[word])
            rows = rows[: np.searchsorted(rows, len(lengths))]
            counts = counts[: len(rows)]
            weight = times * _idf(np.array([held + len(rows)]), count)
            scores[rows] += weight * counts / (counts + norms[rows])
        return _take_best(scores, k)


def _count_words(
    texts: Iterable[str],
) -> tuple[list[str], npt.NDArray[np.int32], npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """The distinct words; then for each row its words' numbers and counts, where it ends, and its length."""
    numbers: dict[str, int] = {}
    # Number of a word by how a text writes it, -1 for a stop word: each is stemmed once and not once per text.
    written: dict[str, int] = dict.fromkeys(STOP_WORDS, -1)
    columns, counts, ends, lengths = array("i"), array("f"), array("q", [0]), array("i")
    for text in texts:
        words = _split(text)
        new = list({word for word in words if word not in written})
        for word, stem in zip(new, _stem(new), strict=True):
            written[word] = numbers.setdefault(stem, len(numbers))
        row = Counter(map(written.__getitem__, words))
        row.pop(-1, None)
        columns.extend(row.keys())
        counts.extend(row.values())
        ends.append(len(columns))
        lengths.append(row.total())
    return list(numbers), _copy(columns), _copy(counts), _copy(ends), _copy(lengths)


def _copy(values: "array[Any]") -> npt.NDArray[Any]:
    # In one step while no other thread runs; and an array that numpy views could not grow.
    return np.frombuffer(values.tobytes(), dtype=values.typecode)


def _map(path: Path) -> npt.NDArray[Any]:
    mapped = np.load(path, mmap_mode="r") if path.stat().st_size > _EMPTY_BYTES else np.load(path)
    # A plain array over the map: slices of np.memmap cost a microsecond each.
    return np.asarray(mapped)


# A .npy header alone, which cannot be mapped.
_EMPTY_BYTES = 128


def _idf(held: npt.NDArray[np.int64], count: int) -> Scores:
    """As Lucene weighs a word: never negative."""
    return np.log1p((count - held + 0.5) / (held + 0.5)).astype(np.float32)


def _norms(lengths: npt.NDArray[np.int32], mean: float) -> Scores:
    return (K1 * (1 - B + B * lengths / max(mean, 1.0))).astype(np.float32)


def _mean(lengths: npt.NDArray[np.int32]) -> float:
    return float(lengths.mean()) if len(lengths) else 0.0


def _padded(count: int) -> int:
    """A length of whole strips that holds this many rows; rows beyond them have no score."""
    return -(-count // _STRIPS) * _STRIPS


def _take_best(scores: npt.NDArray[Any], k: int) -> tuple[npt.NDArray[Any], Rows]:
    """The k highest scores above zero, highest first, equal ones by row."""
    width = len(scores) // _STRIPS
    strips = scores.reshape(_STRIPS, width)
    peaks = np.maximum.reduce(strips)
    # At least k rows reach the k-th highest peak, and none of them is where the peak is lower.
    floor = np.partition(peaks, width - k)[width - k] if width > k else 0
    (places,) = (peaks >= floor if floor > 0 else peaks > 0).nonzero()
    strips = strips.take(places, axis=1)
    (hits,) = (strips >= floor if floor > 0 else strips > 0).ravel().nonzero()
    found = strips.ravel()[hits]
    strip, place = np.divmod(hits, max(len(places), 1))
    order = (found.max(initial=0) - found).argsort(kind="stable")[:k]
    return found[order], (strip * width + places[place])[order]


def _split(text: str) -> list[str]:
    if text.isascii():
        return _WORD.findall(text.lower())
    words = _WORD.findall(unicodedata.normalize("NFKC", text).lower())
    return [part for word in words for part in ([word] if word.isascii() else _split_unspaced(word))]


def _split_unspaced(word: str) -> Iterator[str]:
    end = 0
    for run in _UNSPACED.finditer(word):
        if run.start() > end:
            yield word[end : run.start()]
        end = run.end()
        yield from (run[0][place : place + 2] for place in range(max(1, len(run[0]) - 1)))
    if end < len(word):
        yield word[end:]


def _stem(words: list[str]) -> list[str]:
    # A stemmer has state: one per thread.
    if not hasattr(_thread, "stemmer"):
        import Stemmer

        _thread.stemmer = Stemmer.Stemmer("english")
    return _thread.stemmer.stemWords(words)


def _digest(word: str) -> bytes:
    return hashlib.blake2b(word.encode(), digest_size=8).digest()
