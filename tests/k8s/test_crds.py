"""Every RayService that is rendered is one that KubeRay's own CRD takes, where somebody has downloaded it."""

import copy
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema.protocols import Validator

from tests.conftest import ROOT
from tests.k8s.crd_schemas import RAY_SERVICE, build_validator, close_schema, find_crd_mistakes, load_crd
from tests.k8s.rendered import OVERLAYS, find_manifest, render_fleet
from tests.k8s.test_manifests import FLEET_NAMES, OPTIONS, OVERLAY_NAMES, list_parts

FOLDER = "build/kuberay-crds"
ODD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "listed": {"type": "object", "properties": {"text": {"type": "string"}}},
        "bare": {"type": "object"},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "items": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
        "port": {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True},
        "later": {"type": "string", "nullable": True},
    },
}


@pytest.fixture(scope="module")
def validator() -> Validator:
    named = os.environ.get("CRDS", FOLDER)
    if not (ROOT / named / RAY_SERVICE.name).is_file():
        command = RAY_SERVICE.show_download(named)
        pytest.skip(f"KubeRay's own CRD checked nothing, because it is not in {named}; download it: {command}")
    return build_validator(load_crd(ROOT / named, RAY_SERVICE), "v1")


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: " ".join(options) or "plain")
@pytest.mark.parametrize("name", FLEET_NAMES)
def test_kuberays_own_schema_takes_every_ray_service(name: str, options: tuple[str, ...], validator: Validator) -> None:
    assert find_crd_mistakes(validator, find_manifest(render_fleet(name, *options), "RayService")) == []


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed: no overlay was built")
@pytest.mark.parametrize("overlay", OVERLAY_NAMES)
def test_kuberays_own_schema_takes_what_an_overlay_makes_of_it(overlay: str, validator: Validator) -> None:
    command = ["kubectl", "kustomize", str(OVERLAYS / overlay)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    manifests = tuple(yaml.safe_load_all(built.stdout))
    assert find_crd_mistakes(validator, find_manifest(manifests, "RayService")) == []


def test_kuberays_own_schema_misses_no_unknown_field(validator: Validator) -> None:
    service = find_manifest(render_fleet("pocket", "--gateway-class", "istio"), "RayService")
    paths = [path for path in list_parts(service) if path != ("metadata",)]
    for path in paths:
        broken = copy.deepcopy(service)
        part = broken
        for key in path:
            part = part[key]
        part["noSuchField"] = 1
        assert any("noSuchField" in mistake for mistake in find_crd_mistakes(validator, broken)), path
    assert len(paths) > 60


@pytest.mark.parametrize(
    ("document", "mistakes"),
    [
        ({"listed": {"text": "a"}, "labels": {"a": "b"}, "port": "http", "later": None, "free": {"b": 1}}, 0),
        ({"listed": {"txet": "a"}}, 1),
        ({"bare": {"a": 1}}, 1),
        ({"labels": {"a": 1}}, 1),
        ({"items": [{"name": "a"}, {"nmae": "b"}]}, 1),
        ({"port": 1.5}, 1),
        ({"listed": None}, 1),
        ({"unlisted": 1}, 1),
    ],
)
def test_a_closed_schema_rejects_what_kubernetes_would_prune(document: dict[str, Any], mistakes: int) -> None:
    odd = {**ODD, "properties": {**ODD["properties"], "metadata": {"type": "object"}}}
    crd = {"spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": odd}}]}}
    assert len(find_crd_mistakes(build_validator(crd, "v1"), {"metadata": {"name": "a"}, **document})) == mistakes
    assert "additionalProperties" not in ODD, "the schema itself is left as it was"
    assert close_schema(ODD)["additionalProperties"] is False


def test_another_file_than_the_one_that_is_named_is_refused(tmp_path: Path) -> None:
    (tmp_path / RAY_SERVICE.name).write_text("kind: CustomResourceDefinition\n")
    with pytest.raises(ValueError, match=rf"has the SHA-256 .* is {RAY_SERVICE.sha256}; download it again: curl "):
        load_crd(tmp_path, RAY_SERVICE)


def test_the_page_about_operations_says_how_the_file_is_downloaded() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    assert RAY_SERVICE.show_download(FOLDER) in page
    assert f"make test-crds CRDS={FOLDER}" in page
    assert RAY_SERVICE.sha256 in page
