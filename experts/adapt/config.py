"""What `guildhall adapt` reads: one YAML file per run, one typed tree per verb, paths relative to the file."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo

from experts.errors import ConfigurationError
from experts.fleet import resolve_path
from experts.fleet_document import parse_document
from experts.fleet_mistake import Mistake, choose_closest, show_names, show_value
from experts.settings import Settings


class AdaptConfig(Settings):
    """The root of a verb's tree: frozen, with unknown keys rejected."""


Tree = TypeVar("Tree", bound=AdaptConfig)


def _resolve_file(path: Path, info: ValidationInfo) -> Path:
    return (_config_file(info).parent / path).resolve()


def _resolve_model(reference: str, info: ValidationInfo) -> str:
    return resolve_path(reference, _config_file(info))


def _config_file(info: ValidationInfo) -> Path:
    assert info.context is not None, "read_config gives the config file as context"
    file: Path = info.context["file"]
    return file


# Given relative to the config file; absolute once read.
FilePath = Annotated[Path, AfterValidator(_resolve_file)]
# A hub id, or a path that starts with ./, ../ or /.
ModelReference = Annotated[str, Field(min_length=1), AfterValidator(_resolve_model)]


class Lora(Settings):
    """The adapter's shape; every linear layer but the output layer gets one."""

    rank: int = Field(default=16, ge=1, le=512, description="Rank; the engine's max_adapter_rank must be as large.")
    alpha: float = Field(default=32, gt=0, le=4096, description="Scale: the update is multiplied by alpha / rank.")


class Guard(Settings):
    """What must not be forgotten."""

    data: FilePath = Field(description="General questions with short answers, JSONL in the form of the data.")
    max_drop: float = Field(
        default=0.02, ge=0, le=1, description="Accuracy on it that the run may lose at most; more fails the run."
    )


class SftConfig(AdaptConfig):
    """`guildhall adapt sft`: a base and rows of questions and answers become an adapter, or a whole model."""

    base: ModelReference = Field(description="Model to adapt: a hub id, or a folder given as ./, ../ or /.")
    data: FilePath = Field(description="JSONL: `messages`, or `instruction` and `response` with an optional `context`.")
    held_out: FilePath | None = Field(
        default=None, description="JSONL that is measured and not learned; absent: a tenth of the rows of data."
    )
    output: FilePath = Field(description="Run folder to make; it appears when the run is finished.")
    method: Literal["lora", "full"] = Field(default="lora", description="Train an adapter, or all weights.")
    lora: Lora = Field(default_factory=lambda: Lora(), description="The adapter's shape, for method: lora.")
    epochs: float = Field(default=3, gt=0, le=1000, description="Times that the data is seen.")
    learning_rate: float | None = Field(
        default=None, gt=0, le=1, description="Highest learning rate; absent: 0.0002 for lora, 0.00002 for full."
    )
    batch_size: int = Field(default=16, ge=1, le=65_536, description="Rows of one step.")
    max_tokens: int = Field(default=1024, ge=16, le=1_000_000, description="Tokens of a row; longer rows are broken.")
    micro_batch_tokens: int = Field(
        default=8192,
        ge=16,
        le=10_000_000,
        description="Tokens, padding included, that go through the model at once; a step takes as many such parts as "
        "it needs.",
    )
    memory_gib: float | None = Field(
        default=None,
        gt=0,
        le=65_536,
        description="Memory that the run may take at its peak: of the GPU, or of the process on a CPU; absent: nine "
        "tenths of what is free.",
    )
    broken_rows: Literal["stop", "skip"] = Field(
        default="stop", description="What a broken, contradictory or leaked row does: end the run, or be left out."
    )
    guard: Guard | None = Field(default=None, description="What must not be forgotten; absent: nothing is measured.")
    checkpoint_every_s: float = Field(
        default=120, ge=0, le=86_400, description="Seconds of training that a kill may cost."
    )
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="Of the adapter's first weights and the data's order.")

    @property
    def peak_learning_rate(self) -> float:
        """LoRA takes about ten times the rate of full training (Schulman et al., LoRA Without Regret, 2025)."""
        return self.learning_rate or (2e-4 if self.method == "lora" else 2e-5)


def read_config(path: Path, kind: type[Tree]) -> Tree:
    """The tree of a config file, its paths absolute. Strict: text is no number.

    Raises ConfigurationError with every mistake, one line each.
    """
    try:
        document = parse_document(path.read_bytes().decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigurationError(
            f"{path}: cannot be read ({reason}); name a YAML file, as in docs/adapting.md"
        ) from None
    mistakes = list(document.mistakes)
    tree: Tree | None = None
    if not mistakes and not isinstance(document.data, dict):
        needed = [name for name, field in kind.model_fields.items() if field.is_required()]
        found = "an empty file" if document.data is None else show_value(document.data)
        mistakes.append(Mistake((), found, f"needed keys: {show_names(needed)}", "see docs/adapting.md"))
    if not mistakes:
        try:
            context = {"file": path.absolute()}
            tree = kind.model_validate_json(json.dumps(document.data), strict=True, context=context)
        except ValidationError as error:
            for finding in error.errors(include_url=False, include_context=False):
                key = tuple(str(part) for part in finding["loc"])
                mistakes.append(_describe(finding["type"], key, finding["input"], finding["msg"], kind))
    if tree is not None:
        return tree
    lines = [str(Mistake(m.key, m.found, m.known, m.next_step, m.line or document.line_of(m.key))) for m in mistakes]
    raise ConfigurationError("\n".join([f"{path}: {len(lines)} mistake(s)", *lines]))


def _describe(problem: str, key: tuple[str, ...], value: Any, message: str, kind: type[AdaptConfig]) -> Mistake:
    if problem == "missing":
        return Mistake(key, "nothing", "this key is needed", f"add the key {key[-1]}")
    if problem == "extra_forbidden":
        known = _known_keys(kind, key[:-1])
        closest = choose_closest(key[-1], known)
        next_step = f"did you mean '{closest}'?" if closest else "remove it or use one of these"
        return Mistake(key, "an unknown key", f"known keys: {show_names(known)}", next_step)
    if problem == "value_error":  # a validator of ours, which says what is wrong and what to do
        wrong, _, mend = message.removeprefix("Value error, ").rpartition("; ")
        return Mistake(key, show_value(value), wrong, mend)
    message = message[0].lower() + message[1:]
    return Mistake(key, show_value(value), message, f"replace it with what {key[-1] if key else 'it'} may be")


def _known_keys(kind: type[AdaptConfig], key: tuple[str, ...]) -> list[str]:
    """The keys that may stand beside a key, from the tree's schema."""
    schema = kind.model_json_schema()
    node: dict[str, Any] = schema
    for part in key:
        node = node.get("properties", {}).get(part, {})
        for option in node.get("anyOf", [node]):
            if "$ref" in option:
                node = schema["$defs"][option["$ref"].rsplit("/", 1)[-1]]
    return list(node.get("properties", {}))
