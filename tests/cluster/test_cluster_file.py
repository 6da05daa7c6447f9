"""Cluster files of `ray up` are ones that Ray takes, and their commands do on a machine what they say."""

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray._private.label_utils import validate_node_labels
from ray.autoscaler._private.util import _get_default_config, prepare_config, validate_config

from cluster.cluster_file import HEAD_TYPE, Site, render_cluster_file
from cluster.provider import Cloud
from experts.errors import BadRequest, ConfigurationError
from experts.fleet import Fleet, NodeType
from experts.fleet_file import load_fleet
from tests.cluster.test_moved_fleet import PROJECT, make_fleet
from tests.conftest import FLEETS, ROOT
from tests.k8s.rendered import run_render

EXAMPLES = sorted((ROOT / "cluster" / "ray_up").glob("*.yaml"))
SITES = {
    "aws": Site("aws", "eu-west-1", ami="ami-0123456789abcdef0"),
    "gcp": Site("gcp", "europe-west4-b", project="example-project"),
    "azure": Site("azure", "westeurope"),
    "onprem": Site("onprem", hosts=("192.0.2.10", "192.0.2.11", "192.0.2.12"), ssh_key="~/.ssh/id", ssh_user="ada"),
}
NODES = {
    "gpu": NodeType(count=2, min_count=1, cpus=12, memory_gib=80, gpus=1, gpu_type="H100"),
    "little": NodeType(count=3, min_count=0, cpus=3.5, memory_gib=12),
}


def render_for(provider: str, fleet: str = "sixteen-gpu") -> dict[str, Any]:
    return render_cluster_file(load_fleet(FLEETS / f"{fleet}.yaml"), ROOT, SITES[provider])


def list_setup(config: dict[str, Any]) -> list[str]:
    """What the head is set up with."""
    return [*config.get("setup_commands", []), *config["head_setup_commands"]]


@pytest.mark.parametrize("provider", SITES)
def test_ray_takes_the_file(provider: str) -> None:
    prepared = prepare_config(render_for(provider))
    validate_config(prepared)
    # What the file leaves out, Ray fills from its defaults, which would install another Ray.
    assert "ray-wheels" not in json.dumps(prepared)


@pytest.mark.parametrize("provider", SITES)
def test_ray_refuses_a_misspelt_key_of_it(provider: str) -> None:
    config = render_for(provider)
    config["head_setup_comands"] = config.pop("head_setup_commands")
    with pytest.raises(jsonschema.ValidationError, match="head_setup_comands"):
        validate_config(prepare_config(config))


def test_every_host_but_the_head_is_a_worker_from_the_start() -> None:
    config = render_for("onprem")
    prepared = prepare_config(config)
    # Ray takes the file as it is, so what it fills in elsewhere must stand in it.
    assert prepared == config
    assert set(_get_default_config(config["provider"])) <= set(config) | {"setup_commands"}
    bounds = {name: (one["min_workers"], one["max_workers"]) for name, one in prepared["available_node_types"].items()}
    assert bounds == {prepared["head_node_type"]: (0, 0), "host": (2, 2)}
    assert prepared["head_setup_commands"] == prepared["worker_setup_commands"]


