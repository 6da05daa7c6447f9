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
from tests.experts.test_fleet_file.good_file import GOOD, change, write


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
