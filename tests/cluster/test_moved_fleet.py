"""Every folder of a fleet moves with its project, and one that is not in the project is refused with its key."""

from pathlib import Path
from typing import Any

import pytest

from cluster.moved_fleet import move_fleet, move_path
from experts.errors import ConfigurationError
from experts.fleet import Fleet

PROJECT = Path("/home/ada/shop")
HOME = "/srv/shop"


def make_fleet(**changes: Any) -> Fleet:
    document: dict[str, Any] = {
        "name": "shop",
        "engines": {"own": {"model": f"{PROJECT}/models/own"}, "hub": {"model": "Qwen/Qwen2.5-0.5B-Instruct"}},
        "domains": {
            "all": {
                "description": "Everything there is.",
                "variants": {"adapter": {"engine": "own", "adapter": f"{PROJECT}/adapters/all"}},
                "index": {"corpus": f"{PROJECT}/corpus", "reranker": f"{PROJECT}/models/order"},
            },
            "web": {
                "description": "What is in the bucket.",
                "variants": {"full": {"engine": "hub"}},
                "index": {"location": "s3://bucket/web", "reranker": "cross-encoder/ms-marco-MiniLM-L6-v2"},
            },
        },
        "generalist": "all",
        "router": {"encoder": f"{PROJECT}/models/encoder", "artifact": f"{PROJECT}/router"},
        "nodes": {"one": {"cpus": 4, "memory_gib": 16}},
    }
    return Fleet.model_validate({**document, **changes})


def test_every_folder_moves_and_hub_ids_and_urls_stay() -> None:
    moved = move_fleet(make_fleet(), PROJECT, HOME)
    assert str(PROJECT) not in moved.model_dump_json()
    assert moved.engines["own"].model == f"{HOME}/models/own"
    assert moved.engines["hub"].model == "Qwen/Qwen2.5-0.5B-Instruct"
    assert moved.domains["all"].variants["adapter"].adapter == f"{HOME}/adapters/all"
    index, web = moved.domains["all"].index, moved.domains["web"].index
    assert index is not None
    assert web is not None
    assert (index.corpus, index.reranker) == (f"{HOME}/corpus", f"{HOME}/models/order")
    assert (web.location, web.reranker) == ("s3://bucket/web", "cross-encoder/ms-marco-MiniLM-L6-v2")
    assert (moved.router.encoder, moved.router.artifact) == (f"{HOME}/models/encoder", f"{HOME}/router")


def test_a_folder_outside_the_project_is_refused_with_its_key() -> None:
    fleet = make_fleet(engines={"own": {"model": "/opt/models/own"}, "hub": {"model": "a/b"}})
    with pytest.raises(ConfigurationError, match=r"engines\.own\.model is /opt/models/own, which is not in /home/ada"):
        move_fleet(fleet, PROJECT, HOME)


def test_a_sibling_whose_name_begins_alike_is_outside() -> None:
    with pytest.raises(ConfigurationError, match="not in"):
        move_path("/home/ada/shop-old/models", PROJECT, HOME, "engines.own.model")
