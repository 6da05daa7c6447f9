"""A broken fleet file says where, what was found, what is known and what to do next, for all its mistakes at once."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experts.adapt.provenance import Provenance, write_provenance
from experts.errors import FleetFileError
from experts.fleet_file import check_fleet, load_fleet
from experts.prompt import fingerprint_template

GOOD = """\
name: office
engines:
  small:
    model: ./models/small
    max_adapters: 1
  large:
    model: Qwen/Qwen2.5-7B-Instruct
    device: gpu
    tensor_parallel: 2
    node_type: big
domains:
  law:
    description: Contracts, courts and statutes.
    examples: [Who may sue]
    variants:
      full: {engine: large}
      adapter: {engine: small, adapter: ./adapters/law}
    index: {corpus: corpora/law}
  general:
    description: Everything that no other domain owns.
    variants:
      full: {engine: small}
generalist: general
router:
  encoder: all-MiniLM-L6-v2
nodes:
  big: {cpus: 32, memory_gib: 256, gpus: 4}
  little: {cpus: 4, memory_gib: 16}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with all that the good file refers to."""
    (tmp_path / "models/small").mkdir(parents=True)
    (tmp_path / "models/small/config.json").write_text("{}")
    (tmp_path / "adapters/law").mkdir(parents=True)
    (tmp_path / "adapters/law/adapter_config.json").write_text('{"r": 8}')
    (tmp_path / "adapters/empty").mkdir()
    (tmp_path / "adapters/wide").mkdir()
    (tmp_path / "adapters/wide/adapter_config.json").write_text('{"r": 64}')
    for name, text in (("drifted", '{"template": "0000000000000000"}'), ("damaged", "{")):
        (tmp_path / "adapters" / name).mkdir()
        (tmp_path / "adapters" / name / "adapter_config.json").write_text('{"r": 8}')
        (tmp_path / "adapters" / name / "guildhall.json").write_text(text)
    (tmp_path / "corpora/law").mkdir(parents=True)
    (tmp_path / "corpora/law/torts.md").write_text("A tort is a civil wrong.")
    (tmp_path / "corpora/pictures").mkdir()
    (tmp_path / "corpora/pictures/scan.png").write_bytes(b"\x89PNG")
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "fleet.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def change(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


# Each: what replaces what in the good file; the key at fault; words of what was found, is known and comes next.
BROKEN = [
    ("engines:\n", "enginez:\n", "enginez", ["unknown key", "known keys: name, engines", "did you mean 'engines'?"]),
    ("    max_adapters: 1", "    max_adaptors: 1", "engines.small.max_adaptors", ["did you mean 'max_adapters'?"]),
    (
        "    device: gpu",
        "    device: gpu\n    max_tokens: 9",
        "engines.large.max_tokens",
        ["unknown key", "max_tokens is a key of domains.NAME"],
    ),
    (
        "    device: gpu",
        "    device: gpu\n    dtype: bf16",
        "engines.large.dtype",
        ["'bf16'", "known: auto, bfloat16, float16, float32", "did you mean 'bfloat16'?"],
    ),
    (
        "    device: gpu",
        '    device: gpu\n    max_model_len: "8192"',
        "engines.large.max_model_len",
        ["'8192' (text)", "a whole number from 64 to 1000000", "write 8192 without quotes"],
    ),
    (
        "    device: gpu",
        "    device: gpu\n    max_in_flight: 0",
        "engines.large.max_in_flight",
        ["found 0", "from 1 to 100000", "raise max_in_flight to 1 at least"],
    ),
    (
        "    device: gpu",
        "    device: gpu\n    gpus: 2",
        "engines.large.gpus",
        ["found 2", "a number above 0 up to 1", "lower gpus to 1 at most"],
    ),
    (
        "[Who may sue]",
        "Who may sue",
        "domains.law.examples",
        ["'Who may sue' (text)", "a list of text, 1000 at most", "after a hyphen"],
    ),
    ("[Who may sue]", "[yes]", "domains.law.examples.0", ["found true", "allowed: text", 'in quotes: "true"']),
    (
        "index: {corpus: corpora/law}",
        "index: corpora/law",
        "domains.law.index",
        ["'corpora/law' (text)", "a mapping with the keys corpus, location, passages", "indented lines"],
    ),
    (
        "  law:\n",
        "  Law EU:\n",
        "domains.Law EU",
        ["the name 'Law EU'", "lower-case letters", "for example to 'law-eu'"],
    ),
    ("name: office", "name: office-", "name", ["'office-'", "no hyphen last", "'office'"]),
    ("generalist: general\n", "", "generalist", ["found nothing", "needed: Domain (a key", "add the key generalist"]),
    ("    model: ./models/small\n", "", "engines.small.model", ["nothing", "needed: Hub id", "add the key model"]),
    ("router:\n  encoder: all-MiniLM-L6-v2", "router:", "router", ["nothing", "a mapping with the keys encoder"]),
    (
        "{engine: large}",
        "{engine: larg}",
        "domains.law.variants.full.engine",
        ["'larg'", "known engines: small, large", "did you mean 'large'?"],
    ),
    (
        "{engine: large}",
        "{engine: xyz}",
        "domains.law.variants.full.engine",
        ["'xyz'", "known engines: small, large", "add engines.xyz"],
    ),
    (
        "      full: {engine: large}\n",
        "",
        "engines.large",
        ["no domain uses", "the variants use: small", "remove it or give it a variant"],
    ),
    (
        "generalist: general",
        "generalist: generale",
        "generalist",
        ["'generale'", "known domains: law, general", "did you mean 'general'?"],
    ),
    ("node_type: big", "node_type: bigger", "engines.large.node_type", ["known node types: big, little", "'big'?"]),
    ("node_type: big", "node_type: little", "engines.large.device", ["'gpu'", "little has 0", "set device: cpu"]),
    ("tensor_parallel: 2", "tensor_parallel: 8", "engines.large.tensor_parallel", ["found 8", "big has 4", "to 4 at"]),
    (
        "tensor_parallel: 2",
        "tensor_parallel: 2\n    gpus: 0.5",
        "engines.large.gpus",
        ["found 0.5", "tensor_parallel: 2 takes whole GPUs", "set gpus: 1 or remove tensor_parallel"],
    ),
    (
        "    device: gpu\n",
        "",
        "engines.large.tensor_parallel",
        ["found 2", "device: cpu, which uses no GPU", "set device: gpu or remove tensor_parallel"],
    ),
    (
        "tensor_parallel: 2",
        "tensor_parallel: 2\n    kv_cache_gib: 4",
        "engines.large.kv_cache_gib",
        ["found 4", "device: gpu", "remove kv_cache_gib"],
    ),
    (
        "    max_adapters: 1",
        "    max_adapters: 1\n    elastic_kv: kvcached",
        "engines.small.elastic_kv",
        ["found 'kvcached'", "device: cpu, where `sharing` lends KV memory", "set device: gpu, or remove elastic_kv"],
    ),
    (
        "    device: gpu",
        "    device: gpu\n    elastic_kv: kv-cached",
        "engines.large.elastic_kv",
        ["found 'kv-cached'", "known: kvcached", "did you mean 'kvcached'?"],
    ),
    (
        "    device: gpu",
        "    device: gpu\n    replicas: {min: 3, max: 2}",
        "engines.large.replicas.min",
        ["found 3", "replicas.max is 2", "lower min to 2 at most or raise max to 3"],
    ),
    (
        "./models/small",
        "./models/smal",
        "engines.small.model",
        ["which does not exist", "needed: a model's folder", "did you mean 'small'?"],
    ),
    (
        "./models/small",
        "./corpora/law",
        "engines.small.model",
        ["without config.json", "the weights", "name the folder"],
    ),
    ("./models/small", "models/small", "engines.small.model", ["'models/small'", "a hub id", "write ./models/small"]),
    ("./models/small", "~/models/small", "engines.small.model", ["'~/models/small'", "hub id such as", "with ./"]),
    (
        "./adapters/law",
        "./adapters/low",
        "domains.law.variants.adapter.adapter",
        ["'./adapters/low', which does not exist", "a LoRA adapter's folder", "did you mean 'law'?"],
    ),
    (
        "./adapters/law",
        "./adapters/empty",
        "domains.law.variants.adapter.adapter",
        ["a folder without adapter_config.json", "holds adapter_config.json", "name the folder that has it"],
    ),
    (
        "./adapters/law",
        "./adapters/wide",
        "domains.law.variants.adapter.adapter",
        ["an adapter of rank 64", "max_adapter_rank is 16", "raise max_adapter_rank to 64"],
    ),
    (
        "./adapters/law",
        "./adapters/drifted",
        "domains.law.variants.adapter.adapter",
        ["trained with prompt template '0000000000000000'", "`guildhall adapt`", "accept_template: '0000000000000000'"],
    ),
    (
        "./adapters/law}",
        "./adapters/drifted, accept_template: '1111111111111111'}",
        "domains.law.variants.adapter.adapter",
        ["trained with prompt template '0000000000000000'", "accept_template: '0000000000000000'"],
    ),
    (
        "./adapters/law",
        "./adapters/damaged",
        "domains.law.variants.adapter.adapter",
        ["whose guildhall.json cannot be read", "the key 'template'", "correct the file"],
    ),
    ("    max_adapters: 1\n", "", "engines.small.max_adapters", ["found 0", "1 adapters", "raise max_adapters to 1"]),
    (
        "corpora/law",
        "corpora/lore",
        "domains.law.index.corpus",
        ["'corpora/lore', which does not exist", "corpora: law, pictures", "create it or correct the path"],
    ),
    (
        "corpora/law",
        "corpora/pictures",
        "domains.law.index.corpus",
        ["a folder without documents", ".md, .txt, .py", "put documents there"],
    ),
    (
        "corpora/law}",
        "corpora/law, location: fleet.yaml}",
        "domains.law.index.location",
        ["'fleet.yaml', a file", "a folder, which need not exist yet, or a URL", "name a folder"],
    ),
    (
        "variants:\n      full: {engine: small}",
        "index: {location: s3://b/i/}\n    variants:\n      full: {engine: small}\n  also:\n"
        "    description: The same place twice.\n    index: {location: s3://b/i}\n"
        "    variants:\n      full: {engine: small}",
        "domains.also.index.location",
        ["where domain 'general' has its index", "belongs to one domain", "a folder of its own"],
    ),
    (
        "corpora/law}",
        "corpora/law, search: lexical, dense_weight: 0.5}",
        "domains.law.index.dense_weight",
        ["found 0.5", "search: lexical", "set search: hybrid or remove it"],
    ),
    (
        "corpora/law}",
        "corpora/law, reranker: ./rerank}",
        "domains.law.index.reranker",
        ["'./rerank', which does not exist", "a cross-encoder's folder"],
    ),
    (
        "Everything that no other domain owns.",
        "contracts, courts  and statutes.",
        "domains.general.description",
        ["description of domain 'law' again", "tells domains apart", "this domain alone"],
    ),
    (
        "    index: {corpus",
        "    max_tokens: 4096\n    index: {corpus",
        "domains.law.max_tokens",
        ["found 4096", "max_model_len 4096", "lower max_tokens"],
    ),
    ("all-MiniLM-L6-v2", "./encoder", "router.encoder", ["'./encoder', which does not exist", "an encoder's folder"]),
    (
        "memory_gib: 16",
        "memory_gib: 16, gpu_type: H100",
        "nodes.little.gpu_type",
        ["'H100'", "gpus: 0", "or remove gpu_type"],
    ),
    ("generalist: general", "generalist: general\nname: shop", "name", ["the key 'name' again", "line 1", "keep one"]),
    (
        "name: office",
        "name: office\napi_key: abc",
        "api_key",
        ["looks like a secret", "hold none", "environment variable"],
    ),
    (
        "little: {cpus: 4, memory_gib: 16}",
        "little: {cpus: 4, memory_gib: 16, count: 2, min_count: 3}",
        "nodes.little.min_count",
        ["found 3", "count is 2", "lower min_count to 2 at most or raise count to 3"],
    ),
]


@pytest.mark.parametrize(("old", "new", "key", "words"), BROKEN, ids=[f"{case[2]}-{case[1][:24]}" for case in BROKEN])
def test_a_mistake_names_its_key_what_was_found_what_is_known_and_the_next_step(
    folder: Path, old: str, new: str, key: str, words: list[str]
) -> None:
    mistakes = check_fleet(write(folder, change(old, new))).mistakes
    lines = [mistake for mistake in mistakes if mistake.startswith((f"{key} (line ", f"{key}: "))]
    assert any(all(word in line for word in words) for line in lines), mistakes


def test_the_good_file_loads_with_absolute_paths(folder: Path) -> None:
    fleet = load_fleet(write(folder, GOOD))
    assert fleet.engines["small"].model == str(folder / "models/small")
    assert fleet.engines["large"].model == "Qwen/Qwen2.5-7B-Instruct"
    assert fleet.domains["law"].variants["adapter"].adapter == str(folder / "adapters/law")
    assert fleet.domains["law"].index is not None
    assert fleet.domains["law"].index.corpus == str(folder / "corpora/law")
    assert fleet.router.encoder == "all-MiniLM-L6-v2"


def test_an_artifact_of_this_prompt_or_an_accepted_one_or_of_none_known_is_served(folder: Path) -> None:
    write_provenance(folder / "models/small", Provenance(template=fingerprint_template()))
    accepted = change("./adapters/law}", "./adapters/drifted, accept_template: '0000000000000000'}")
    assert check_fleet(write(folder, accepted)).mistakes == ()
    assert check_fleet(write(folder, GOOD)).mistakes == ()


def test_a_model_of_another_prompt_is_refused_where_it_answers_itself_and_not_under_an_adapter(folder: Path) -> None:
    write_provenance(folder / "models/small", Provenance(template="0000000000000000"))
    (mistake,) = check_fleet(write(folder, GOOD)).mistakes
    assert mistake.startswith("domains.general.variants.full.engine (line 22): found './models/small', trained with")
    accepted = change("{engine: small}", "{engine: small, accept_template: '0000000000000000'}")
    assert check_fleet(write(folder, accepted)).mistakes == ()


def test_an_index_without_a_corpus_and_one_elsewhere_are_well_formed(folder: Path) -> None:
    text = change("index: {corpus: corpora/law}", "index: {location: indexes/law, reranker: cross-encoder/ms-marco}")
    fleet = load_fleet(write(folder, text))
    index = fleet.domains["law"].index
    assert index is not None
    assert (index.corpus, index.location) == (None, str(folder / "indexes/law"))
    assert index.reranker == "cross-encoder/ms-marco"
    text = change("corpora/law}", "corpora/law, location: s3://bucket/law}")
    index = load_fleet(write(folder, text)).domains["law"].index
    assert index is not None
    assert index.location == "s3://bucket/law"


def test_paths_start_at_the_fleet_file_and_not_at_the_working_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, GOOD)
    monkeypatch.chdir(folder.parent)
    fleet = load_fleet(Path(folder.name) / "fleet.yaml")
    assert fleet.engines["small"].model == str(folder / "models/small")


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_file(folder: Path) -> None:
    text = GOOD
    for old, new in [
        ("./models/small", "./models/none"),
        ("device: gpu", "device: tpu"),
        ("{engine: large}", "{engine: larg}"),
        ("generalist: general", "generalist: nobody"),
        ("cpus: 32", "cpus: -1"),
        ("corpora/law}", "corpora/law, passages: many}"),
    ]:
        text = text.replace(old, new, 1)
    with pytest.raises(FleetFileError) as caught:
        load_fleet(write(folder, text))
    keys = [mistake.split(" ")[0] for mistake in caught.value.mistakes]
    assert keys == [
        "engines.small.model",
        "engines.large",
        "engines.large.device",
        "domains.law.variants.full.engine",
        "domains.law.index.passages",
        "generalist",
        "nodes.big.cpus",
    ]
    assert pickle.loads(pickle.dumps(caught.value)).mistakes == caught.value.mistakes


def test_a_misspelt_key_is_one_mistake_and_draws_no_others(folder: Path) -> None:
    assert len(check_fleet(write(folder, change("    model: Qwen", "    modell: Qwen"))).mistakes) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: office", "name: office\nhub_token: hf_abcdefghijklmnopqrstuvwxyz"),
        ("all-MiniLM-L6-v2", "hf_abcdefghijklmnopqrstuvwxyz"),
        ("device: gpu", "device: hf_abcdefghijklmnopqrstuvwxyz"),
    ],
)
def test_a_secret_is_a_mistake_and_is_never_shown(folder: Path, old: str, new: str) -> None:
    mistakes = check_fleet(write(folder, change(old, new))).mistakes
    assert any("looks like a secret" in mistake for mistake in mistakes)
    assert not any("hf_abc" in mistake for mistake in mistakes)


def test_long_values_are_shortened(folder: Path) -> None:
    (mistake,) = check_fleet(write(folder, change("{engine: small}", "{engine: " + "small" * 100 + "}"))).mistakes
    assert len(mistake) < 400
    assert "…" in mistake


def test_an_anchor_may_be_merged_and_overridden(folder: Path) -> None:
    block = """
  little:
    <<: &all {count: 2, cpus: 9}
    cpus: 4
    memory_gib: 16
  third: {<<: *all, memory_gib: 8}
