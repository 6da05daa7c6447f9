"""`guildhall adapt quantize`: a model, its adapter merged in, becomes a smaller model that vLLM serves."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experts.adapt.artifact import quiet_libraries, write_companions
from experts.adapt.config import read_config
from experts.adapt.encoding import encode_examples, load_tokenizer
from experts.adapt.examples import read_examples
from experts.adapt.progress import Progress
from experts.adapt.provenance import Provenance, read_provenance, write_provenance
from experts.adapt.quantize_config import GROUPED, Calibration, QuantizeConfig
from experts.adapt.rounding import BLOCK_TOKENS, TUNED_BLOCKS, find_output_layers, round_to_nearest, round_tuned
from experts.adapt.run_folder import open_run
from experts.errors import ConfigurationError
from experts.fleet import is_path

# vLLM's 4-bit kernels take inputs and outputs in multiples of 32 (CPUWNA16LinearKernel, vLLM 0.29).
_KERNEL_WIDTH = 32
_SHOWN_ROWS = 20
_SERVED = {
    "int8": "vLLM on CPUs and on NVIDIA GPUs from Turing on",
    "int4": "vLLM on CPUs and GPUs",
    "fp8": "vLLM on GPUs with FP8 arithmetic (NVIDIA from Ada on, AMD MI300); on CPUs it loads, far too slow to use",
    "awq": "vLLM on CPUs and GPUs",
    "gptq": "vLLM on CPUs and GPUs",
}


@dataclass(frozen=True, slots=True)
class QuantizeReport:
    """What was made."""

    message: str
    folder: Path
    artifact: Path
    figures: Mapping[str, Any]

    def describe(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return {
            "message": self.message,
            "folder": str(self.folder),
            "artifact": str(self.artifact),
            **self.figures,
        }


def run_quantize(config_file: Path, progress: Progress, restart: bool = False) -> QuantizeReport:
    """Quantize as a config says; a run that was killed begins again.

    Raises ConfigurationError where the config, the base, the adapter or the calibration rows are at fault, widths that
    the format cannot hold among them, before any weight is read.
    """
    config = read_config(config_file, QuantizeConfig)
    with quiet_libraries():
        return _run(config, config_file, progress, restart)


def _run(config: QuantizeConfig, config_file: Path, progress: Progress, restart: bool) -> QuantizeReport:
    progress.start("check")
    tokenizer = load_tokenizer(config.base)
    _check_shapes(config)
    provenance = _find_provenance(config)
    rows = None if config.calibration is None else _read_tokens(config.calibration, tokenizer)
    fingerprint = None if rows is None else rows[1]
    settings = {**config.model_dump(mode="json", exclude={"output"}), "rows": fingerprint}
    run = open_run(config.output, config_file, settings, restart)
    progress.finish("check", f"{config.format}, {'to nearest' if rows is None else f'{len(rows[0]):,} tokens'}")

    progress.start("load")
    model = _load_merged(config)
    full_bytes = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    progress.finish("load", f"{full_bytes / 1e6:,.1f} MB")

    progress.start("quantize")
    folder = run.artifact("model")
    if rows is not None and config.calibration is not None:
        round_tuned(
            model,
            tokenizer,
            folder,
            config.format,
            config.group_size,
            rows[0],
            config.calibration.steps,
            config.seed,
        )
    else:
        round_to_nearest(model, folder, config.format, config.group_size)
    write_companions(folder, config.base, tokenizer)
    if provenance is not None:
        write_provenance(folder, provenance.model_copy(update={"trained_by": "guildhall adapt quantize"}))
    stored_bytes = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    progress.finish("quantize", f"{stored_bytes / 1e6:,.1f} MB")

    figures = {
        "base": config.base,
        "adapter": None if config.adapter is None else str(config.adapter),
        "format": config.format,
        "group_size": config.group_size if config.format in GROUPED else None,
        "rounding": "nearest" if rows is None else "tuned",
        "calibration": None
        if config.calibration is None or rows is None
        else {"data": str(config.calibration.data), "fingerprint": rows[1], "tokens": len(rows[0])},
        "seed": config.seed,
        "template": None if provenance is None else provenance.template,
        "full_bytes": full_bytes,
        "stored_bytes": stored_bytes,
    }
    run.write_card(f"{config.output.name}: {Path(config.base).name} in {config.format}", _describe(figures))
    finished = run.finish(figures)
    message = (
        f"{stored_bytes / 1e6:,.1f} MB, {stored_bytes / full_bytes:.0%} of the full weights; measure what it lost with "
        "`guildhall adapt evaluate`"
    )
    return QuantizeReport(message, finished, finished / "model", figures)


def find_misfits(widths: Mapping[str, tuple[int, int]], group_size: int) -> list[str]:
    """Why layers cannot be stored in 4 bits; `widths` are (output, input) by name."""
    misfits = []
    for name, (output, width) in widths.items():
        if width % group_size:
            fitting = [size for size in (128, 64, 32) if width % size == 0]
            known = f"take one of {', '.join(map(str, fitting))}" if fitting else "take format int8"
            misfits.append(f"group_size {group_size} does not divide the input width {width} of {name}; {known}")
        elif output % _KERNEL_WIDTH:
            misfits.append(
                f"the output width {output} of {name} is no multiple of {_KERNEL_WIDTH}, which 4-bit kernels need; "
                "take format int8"
            )
    return misfits


def _check_shapes(config: QuantizeConfig) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        settings = AutoConfig.from_pretrained(config.base)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(settings)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"base '{config.base}' cannot be read ({_first_line(error)}); name a causal language model's folder or "
            "hub id"
        ) from None
    if getattr(settings, "quantization_config", None) is not None:
        raise ConfigurationError(f"base '{config.base}' is quantized already; name the model it was made from")
    kept = find_output_layers(model)
    widths = {
        name: (module.out_features, module.in_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name not in kept
    }
    # Experts of a mixture are one tensor for all, which would stay as it is while vLLM expects it quantized.
    stacked = [name for name, weight in model.named_parameters() if weight.ndim == 3]
    if stacked or not widths:
        found = f"{stacked[0]} holds several layers" if stacked else "it has no linear layers"
        raise ConfigurationError(
            f"base '{config.base}': {found}; only models of plain linear layers are quantized here"
        )
    misfits = find_misfits(widths, config.group_size) if config.format in GROUPED else []
    if misfits:
        more = f" (and {len(misfits) - 1} more layers)" if len(misfits) > 1 else ""
        raise ConfigurationError(f"base '{config.base}': {misfits[0]}{more}")


def _find_provenance(config: QuantizeConfig) -> Provenance | None:
    """The adapter's, or the base's; None where it is not known on which prompts it was trained."""
    if config.adapter is not None:
        return read_provenance(config.adapter)
    return read_provenance(Path(config.base)) if is_path(config.base) else None


def _read_tokens(calibration: Calibration, tokenizer: Any) -> tuple[list[int], str]:
    """The rows' tokens, prompts and answers one after another, and the file's fingerprint."""
    file = read_examples(calibration.data)
    if file.broken:
        shown = "; ".join(f"line {row.line}: {row.reason}" for row in file.broken[:_SHOWN_ROWS])
        raise ConfigurationError(f"calibration.data {file.path}: {len(file.broken)} broken rows, {shown}; mend them")
    rows = encode_examples(file.examples[: calibration.rows], tokenizer)
    tokens = [token for row in rows for token in row.input_ids]
    needed = TUNED_BLOCKS * BLOCK_TOKENS
    if len(tokens) < needed:
        raise ConfigurationError(
            f"calibration.data {file.path}: {len(rows)} rows are {len(tokens):,} tokens, at least {needed:,} are "
            "needed; add rows or raise calibration.rows"
        )
    return tokens, file.fingerprint


def _load_merged(config: QuantizeConfig) -> Any:
    """The model in the type of its base. Merging is done in float32: bfloat16 would round the adapter's part away."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    try:
        model = AutoModelForCausalLM.from_pretrained(config.base, dtype="auto")
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"base '{config.base}': its weights cannot be read ({_first_line(error)})") from None
    dtype = model.dtype
    if config.adapter is not None:
        from peft import PeftModel

        try:
            merged = PeftModel.from_pretrained(model.to(torch.float32), str(config.adapter)).merge_and_unload()
        except (OSError, ValueError, RuntimeError) as error:
            raise ConfigurationError(
                f"adapter {config.adapter} does not fit base '{config.base}' ({_first_line(error)}); name the base "
                "that it was trained on"
            ) from None
        model = merged.to(dtype)
    # transformers refuses to write sampling defaults that it reads, a temperature of 0 among them.
    model.generation_config = GenerationConfig()
    return model.eval()


