"""The pocket tokenizer: byte-level BPE over a thousand tokens, single digits, a chat template of three marks."""

import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from experts.pocket.editions import DrawExercise
from experts.pocket.exercise import Wanted
from experts.pocket.tasks import DOMAINS
from experts.prompt import GROUNDED_INSTRUCTION

# Passage numbers are tokens of their own. With `[`, `2` and `]` apart, a base that already copied values well still
# cited at random after 11 million tokens.
MARKS = tuple(f"[{number}]" for number in range(1, 9))
_MERGED = 1024
SIZE = _MERGED + len(MARKS)
PAD, USER, ASSISTANT, END = "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"
MAX_POSITIONS = 2048

# System messages are skipped: the instruction is the same in every prompt, and a pocket expert is trained on nothing
# else, so its tokens would only cost time.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}<|user|>{{ message['content'] }}<|end|>"
    "{% elif message['role'] == 'assistant' %}<|assistant|>{{ message['content'] }}<|end|>"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

# Names, numbers and identifiers never swallow the space before them, so that they are the same tokens wherever they
# stand and copying one is a matter of repeating tokens. Only plain small words carry their space.
# An operator of a calculation or of code is one token with the spaces around it, a line break with its indentation.
_PIECES = (
    r"\n(?:    )*|\"\"\"| -> | (?:[-+*/%<>=!]=?|\*\*|//) |; |, (?![a-z]{2})"
    r"| ?[a-z]{2,}(?![A-Za-z0-9_])|[A-Z][a-z]+|[a-z]+|[A-Z]+|[0-9]| ?[^\sA-Za-z0-9]|\s"
)


def train_tokenizer(draw: DrawExercise, exercises: int = 6000) -> PreTrainedTokenizerFast:
    """The tokenizer, trained on every domain's training exercises; the same on every run."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(_PIECES), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_MERGED,
        special_tokens=[PAD, USER, ASSISTANT, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_training_text(draw, exercises), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, model_max_length=MAX_POSITIONS
    )
    fast.chat_template = CHAT_TEMPLATE
    add_marks(fast)
    return fast


def add_marks(tokenizer: PreTrainedTokenizerFast) -> None:
    """Give every passage number its own token."""
    tokenizer.add_tokens([AddedToken(mark, normalized=False) for mark in MARKS])


def _training_text(draw: DrawExercise, exercises: int) -> Iterator[str]:
    rng = random.Random(20)  # noqa: S311
    yield GROUNDED_INSTRUCTION
    for turn in range(exercises):
        exercise = draw(DOMAINS[turn % len(DOMAINS)], rng, Wanted())
        for passage in exercise.passages:
            yield f"{passage.title}: {passage.text}"
        for asked in exercise.asked:
            yield f"Question: {asked.question}\n{asked.target}"


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a saved base."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(folder))
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    return tokenizer
