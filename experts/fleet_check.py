"""Mistakes that no type can show: names that lead nowhere, folders that are missing, settings that contradict.

Every check runs on the parts of the file that are right in themselves, whatever is wrong with the others.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experts.adapt.provenance import PROVENANCE_FILE, read_provenance
from experts.errors import ConfigurationError
from experts.fleet import Engine, Index, NodeType, Router, Variant, is_path, is_url
from experts.fleet_mistake import KeyPath, Mistake, choose_closest, plan_rename, shorten, show_names, show_value
from experts.fleet_validation import parse_part
from experts.prompt import fingerprint_template
from experts.scaling_check import check_scaling

CORPUS_SUFFIXES = (".md", ".txt", ".py", ".html", ".htm", ".pdf", ".csv", ".jsonl")
# Each engine is a Ray Serve application of its own name, and so is the gateway.
_GATEWAY = "gateway"
_HUB_ID = re.compile(r"^[\w.-]+(/[\w.-]+)?$")


@dataclass(frozen=True, slots=True)
class _Parts:
    """A fleet file in parts: what the file names, and those of its parts that are right in themselves."""

    folder: Path
    raw_engines: dict[str, Any]
    raw_domains: dict[str, Any]
    raw_nodes: dict[str, Any]
    generalist: Any
    engines: dict[str, Engine]
    variants: dict[tuple[str, str], Variant]
    indexes: dict[str, Index]
    nodes: dict[str, NodeType]
    router: Router | None

    def nodes_for(self, engine: Engine) -> dict[str, NodeType] | None:
        """The node types that may run an engine; None where a mistake in one of them leaves that open."""
        names = list(self.raw_nodes) if engine.node_type is None else [engine.node_type]
        if not names or any(name not in self.nodes for name in names):
            return None
        return {name: self.nodes[name] for name in names}


def observe_contradictions(data: dict[str, Any], folder: Path) -> list[Mistake]:
    """Every mistake between the parts of a fleet file and on disk; paths are relative to `folder`."""
    parts = _split(data, folder)
    mistakes: list[Mistake] = []
    for name, engine in parts.engines.items():
        mistakes += _check_engine(parts, ("engines", name), name, engine)
    mistakes += _check_unused_engines(parts)
    for (domain, variant_name), variant in parts.variants.items():
        key = ("domains", domain, "variants", variant_name)
        mistakes += _check_variant(parts, key, variant)
        mistakes += _check_template(parts, key, variant)
    mistakes += _check_adapters(parts)
    for domain, index in parts.indexes.items():
        mistakes += _check_index(parts, ("domains", domain, "index"), index)
    mistakes += _check_locations(parts)
    mistakes += _check_descriptions(parts)
    mistakes += _check_answer_lengths(parts)
    mistakes += _check_generalist(parts)
    mistakes += _check_nodes(parts)
    if parts.router is not None and is_path(parts.router.encoder):
        mistakes += _check_folder(parts, ("router", "encoder"), parts.router.encoder, "an encoder's folder")
    return mistakes


def _split(data: dict[str, Any], folder: Path) -> _Parts:
    raw_engines, raw_domains, raw_nodes = (_mapping(data.get(name)) for name in ("engines", "domains", "nodes"))
    variants = {
        (domain, name): variant
        for domain, raw in raw_domains.items()
        for name, raw_variant in _mapping(_mapping(raw).get("variants")).items()
        if (variant := parse_part(Variant, raw_variant)) is not None
    }
    indexes = {name: parse_part(Index, _mapping(raw).get("index")) for name, raw in raw_domains.items()}
    engines = {name: parse_part(Engine, raw) for name, raw in raw_engines.items()}
    nodes = {name: parse_part(NodeType, raw) for name, raw in raw_nodes.items()}
    return _Parts(
        folder=folder,
        raw_engines=raw_engines,
        raw_domains=raw_domains,
        raw_nodes=raw_nodes,
        generalist=data.get("generalist"),
        engines={name: engine for name, engine in engines.items() if engine is not None},
        variants=variants,
        indexes={name: index for name, index in indexes.items() if index is not None},
        nodes={name: node for name, node in nodes.items() if node is not None},
        router=parse_part(Router, data.get("router", {})),
    )


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _check_engine(parts: _Parts, key: KeyPath, name: str, engine: Engine) -> Iterator[Mistake]:
    yield from _check_model(parts, (*key, "model"), engine.model)
    yield from check_scaling(key, engine)
    if name == _GATEWAY:
        known = "each engine is a Ray Serve application, and the gateway has that name"
        yield Mistake(key, f"the name '{name}'", known, "rename the engine")
    replicas = engine.replicas
    if replicas.min > replicas.max:
        known = f"replicas.max is {replicas.max}"
        next_step = f"lower min to {replicas.max} at most or raise max to {replicas.min}"
        yield Mistake((*key, "replicas", "min"), str(replicas.min), known, next_step)
    if engine.node_type is not None and parts.raw_nodes and engine.node_type not in parts.raw_nodes:
        known = f"known node types: {show_names(parts.raw_nodes)}"
        next_step = plan_rename(engine.node_type, list(parts.raw_nodes), f"add nodes.{shorten(engine.node_type)}")
        yield Mistake((*key, "node_type"), show_value(engine.node_type), known, next_step)
    for at, name in enumerate(engine.placed_on):
        node_type, _, number = name.rpartition("-")
        node = parts.nodes.get(node_type)
        if node is None and node_type in parts.raw_nodes:
            continue
        if node is None or not number.isdecimal() or not 1 <= int(number) <= node.count:
            machines = ", ".join(f"{kind}-1 to {kind}-{one.count}" for kind, one in parts.nodes.items())
            known = f"known machines: {machines}"
            yield Mistake((*key, "placed_on", str(at)), show_value(name), known, "plan again, or remove placed_on")
    if engine.device == "cpu":
        yield from _check_cpu_engine(key, engine)
    else:
        yield from _check_gpu_engine(parts, key, engine)


def _check_cpu_engine(key: KeyPath, engine: Engine) -> Iterator[Mistake]:
    for name in ("gpus", "tensor_parallel"):
        value = getattr(engine, name)
        if name in engine.model_fields_set and not (name == "tensor_parallel" and value == 1):
            known = "the engine has device: cpu, which uses no GPU"
            yield Mistake((*key, name), f"{value:g}", known, f"set device: gpu or remove {name}")
    if engine.elastic_kv is not None:
        known = "the engine has device: cpu, where `sharing` lends KV memory"
        next_step = "set device: gpu, or remove elastic_kv and set sharing.kv_cache_gib"
        yield Mistake((*key, "elastic_kv"), show_value(engine.elastic_kv), known, next_step)


def _check_gpu_engine(parts: _Parts, key: KeyPath, engine: Engine) -> Iterator[Mistake]:
    if "kv_cache_gib" in engine.model_fields_set:
        known = "the engine has device: gpu, where the KV cache takes what its share of the GPU leaves"
        next_step = "remove kv_cache_gib and set gpus"
        yield Mistake((*key, "kv_cache_gib"), f"{engine.kv_cache_gib:g}", known, next_step)
    if engine.sleep is not None and engine.sleep.level == 2 and engine.max_adapters:
        known = f"the engine has room for {engine.max_adapters} adapters, which level 2 would lose"
        yield Mistake((*key, "sleep", "level"), "2", known, "set level: 1")
    if engine.tensor_parallel > 1 and engine.gpus < 1:
        known = f"tensor_parallel: {engine.tensor_parallel} takes whole GPUs"
        next_step = "set gpus: 1 or remove tensor_parallel"
        yield Mistake((*key, "gpus"), f"{engine.gpus:g}", known, next_step)
    nodes = parts.nodes_for(engine)
    if nodes is None:
        return
    counts = ", ".join(f"{name} has {node.gpus}" for name, node in nodes.items())
    most = max(node.gpus for node in nodes.values())
    if most == 0:
        known = f"GPUs of one machine: {counts}"
        next_step = "set device: cpu, or give a node type of nodes its gpus"
        yield Mistake((*key, "device"), "'gpu'", known, next_step)
    elif engine.tensor_parallel > most:
        known = f"a replica stays on one machine, and GPUs of one machine: {counts}"
        next_step = f"lower tensor_parallel to {most} at most or name larger machines"
        yield Mistake((*key, "tensor_parallel"), str(engine.tensor_parallel), known, next_step)


def _check_model(parts: _Parts, key: KeyPath, model: str) -> Iterator[Mistake]:
    if is_path(model):
        wrong = list(_check_folder(parts, key, model, "a model's folder"))
        yield from wrong
        if not wrong and not (parts.folder / model / "config.json").is_file():
            known = "a model's folder holds config.json, the weights and the tokenizer"
            yield Mistake(
                key, f"{show_value(model)}, a folder without config.json", known, "name the folder that has it"
            )
    elif not _HUB_ID.match(model):
        known = "allowed: a hub id such as Qwen/Qwen2.5-0.5B-Instruct, or a path that starts with ./, ../ or /"
        yield Mistake(key, show_value(model), known, "begin a path with ./")
    elif os.path.isdir(parts.folder / model):
        known = "without ./ it is a hub id, but a folder of that name is here"
        yield Mistake(key, show_value(model), known, f"write ./{shorten(model)} for the folder or rename the folder")


def _check_unused_engines(parts: _Parts) -> Iterator[Mistake]:
    used = [
        _mapping(variant).get("engine")
        for domain in parts.raw_domains.values()
        for variant in _mapping(_mapping(domain).get("variants")).values()
    ]
    for name in parts.raw_engines:
        if parts.raw_domains and name not in used:
            known = f"the variants use: {show_names(dict.fromkeys(str(engine) for engine in used))}"
            yield Mistake(("engines", name), "an engine that no domain uses", known, "remove it or give it a variant")


def _check_variant(parts: _Parts, key: KeyPath, variant: Variant) -> Iterator[Mistake]:
    if parts.raw_engines and variant.engine not in parts.raw_engines:
        known = f"known engines: {show_names(parts.raw_engines)}"
        next_step = plan_rename(variant.engine, list(parts.raw_engines), f"add engines.{shorten(variant.engine)}")
        yield Mistake((*key, "engine"), show_value(variant.engine), known, next_step)
    if variant.adapter is None:
        return
    wrong = list(_check_folder(parts, (*key, "adapter"), variant.adapter, "a LoRA adapter's folder"))
    yield from wrong
    if wrong:
        return
    settings = parts.folder / variant.adapter / "adapter_config.json"
    if not settings.is_file():
        known = "a LoRA adapter's folder holds adapter_config.json and the adapter's weights"
        found = f"{show_value(variant.adapter)}, a folder without adapter_config.json"
        yield Mistake((*key, "adapter"), found, known, "name the folder that has it")
        return
    engine = parts.engines.get(variant.engine)
    rank = _read_rank(settings)
    if engine is not None and rank is not None and rank > engine.max_adapter_rank:
        known = f"engines.{variant.engine}.max_adapter_rank is {engine.max_adapter_rank}"
        yield Mistake((*key, "adapter"), f"an adapter of rank {rank}", known, f"raise max_adapter_rank to {rank}")


def _read_rank(settings: Path) -> int | None:
    try:
        rank = _mapping(json.loads(settings.read_text(encoding="utf-8"))).get("r")
    except (OSError, ValueError):
        return None
    return rank if isinstance(rank, int) else None


def _check_template(parts: _Parts, key: KeyPath, variant: Variant) -> Iterator[Mistake]:
    """What was trained last decides: an adapter where the variant has one, else the engine's model."""
    engine = parts.engines.get(variant.engine)
    if variant.adapter is not None:
        key, reference = (*key, "adapter"), variant.adapter
    elif engine is not None and is_path(engine.model):
        key, reference = (*key, "engine"), engine.model
    else:
        return
    if not os.path.isdir(parts.folder / reference):
        return
    try:
        provenance = read_provenance(parts.folder / reference)
    except ConfigurationError:
        found = f"{show_value(reference)}, whose {PROVENANCE_FILE} cannot be read"
        known = "it is a JSON object with the key 'template', the prompt template that the artifact was trained with"
        yield Mistake(key, found, known, "train the artifact again with `guildhall adapt` or correct the file")
        return
    served = fingerprint_template()
    if provenance is None or provenance.template in (served, variant.accept_template):
        return
    found = f"{show_value(reference)}, trained with prompt template {show_value(provenance.template)}"
    known = f"this version of Guildhall serves with {show_value(served)}, and an expert fails on prompts that drifted"
    next_step = (
        "train it again with `guildhall adapt`, or set the variant's accept_template: "
        f"{show_value(provenance.template)} to serve it all the same"
    )
    yield Mistake(key, found, known, next_step)


