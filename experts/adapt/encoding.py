"""Examples in tokens: the prompt exactly as it is served, then the answer, on which alone the loss is taken."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from experts.adapt.examples import Example
from experts.errors import ConfigurationError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What the loss passes over, as torch's cross entropy has it.
IGNORED = -100


@dataclass(frozen=True, slots=True)
class Encoded:
    """One example: `labels` are `input_ids` on the answer and its end, IGNORED before."""

    input_ids: list[int]
    labels: list[int]

    @property
    def answer_tokens(self) -> int:
        return sum(label != IGNORED for label in self.labels)


def load_tokenizer(base: str) -> "PreTrainedTokenizerBase":
    """The base's tokenizer. Raises ConfigurationError where it is missing, ends no answer or has no chat template."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(base)
    except (OSError, ValueError, json.JSONDecodeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigurationError(
            f"base '{base}': its tokenizer cannot be read ({reason}); name a folder with config.json, weights and "
            "tokenizer, or a hub id that this machine can reach"
        ) from None
    if tokenizer.chat_template is None:
        raise ConfigurationError(
            f"base '{base}' has no chat template, and experts are served with their base's; name its instruct version, "
            "or put a chat_template.jinja into its folder (docs/adapting.md has a plain one)"
        )
    if tokenizer.eos_token_id is None:
        raise ConfigurationError(
            f"base '{base}': its tokenizer has no eos_token, so no answer would end; set eos_token in its "
            "tokenizer_config.json"
        )
    return tokenizer


def encode_examples(examples: Sequence[Example], tokenizer: "PreTrainedTokenizerBase") -> list[Encoded]:
    """The examples in tokens, in order."""
    prompts = [_render(example, tokenizer, with_answer=False) for example in examples]
    completions = []
    for example, prompt in zip(examples, prompts, strict=True):
        whole = _render(example, tokenizer, with_answer=True)
        # A template that writes an answer's turn otherwise than it opens one (some drop a thinking block) would train
        # on what is never served; the answer then follows the served opening as it is.
        completions.append(whole.removeprefix(prompt).rstrip() if whole.startswith(prompt) else example.answer)
    if not prompts:
        return []
    prompt_ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    completion_ids = tokenizer(completions, add_special_tokens=False)["input_ids"]
    end = tokenizer.eos_token_id
    encoded = []
    for before, answer in zip(prompt_ids, completion_ids, strict=True):
        learned = answer if answer and answer[-1] == end else [*answer, end]
        encoded.append(Encoded([*before, *learned], [IGNORED] * len(before) + list(learned)))
    return encoded


def _render(example: Example, tokenizer: "PreTrainedTokenizerBase", with_answer: bool) -> str:
    messages = [dict(message) for message in example.prompt]
    if with_answer:
        messages.append({"role": "assistant", "content": example.answer})
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=not with_answer))
