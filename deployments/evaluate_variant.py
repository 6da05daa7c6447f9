"""`guildhall adapt evaluate`: one variant answers its tasks on vLLM, with the arguments that serving gives it."""

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployments.energy_meter import NoMeter, NvmlMeter, RaplMeter, open_cpu_meter, open_gpu_meter
from deployments.engine_arguments import EngineArguments, plan_engine_arguments
from experts.adapt.config import read_config
from experts.adapt.evaluate_config import EvaluateConfig
from experts.adapt.examples import Example, ExampleFile, read_examples
from experts.adapt.progress import Progress
from experts.adapt.provenance import read_provenance
from experts.adapt.report import ANSWERS_FILE, Energy, Memory, Speed, VariantReport, describe_costs
from experts.adapt.run_folder import open_run
from experts.adapt.score import Judged, judge_answer, score_answers
from experts.errors import ConfigurationError
from experts.fleet import is_path
from experts.prompt import fingerprint_template

if TYPE_CHECKING:
    from vllm import LLM

_Meter = NvmlMeter | RaplMeter | NoMeter

_STAGE = "answer"
_SHOWN_ROWS = 20
# The first steps of an engine take longer than the rest; they are taken on a few cases before the clock starts.
_WARM_UP_CASES = 16
_WARM_UP_TOKENS = 4


@dataclass(frozen=True, slots=True)
class _Case:
    task: str
    example: Example


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the engine said to one case."""

    text: str
    tokens: int


def run_evaluate(config_file: Path, progress: Progress, restart: bool = False) -> VariantReport:
    """Evaluate as a config says, greedily, all cases as one load; a run that was killed begins again.

    Raises ConfigurationError where the config, the data or the artifact is at fault, or the engine does not start.
    """
    config = read_config(config_file, EvaluateConfig)
    progress.start("check")
    files = {name: _read_cases(name, task.data) for name, task in config.tasks.items()}
    template = _check_artifact(config)
    cases = [_Case(name, example) for name, file in files.items() for example in file.examples]
    run = open_run(config.output, config_file, config.model_dump(mode="json"), restart)
    progress.finish("check", f"{len(cases)} cases in {len(files)} tasks")

    machine = _describe_machine()
    arguments = plan_engine_arguments(config.engine)
    progress.start("engine")
    # Standard output is the report's, and warnings would tear the progress apart.
    quiet = {"VLLM_LOGGING_STREAM": "ext://sys.stderr", "VLLM_LOGGING_LEVEL": "ERROR"}
    with _set_environment(arguments.env_vars | quiet):
        meter = _open_meter(config)
        used_before = _observe_gpu_bytes(meter)
        with _run_engine(config, arguments) as engine:
            prompts = _encode_prompts(cases, engine, config)
            progress.finish("engine", config.engine.model)
            progress.start(_STAGE)
            answers, seconds, energy = _answer_cases(prompts, engine, config, meter, progress)
            cache = engine.llm_engine.vllm_config.cache_config
            used = _observe_gpu_bytes(meter)
            memory = Memory(
                weights_bytes=_measure_weights(config),
                peak_bytes=_measure_peak_bytes(),
                gpu_bytes=None if used is None or used_before is None else used - used_before,
                kv_tokens=(cache.num_gpu_blocks or 0) * cache.block_size,
            )
    progress.finish(_STAGE, f"{len(answers)} answers in {seconds:,.1f} s")

    judged = _judge(cases, answers, config)
    speed = Speed(
        seconds=seconds,
        answers=len(answers),
        prompt_tokens=sum(map(len, prompts)),
        answer_tokens=sum(answer.tokens for answer in answers),
        in_flight=config.engine.max_num_seqs,
    )
    report = VariantReport(
        folder=config.output,
        model=config.engine.model,
        adapter=None if config.adapter is None else str(config.adapter),
        tasks={name: score_answers(judged_of_task) for name, judged_of_task in _group(cases, judged).items()},
        speed=speed,
        memory=memory,
        energy=energy,
    )
    rows = [_describe_answer(*row) for row in zip(cases, answers, judged, strict=True)]
    (run.aside / ANSWERS_FILE).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    figures = report.describe() | {
        "data": {
            name: {"file": str(task.data), "fingerprint": files[name].fingerprint, "judge": task.judge}
            for name, task in config.tasks.items()
        },
        "engine": config.engine.model_dump(mode="json"),
        "engine_arguments": asdict(arguments),
        "max_tokens": config.max_tokens,
        "template": template,
        "vllm": _find_vllm(),
        "machine": machine,
    }
    run.write_card(f"{config.output.name}: {Path(report.model).name}, evaluated", _describe_card(figures))
    run.finish(figures)
    return report


def _read_cases(name: str, path: Path) -> ExampleFile:
    file = read_examples(path)
    if file.broken or not file.examples:
        shown = "; ".join(f"line {row.line}: {row.reason}" for row in file.broken[:_SHOWN_ROWS]) or "no rows"
        raise ConfigurationError(f"tasks.{name}.data {path}: {shown}; nothing was evaluated, mend the file")
    return file


def _check_artifact(config: EvaluateConfig) -> str | None:
    """The template that the variant was trained with, None where it is not known; another one is refused."""
    model = Path(config.engine.model)
    if is_path(config.engine.model) and not (model / "config.json").is_file():
        raise ConfigurationError(f"engine.model {model} has no config.json; name the folder of a model")
    if config.adapter is None and not is_path(config.engine.model):
        return None
    folder = model if config.adapter is None else config.adapter
    provenance = read_provenance(folder)
    served = fingerprint_template()
    if provenance is not None and provenance.template != served:
        raise ConfigurationError(
            f"{folder} was trained with prompt template {provenance.template}, and {served} is served; train it again "
            "with `guildhall adapt sft`"
        )
    return None if provenance is None else provenance.template


@contextmanager
def _set_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables while the block runs: vLLM reads them as it is imported and hands them to its processes.

    It adds some of its own (LD_PRELOAD with torch's OpenMP), which no later process should get.
    """
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _run_engine(config: EvaluateConfig, arguments: EngineArguments) -> "Iterator[LLM]":
    """The engine while the block runs."""
    import vllm
    from vllm.v1.engine.exceptions import EngineDeadError

    try:
        engine = vllm.LLM(model=config.engine.model, **arguments.engine_kwargs, disable_log_stats=True)
    except Exception as error:  # the engine's edge: it raises whatever its libraries raise
        raise ConfigurationError(
            f"the engine of '{config.engine.model}' does not start ({_first_line(error)}); its own messages are above"
        ) from error
    try:
        yield engine
    except EngineDeadError as error:
        raise ConfigurationError(
            f"the engine of '{config.engine.model}' died; its own messages are above, and where they speak of memory, "
            "lower engine.kv_cache_gib or engine.max_num_seqs"
        ) from error
    finally:
        engine.llm_engine.engine_core.shutdown()


