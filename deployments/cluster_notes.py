"""Short notes that one process of the cluster leaves for any other, in Ray's own key-value store."""

import json
import time
from dataclasses import dataclass
from typing import Any, Literal

from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_list, _internal_kv_put

# What an engine waits for before it starts, why it shares its GPU without MPS, when it was asked to sleep, what the
# fleet file says of its replicas, what was decided last about them, and what arrives at it over the day; which machine
# stands for a node of the plan.
Subject = Literal["waits", "mps-off", "sleep-requests", "demands", "scaling", "arrivals", "machines"]

NAMESPACE = b"guildhall"


@dataclass(frozen=True, slots=True)
class Note:
    """`at` is unix time by the writer's clock."""

    about: str
    at: float
    body: Any


def leave_note(subject: Subject, about: str, body: Any, author: str = "") -> None:
    """Write or replace a note; notes of several authors about one thing stand beside each other."""
    value = json.dumps({"about": about, "at": time.time(), "body": body}).encode()
    _internal_kv_put(_key(subject, about, author), value, overwrite=True, namespace=NAMESPACE)


def remove_note(subject: Subject, about: str, author: str = "") -> None:
    """Remove a note, if it is there."""
    _internal_kv_del(_key(subject, about, author), namespace=NAMESPACE)


def read_notes(subject: Subject) -> tuple[Note, ...]:
    """All notes on a subject, oldest first."""
    values = [
        _internal_kv_get(key, namespace=NAMESPACE)
        for key in _internal_kv_list(f"{subject}/".encode(), namespace=NAMESPACE)
    ]
    return tuple(sorted((Note(**json.loads(value)) for value in values if value), key=lambda note: note.at))


def _key(subject: Subject, about: str, author: str) -> bytes:
    return f"{subject}/{about}/{author}".encode()
