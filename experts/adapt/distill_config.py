"""What `guildhall adapt distill` reads: a teacher, a student, and rows by domain."""

from typing import Literal

from pydantic import Field

from experts.adapt.config import AdaptConfig, FilePath, Lora, ModelReference
from experts.fleet import Name
from experts.settings import Settings


class DomainRows(Settings):
    """The rows of one domain."""

    data: FilePath = Field(description="JSONL: `messages`, or `instruction` and `response` with an optional `context`.")
    held_out: FilePath | None = Field(
        default=None,
        description="JSONL on which the gap is measured, not learned; absent: a tenth of the questions of data.",
    )


class DistillConfig(AdaptConfig):
    """`guildhall adapt distill`: a student learns from a teacher, most where it is furthest behind."""

    teacher: ModelReference = Field(description="Model to learn from: a hub id, or a folder given as ./, ../ or /.")
    teacher_adapter: FilePath | None = Field(default=None, description="Folder of a LoRA adapter on the teacher.")
    student: ModelReference = Field(description="Model to train: a hub id, or a folder given as ./, ../ or /.")
    domains: dict[Name, DomainRows] = Field(min_length=1, description="Rows by domain.")
    output: FilePath = Field(description="Run folder to make; it appears when the run is finished.")
    learn: Literal["logits", "answers"] = Field(
        default="logits",
        description="What is learned: the teacher's probabilities beside the rows' answers, where both read the same "
        "tokens; or answers that the teacher writes, in place of the rows'.",
    )
    temperature: float = Field(
        default=1, gt=0, le=100, description="Softens the probabilities of both before they are compared."
    )
    teacher_weight: float = Field(
        default=0.5, ge=0, le=1, description="Weight of the teacher's probabilities; the rest is that of the answers."
    )
    max_answer_tokens: int = Field(
        default=256,
        ge=1,
        le=100_000,
        description="Tokens of an answer that the teacher writes; longer ones are left out.",
    )
    sampling: Literal["domain_gaps", "uniform"] = Field(
        default="domain_gaps",
        description="Draw each domain by how far the student is behind in it, measured again and again; or all alike.",
    )
    gap_every_steps: int = Field(default=50, ge=1, le=1_000_000, description="Steps between measurements of the gaps.")
    tokens: int = Field(
        ge=1,
        description="Tokens of prompts and answers to train on, where all domains get as many; drawing more of one "
        "with long or short rows takes more or fewer in the same steps.",
    )
    method: Literal["lora", "full"] = Field(
        default="full", description="Train all weights of the student, or an adapter."
    )
    lora: Lora = Field(default_factory=lambda: Lora(), description="The adapter's shape, for method: lora.")
    learning_rate: float | None = Field(
        default=None, gt=0, le=1, description="Highest learning rate; absent: 0.0002 for lora, 0.00002 for full."
    )
    batch_size: int = Field(default=16, ge=1, le=65_536, description="Rows of one step.")
    max_tokens: int = Field(default=1024, ge=16, le=1_000_000, description="Tokens of a row; longer rows are broken.")
    micro_batch_tokens: int = Field(
        default=8192,
        ge=16,
        le=10_000_000,
        description="Tokens, padding included, that go through the models at once.",
    )
    memory_gib: float | None = Field(
        default=None,
        gt=0,
        le=65_536,
        description="Memory that the run may take at its peak, teacher included; absent: nine tenths of what is free.",
    )
    broken_rows: Literal["stop", "skip"] = Field(
        default="stop", description="What a broken, contradictory or leaked row does: end the run, or be left out."
    )
    checkpoint_every_s: float = Field(
        default=120, ge=0, le=86_400, description="Seconds of training that a kill may cost."
    )
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="Of the adapter's first weights and the data's order.")
