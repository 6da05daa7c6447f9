"""Feedback: what users say of answers, kept durably for `guildhall router train --feedback`.

Feedback names an answer by its request id, so the gateway has to know what was asked. It keeps the plans of the last
answers in shared memory (/dev/shm): every gateway replica of the node sees them, they outlive a replica, and the text
of a question reaches a disk only when its user sends feedback for it. Feedback itself is a line in
GUILDHALL_DATA_DIR/feedback, on the disk before the request is answered.
"""

import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from deployments.api_keys import ApiKeys
from deployments.logs import log_event
from deployments.segment_log import MAX_LINE_BYTES, SegmentLog
from router.question import Plan

FEEDBACK_FOLDER = "feedback"
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux has it; the folder below is private
# A plan of two parts is about 400 bytes, so that 16 MiB hold the last 20,000 to 40,000 answers of a node.
RECENT_SEGMENT_BYTES = 8 * 2**20
RECENT_BYTES = 2 * RECENT_SEGMENT_BYTES
# About 500 bytes each: half a million rows, more than a router of linear heads has use for.
FEEDBACK_SEGMENT_BYTES = 16 * 2**20
FEEDBACK_BYTES = 256 * 2**20
MAX_COMMENT_CHARS = 2000
GOOD_SCORE = 0.5
"""From here on feedback says that the answer, and so where it came from, was right."""


@dataclass(frozen=True, slots=True)
class RatedSubQuery:
    """One part of the question: `domain` answered it, `correction` is the one that should have, where a user says."""

    id: int
    text: str
    domain: str
    correction: str | None = None


@dataclass(frozen=True, slots=True)
class FeedbackRow:
    """What one key's user says of one answer; `owner` names the key without showing it, `score` is from 0 to 1."""

    request_id: str
    owner: str
    time_s: float
    question: str
    sub_queries: tuple[RatedSubQuery, ...]
    score: float | None
    comment: str | None = None

    def labels(self) -> tuple[tuple[str, str], ...]:
        """Texts with their right domain: as corrected, or as routed where the score is good."""
        is_good = self.score is not None and self.score >= GOOD_SCORE
        labelled = ((part, part.correction or (part.domain if is_good else None)) for part in self.sub_queries)
        return tuple((part.text, domain) for part, domain in labelled if domain is not None)


@dataclass(frozen=True, slots=True)
class AnsweredRequest:
    """A request that was answered: what feedback may come for."""

    request_id: str
    owner: str
    question: str
    sub_queries: tuple[RatedSubQuery, ...]


def name_owner(keys: ApiKeys, authorization: str | None) -> str:
    """A name for the key of a request that passed `keys`; one for everybody where no key is asked for."""
    if not keys:
        return ""
    key = (authorization or "").partition(" ")[2].strip()
    return sha256(b"guildhall feedback\0" + key.encode("utf-8", "surrogateescape")).hexdigest()[:32]


class FeedbackStore:
    """What was answered lately, and what was said of it; `memory_dir` is for tests."""

    def __init__(self, data_dir: Path, memory_dir: Path | None = None) -> None:
        recent = memory_dir if memory_dir is not None else choose_memory_folder(data_dir)
        self._recent = SegmentLog(recent, RECENT_SEGMENT_BYTES, RECENT_BYTES, is_durable=False)
        self._rows = SegmentLog(data_dir / FEEDBACK_FOLDER, FEEDBACK_SEGMENT_BYTES, FEEDBACK_BYTES, is_durable=True)

    def remember(self, request_id: str, owner: str, plan: Plan) -> None:
        """Take feedback for this answer from now on; what cannot be kept costs the answer nothing.

        Questions of more than 64 KiB are not kept: they are documents, from which a router learns nothing.
        """
        sub_queries = [{"id": part.id, "text": part.text, "domain": part.domain} for part in plan.sub_queries]
        line = _encode(
            {"request_id": request_id, "owner": owner, "question": plan.question, "sub_queries": sub_queries}
        )
        if len(line) > MAX_LINE_BYTES:
            return
        try:
            self._recent.append(line)
        except OSError as error:
            log_event("answer_not_remembered", logging.WARNING, error=type(error).__name__)

    def find(self, request_id: str, owner: str) -> AnsweredRequest | None:
        """The last answer with this id to this key; blocks for milliseconds."""
        needle = _encode({"request_id": request_id, "owner": owner})[1:-1]
        try:
            for line in self._recent.find_last(needle):
                answered = _read_answered(line)
                if answered is not None and (answered.request_id, answered.owner) == (request_id, owner):
                    return answered
        except OSError as error:
            log_event("answers_not_read", logging.WARNING, error=type(error).__name__)
        return None

    def record(
        self, answered: AnsweredRequest, score: float | None, corrections: Mapping[int, str], comment: str | None
    ) -> FeedbackRow:
        """Write feedback to the disk; blocks for as long as that takes. Raises OSError."""
        row = FeedbackRow(
            answered.request_id,
            answered.owner,
            time.time(),
            answered.question,
            tuple(replace(part, correction=corrections.get(part.id)) for part in answered.sub_queries),
            score,
            comment,
        )
        self._rows.append(_encode_row(row))
        return row

    def close(self) -> None:
        """Give the open files back."""
        self._recent.close()
        self._rows.close()


