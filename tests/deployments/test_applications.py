"""A fleet as a Ray Serve config: what restarts stands in `args`, what changes in place in `user_config`."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ray.serve.schema import ServeDeploySchema

from cluster.ray_node import NODE_TYPE_LABEL
from deployments.applications import observe_weights, plan_serve_config
from deployments.cli_changes import plan_changes
from deployments.index_settings import IndexSettings, IndexSource
from experts.fleet import Domain, Engine, Fleet, Index, NodeType, Replicas, Variant

INDEXES = {"law": IndexSource("/data/law", "minilm"), "art": IndexSource("s3://bucket/art", "minilm")}
CHECKSUMS = {"/law": "01", "/art": "02"}


def make_fleet(**changes: Any) -> Fleet:
    fields: dict[str, Any] = {
        "name": "two",
        "engines": {"shared": Engine(model="/base", max_adapters=2), "own": Engine(model="hub/own")},
        "domains": {
            "law": Domain(
                description="Contracts and courts.",
                variants={"adapter": Variant(engine="shared", adapter="/law")},
                index=Index(corpus="/corpus/law"),
            ),
            "art": Domain(
                description="Painters and paintings.",
                variants={"adapter": Variant(engine="shared", adapter="/art"), "full": Variant(engine="own")},
                index=Index(corpus="/corpus/art"),
            ),
        },
        "generalist": "art",
        "nodes": {"here": NodeType(cpus=8, memory_gib=16)},
    }
    return Fleet(**(fields | changes))


def application(config: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(app for app in config["applications"] if app["name"] == name)
    return found


def test_config_is_one_that_ray_serve_accepts() -> None:
    config = plan_serve_config(make_fleet(), INDEXES, CHECKSUMS)
    schema = ServeDeploySchema.model_validate(config)
    assert [app.name for app in schema.applications] == ["shared", "own", "gateway"]


def test_only_the_gateway_is_reachable_over_http() -> None:
    config = plan_serve_config(make_fleet(), INDEXES, CHECKSUMS)
    assert {app["name"]: app["route_prefix"] for app in config["applications"]} == {
        "shared": None,
        "own": None,
        "gateway": "/",
    }


def test_domains_on_a_shared_engine_are_entries_of_its_user_config() -> None:
    shared = application(plan_serve_config(make_fleet(), INDEXES, CHECKSUMS), "shared")
    domains = shared["deployments"][0]["user_config"]["domains"]
    assert domains["law"]["adapters"] == {"adapter": {"folder": "/law", "checksum": "01"}}
    assert IndexSettings(**domains["law"]["index"]) == IndexSettings("/data/law", "minilm", passages=4)
    assert set(domains) == {"law", "art"}


def test_the_gateway_knows_where_every_index_lies() -> None:
    gateway = application(plan_serve_config(make_fleet(), INDEXES, CHECKSUMS), "gateway")
    indexes = gateway["deployments"][0]["user_config"]["indexes"]
    assert {name: IndexSource(**source) for name, source in indexes.items()} == INDEXES


def test_a_variant_appears_only_on_its_own_engine() -> None:
    own = application(plan_serve_config(make_fleet(), INDEXES, CHECKSUMS), "own")
    assert own["deployments"][0]["user_config"]["domains"]["art"]["adapters"] == {"full": None}
    assert set(own["deployments"][0]["user_config"]["domains"]) == {"art"}


def test_a_new_domain_or_another_place_of_an_index_leaves_every_engine_running() -> None:
    fleet = make_fleet()
    before = plan_serve_config(fleet, INDEXES, CHECKSUMS)
    grown = make_fleet(
        domains={
            **fleet.domains,
            "sea": Domain(description="Ships and harbours.", variants={"a": Variant(engine="shared", adapter="/sea")}),
        }
    )
    indexes = {**INDEXES, "law": IndexSource("/data/law-2", "minilm")}
    after = plan_serve_config(grown, indexes, {**CHECKSUMS, "/sea": "03"})
    for name in ("shared", "own", "gateway"):
        assert application(before, name)["args"] == application(after, name)["args"]
    assert application(before, "own") == application(after, "own")
    assert application(before, "shared") != application(after, "shared")


def test_an_adapter_trained_again_in_its_own_folder_changes_its_application_in_place() -> None:
    before = plan_serve_config(make_fleet(), INDEXES, CHECKSUMS)["applications"]
    after = plan_serve_config(make_fleet(), INDEXES, CHECKSUMS | {"/law": "99"})["applications"]
    changes = plan_changes({app["name"]: app for app in before}, after).applications
    assert [(change.name, change.kind, change.keys) for change in changes] == [
        ("shared", "in place", ("Expert.user_config.domains.law.adapters.adapter.checksum",)),
        ("own", "unchanged", ()),
        ("gateway", "unchanged", ()),
    ]


def test_a_model_trained_again_in_its_own_folder_restarts_its_engine() -> None:
    before = plan_serve_config(make_fleet(), INDEXES, CHECKSUMS | {"/base": "03"})["applications"]
    after = plan_serve_config(make_fleet(), INDEXES, CHECKSUMS | {"/base": "99"})["applications"]
    changes = plan_changes({app["name"]: app for app in before}, after).applications
    assert [(change.name, change.kind, change.keys) for change in changes] == [
        ("shared", "restarted", ("args.model_checksum",)),
        ("own", "unchanged", ()),
        ("gateway", "unchanged", ()),
    ]


def test_observe_weights_reads_what_the_folders_hold(tmp_path: Path) -> None:
    fleet = make_fleet()
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"one")
    variants = {"full": Variant(engine="own"), "tuned": Variant(engine="shared", adapter=str(tmp_path))}
    domains = {"law": fleet.domains["law"].model_copy(update={"variants": variants})}
    tuned = make_fleet(domains=domains, generalist="law")
    first = observe_weights(tuned)
    (tmp_path / "guildhall.json").write_text("{}")
    assert observe_weights(tuned) == first
    (tmp_path / "adapter_model.safetensors").write_bytes(b"two")
    assert set(first) == {str(tmp_path), "/base"}
    assert observe_weights(tuned) != first


@pytest.mark.parametrize("change", [{"replicas": Replicas(min=1, max=2)}, {"max_queued": 7}, {"max_in_flight": 3}])
def test_more_replicas_or_other_bounds_restart_nothing(change: dict[str, Any]) -> None:
    fleet = make_fleet()
    engines = {**fleet.engines, "own": fleet.engines["own"].model_copy(update=change)}
    before, after = (
        plan_serve_config(fleet, INDEXES, CHECKSUMS),
        plan_serve_config(make_fleet(engines=engines), INDEXES, CHECKSUMS),
    )
    assert application(before, "own")["args"] == application(after, "own")["args"]
    assert application(before, "own") != application(after, "own")


@pytest.mark.parametrize("change", [{"max_model_len": 512}, {"max_adapters": 1}, {"model": "other"}])
def test_a_changed_engine_restarts_only_its_own_application(change: dict[str, Any]) -> None:
    fleet = make_fleet()
    engines = {**fleet.engines, "own": fleet.engines["own"].model_copy(update=change)}
    before, after = (
        plan_serve_config(fleet, INDEXES, CHECKSUMS),
        plan_serve_config(make_fleet(engines=engines), INDEXES, CHECKSUMS),
    )
    assert application(before, "shared") == application(after, "shared")
    assert application(before, "own")["args"] != application(after, "own")["args"]


def test_building_an_experts_application_takes_no_vllm_along() -> None:
    program = (
        "import sys; from deployments.applications import build_expert; from experts.fleet import Engine; "
        "engine = Engine(model='/m', cpus=2).model_dump(); "
        "app = build_expert({'name': 'own', 'gpu_type': None, 'sharing': {}, 'engine': engine}); "
        "own = app._bound_deployment; print(own.func_or_class, own.name, own._replica_config.placement_group_bundles, "
        "sorted({'vllm', 'torch'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert printed.stdout.strip() == "deployments.expert.ExpertServer Expert [{'CPU': 2.0}] []"


def test_engine_that_a_plan_has_placed_is_bound_to_its_machines_and_to_none_where_ray_is_alone() -> None:
    placed = Engine(model="hub/own", placed_on=("here-1",))
    fleet = make_fleet(engines={"shared": Engine(model="/base", max_adapters=2), "own": placed})
    config = plan_serve_config(fleet, INDEXES, CHECKSUMS, {"here-1": "abc"})
    schema = ServeDeploySchema.model_validate(config)
    chosen = {app.name: app.deployments[0].placement_group_bundle_label_selector for app in schema.applications}
    assert chosen["own"] == [{"ray.io/node-id": "abc"}]
    assert chosen["shared"] != chosen["own"]
    assert application(config, "own")["deployments"][0]["placement_group_bundles"] == [{"CPU": 1.0}]
    alone = application(plan_serve_config(fleet, INDEXES, CHECKSUMS), "own")["deployments"][0]
    assert "placement_group_bundle_label_selector" not in alone


def test_engines_and_the_gateway_keep_off_machines_with_another_processor() -> None:
    engines = {
        "shared": Engine(model="/base", max_adapters=2),
        "own": Engine(model="hub/own", device="gpu", tensor_parallel=2),
    }
    nodes = {"box": NodeType(cpus=8, memory_gib=64, gpus=2), "little": NodeType(cpus=4, memory_gib=16)}
    config = plan_serve_config(make_fleet(engines=engines, nodes=nodes), INDEXES, CHECKSUMS)
    schema = ServeDeploySchema.model_validate(config)
    experts = {app.name: app.deployments[0] for app in schema.applications}
    selectors = {name: experts[name].placement_group_bundle_label_selector for name in engines}
    assert selectors == {"shared": [{NODE_TYPE_LABEL: "!box"}], "own": [{NODE_TYPE_LABEL: "!little"}]}
    assert experts["own"].placement_group_bundles == [{"GPU": 1.0, "CPU": 0.5}] * 2
    gateway = application(config, "gateway")["deployments"][0]["ray_actor_options"]
    assert gateway == {"num_cpus": 1, "label_selector": {NODE_TYPE_LABEL: "!box"}}
    alike = plan_serve_config(make_fleet(nodes={"here": nodes["little"], "there": nodes["little"]}), INDEXES, CHECKSUMS)
    assert "selector" not in str(alike)


def test_letting_an_engine_sleep_or_not_restarts_nothing_without_a_gpu() -> None:
    engines = {"shared": Engine(model="/base", max_adapters=2), "own": Engine(model="hub/own")}
    before = plan_serve_config(make_fleet(engines=engines), INDEXES, CHECKSUMS)
    sleeping = {**engines, "own": Engine.model_validate({"model": "hub/own", "sleep": {"idle_sleep_s": 60}})}
    after = plan_serve_config(make_fleet(engines=sleeping), INDEXES, CHECKSUMS)
    changes = plan_changes({app["name"]: app for app in before["applications"]}, after["applications"])
    assert {change.name: change.kind for change in changes.applications} == {
        "shared": "unchanged",
        "own": "in place",
        "gateway": "in place",
    }
    assert application(after, "own")["deployments"][0]["autoscaling_config"]["min_replicas"] == 0
