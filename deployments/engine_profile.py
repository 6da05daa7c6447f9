"""Measures an engine's steps: prefills over prompt lengths, decode steps over batches and context lengths."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from cluster.accelerators import CPU
from cluster.profile_rows import ProfileRow
from deployments.engine_arguments import plan_engine_arguments
from deployments.timed_engine import EngineSetup, KvCache, TimedAnswer, TimedEngine, TimedRequest
from experts.errors import ConfigurationError
from experts.fleet import Engine, Fleet

# Steps of one measurement: the median of sixteen is within 5 % of that of a hundred on two cores at rest.
_DECODE_STEPS = 16
_REPEATS = 5
# A round of a pocket engine takes milliseconds; a slow round is a large model's on a CPU.
_ROUND_TIMEOUT_S = 600.0
_SHORTEST = 16


@dataclass(frozen=True, slots=True)
class Point:
    """What is measured at once: `batch` prompts of `seq_len` tokens that arrive together."""

    batch: int
    seq_len: int


def find_gpu_name(fleet: Fleet, engine: Engine) -> str:
    """The name under which a profile keeps an engine's machine: the GPU type as Ray names it, or `cpu`.

    Raises ConfigurationError where the fleet file does not say which GPU it is.
    """
    if engine.device == "cpu":
        return CPU
    types = {
        node.gpu_type
        for name, node in fleet.nodes.items()
        if node.gpus and engine.node_type in (None, name) and node.gpu_type is not None
    }
    if len(types) != 1:
        found = ", ".join(sorted(types)) or "none"
        raise ConfigurationError(
            f"the GPU type of the engine is needed to keep its times under, found {found}; set gpu_type of its node "
            "type, and node_type of the engine where there are several"
        )
    return types.pop()


def list_points(engine: Engine, cache: KvCache) -> list[Point]:
    """Batches up to `max_num_seqs` in powers of two, each with context lengths that the KV cache holds."""
    longest = engine.max_model_len - _DECODE_STEPS - 1
    lengths = sorted({min(_SHORTEST, longest), *(max(1, longest // part) for part in (16, 8, 4, 2, 1))})
    batches = [2**power for power in range(engine.max_num_seqs.bit_length()) if 2**power < engine.max_num_seqs]
    points = []
    for batch in [*batches, engine.max_num_seqs]:
        # Beside whole blocks for each, room for what the sequences generate.
        fits = [length for length in lengths if batch * (length + _DECODE_STEPS + cache.block_tokens) <= cache.tokens]
        # Decode is close to linear in the context: for batches its ends and middle say enough.
        chosen = fits if batch == 1 else [*fits[:1], *fits[len(fits) // 2 : len(fits) // 2 + 1], *fits[-1:]]
        points += [Point(batch, length) for length in dict.fromkeys(chosen)]
    return points


def start_engine(engine: Engine) -> TimedEngine:
    """An engine of the fleet file, alone and without Ray, with the arguments that its replicas get."""
    arguments = plan_engine_arguments(engine)
    return TimedEngine(
        EngineSetup(engine.model, arguments.engine_kwargs, dict(arguments.env_vars), one_process=engine.device == "cpu")
    )


def measure_points(running: TimedEngine, points: list[Point]) -> Iterator[tuple[Point, float | None, float]]:
    """For each point the milliseconds of a prefill, of single prompts only, and of a decode step."""
    # The first round meets kernels and caches that are cold.
    _measure(running, points[-1])
    for point in points:
        times = [_measure(running, point) for _ in range(_REPEATS)]
        prefill = median(first for first, _ in times) if point.batch == 1 else None
        yield point, prefill, median(step for _, step in times)


def _measure(running: TimedEngine, point: Point) -> tuple[float, float]:
    running.begin_round([TimedRequest(0.0, point.seq_len, _DECODE_STEPS + 1)] * point.batch)
    answers = running.end_round(_ROUND_TIMEOUT_S)
    return 1000 * max(answer.first_s for answer in answers), 1000 * _observe_step(answers)


def _observe_step(answers: Sequence[TimedAnswer]) -> float:
    """Median seconds between tokens while all sequences decode; of the last to begin where none overlap."""
    begun = max(answer.first_s for answer in answers)
    ended = min(answer.end_s for answer in answers)
    last = max(answers, key=lambda answer: answer.first_s)
    times = [at for at in last.token_times_s if begun <= at <= ended]
    if len(times) < _DECODE_STEPS // 2:
        times = list(last.token_times_s)
    return median(later - earlier for earlier, later in pairwise(times))


def write_row(engine: Engine, gpu: str, point: Point, prefill_ms: float | None, decode_ms: float) -> ProfileRow:
    """A measurement as the profile keeps it. Alone on its GPU an engine has all SMs, whatever its share of them."""
    split = 1 if engine.device == "cpu" else engine.tensor_parallel
    prefill = None if prefill_ms is None else round(prefill_ms, 3)
    return ProfileRow(engine.model, gpu, split, 100.0, point.batch, point.seq_len, prefill, round(decode_ms, 3))