def _check_adapters(parts: _Parts) -> Iterator[Mistake]:
    for name, engine in parts.engines.items():
        adapters = {
            variant.adapter
            for variant in parts.variants.values()
            if variant.engine == name and variant.adapter is not None
        }
        if len(adapters) > engine.max_adapters:
            known = f"{len(adapters)} adapters of the domains are on this engine"
            next_step = f"raise max_adapters to {len(adapters)} at least"
            yield Mistake(("engines", name, "max_adapters"), str(engine.max_adapters), known, next_step)


def _check_index(parts: _Parts, key: KeyPath, index: Index) -> Iterator[Mistake]:
    if index.corpus is not None:
        yield from _check_corpus(parts, (*key, "corpus"), index.corpus)
    if index.location is not None and os.path.isfile(parts.folder / index.location):
        found = f"{show_value(index.location)}, a file"
        yield Mistake(
            (*key, "location"), found, "needed: a folder, which need not exist yet, or a URL", "name a folder"
        )
    if index.reranker is not None and is_path(index.reranker):
        yield from _check_folder(parts, (*key, "reranker"), index.reranker, "a cross-encoder's folder")
    if index.dense_weight is not None and index.search != "hybrid":
        known = f"search: {index.search} has nothing to weigh against"
        yield Mistake((*key, "dense_weight"), f"{index.dense_weight:g}", known, "set search: hybrid or remove it")


