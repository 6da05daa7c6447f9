"""Logs as JSON lines: one object per event, each with the request id it belongs to.

An event carries names, counts and durations. The text of questions and answers and API keys never enter a log.
"""

import json
import logging
import re
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

logger = logging.getLogger("guildhall")

_request_id: ContextVar[str | None] = ContextVar("guildhall_request_id", default=None)
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def choose_request_id(offered: str | None) -> str:
    """The caller's request id when it is short and plain, else a new one."""
    if offered is not None and _SANE_REQUEST_ID.fullmatch(offered):
        return offered
    return uuid.uuid4().hex


@contextmanager
def bind_request_id(request_id: str) -> Iterator[None]:
    """Name the request that log events of this task and its children belong to."""
    token = _request_id.set(request_id)
    try:
        yield
    finally:
        _request_id.reset(token)


def read_request_id() -> str:
    """The request id bound to this task; 'none' outside of a request."""
    return _request_id.get() or "none"


def log_event(event: str, level: int = logging.INFO, **fields: Any) -> None:
    """Write one event; `fields` are JSON values."""
    if logger.isEnabledFor(level):
        logger.log(level, event, extra={"fields": {"request_id": _request_id.get(), **fields}})


class JsonLines(logging.Formatter):
    """One JSON object per record: time, level, event, request id, then the event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        line |= fields if isinstance(fields, dict) else {"request_id": _request_id.get()}
        if record.exc_info and record.exc_info[0] is not None:
            # Frames name our code; an exception's own message may quote a question, so only its type is kept.
            line["error"] = record.exc_info[0].__name__
            line["frames"] = _read_frames(record.exc_info[2])
        return json.dumps({key: value for key, value in line.items() if value is not None}, ensure_ascii=True)


def _read_frames(traceback: Any) -> list[str]:
    frames = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append(f"{code.co_filename.rsplit('/', 2)[-1]}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return frames[-12:]


def configure_logs(level: int = logging.INFO) -> None:
    """Send this package's events to stderr as JSON lines; calling it twice changes nothing."""
    if not any(isinstance(handler.formatter, JsonLines) for handler in logger.handlers):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonLines())
        logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False
