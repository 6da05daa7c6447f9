"""One engine of a node starts or wakes at a time, in the order in which they came.

vLLM sizes its KV cache by what is free on the whole device before and after its own loading, so an engine that loads
beside it is counted as its own memory (vLLM issue 55827: 2.82 GiB became -3.21 GiB). The queue is the node's and not a
GPU's: which GPU a worker gets, Ray says when it starts, and that is already inside.

A waiting process holds a ticket: a file that it keeps locked. The kernel frees the lock of a process that dies, which
is how the others tell its ticket from a living one. Tickets give the order, a lock of its own the exclusion.
"""

import fcntl
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Literal

from experts.errors import Unavailable

Act = Literal["start", "wake"]

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux has it; the folder below is private
TURN_FILE = "turn"
TICKET_SUFFIX = ".ticket"
# A start takes 10 s and more; nobody notices a twentieth of a second.
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Ticket:
    """Who waits, or has its turn."""

    engine: str
    act: Act
    pid: int

    def __str__(self) -> str:
        return f"engine '{self.engine}' (process {self.pid}), which {self.act}s"


UNKNOWN = Ticket("unknown", "start", 0)

Observe = Callable[[tuple[Ticket, ...]], None]


def choose_queue_folder() -> Path:
    """Where all engines of this user on this node meet, whatever fleet they are of."""
    parent = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    return parent / f"guildhall-starts-{os.getuid()}"


class StartQueue:
    """The queue of a node; processes that name the same folder stand in the same queue."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def hold(self, engine: str, act: Act, deadline: float, observe: Observe = lambda _: None) -> Iterator[None]:
        """Wait for the turn, and have it for the body of the `with`; blocks its thread.

        `observe` is given those ahead at each look, and nobody once the turn has come. Raises Unavailable at
        `deadline` (time.monotonic) with the name of who has it.
        """
        with self._ticket(Ticket(engine, act, os.getpid())) as name, (self._folder / TURN_FILE).open("a") as turn:
            while ahead := self._find_ahead(name, turn):
                observe(ahead)
                if time.monotonic() > deadline:
                    raise Unavailable(
                        f"engine '{engine}' waited for its turn to {act} on this node until its deadline; first of the "
                        f"{len(ahead)} before it is {ahead[0]}: see its log, and end its process if it is stuck"
                    )
                time.sleep(POLL_S)
            observe(())
            try:
                yield
            finally:
                # Closing would not do where a child process has inherited the file.
                fcntl.flock(turn, fcntl.LOCK_UN)

    def observe(self) -> tuple[Ticket, ...]:
        """Who stands in the queue, the one that has its turn first."""
        return tuple(ticket for _, ticket in self._read_tickets())

    def _find_ahead(self, name: str, turn: IO[str]) -> tuple[Ticket, ...]:
        """Those before a ticket; empty when its turn has come, whose lock it then has."""
        tickets = self._read_tickets()
        ahead = tuple(ticket for other, ticket in tickets if other < name)
        if ahead:
            return ahead
        if _lock(turn, fcntl.LOCK_EX):
            return ()
        # A later one has it that looked before this ticket was there, or one that has just died.
        return tuple(ticket for other, ticket in tickets if other != name)[:1] or (UNKNOWN,)

    @contextmanager
    def _ticket(self, ticket: Ticket) -> Iterator[str]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The monotonic clock is the same for all processes of a node, and never set back.
        name = f"{time.monotonic_ns():020d}-{os.getpid()}{TICKET_SUFFIX}"
        path, draft = self._folder / name, self._folder / f".{name}"
        with draft.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            json.dump(asdict(ticket), file)
            file.flush()
            # Locked before it can be seen: a ticket without a lock is a dead one.
            draft.rename(path)
            try:
                yield name
            finally:
                path.unlink(missing_ok=True)
                fcntl.flock(file, fcntl.LOCK_UN)

    def _read_tickets(self) -> list[tuple[str, Ticket]]:
        """Tickets of living processes by age; those of dead ones are removed."""
        found = []
        for path in sorted(self._folder.glob(f"[0-9]*{TICKET_SUFFIX}")):
            try:
                with path.open() as file:
                    if _lock(file, fcntl.LOCK_SH):
                        path.unlink(missing_ok=True)
                    else:
                        found.append((path.name, Ticket(**json.load(file))))
            except FileNotFoundError:
                continue
        return found


def _lock(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
