"""Searches past Ray: each gets its own answer or its own error, and nobody else gets in."""

import asyncio
import socket
import threading
import time
from dataclasses import replace

import pytest

from deployments.search_line import LINES_PER_REPLICA, LineAddress, SearchLines, SearchListener
from experts.errors import ConfigurationError

THREADS = 2


def answer(query: bytes) -> bytes:
    if query == b"wrong":
        raise ConfigurationError("search vector has shape (3,)")
    if query.startswith(b"slow"):
        time.sleep(0.1)
    return b"found " + query


@pytest.fixture
def address() -> LineAddress:
    return SearchListener(answer, THREADS).listen()


async def test_searches_at_the_same_time_get_their_own_answers(address: LineAddress) -> None:
    lines = SearchLines(address)
    queries = [b"query %d" % number for number in range(10 * LINES_PER_REPLICA)]
    assert await asyncio.gather(*map(lines.search, queries)) == [b"found " + query for query in queries]
    lines.close()


async def test_an_answer_larger_than_one_packet_arrives_whole(address: LineAddress) -> None:
    query = bytes(range(256)) * 20_000
    assert await SearchLines(address).search(query) == b"found " + query


async def test_what_a_search_raises_is_raised_to_who_asked_and_the_line_goes_on(address: LineAddress) -> None:
    lines = SearchLines(address)
    with pytest.raises(ConfigurationError, match=r"has shape \(3,\)"):
        await lines.search(b"wrong")
    assert await lines.search(b"right") == b"found right"


async def test_the_answer_to_a_search_that_was_given_up_goes_to_nobody(address: LineAddress) -> None:
    lines = SearchLines(address)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await lines.search(b"slow")
    assert await lines.search(b"next") == b"found next"


async def test_no_more_searches_run_at_once_than_the_actor_has_threads() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def count(query: bytes) -> bytes:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1
        return query

    address = SearchListener(count, THREADS).listen()
    replicas = [SearchLines(address) for _ in range(3)]
    await asyncio.gather(*(lines.search(b"") for lines in replicas for _ in range(5)))
    assert most == THREADS


async def test_who_does_not_know_the_secret_is_cut_off_and_searches_nothing(address: LineAddress) -> None:
    with pytest.raises(ConnectionResetError):
        await SearchLines(replace(address, secret=bytes(32))).search(b"query")
    assert str(address.secret) not in repr(address)


async def test_lines_to_a_process_that_is_gone_break_with_an_error_that_tells() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        await SearchLines(LineAddress(port, bytes(32))).search(b"query")


async def test_a_replica_that_closes_gives_its_lines_back(address: LineAddress) -> None:
    for _ in range(40):  # Times the lines of a replica, more than an actor keeps.
        lines = SearchLines(address)
        await asyncio.gather(*(lines.search(b"query") for _ in range(LINES_PER_REPLICA)))
        lines.close()
        await asyncio.sleep(0.005)
    assert await SearchLines(address).search(b"query") == b"found query"
