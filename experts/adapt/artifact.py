"""What is trained and what is served: a base as it is loaded for training, and the folder that comes of it."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from experts.adapt.config import Lora
from experts.adapt.device import Device
from experts.adapt.provenance import Provenance, write_provenance
from experts.errors import ConfigurationError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_model(base: str, method: Literal["lora", "full"], lora: Lora, seed: int, device: Device) -> Any:
    """The base, on the CPU, with a fresh adapter on every linear layer where the method is LoRA; the same every time.

    What is frozen is held in the precision that is computed in, what is trained in float32.
    """
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    frozen = method == "lora" and device.bf16
    try:
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16 if frozen else torch.float32)
    except (OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigurationError(
            f"base '{base}': its weights cannot be read ({reason}); name a causal language model's folder or hub id"
        ) from None
    # transformers refuses to save sampling defaults that it reads, a temperature of 0 among them: `publish` copies.
    model.generation_config = GenerationConfig()
    if method == "full":
        return model
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    shape = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, shape)


def publish(folder: Path, model: Any, tokenizer: "PreTrainedTokenizerBase", provenance: Provenance) -> None:
    """Write an adapter in peft's form, or a whole model as transformers and vLLM load it, in its base's type."""
    from peft import PeftModel

    if isinstance(model, PeftModel):
        model.save_pretrained(str(folder))
        # peft's own card is a form to fill in; the run's card says what there is to say.
        (folder / "README.md").unlink(missing_ok=True)
    else:
        _save_whole(folder, model, tokenizer)
    write_provenance(folder, provenance)


def write_companions(folder: Path, base: str, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Write what a server needs beside the weights: tokenizer, chat template, the base's sampling defaults."""
    from transformers.utils import cached_file

    tokenizer.save_pretrained(str(folder))
    sampling = cached_file(base, "generation_config.json", _raise_exceptions_for_missing_entries=False)
    settings = {} if sampling is None else json.loads(Path(sampling).read_text(encoding="utf-8"))
    settings.setdefault("eos_token_id", tokenizer.eos_token_id)
    (folder / "generation_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _save_whole(folder: Path, model: Any, tokenizer: "PreTrainedTokenizerBase") -> None:
    from transformers import AutoConfig

    base = model.config._name_or_path
    model.config.use_cache = True
    dtype = AutoConfig.from_pretrained(base).dtype
    (model if dtype is None else model.to(dtype)).save_pretrained(str(folder))
    write_companions(folder, base, tokenizer)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """What transformers, trl and their friends print of themselves stays out of a run's own words."""
    from datasets.utils.logging import disable_progress_bar as hide_rows
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    hide_rows()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        logging.set_verbosity(level)