def choose_memory_folder(data_dir: Path) -> Path:
    """Where the gateways of this user and data folder meet on a node; without /dev/shm, the temporary folder."""
    parent = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    digest = sha256(os.fsencode(data_dir.absolute())).hexdigest()[:12]
    return parent / f"guildhall-{os.getuid()}-{digest}"


def _log_damage(message: str) -> None:
    log_event("feedback_damaged", logging.WARNING, reason=message)


def read_feedback(folder: Path, report: Callable[[str], object] = _log_damage) -> Iterator[FeedbackRow]:
    """The last feedback of each key for each answer, oldest file first.

    `folder` is GUILDHALL_DATA_DIR/feedback. Lines that are damaged are reported and left out; the folder may be
    written to meanwhile.
    """
    newest: dict[bytes, tuple[float, str, int]] = {}
    for place, row in _read_rows(folder, report):
        identity = _identify(row)
        newest[identity] = max(newest.get(identity, (0.0, "", 0)), (row.time_s, *place))
    for place, row in _read_rows(folder, lambda message: None):
        if newest.get(_identify(row)) == (row.time_s, *place):
            yield row


def _read_answered(line: bytes) -> AnsweredRequest | None:
    try:
        found = json.loads(line)
        parts = _read_parts(found["sub_queries"])
        return AnsweredRequest(_text(found["request_id"]), _text(found["owner"]), _text(found["question"]), parts)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _identify(row: FeedbackRow) -> bytes:
    """Callers may use one request id for several questions."""
    return sha256(_encode({"request_id": row.request_id, "owner": row.owner, "question": row.question})).digest()[:16]


def _read_rows(folder: Path, report: Callable[[str], object]) -> Iterator[tuple[tuple[str, int], FeedbackRow]]:
    log = SegmentLog(folder, FEEDBACK_SEGMENT_BYTES, FEEDBACK_BYTES, is_durable=True)
    for path in reversed(log.segments()):
        try:
            lines = path.read_bytes().split(b"\n")
        except FileNotFoundError:
            continue
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                yield (path.name, number), _read_row(json.loads(line))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                report(f"{path.name} line {number} is not a line of feedback ({type(error).__name__}); it is left out")


def _encode_row(row: FeedbackRow) -> bytes:
    parts = [
        {"id": part.id, "text": part.text, "domain": part.domain}
        | ({"correction": part.correction} if part.correction is not None else {})
        for part in row.sub_queries
    ]
    return _encode(
        {
            "request_id": row.request_id,
            "owner": row.owner,
            "time_s": row.time_s,
            "question": row.question,
            "sub_queries": parts,
            "score": row.score,
            "comment": row.comment,
        }
    )


def _encode(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _read_row(found: Any) -> FeedbackRow:
    score, comment = found["score"], found["comment"]
    if not (score is None or (isinstance(score, int | float) and 0 <= score <= 1)):
        raise ValueError("score")
    if not (comment is None or isinstance(comment, str)):
        raise ValueError("comment")
    return FeedbackRow(
        _text(found["request_id"]),
        _text(found["owner"]),
        float(found["time_s"]),
        _text(found["question"]),
        _read_parts(found["sub_queries"]),
        float(score) if score is not None else None,
        comment,
    )


def _read_parts(found: Any) -> tuple[RatedSubQuery, ...]:
    return tuple(
        RatedSubQuery(
            int(part["id"]),
            _text(part["text"]),
            _text(part["domain"]),
            _text(part["correction"]) if "correction" in part else None,
        )
        for part in found
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("expected a string")
    return value
