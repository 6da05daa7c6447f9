"""What `guildhall adapt quantize` reads."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from experts.adapt.adapter_folder import AdapterFolder
from experts.adapt.config import AdaptConfig, FilePath, ModelReference
from experts.settings import Settings

Format = Literal["int8", "int4", "fp8", "awq", "gptq"]
# Layouts with one scale for each group of weights, in which rounding may be tuned.
GROUPED: tuple[Format, ...] = ("int4", "awq", "gptq")


class Calibration(Settings):
    """The rows by which 4-bit rounding is tuned."""

    data: FilePath = Field(description="JSONL as for sft: prompts and answers like those that will be served.")
    rows: int = Field(default=256, ge=8, le=100_000, description="Rows taken from the file's beginning.")
    steps: int = Field(default=200, ge=1, le=10_000, description="Steps of tuning for each layer of the model.")


class QuantizeConfig(AdaptConfig):
    """`guildhall adapt quantize`: a model, with an adapter merged into it or not, becomes a smaller model."""

    base: ModelReference = Field(description="Model to quantize: a hub id, or a folder given as ./, ../ or /.")
    adapter: AdapterFolder | None = Field(
        default=None, description="Folder of a LoRA adapter that is merged into the base first."
    )
    output: FilePath = Field(description="Run folder to make; the model is in its folder model/.")
    format: Format = Field(description="How weights are stored; docs/adapting.md says where each is served.")
    group_size: Literal[32, 64, 128] = Field(
        default=128, description="Weights that share a scale in a 4-bit format; it divides every layer's input width."
    )
    calibration: Calibration | None = Field(
        default=None,
        validate_default=True,
        description="Rows by which 4-bit rounding is tuned; absent: to nearest, for int4 only.",
    )
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="Of the tuning's order.")

    @field_validator("group_size")
    @classmethod
    def _check_group_size(cls, size: int, info: ValidationInfo) -> int:
        layout = info.data.get("format")
        if layout is not None and layout not in GROUPED:
            raise ValueError(f"format {layout} has one scale for each row of weights; remove group_size")
        return size

    @field_validator("calibration")
    @classmethod
    def _check_calibration(cls, calibration: Calibration | None, info: ValidationInfo) -> Calibration | None:
        layout = info.data.get("format")
        if calibration is None and layout in ("awq", "gptq"):
            raise ValueError(f"format {layout} is made by tuned rounding; name rows in calibration.data")
        if calibration is not None and layout is not None and layout not in GROUPED:
            raise ValueError(f"format {layout} is rounded to nearest; remove calibration, or take int4")
        return calibration
