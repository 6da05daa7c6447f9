"""Weights in fewer bits: rounded to nearest through compressed-tensors, or with rounding tuned by AutoRound."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from experts.adapt.quantize_config import Format

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What is rounded to nearest, as compressed-tensors' preset schemes. int8 and fp8 have one scale for each output
# channel, and activations are quantized per token as they come; int4 is weights alone.
_SCHEMES: dict[Format, str] = {"int8": "INT8", "int4": "W4A16", "fp8": "FP8_DYNAMIC"}
# What may be tuned: names of the files that AutoRound writes.
_LAYOUTS: dict[Format, str] = {"int4": "llm_compressor", "awq": "auto_awq", "gptq": "auto_gptq"}
# Rows are joined and cut into blocks of so many tokens: the prompts of a few passages are about as long.
BLOCK_TOKENS = 512
# Blocks of which one tuning step takes the gradient, as AutoRound has it.
TUNED_BLOCKS = 8


def round_to_nearest(model: Any, target: Path, layout: Format, group_size: int) -> None:
    """Save the model into a folder as int8, int4 or fp8, the output layer as it is; the model is spent.

    Symmetric, with the largest magnitude of each group or channel at the end of the range.
    """
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import (
        QuantizationConfig,
        QuantizationStatus,
        apply_quantization_config,
        preset_name_to_scheme,
    )
    from compressed_tensors.quantization.utils import calculate_qparams, is_module_quantized

    scheme = preset_name_to_scheme(_SCHEMES[layout], ["Linear"])
    if layout == "int4":
        scheme.weights.group_size = group_size
    config = QuantizationConfig(config_groups={"group_0": scheme}, ignore=find_output_layers(model))
    apply_quantization_config(model, config)
    for module in model.modules():
        if not is_module_quantized(module):
            continue
        weight = module.weight.detach().float()
        grouped = weight.unflatten(-1, (-1, group_size)) if layout == "int4" else weight.unsqueeze(-2)
        scale, _ = calculate_qparams(grouped.amin(-1), grouped.amax(-1), module.quantization_scheme.weights)
        module.weight_scale.data = scale.to(module.weight_scale.dtype)
        module.quantization_status = QuantizationStatus.FROZEN
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(str(target))
    compressor.update_config(str(target))


def round_tuned(
    model: Any,
    tokenizer: "PreTrainedTokenizerBase",
    target: Path,
    layout: Format,
    group_size: int,
    tokens: Sequence[int],
    steps: int,
    seed: int,
) -> None:
    """Save the model into a folder as int4, awq or gptq, rounding and ranges tuned on calibration tokens.

    Block by block of the model, by SignRound (Cheng et al., Optimize Weight Rounding via Signed Gradient Descent for
    the Quantization of LLMs, 2023). `tokens` are at least TUNED_BLOCKS blocks of BLOCK_TOKENS; the model is spent.
    """
    import torch
    from auto_round import AutoRound

    logging.getLogger("autoround").setLevel(logging.ERROR)
    blocks = [
        torch.tensor([tokens[start : start + BLOCK_TOKENS]])
        for start in range(0, len(tokens) - BLOCK_TOKENS + 1, BLOCK_TOKENS)
    ]
    rounding = AutoRound(
        model,
        tokenizer,
        scheme="W4A16",
        group_size=group_size,
        dataset=[{"input_ids": block, "attention_mask": torch.ones_like(block)} for block in blocks],
        seqlen=BLOCK_TOKENS,
        nsamples=len(blocks),
        batch_size=TUNED_BLOCKS,
        iters=steps,
        seed=seed,
        # It needs a C++ compiler and took as long as it saved on the pocket base.
        enable_torch_compile=False,
    )
    with TemporaryDirectory(dir=target.parent) as aside:
        rounding.quantize_and_save(aside, format=_LAYOUTS[layout])
        (config,) = Path(aside).rglob("config.json")
        for path in [config, *config.parent.glob("*.safetensors*")]:
            shutil.move(path, target / path.name)


def find_output_layers(model: Any) -> list[str]:
    """Names of the layers that stay as they are: the output layer, which many models share with the embeddings."""
    output = model.get_output_embeddings()
    return [name for name, module in model.named_modules() if module is output]
