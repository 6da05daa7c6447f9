"""A fleet on machines that have its project in another folder: in an image, or where `ray up` copies it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from experts.errors import ConfigurationError
from experts.fleet import Domain, Fleet, is_path


def move_path(path: str, project: Path, home: str, key: str) -> str:
    """A path below `project` as a path below `home`; raises ConfigurationError for one that is elsewhere."""
    try:
        return str(Path(home) / Path(path).relative_to(project))
    except ValueError:
        raise ConfigurationError(
            f"{key} is {path}, which is not in {project}, the folder that goes to the machines; move it there, name a "
            "hub id, or run the command in the folder that has both the fleet file and what it names"
        ) from None


def move_fleet(fleet: Fleet, project: Path, home: str) -> Fleet:
    """The fleet with every folder that goes along moved from `project` to `home`; hub ids and URLs stay.

    `fleet` has absolute paths. An index's location stays too: it is no part of the project. Raises ConfigurationError.
    """
    move = partial(_move_reference, project, home)
    engines = {
        name: engine.model_copy(update={"model": move(engine.model, f"engines.{name}.model")})
        for name, engine in fleet.engines.items()
    }
    domains = {name: _move_domain(name, domain, move) for name, domain in fleet.domains.items()}
    artifact = fleet.router.artifact
    router = fleet.router.model_copy(
        update={
            "encoder": move(fleet.router.encoder, "router.encoder"),
            "artifact": None if artifact is None else move(artifact, "router.artifact"),
        }
    )
    return fleet.model_copy(update={"engines": engines, "domains": domains, "router": router})


def _move_reference(project: Path, home: str, reference: str, key: str) -> str:
    return move_path(reference, project, home, key) if is_path(reference) else reference


def _move_domain(name: str, domain: Domain, move: Callable[[str, str], str]) -> Domain:
    variants = {
        variant_name: variant
        if variant.adapter is None
        else variant.model_copy(
            update={"adapter": move(variant.adapter, f"domains.{name}.variants.{variant_name}.adapter")}
        )
        for variant_name, variant in domain.variants.items()
    }
    index = domain.index
    if index is not None:
        folders = {"corpus": index.corpus, "reranker": index.reranker}
        moved = {
            field: move(path, f"domains.{name}.index.{field}") for field, path in folders.items() if path is not None
        }
        index = index.model_copy(update=moved)
    return domain.model_copy(update={"variants": variants, "index": index})
