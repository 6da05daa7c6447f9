"""What `guildhall up` says it will change is what Ray Serve then does."""

from copy import deepcopy
from typing import Any

from deployments.cli_changes import ApplicationChange, plan_changes

ENGINE: dict[str, Any] = {
    "name": "pocket",
    "import_path": "deployments.applications:build_expert",
    "args": {"engine": {"cpus": 1, "max_num_seqs": 16}},
    "deployments": [{"name": "Expert", "user_config": {"domains": {"finance": {"index": {"passages": 4}}}}}],
}
GATEWAY: dict[str, Any] = {
    "name": "gateway",
    "import_path": "deployments.applications:build_gateway",
    "args": {"replicas": 1},
    "deployments": [{"name": "Gateway", "user_config": {"fleet": {"name": "pocket"}}}],
}
RUNNING = {"pocket": ENGINE, "gateway": GATEWAY}


def test_plan_changes_on_an_empty_cluster_adds_everything() -> None:
    changes = plan_changes({}, [ENGINE, GATEWAY])
    assert changes.applications == (ApplicationChange("pocket", "added"), ApplicationChange("gateway", "added"))
    assert changes


def test_plan_changes_of_the_same_config_is_nothing() -> None:
    changes = plan_changes(RUNNING, [deepcopy(ENGINE), deepcopy(GATEWAY)])
    assert [change.kind for change in changes.applications] == ["unchanged", "unchanged"]
    assert not changes


def test_plan_changes_of_a_user_config_stays_in_place_and_names_the_key() -> None:
    wanted = deepcopy(ENGINE)
    wanted["deployments"][0]["user_config"]["domains"]["finance"]["index"]["passages"] = 8
    changes = plan_changes(RUNNING, [wanted, GATEWAY])
    key = "Expert.user_config.domains.finance.index.passages"
    assert changes.applications[0] == ApplicationChange("pocket", "in place", (key,))
    assert str(changes.applications[0]) == f"pocket: in place: {key}"
    assert changes.applications[1].kind == "unchanged"


def test_plan_changes_of_an_added_domain_is_in_place() -> None:
    wanted = deepcopy(ENGINE)
    wanted["deployments"][0]["user_config"]["domains"]["law"] = {"index": None}
    changed = plan_changes(RUNNING, [wanted, GATEWAY]).applications[0]
    assert changed == ApplicationChange("pocket", "in place", ("Expert.user_config.domains.law",))


def test_plan_changes_of_engine_arguments_restarts_and_names_them_first() -> None:
    wanted = deepcopy(ENGINE)
    wanted["args"]["engine"]["max_num_seqs"] = 8
    wanted["deployments"][0]["user_config"]["domains"] = {}
    changed = plan_changes(RUNNING, [wanted, GATEWAY]).applications[0]
    keys = ("args.engine.max_num_seqs", "Expert.user_config.domains.finance")
    assert changed == ApplicationChange("pocket", "restarted", keys)


def test_plan_changes_of_actor_options_restarts_and_of_replicas_does_not() -> None:
    heavier, wider = deepcopy(ENGINE), deepcopy(ENGINE)
    heavier["deployments"][0]["ray_actor_options"] = {"num_cpus": 2}
    wider["deployments"][0]["num_replicas"] = 2
    assert plan_changes(RUNNING, [heavier]).applications[0].kind == "restarted"
    assert plan_changes(RUNNING, [wider]).applications[0].kind == "in place"


def test_plan_changes_removes_what_the_file_no_longer_names() -> None:
    changes = plan_changes(RUNNING, [GATEWAY])
    assert changes.applications == (ApplicationChange("gateway", "unchanged"), ApplicationChange("pocket", "removed"))
    assert changes


def test_plan_changes_does_not_tell_tuples_from_lists() -> None:
    before = {"gateway": {**GATEWAY, "args": {"hosts": ("a", "b")}}}
    assert not plan_changes(before, [{**GATEWAY, "args": {"hosts": ["a", "b"]}}])
