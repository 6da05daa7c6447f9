"""Reads a fleet file, and finds all its mistakes at once instead of one per try."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experts.errors import FleetFileError
from experts.fleet import Domain, Fleet, Index, is_url, resolve_path
from experts.fleet_check import observe_contradictions
from experts.fleet_document import parse_document
from experts.fleet_mistake import Mistake, observe_secrets, plan_rename, show_names, show_value
from experts.fleet_validation import observe_type_mistakes, parse_part


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check of a fleet file found: either `mistakes`, in the file's order, or the `fleet`, paths absolute."""

    path: Path
    mistakes: tuple[str, ...]
    fleet: Fleet | None


def load_fleet(path: Path) -> Fleet:
    """The fleet of a file, with every path in it absolute.

    Raises FleetFileError with all mistakes.
    """
    report = check_fleet(path)
    if report.fleet is None:
        raise FleetFileError(str(path), report.mistakes)
    return report.fleet


def check_fleet(path: Path) -> CheckReport:
    """Everything that is wrong with a fleet file; whether it fits its nodes is for `cluster.placement` to say."""
    text = _read_text(path)
    if isinstance(text, Mistake):
        return CheckReport(path, (str(text),), None)
    document = parse_document(text)
    mistakes = list(document.mistakes)
    if isinstance(document.data, dict):
        secrets = observe_secrets(document.data)
        hidden = {mistake.key for mistake in secrets}
        found = [*observe_type_mistakes(document.data), *observe_contradictions(document.data, path.absolute().parent)]
        mistakes += secrets + [mistake for mistake in found if mistake.key not in hidden]
    elif not mistakes:
        mistakes.append(_describe_content(document.data))
    located = [replace(mistake, line=mistake.line or document.line_of(mistake.key)) for mistake in mistakes]
    located.sort(key=lambda mistake: mistake.line or 0)
    fleet = None if located else parse_part(Fleet, document.data)
    return CheckReport(
        path, tuple(map(str, located)), None if fleet is None else _resolve_paths(fleet, path.absolute())
    )


def _read_text(path: Path) -> str | Mistake:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        others = _list_fleet_files(path.parent)
        known = f"YAML files in {path.parent}: {show_names(others)}"
        return Mistake((), "no such file", known, plan_rename(path.name, others, "correct the path"))
    except IsADirectoryError:
        others = _list_fleet_files(path)
        return Mistake((), "a folder", f"YAML files in it: {show_names(others)}", "name one file")
    except UnicodeDecodeError as error:
        found = f"byte 0x{error.object[error.start]:02x} at position {error.start}, which is not UTF-8"
        return Mistake((), found, "fleet files are UTF-8 text", "save the file as UTF-8")
    except OSError as error:
        found = f"a file that cannot be read ({error.strerror})"
        return Mistake((), found, "a fleet file is a readable text file", "correct the path or the file's permissions")


def _list_fleet_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.y*ml")) if folder.is_dir() else []


def _describe_content(data: Any) -> Mistake:
    found = "an empty file" if data is None else show_value(data)
    required = [name for name, field in Fleet.model_fields.items() if field.is_required()]
    return Mistake((), found, f"needed keys: {show_names(required)}", "start from a file in cluster/fleets")


def _resolve_paths(fleet: Fleet, fleet_file: Path) -> Fleet:
    engines = {
        name: engine.model_copy(update={"model": resolve_path(engine.model, fleet_file)})
        for name, engine in fleet.engines.items()
    }
    domains = {name: _resolve_domain(domain, fleet_file) for name, domain in fleet.domains.items()}
    settings = fleet.router
    artifact = str((fleet_file.parent / settings.artifact).resolve()) if settings.artifact is not None else None
    encoder = resolve_path(settings.encoder, fleet_file)
    router = settings.model_copy(update={"encoder": encoder, "artifact": artifact})
    return fleet.model_copy(update={"engines": engines, "domains": domains, "router": router})


def _resolve_domain(domain: Domain, fleet_file: Path) -> Domain:
    """Adapters, corpora and the router's artifact are always folders, so they need no ./ to be paths."""
    variants = {
        name: variant
        if variant.adapter is None
        else variant.model_copy(update={"adapter": str((fleet_file.parent / variant.adapter).resolve())})
        for name, variant in domain.variants.items()
    }
    index = _resolve_index(domain.index, fleet_file) if domain.index is not None else None
    return domain.model_copy(update={"variants": variants, "index": index})


def _resolve_index(index: Index, fleet_file: Path) -> Index:
    folders = {
        name: str((fleet_file.parent / folder).resolve())
        for name, folder in (("corpus", index.corpus), ("location", index.location))
        if folder is not None and not is_url(folder)
    }
    reranker = resolve_path(index.reranker, fleet_file) if index.reranker is not None else None
    return index.model_copy(update={**folders, "reranker": reranker})