def _describe(figures: Mapping[str, Any]) -> dict[str, str]:
    source = f"`{figures['base']}`"
    if figures["adapter"] is not None:
        source += f" with the adapter `{figures['adapter']}` merged in"
    grouped = "" if figures["group_size"] is None else f", one scale for each {figures['group_size']} weights"
    if figures["calibration"] is None:
        rounding = "Rounded to nearest, without calibration."
    else:
        rounding = (
            f"Rounding tuned by AutoRound (signed gradient descent) on {figures['calibration']['tokens']:,} tokens of "
            f"`{figures['calibration']['data']}` (fingerprint `{figures['calibration']['fingerprint']}`), seed "
            f"{figures['seed']}. The name of the format is that of the file's layout."
        )
    template = "not known" if figures["template"] is None else f"`{figures['template']}`"
    return {
        "What it is": f"{source}, quantized to {figures['format']}{grouped} by `guildhall adapt quantize`. The "
        "embeddings and the output layer are as they were.",
        "Rounding": rounding,
        "Size": f"{figures['stored_bytes'] / 1e6:,.1f} MB on disk, full weights {figures['full_bytes'] / 1e6:,.1f} MB.",
        "Serving": f"Name `model/` as an engine's `model`: {_SERVED[figures['format']]}. What it lost is not measured "
        "here; `guildhall adapt evaluate --compare` says it.",
        "Prompt": f"Trained on the prompts of template {template}.",
    }


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