def _encode_prompts(cases: Sequence[_Case], engine: "LLM", config: EvaluateConfig) -> list[list[int]]:
    """The prompts in tokens, as the chat endpoint renders them."""
    tokenizer: Any = engine.get_tokenizer()
    if tokenizer.chat_template is None:
        raise ConfigurationError(f"'{config.engine.model}' has no chat template, so it cannot be served")
    limit = config.engine.max_model_len - config.max_tokens
    prompts = []
    for case in cases:
        messages = [dict(message) for message in case.example.prompt]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) > limit:
            raise ConfigurationError(
                f"tasks.{case.task}.data line {case.example.line}: a prompt of {len(ids)} tokens leaves less than "
                f"max_tokens {config.max_tokens} of engine.max_model_len {config.engine.max_model_len}; raise "
                "max_model_len or lower max_tokens"
            )
        prompts.append(ids)
    return prompts


def _answer_cases(
    prompts: Sequence[list[int]], engine: "LLM", config: EvaluateConfig, meter: _Meter, progress: Progress
) -> tuple[list[_Answer], float, Energy]:
    """Greedy answers in the order of the prompts, the seconds and the energy that they took."""
    _generate(prompts[:_WARM_UP_CASES], engine, config, _WARM_UP_TOKENS, lambda done: None)
    engine.reset_prefix_cache()

    def observe(done: int) -> None:
        progress.update(_STAGE, f"{done} of {len(prompts)}, {_left(done, len(prompts), time.perf_counter() - started)}")
        if isinstance(meter, RaplMeter):
            meter.read_joules()

    begun = 0.0 if isinstance(meter, NoMeter) else meter.read_joules()
    started = time.perf_counter()
    answers = _generate(prompts, engine, config, config.max_tokens, observe)
    seconds = time.perf_counter() - started
    if isinstance(meter, NoMeter):
        return answers, seconds, Energy(None, meter.reason)
    return answers, seconds, Energy(round(meter.read_joules() - begun, 3), meter.name)


