"""Searches between a replica and the index actor of its node past Ray: frames over a loopback connection.

A call through Ray costs both processes 1.1 to 1.6 ms before anything is searched, this way 0.3 (docs/decisions/0005).
Only the way differs. Whoever meets an OSError here asks through Ray, which waits for an actor that is coming back.

    asked     secret (32 bytes), once; then per search: length (4 bytes, big-endian), packed query
    answered  per search: length (4 bytes, big-endian), 0 and the packed result, or 1 and the pickled exception
"""

import asyncio
import hmac
import logging
import pickle
import secrets
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

logger = logging.getLogger(__name__)

_HOST = "127.0.0.1"
_SECRET_BYTES = 32
_LENGTH_BYTES = 4
# Who does not say the secret in this time is cut off.
_GREETING_S = 5.0
# Open lines of one index actor, a thread each; a replica beyond them asks through Ray.
_LINES_LIMIT = 128
# Lines of one replica: more searches than an actor does at once wait here instead of there.
LINES_PER_REPLICA = 4

_FOUND, _RAISED = b"\0", b"\1"


@dataclass(frozen=True, slots=True)
class LineAddress:
    """Where an index actor listens on its node's loopback, and what it wants to hear first."""

    port: int
    secret: bytes = field(repr=False)


class SearchListener:
    """The actor's end. Each line has a thread; `threads` of them search at once."""

    def __init__(self, search: Callable[[bytes], bytes], threads: int) -> None:
        self._search = search
        self._turns = threading.BoundedSemaphore(threads)
        self._places = threading.BoundedSemaphore(_LINES_LIMIT)
        self._secret = secrets.token_bytes(_SECRET_BYTES)

    def listen(self) -> LineAddress:
        """Take lines from now on until the process ends; raises OSError where there is no loopback."""
        listener = socket.create_server((_HOST, 0), backlog=_LINES_LIMIT)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return LineAddress(listener.getsockname()[1], self._secret)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            line, _ = listener.accept()
            if self._places.acquire(blocking=False):
                threading.Thread(target=self._serve, args=(line,), daemon=True).start()
            else:
                line.close()

    def _serve(self, line: socket.socket) -> None:
        try:
            with line, line.makefile("rb") as asked:
                line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                line.settimeout(_GREETING_S)
                if not hmac.compare_digest(asked.read(_SECRET_BYTES), self._secret):
                    return
                line.settimeout(None)
                while len(length := asked.read(_LENGTH_BYTES)) == _LENGTH_BYTES:
                    size = int.from_bytes(length)
                    query = asked.read(size)
                    if len(query) < size:
                        return
                    with self._turns:
                        answer = self._answer(query)
                    line.sendall(len(answer).to_bytes(_LENGTH_BYTES) + answer)
        except OSError:  # The replica has gone, or said nothing.
            return
        finally:
            self._places.release()

    def _answer(self, query: bytes) -> bytes:
        try:
            return _FOUND + self._search(query)
        except Exception as error:  # noqa: BLE001 - the thread's edge: whoever asked gets it, as through Ray
            return _RAISED + pickle.dumps(error)


class SearchLines:
    """A replica's lines to one index actor, opened as searches need them; used on one event loop."""

    def __init__(self, address: LineAddress) -> None:
        self.address = address
        self._free: list[_Line] = []
        self._turns = asyncio.Semaphore(LINES_PER_REPLICA)
        self._is_closed = False

    async def search(self, query: bytes) -> bytes:
        """What the actor answers to a packed query. Raises what the search raises, OSError when the line breaks."""
        async with self._turns:
            line = self._free.pop() if self._free else await self._open()
            try:
                answer = await line.ask(query)
            except BaseException:  # Its answer may come still, and must not be taken for that of the next search.
                line.close()
                raise
            if self._is_closed:
                line.close()
            else:
                self._free.append(line)
        if answer[:1] == _FOUND:
            return answer[1:]
        raise cast(Exception, pickle.loads(answer[1:]))  # noqa: S301 - of the index actor, which said no secret in vain

    def close(self) -> None:
        """End the lines that no search is using, and the others after theirs."""
        self._is_closed = True
        while self._free:
            self._free.pop().close()

    async def _open(self) -> "_Line":
        loop = asyncio.get_running_loop()
        _, line = await loop.create_connection(_Line, _HOST, self.address.port)
        line.greet(self.address.secret)
        return line


class _Line(asyncio.Protocol):
    """One connection, one search at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._answer: asyncio.Future[bytes] | None = None

    def greet(self, secret: bytes) -> None:
        assert self._transport is not None
        self._transport.write(secret)

    async def ask(self, query: bytes) -> bytes:
        if self._transport is None:
            raise ConnectionResetError("the index actor has closed the line")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(len(query).to_bytes(_LENGTH_BYTES) + query)
        return await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) < _LENGTH_BYTES:
            return
        end = _LENGTH_BYTES + int.from_bytes(self._received[:_LENGTH_BYTES])
        if len(self._received) >= end and self._answer is not None and not self._answer.done():
            self._answer.set_result(bytes(self._received[_LENGTH_BYTES:end]))
            del self._received[:end]

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the index actor has closed the line"))
