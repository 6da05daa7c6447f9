"""What `guildhall adapt evaluate` reads."""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from experts.adapt.adapter_folder import AdapterFolder
from experts.adapt.config import AdaptConfig, FilePath, ModelReference
from experts.fleet import Engine, Name
from experts.settings import Settings


class EvaluatedEngine(Engine):
    """An engine as a fleet file has it; its path is relative to this config."""

    model: ModelReference = Field(description="Hub id, or a folder given as ./, ../ or /.")


class Task(Settings):
    """One set of cases and how an answer is judged."""

    data: FilePath = Field(description="JSONL as for sft; each row's answer is what is wanted.")
    judge: Literal["exact", "contains"] = Field(
        default="exact", description="Right is the wanted text itself, or an answer that contains its value."
    )


class EvaluateConfig(AdaptConfig):
    """`guildhall adapt evaluate`: one variant answers every task on the engine that would serve it."""

    engine: EvaluatedEngine = Field(description="The engine, with the keys that it has in a fleet file.")
    adapter: AdapterFolder | None = Field(
        default=None, description="Folder of a LoRA adapter on that engine; absent: the model itself answers."
    )
    tasks: dict[Name, Task] = Field(min_length=1, description="Tasks by name.")
    output: FilePath = Field(description="Run folder to make, with the report and every answer.")
    max_tokens: int = Field(
        default=256, ge=1, le=1_000_000, validate_default=True, description="Tokens of an answer at most."
    )

    @field_validator("adapter")
    @classmethod
    def _check_adapter(cls, adapter: Path | None, info: ValidationInfo) -> Path | None:
        engine = info.data.get("engine")
        if adapter is not None and engine is not None and not engine.max_adapters:
            raise ValueError("the engine takes no adapter; set engine.max_adapters to 1 or more")
        return adapter

    @field_validator("max_tokens")
    @classmethod
    def _check_max_tokens(cls, tokens: int, info: ValidationInfo) -> int:
        engine = info.data.get("engine")
        if engine is not None and tokens >= engine.max_model_len:
            raise ValueError(
                f"{tokens} tokens leave no prompt in engine.max_model_len {engine.max_model_len}; lower max_tokens"
            )
        return tokens