def _check_locations(parts: _Parts) -> Iterator[Mistake]:
    first: dict[str, str] = {}
    for domain, index in parts.indexes.items():
        if index.location is None:
            continue
        place = index.location if is_url(index.location) else os.path.abspath(parts.folder / index.location)
        place = place.rstrip("/")
        if place in first:
            found = f"{show_value(index.location)}, where domain '{shorten(first[place])}' has its index"
            known = "an index belongs to one domain"
            yield Mistake(("domains", domain, "index", "location"), found, known, "name a folder of its own")
        first.setdefault(place, domain)


def _check_corpus(parts: _Parts, key: KeyPath, corpus: str) -> Iterator[Mistake]:
    wrong = list(_check_folder(parts, key, corpus, "a folder of documents"))
    yield from wrong
    if wrong:
        return
    documents = (path for path in (parts.folder / corpus).rglob("*") if path.suffix.lower() in CORPUS_SUFFIXES)
    if not any(path.is_file() and path.stat().st_size for path in documents):
        known = f"documents end in {', '.join(CORPUS_SUFFIXES)} and are not empty"
        found = f"{show_value(corpus)}, a folder without documents"
        yield Mistake(key, found, known, "put documents there, or remove index to answer without passages")


def _check_folder(parts: _Parts, key: KeyPath, reference: str, what: str) -> Iterator[Mistake]:
    # os.path answers False where pathlib raises: names that are too long, hold a null byte or lie in a locked folder.
    folder = Path(os.path.abspath(parts.folder / reference))
    if os.path.isdir(folder):
        return
    found = f"{show_value(reference)}, " + ("a file" if os.path.isfile(folder) else "which does not exist")
    near = next(parent for parent in folder.parents if os.path.isdir(parent))
    siblings = _list_folders(near)
    known = f"needed: {what}; folders in {shorten(str(near))}: {show_names(siblings)}"
    closest = choose_closest(folder.relative_to(near).parts[0], siblings)
    yield Mistake(key, found, known, f"did you mean '{closest}'?" if closest else "create it or correct the path")


