"""The file of rates: what a placement must carry."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from experts.errors import ConfigurationError
from experts.fleet import Fleet, Name
from experts.fleet_document import parse_document
from experts.settings import Settings

# How far apart the replicas of an engine are kept: on GPUs that they do not share, or on nodes of their own.
Spread = Literal["gpu", "node"]


class Traffic(Settings):
    """Sub-queries of one domain: how many, and how long they are on average."""

    requests_per_s: float = Field(ge=0, le=1_000_000, description="Sub-queries per second.")
    prompt_tokens: int = Field(ge=1, le=1_000_000, description="Tokens of a prompt, with its passages.")
    output_tokens: int = Field(ge=1, le=1_000_000, description="Tokens of an answer.")

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.output_tokens


class Demand(Settings):
    """Everything that a file of rates says."""

    domains: dict[Name, Traffic] = Field(min_length=1, description="Traffic by domain.")
    spread: dict[Name, Spread] = Field(
        default_factory=dict, description="How far apart an engine's replicas are kept; absent: wherever they fit."
    )
    models: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Shapes of models by hub id, with the keys of their config.json."
    )


def load_demand(path: Path, fleet: Fleet) -> Demand:
    """The file of rates for a fleet; raises ConfigurationError with all its mistakes."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read ({error}); name a YAML file with rates by domain") from error
    document = parse_document(text)
    if document.mistakes:
        raise ConfigurationError("\n".join(f"{path}: {mistake}" for mistake in document.mistakes))
    try:
        demand = Demand.model_validate(document.data)
    except ValidationError as error:
        mistakes = [f"{'.'.join(map(str, found['loc'])) or 'the file'}: {found['msg']}" for found in error.errors()]
        raise ConfigurationError("\n".join(f"{path}: {mistake}" for mistake in mistakes)) from error
    return check_demand(demand, fleet, str(path))


def check_demand(demand: Demand, fleet: Fleet, source: str) -> Demand:
    """The demand as it is; raises ConfigurationError where it does not go with the fleet."""
    mistakes = [
        f"domain '{name}' has no rate; add domains.{name} with requests_per_s (0 if it is only kept ready), "
        "prompt_tokens and output_tokens"
        for name in fleet.domains
        if name not in demand.domains
    ]
    for kind, named, known in (
        ("domain", demand.domains, list(fleet.domains)),
        ("engine", demand.spread, list(fleet.engines)),
    ):
        mistakes += [
            f"{kind} '{name}' is not in the fleet, which has {', '.join(known)}; remove it or correct its name"
            for name in named
            if name not in known
        ]
    for name in demand.domains.keys() & fleet.domains.keys():
        longest = max(fleet.engines[variant.engine].max_model_len for variant in fleet.domains[name].variants.values())
        if demand.domains[name].tokens > longest:
            mistakes.append(
                f"domain '{name}' has {demand.domains[name].tokens} tokens of prompt and answer, its engines take "
                f"{longest}; write shorter ones or raise max_model_len"
            )
    if mistakes:
        raise ConfigurationError("\n".join(f"{source}: {mistake}" for mistake in sorted(mistakes)))
    return demand
