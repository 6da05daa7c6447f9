"""How a row of the ledger lies in memory: two copies, each with a number and a checksum.

The writer fills the copy that is not the latest, so that one whole value stands there at every moment, even where the
writer is killed in the middle of a store. A reader takes the copy with the higher number whose checksum is right: a
seqlock that never waits, and that needs no order of stores, which Python cannot ask a processor for.
"""

import math
import struct
from dataclasses import dataclass
from zlib import crc32

from cluster.node_load import EngineLoad

LAYOUT = 2
ROWS = 64
HEADER_BYTES = 64
# Heartbeat and claim have a cache line of their own: they are stored apart from the rest, eight bytes at once.
ROW_HEAD_BYTES = 64
COPY_BYTES = 320
ROW_BYTES = ROW_HEAD_BYTES + 2 * COPY_BYTES
LEDGER_BYTES = HEADER_BYTES + ROWS * ROW_BYTES

HEADER = struct.Struct("=8sIIIIQ")
"""Magic, layout, rows, bytes of a row, rows ever used, last claim."""
MAGIC = b"guildled"
HEAD = struct.Struct("=dQ")
"""Heartbeat and claim; no engine has claim 0."""
HEARTBEAT = struct.Struct("=d")
NUMBER = struct.Struct("=Q")
# Checksum, number, then what belongs to the node and the engine's load in the order of its fields.
_COPY = struct.Struct("=IQ qq 40sQ16s qqq d qqqqqqqq dddd qqq dd")
_CHECKSUM = struct.Struct("=I")
NUMBER_OFFSET = _CHECKSUM.size
_NONE = math.nan
_NO_BYTES = -1


@dataclass(frozen=True, slots=True)
class Entry:
    """What one row says: an engine's load, and what its settings say of the device."""

    load: EngineLoad
    kv_bytes: int | None
    cores: int


def row_offset(row: int) -> int:
    """Where a row begins."""
    return HEADER_BYTES + row * ROW_BYTES


def copy_offset(row: int, number: int) -> int:
    """Where the copy with this number of a row begins: even and odd numbers take turns."""
    return row_offset(row) + ROW_HEAD_BYTES + (number & 1) * COPY_BYTES


def pack_entry(number: int, entry: Entry) -> bytes:
    """One copy of a row, checksum first."""
    e = entry.load
    packed = _COPY.pack(
        0,
        number,
        _NO_BYTES if entry.kv_bytes is None else entry.kv_bytes,
        entry.cores,
        e.engine.encode(),
        e.claim,
        e.device.encode(),
        e.running,
        e.waiting,
        e.prefill_tokens,
        _NONE if e.oldest_at is None else e.oldest_at,
        e.used_bytes,
        e.running_bytes,
        e.wanted_bytes,
        e.quota_bytes,
        e.pool_bytes,
        e.block_bytes,
        e.sequence_bytes,
        e.request_bytes,
        e.hold_s,
        e.step_s,
        e.token_s,
        e.stepped_at,
        e.step_tokens,
        e.max_tokens,
        e.threads,
        e.ttft_s,
        e.tpot_s,
    )
    return _CHECKSUM.pack(crc32(packed[NUMBER_OFFSET:])) + packed[NUMBER_OFFSET:]


def unpack_entry(copy: bytes) -> Entry | None:
    """The entry of a copy; None where it was torn or never written."""
    checksum, _number, kv_bytes, cores, engine, claim, device, *rest = _COPY.unpack_from(copy)
    if not claim or checksum != crc32(copy[NUMBER_OFFSET : _COPY.size]):
        return None
    rest[3] = None if math.isnan(rest[3]) else rest[3]
    load = EngineLoad(engine.rstrip(b"\0").decode(), claim, device.rstrip(b"\0").decode(), *rest)
    return Entry(load, None if kv_bytes == _NO_BYTES else kv_bytes, cores)
