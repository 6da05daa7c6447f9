"""What a student learns from: the teacher's probabilities on a row, its loss, or answers that it writes."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experts.adapt.device import Device
from experts.adapt.encoding import IGNORED, Encoded, encode_examples, load_tokenizer
from experts.adapt.examples import Example
from experts.adapt.training import LossFunction
from experts.errors import ConfigurationError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

# A conversation that shows how a template writes every role.
_PROBE = [
    {"role": "system", "content": "One."},
    {"role": "user", "content": "Two?"},
    {"role": "assistant", "content": "Three."},
    {"role": "user", "content": "Four?"},
]


def load_teacher(reference: str, adapter: Path | None, device: Device) -> Any:
    """The teacher for reading only, on the device. Raises ConfigurationError where it cannot be loaded."""
    import torch
    from transformers import AutoModelForCausalLM

    dtype = torch.bfloat16 if device.bf16 else torch.float32
    try:
        teacher = AutoModelForCausalLM.from_pretrained(reference, dtype=dtype)
        if adapter is not None:
            from peft import PeftModel

            teacher = PeftModel.from_pretrained(teacher, str(adapter)).merge_and_unload()
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigurationError(
            f"teacher '{reference}'{f' with adapter {adapter}' if adapter else ''} cannot be loaded "
            f"({str(error).strip().splitlines()[0]}); name a model's folder or a hub id that this machine can reach"
        ) from error
    return teacher.requires_grad_(False).eval().to(device.kind)


def check_same_tokens(teacher: str, student: "PreTrainedTokenizerBase") -> None:
    """Raise ConfigurationError unless the teacher's tokenizer and chat template write prompts in the same tokens."""
    other = load_tokenizer(teacher)
    if other.get_vocab() != student.get_vocab():
        what = f"another vocabulary ({len(other.get_vocab())} tokens, the student has {len(student.get_vocab())})"
    elif other.apply_chat_template(_PROBE, tokenize=False) != student.apply_chat_template(_PROBE, tokenize=False):
        what = "another chat template"
    else:
        return
    raise ConfigurationError(
        f"teacher '{teacher}' has {what}, and learn: logits compares probabilities token by token; set learn: answers "
        "or name a teacher of the student's family"
    )


def make_loss(teacher: Any, weight: float, temperature: float) -> LossFunction:
    """Cross entropy on the rows' answers and, with `weight`, the divergence from the teacher (Hinton et al. 2015).

    The divergence is KL(teacher || student) at the temperature, times its square so that its gradients keep their size.
    """

    def compute_loss(student: Any, inputs: dict[str, "torch.Tensor"], answer_tokens: "torch.Tensor") -> "torch.Tensor":
        import torch
        from torch.nn import functional

        wanted = inputs["labels"][:, 1:]
        # Logits are computed only where some row of the batch answers: a vocabulary is wide and prompts are long.
        places = (wanted != IGNORED).any(0).nonzero().flatten()
        wanted = wanted[:, places]
        learned = wanted != IGNORED
        given = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
        said = student(**given, logits_to_keep=places).logits[learned].float()
        with torch.no_grad():
            shown = teacher(**given, logits_to_keep=places).logits[learned].float()
        # Rows for tokens that no tokenizer has pad some models' vocabularies.
        width = min(said.shape[-1], shown.shape[-1])
        divergence = functional.kl_div(
            functional.log_softmax(said[:, :width] / temperature, -1),
            functional.log_softmax(shown[:, :width] / temperature, -1),
            reduction="sum",
            log_target=True,
        )
        answers = functional.cross_entropy(said, wanted[learned], reduction="sum")
        return ((1 - weight) * answers + weight * temperature**2 * divergence) / answer_tokens

    return compute_loss