def _generate(
    prompts: Sequence[list[int]],
    engine: "LLM",
    config: EvaluateConfig,
    max_tokens: int,
    observe: Callable[[int], None],
) -> list[_Answer]:
    """All prompts at once, as many running as the engine runs; `observe` hears how many are answered."""
    from vllm import RequestOutput, SamplingParams, TokensPrompt
    from vllm.lora.request import LoRARequest

    greedy = SamplingParams(temperature=0, max_tokens=max_tokens)
    adapter = None if config.adapter is None else LoRARequest("evaluated", 1, str(config.adapter))
    tokens = [TokensPrompt(prompt_token_ids=ids) for ids in prompts]
    engine.enqueue(tokens, greedy, lora_request=adapter, use_tqdm=False)
    answers: dict[int, _Answer] = {}
    while engine.llm_engine.has_unfinished_requests():
        for output in engine.llm_engine.step():
            assert isinstance(output, RequestOutput)
            (said,) = output.outputs
            answers[int(output.request_id)] = _Answer(said.text, len(said.token_ids))
            observe(len(answers))
    # Requests are numbered in the order of the prompts.
    return [answers[number] for number in sorted(answers)]


def _judge(cases: Sequence[_Case], answers: Sequence[_Answer], config: EvaluateConfig) -> list[Judged]:
    return [
        judge_answer(answer.text, case.example.answer, config.tasks[case.task].judge)
        for case, answer in zip(cases, answers, strict=True)
    ]


def _group(cases: Sequence[_Case], judged: Sequence[Judged]) -> dict[str, list[Judged]]:
    groups: dict[str, list[Judged]] = {}
    for case, one in zip(cases, judged, strict=True):
        groups.setdefault(case.task, []).append(one)
    return groups


def _describe_answer(case: _Case, answer: _Answer, judged: Judged) -> dict[str, Any]:
    return {
        "task": case.task,
        "line": case.example.line,
        "question": case.example.question,
        "wanted": case.example.answer,
        "answer": answer.text,
        "tokens": answer.tokens,
        "right": judged.right,
        "value": judged.value,
        "cited": judged.cited,
        "refused": judged.refused,
    }


def _describe_card(figures: Mapping[str, Any]) -> dict[str, str]:
    lines = ["| task | cases | right | 95 % |", "| --- | --- | --- | --- |"]
    for name, score in figures["tasks"].items():
        right = score["right"]
        lines.append(f"| {name} | {right['n']} | {right['share']:.1%} | {right['low']:.1%} to {right['high']:.1%} |")
    machine = figures["machine"]
    return {
        "What was measured": f"`{figures['model']}`"
        + ("" if figures["adapter"] is None else f" with the adapter `{figures['adapter']}`")
        + f", on vLLM {figures['vllm']} with the engine arguments of serving, greedily.",
        "Accuracy": "\n".join(lines),
        "Costs": "\n".join(f"- {line}" for line in describe_costs(figures)),
        "Machine": f"{machine['cpu']}, {machine['cores']} cores; load before the run {machine['load_average']}.",
    }


def _open_meter(config: EvaluateConfig) -> _Meter:
    if config.engine.device == "cpu":
        return open_cpu_meter()
    from vllm.platforms import current_platform

    return open_gpu_meter(
        [current_platform.device_id_to_physical_device_id(gpu) for gpu in range(config.engine.tensor_parallel)]
    )


def _observe_gpu_bytes(meter: _Meter) -> int | None:
    return meter.observe_used_bytes() if isinstance(meter, NvmlMeter) else None


def _measure_weights(config: EvaluateConfig) -> int | None:
    """Bytes of the weight files, the adapter's too."""
    if not is_path(config.engine.model):
        return None
    folders = [Path(config.engine.model), *([] if config.adapter is None else [config.adapter])]
    return sum(path.stat().st_size for folder in folders for path in folder.glob("*.safetensors"))


def _measure_peak_bytes() -> int:
    """Largest resident size so far of each process that the engine started, summed."""
    import psutil

    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            status = Path(f"/proc/{process.pid}/status")
            peaks = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else []
            total += int(peaks[0]) * 1024 if peaks else process.memory_info().rss
        except (OSError, psutil.Error):
            continue
    return total


def _describe_machine() -> dict[str, Any]:
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return {
        "cpu": names[0] if names else "unknown processor",
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def _find_vllm() -> str:
    import vllm

    return str(vllm.__version__)


def _left(done: int, cases: int, seconds: float) -> str:
    left_s = seconds / done * (cases - done)
    return f"{left_s:.0f} s left" if left_s < 100 else f"{left_s / 60:.0f} min left"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