def test_each_host_gets_the_label_of_its_node_type() -> None:
    hosts = tuple(f"192.0.2.{number}" for number in range(10, 16))
    fleet = load_fleet(FLEETS / "sixteen-gpu.yaml").model_copy(update={"nodes": NODES})
    config = render_cluster_file(fleet, ROOT, Site("onprem", hosts=hosts, ssh_key="~/.ssh/id"))
    option = config["worker_start_ray_commands"][-1].partition("--labels=")[2]
    for host, name in zip(hosts[1:], ["gpu"] * 2 + ["little"] * 3, strict=True):
        said = subprocess.run(
            ["bash", "-c", f"echo {option}"],
            env={"RAY_CLOUD_INSTANCE_ID": host},
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
        assert said.stdout == f"guildhall/node-type={name}\n"
    assert render_for("onprem")["worker_start_ray_commands"][-1].endswith(" --labels=guildhall/node-type=gpu")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_committed_examples_are_fresh_and_taken(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    first, _, text = path.read_text().partition("\n")
    command = shlex.split(first.removeprefix("# Written by: guildhall render "))
    out = command.index("--out")
    assert command[out + 1] == f"cluster/ray_up/{path.name}"
    done = run_render(*command[:out], *command[out + 2 :])
    assert done.exit_code == 0, done.output
    assert done.stdout.partition("\n")[2] == text, f"run {first.removeprefix('# Written by: ')}"
    validate_config(prepare_config(yaml.safe_load(text)))


def test_an_example_of_every_provider_is_committed() -> None:
    assert [path.stem for path in EXAMPLES] == sorted(SITES)


@pytest.mark.parametrize("provider", ["aws", "gcp", "azure"])
def test_each_node_type_is_a_worker_type_with_its_resources_labels_and_bounds(provider: str) -> None:
    fleet = load_fleet(FLEETS / "sixteen-gpu.yaml").model_copy(update={"nodes": NODES})
    config = render_cluster_file(fleet, ROOT, SITES[provider])
    validate_config(prepare_config(config))
    types = config["available_node_types"]
    assert list(types) == [HEAD_TYPE, "gpu", "little"]
    assert types["gpu"]["resources"] == {"CPU": 12, "GPU": 1, "accelerator_type:H100": 1}
    assert types["little"]["resources"] == {"CPU": 3}
    assert [types[name]["labels"] for name in NODES] == [{"guildhall/node-type": name} for name in NODES]
    for name in NODES:
        validate_node_labels(types[name]["labels"])
    bounds = {name: (one["min_workers"], one["max_workers"]) for name, one in types.items()}
    assert bounds == {HEAD_TYPE: (0, 0), "gpu": (1, 2), "little": (0, 3)}
    assert config["max_workers"] == 5
    # The head and the machines with GPUs have the CUDA environment, the others that of the CPU.
    assert any("ACCEL=cuda" in command for command in config["setup_commands"])
    assert any("ACCEL=cpu" in command for command in types["little"]["worker_setup_commands"])
    assert "worker_setup_commands" not in types["gpu"]


@pytest.mark.parametrize("provider", SITES)
def test_the_head_offers_no_cpu_and_every_node_asks_for_the_token(provider: str) -> None:
    config = render_for(provider)
    assert "--num-cpus=0" in config["head_start_ray_commands"][-1]
    assert any("RAY_AUTH_MODE=token" in command for command in list_setup(config))
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


@pytest.mark.parametrize("cloud", ["aws", "gcp", "azure"])
def test_the_head_gets_the_clients_that_rays_own_defaults_install(cloud: Cloud) -> None:
    (ours,) = render_for(cloud)["head_setup_commands"]
    defaults = " ".join(_get_default_config({"type": cloud})["head_setup_commands"])
    wanted = [word for word in shlex.split(defaults) if "==" in word or ">=" in word]
    assert wanted
    assert [word for word in shlex.split(ours) if "==" in word or ">=" in word] == wanted


@pytest.mark.parametrize("provider", SITES)
def test_every_command_is_a_shell_command(provider: str) -> None:
    config = render_for(provider)
    for command in [*list_setup(config), *config["head_start_ray_commands"], *config["worker_start_ray_commands"]]:
        subprocess.run(["bash", "-n", "-c", command], check=True, timeout=10)


def make_programs(folder: Path, **scripts: str) -> dict[str, str]:
    """Shell scripts in the place of programs, and an environment that finds nothing but them."""
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/bash\n{script}\n")
        (folder / name).chmod(0o755)
    return {"PATH": str(folder), "HOME": str(folder)}


@pytest.mark.parametrize(("has_gpu", "lock"), [(True, "cuda"), (False, "cpu")])
def test_the_makefile_installs_where_the_path_points_what_runs_on_the_host(
    tmp_path: Path, has_gpu: bool, lock: str
) -> None:
    (command,) = [one for one in list_setup(render_for("onprem", "sixteen-gpu")) if "make -C" in one]
    command = command.replace("~/guildhall", str(ROOT)).replace("$HOME", "/home/ada")
    environment = make_programs(tmp_path, **({"nvidia-smi": "exit 0"} if has_gpu else {}))
    environment["PATH"] += ":/usr/bin:/bin"
    # --dry-run says what would be run; --assume-new asks for it although it may be there.
    done = subprocess.run(
        ["bash", "-c", f"{command} --dry-run --assume-new=pyproject.toml"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "/home/ada/.guildhall-venv/bin/pip install" in done.stdout
    assert f"-r requirements/{lock}.lock" in done.stdout


@pytest.mark.parametrize(
    ("provider", "packages"), [("onprem", "make g++ python3-venv"), ("aws", "make g++"), ("gcp", "make g++")]
)
@pytest.mark.parametrize("user", ["0", "1000"])
def test_a_bare_machine_gets_its_packages_once_from_root_or_by_sudo(
    provider: str, packages: str, user: str, tmp_path: Path
) -> None:
    (command,) = [one for one in list_setup(render_for(provider)) if "apt-get" in one]
    bin_ = '"$(dirname "$0")"'
    environment = make_programs(
        tmp_path,
        **{
            "id": f"echo {user}",
            "sudo": f'echo "sudo" >> {bin_}/said; "$@"',
            "env": 'shift; "$@"',
            "dirname": 'echo "${1%/*}"',
            "python3": f"test -e {bin_}/g++",
            "apt-get": f'echo "$*" >> {bin_}/said; test "$1" = update '
            f"|| for one in make g++; do printf '#!/bin/bash\\n' > {bin_}/$one; /bin/chmod +x {bin_}/$one; done",
        },
    )
    for _ in range(2):
        subprocess.run(["/bin/bash", "-c", command], env=environment, check=True, timeout=10)
    said = (tmp_path / "said").read_text().splitlines()
    asked = [line for line in said if line != "sudo"]
    assert asked == ["update", f"install --yes -o DPkg::Lock::Timeout=300 {packages}"]
    assert said.count("sudo") == (0 if user == "0" else 2)


@pytest.mark.parametrize(
    ("found", "stays"), [([".installed-cpu"], True), (["bin/pip"], True), (["bin/python"], False), ([], False)]
)
def test_an_environment_that_was_left_without_pip_is_made_anew(found: list[str], stays: bool, tmp_path: Path) -> None:
    (command,) = [one for one in list_setup(render_for("onprem")) if "rm -rf" in one]
    venv = tmp_path / ".guildhall-venv"
    for name in found:
        (venv / name).parent.mkdir(parents=True, exist_ok=True)
        (venv / name).touch(mode=0o755)
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    subprocess.run(["bash", "-c", command], env=environment, check=True, timeout=10)
    assert venv.exists() == stays


def test_the_environment_is_written_once_however_often_a_machine_is_set_up(tmp_path: Path) -> None:
    commands = [command for command in list_setup(render_for("onprem")) if "~/.guildhall-environment" in command]
    for command in commands * 2:
        subprocess.run(
            ["bash", "-c", command], env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}, check=True, timeout=10
        )
    assert (tmp_path / ".bashrc").read_text() == ". ~/.guildhall-environment\n"
    shown = subprocess.run(
        ["bash", "-c", ". ~/.bashrc; echo $RAY_AUTH_MODE $GUILDHALL_DATA_DIR; echo $PATH"],
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    assert shown.stdout.splitlines() == [
        f"token {tmp_path}/guildhall-data",
        f"{tmp_path}/.guildhall-venv/bin:/usr/bin:/bin",
    ]


@pytest.mark.parametrize(("version", "code"), [("580.95.05", 0), ("570.172.08", 1), (None, 0)])
def test_a_driver_too_old_for_the_wheels_ends_the_set_up(tmp_path: Path, version: str | None, code: int) -> None:
    (command,) = [one for one in render_for("aws")["setup_commands"] if "nvidia-smi" in one]
    if version is not None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho {version}\necho {version}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    done = subprocess.run(["bash", "-c", command], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=False, timeout=10)
    assert done.returncode == code


@pytest.mark.parametrize(
    ("site", "said"),
    [
        (Site("aws"), "name one with --location, for example eu-west-1"),
        (Site("aws", "eu-west-1"), "with --ami, as this prints it: aws ssm get-parameter --region eu-west-1"),
        (Site("gcp", "europe-west4-b"), "name yours with --project"),
        (Site("onprem", hosts=("192.0.2.10",)), "1 hosts are named, 3 are needed: .* and 2 for 2 gpu"),
        (Site("onprem", hosts=("192.0.2.10",) * 3), "1 hosts are named"),
        (Site("onprem", hosts=SITES["onprem"].hosts), "name the private key that opens all of them with --ssh-key"),
        (Site("azure", "westeurope", ssh_key="~/.ssh/id"), "--ssh-key means nothing to provider azure; leave it out"),
        (Site("gcp", "europe-west4-b", ami="ami-0"), "--ami means nothing to provider gcp; leave it out"),
        (Site("aws", "eu-west-1", hosts=("192.0.2.10",)), "--host means nothing to provider aws"),
    ],
)
def test_what_a_site_lacks_is_said(site: Site, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        render_cluster_file(load_fleet(FLEETS / "sixteen-gpu.yaml"), ROOT, site)


def test_an_index_on_one_disk_is_refused_where_machines_share_none() -> None:
    with pytest.raises(ConfigurationError, match=r"domains\.finance\.index\.location to a URL"):
        render_for("gcp", "pocket")
    hosts = SITES["onprem"].hosts[:2]
    site = Site("onprem", hosts=hosts, ssh_key="~/.ssh/id")
    assert render_cluster_file(load_fleet(FLEETS / "pocket.yaml"), ROOT, site)["provider"]["worker_ips"] == [hosts[1]]


def test_a_folder_that_is_not_copied_to_the_machines_is_refused() -> None:
    fleet: Fleet = make_fleet()
    with pytest.raises(ConfigurationError, match=r"engines\.own\.model is .* not in"):
        render_cluster_file(fleet, PROJECT / "elsewhere", SITES["onprem"])