def measure_nats(model: Any, rows: Sequence[Encoded], tokens: int, device: Device) -> float:
    """The negative log-likelihood of all the rows' answers together, in nats.

    At most `tokens` tokens go through the model at once, or one row.
    """
    import torch
    from torch.nn import functional

    ordered = sorted(rows, key=lambda row: len(row.input_ids))
    was_training = model.training
    model.eval()
    nats = 0.0
    try:
        while ordered:
            width = len(ordered[-1].input_ids)
            size = max(1, tokens // width)
            part, ordered = ordered[-size:], ordered[:-size]
            ids = torch.tensor([row.input_ids + [0] * (width - len(row.input_ids)) for row in part])
            labels = torch.tensor([row.labels + [IGNORED] * (width - len(row.labels)) for row in part])
            mask = torch.tensor([[1] * len(row.input_ids) + [0] * (width - len(row.input_ids)) for row in part])
            places = (labels[:, 1:] != IGNORED).any(0).nonzero().flatten()
            with torch.no_grad(), torch.autocast(device.kind, dtype=torch.bfloat16, enabled=device.bf16):
                logits = model(
                    input_ids=ids.to(model.device),
                    attention_mask=mask.to(model.device),
                    logits_to_keep=places.to(model.device),
                ).logits
            wanted = labels[:, 1:][:, places].flatten().to(model.device)
            nats += float(functional.cross_entropy(logits.flatten(0, 1).float(), wanted, reduction="sum"))
    finally:
        model.train(was_training)
    return nats


def write_answers(
    teacher: Any,
    tokenizer: "PreTrainedTokenizerBase",
    examples: Sequence[Example],
    file: Path,
    answer_tokens: int,
    tokens: int,
    say: Callable[[int], None],
) -> dict[int, str]:
    """The teacher's greedy answer by line, for every example that it ends within `answer_tokens`.

    Answers are appended to `file` as they come and are not asked for again; `say` hears how many there are. At most
    `tokens` tokens are in work at once, or one example's.
    """
    import torch
    from transformers import GenerationConfig

    known = _read_answers(file)
    pending = [example for example in examples if example.line not in known]
    prompts = {
        example.line: row.input_ids[: len(row.input_ids) - row.answer_tokens]
        for example, row in zip(pending, encode_examples(pending, tokenizer), strict=True)
    }
    order = sorted(prompts, key=lambda line: len(prompts[line]))
    ends = _find_ends(teacher, tokenizer)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else ends[0]
    greedy = GenerationConfig(max_new_tokens=answer_tokens, do_sample=False, eos_token_id=ends, pad_token_id=pad)
    with file.open("a", encoding="utf-8") as log:
        while order:
            width = len(prompts[order[-1]])
            size = max(1, tokens // (width + answer_tokens))
            part, order = order[-size:], order[:-size]
            ids = torch.tensor([[pad] * (width - len(prompts[line])) + prompts[line] for line in part])
            mask = torch.tensor([[0] * (width - len(prompts[line])) + [1] * len(prompts[line]) for line in part])
            written = teacher.generate(
                ids.to(teacher.device), attention_mask=mask.to(teacher.device), generation_config=greedy
            )
            for line, answer in zip(part, written[:, width:].tolist(), strict=True):
                ended = any(token in ends for token in answer)
                known[line] = tokenizer.decode(answer, skip_special_tokens=True).strip() if ended else ""
                log.write(json.dumps({"line": line, "answer": known[line]}) + "\n")
            log.flush()
            say(len(known))
    return {example.line: known[example.line] for example in examples if known[example.line]}


def _find_ends(teacher: Any, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Every token that ends an answer: some models have one for a turn and one for a text."""
    given = teacher.generation_config.eos_token_id
    listed = given if isinstance(given, list) else [given]
    return [tokenizer.eos_token_id, *(token for token in listed if token not in (None, tokenizer.eos_token_id))]


def _read_answers(file: Path) -> dict[int, str]:
    """What was written before; a line that a kill cut short is none, and is taken out."""
    if not file.exists():
        return {}
    whole, _, _ = file.read_text(encoding="utf-8").rpartition("\n")
    file.write_text(whole + "\n" if whole else "", encoding="utf-8")
    return {answer["line"]: answer["answer"] for answer in map(json.loads, whole.splitlines())}