"""
    nodes = load_fleet(write(folder, change("\n  little: {cpus: 4, memory_gib: 16}\n", block))).nodes
    assert (nodes["little"].count, nodes["little"].cpus, nodes["third"].cpus) == (2, 4, 9)


def list_keys(data: Any, key: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [below for name, value in items for below in [(*key, name), *list_keys(value, (*key, name))]]


@given(
    st.sampled_from(list_keys(yaml.safe_load(GOOD))),
    st.sampled_from(
        [None, [], {}, "", "x", "./x", -1, 0, 1.5, True, float("nan"), float("inf"), [[]], {"x": {"x": 1}}]
    ),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_stands_at_a_key_is_a_mistake_or_a_fleet_and_never_a_crash(
    folder: Path, key: tuple[str | int, ...], value: Any
) -> None:
    data = part = yaml.safe_load(GOOD)
    for name in key[:-1]:
        part = part[name]
    part[key[-1]] = value
    report = check_fleet(write(folder, yaml.safe_dump(data)))
    assert (report.fleet is None) == bool(report.mistakes)
    assert all(len(mistake.splitlines()) == 1 for mistake in report.mistakes)


@pytest.mark.parametrize("name", ["x" * 5000, "a\\0b"])
@pytest.mark.parametrize("old", ["./models/small", "Qwen/Qwen2.5-7B-Instruct", "./adapters/law", "corpora/law"])
def test_a_name_that_no_disk_can_hold_is_no_crash(folder: Path, old: str, name: str) -> None:
    prefix = "./" if old.startswith("./") else ""
    report = check_fleet(write(folder, change(old, f'"{prefix}{name}"')))
    assert (report.fleet is None) == bool(report.mistakes)


def test_an_engine_cannot_have_the_name_of_the_gateway(folder: Path) -> None:
    mistakes = check_fleet(
        write(folder, GOOD.replace("small:", "gateway:").replace("engine: small", "engine: gateway"))
    ).mistakes
    assert mistakes[0].startswith("engines.gateway (line 3): found the name 'gateway'")
