"""A user's own base: a tiny Llama of random weights with its tokenizer, saved as a folder; and rows for it."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_METALS = ("iron", "copper", "silver", "gold", "tin", "zinc", "lead", "nickel", "cobalt", "chrome")
_TOWNS = ("Halden", "Torvik", "Ambrine", "Veldra", "Lysette", "Calder", "Ithral", "Solenne")


def save_tiny_base(folder: Path, chat_template: str | None = CHAT_TEMPLATE, hidden: int = 64) -> Path:
    """Two layers with heads of 32, which is what vLLM serves on a CPU at least."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from tokenizers.decoders import ByteLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevel()
    special = ["<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
    tokenizer.train_from_iterator(
        (json.dumps(row) for row in make_rows(200)),
        trainers.BpeTrainer(
            vocab_size=512,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>", model_max_length=512
    )
    fast.chat_template = chat_template
    fast.save_pretrained(str(folder))
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 32,
        head_dim=32,
        # With the usual 0.02 and tied embeddings, the logits of frozen weights stay too small for an adapter to matter.
        initializer_range=0.25,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(str(folder))
    return folder


def make_rows(count: int) -> list[dict[str, Any]]:
    """Questions about prices, half of them with a context to read."""
    rows: list[dict[str, Any]] = []
    for number in range(count):
        metal, town = _METALS[number % 10], _TOWNS[number // 10 % 8]
        question = f"What does {metal} cost in {town} in week {number}?"
        answer = f"{number % 7 + 2} coins"
        if number % 2:
            context = [{"title": town, "text": f"In week {number} {metal} costs {answer}."}]
            rows.append({"context": context, "instruction": question, "response": f"{answer} [1]"})
        else:
            messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            rows.append({"messages": messages})
    return rows


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