def _list_folders(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if os.path.isdir(path))
    except OSError:
        return []


def _check_descriptions(parts: _Parts) -> Iterator[Mistake]:
    first: dict[str, str] = {}
    for name, domain in parts.raw_domains.items():
        description = _mapping(domain).get("description")
        if not isinstance(description, str):
            continue
        plain = " ".join(description.lower().split())
        if plain in first:
            found = f"the description of domain '{shorten(first[plain])}' again"
            known = "the router tells domains apart by their descriptions"
            yield Mistake(("domains", name, "description"), found, known, "say what this domain alone covers")
        first.setdefault(plain, name)


def _check_answer_lengths(parts: _Parts) -> Iterator[Mistake]:
    for (domain, variant_name), variant in parts.variants.items():
        engine = parts.engines.get(variant.engine)
        tokens = _mapping(parts.raw_domains[domain]).get("max_tokens", 256)
        if engine is not None and isinstance(tokens, int) and tokens >= engine.max_model_len:
            known = f"variant '{variant_name}' has engines.{variant.engine}.max_model_len {engine.max_model_len}"
            next_step = "lower max_tokens so that the prompt has room, or raise max_model_len"
            yield Mistake(("domains", domain, "max_tokens"), str(tokens), known, next_step)


def _check_generalist(parts: _Parts) -> Iterator[Mistake]:
    name = parts.generalist
    if isinstance(name, str) and parts.raw_domains and name not in parts.raw_domains:
        next_step = plan_rename(name, list(parts.raw_domains), f"choose one of them or add domains.{shorten(name)}")
        yield Mistake(("generalist",), show_value(name), f"known domains: {show_names(parts.raw_domains)}", next_step)


def _check_nodes(parts: _Parts) -> Iterator[Mistake]:
    for name, node in parts.nodes.items():
        for field in ("gpu_memory_gib", "gpu_type"):
            value = getattr(node, field)
            if value is not None and node.gpus == 0:
                next_step = f"set gpus to the GPUs of one machine or remove {field}"
                yield Mistake(("nodes", name, field), show_value(value), "the node type has gpus: 0", next_step)
        if node.kept > node.count:
            next_step = f"lower min_count to {node.count} at most or raise count to {node.kept}"
            yield Mistake(("nodes", name, "min_count"), str(node.kept), f"count is {node.count}", next_step)
