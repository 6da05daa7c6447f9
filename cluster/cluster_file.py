"""A fleet as a cluster file of `ray up`: a head that runs no expert, and one worker type for each node type.

Keys: https://docs.ray.io/en/latest/cluster/vms/references/ray-cluster-configuration.html. Autoscaler v2 is what
`ray up` starts by itself since Ray 2.50; hosts that are there already get the first one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.machines import choose_machine
from cluster.moved_fleet import move_fleet
from cluster.provider import SSH_USER, Cloud, Provider
from cluster.ray_hosts import plan_host_labels, render_host_types
from cluster.ray_node import HEAD, NODE_TYPE_LABEL, OBJECT_STORE_BYTES
from experts.errors import BadRequest, ConfigurationError
from experts.fleet import Fleet, NodeType, is_url

HOME = "~/guildhall"
"""Where `ray up` copies the project to."""

# A dot is in no name of a fleet file, so no node type has this name.
HEAD_TYPE = "ray.head"
_DISK_GIB = 512  # The CUDA environment takes 15, each model of 7 billion parameters 15.
_PYTHON = "3.11"
_ENVIRONMENT = "~/.guildhall-environment"
# Beside the project: Ray's autoscaler reads every file of what it copies to new machines.
_VENV = "$HOME/.guildhall-venv"

_AMI_PARAMETER = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"

# Ray's own clients of the clouds, which its autoscaler needs on the head: those of ray/autoscaler/*/defaults.yaml.
_CLIENTS: dict[Cloud, str] = {
    "aws": "'boto3>=1.4.8'",
    "gcp": "google-api-python-client==1.7.8",
    "azure": "azure-core==1.35.0 azure-identity==1.23.1 azure-mgmt-compute==35.0.0 azure-mgmt-network==29.0.0 "
    "azure-mgmt-resource==24.0.0 azure-common==1.1.28 msrest==0.7.1 msrestazure==0.6.4.post1",
}


@dataclass(frozen=True, slots=True)
class Site:
    """Where a cluster is made.

    `location` is a region of AWS, a zone of Google Cloud, a location of Azure; `ami` an image of AWS with NVIDIA's
    driver; `project` a project of Google Cloud. `hosts` are machines that are there already, the head first, and
    `ssh_key` the file of the private key that opens them: the head gets a copy, with which it starts the others.
    `ssh_user` is who logs in to any of them.
    """

    provider: Provider
    location: str | None = None
    ami: str | None = None
    project: str | None = None
    hosts: tuple[str, ...] = ()
    ssh_key: str | None = None
    ssh_user: str = SSH_USER


def render_cluster_file(fleet: Fleet, folder: Path, site: Site) -> dict[str, Any]:
    """The cluster file of a fleet whose paths are absolute; `folder` is the project, copied to every machine.

    Raises ConfigurationError where the fleet could not run there, BadRequest where the site lacks something.
    """
    _check_site(site)
    move_fleet(fleet, folder, HOME)  # Refuses what would not be there.
    lock = "cuda" if any(node.gpus for node in fleet.nodes.values()) else "cpu"
    setup = _plan_setup(lock, brings_python=site.provider != "onprem")
    labels = autoscaler = ""
    config: dict[str, Any] = {
        "cluster_name": fleet.name,
        "max_workers": sum(node.count for node in fleet.nodes.values()),
        "auth": {"ssh_user": site.ssh_user},
    }
    if site.provider == "onprem":
        _check_hosts(fleet, site)
        config |= render_host_types(site.hosts)
        config["auth"]["ssh_private_key"] = site.ssh_key
        config |= {"head_setup_commands": setup, "worker_setup_commands": setup}
        labels = f" {plan_host_labels(fleet.nodes, site.hosts[1:])}"
        # Ray 2.60's second takes a head that is such a host for one that has ended, and never starts a lost host again.
        autoscaler = "RAY_enable_autoscaler_v2=0 "
    else:
        _check_indexes(fleet)
        config |= {
            "provider": _render_provider(fleet, site),
            "head_node_type": HEAD_TYPE,
            "available_node_types": _render_node_types(fleet, site, site.provider, lock),
            "setup_commands": setup,
            "head_setup_commands": [f"{_VENV}/bin/pip install --quiet {_CLIENTS[site.provider]}"],
            "worker_setup_commands": [],
        }
    store = f"--object-store-memory={OBJECT_STORE_BYTES} --metrics-export-port=8080"
    return config | {
        "file_mounts": {
            HOME: ".",
            "~/.ray/auth_token": "~/.ray/auth_token",
            "~/.guildhall-keys": "~/.guildhall-keys",
        },
        "rsync_exclude": [".git", ".venv", "**/__pycache__", "**/.*_cache", ".hypothesis", "**/*.egg-info", "build"],
        "initialization_commands": [],
        "head_start_ray_commands": [
            "ray stop",
            # `ray up` itself sets RAY_USAGE_STATS_ENABLED=1 before this, whatever the machine's environment says.
            f"ulimit -n 65536; {autoscaler}ray start --head --port=6379 --num-cpus=0 --disable-usage-stats {store} "
            "--autoscaling-config=~/ray_bootstrap_config.yaml",
        ],
        "worker_start_ray_commands": [
            "ray stop",
            f"ulimit -n 65536; ray start --address=$RAY_HEAD_IP:6379 {store}{labels}",
        ],
    }


def _check_site(site: Site) -> None:
    """Raise BadRequest for what the provider knows nothing of."""
    known: dict[Provider, tuple[str, ...]] = {
        "aws": ("location", "ami"),
        "gcp": ("location", "project"),
        "azure": ("location",),
        "onprem": ("hosts", "ssh_key"),
    }
    for field in ("location", "ami", "project", "hosts", "ssh_key"):
        if getattr(site, field) and field not in known[site.provider]:
            option = "--host" if field == "hosts" else f"--{field.replace('_', '-')}"
            raise BadRequest(f"{option} means nothing to provider {site.provider}; leave it out", field)


def _plan_setup(lock: str, brings_python: bool) -> list[str]:
    """Commands that bring a machine to what the lock says; where it is there already, they change nothing.

    A cloud's images have Pythons of their own, so theirs is brought along. Hosts have Python 3.11 to 3.13, and where
    they are not of Debian or Ubuntu the packages too.
    """
    python, accelerator = "", lock
    if brings_python:
        commands = [
            _install_packages("command -v make && command -v g++", "make g++"),
            "test -x ~/.local/bin/uv || curl -LsSf https://astral.sh/uv/install.sh | sh",
            f"~/.local/bin/uv python install {_PYTHON}",
        ]
        python = f' PYTHON="$(~/.local/bin/uv python find {_PYTHON})"'
    else:
        has = "command -v make && command -v g++ && python3 -c 'import ensurepip'"
        commands = [_install_packages(has, "make g++ python3-venv")]
        if lock == "cuda":
            # All hosts have one set-up; the head, and workers without GPUs, need what runs on CPUs.
            accelerator = "$(command -v nvidia-smi >/dev/null && echo cuda || echo cpu)"
    if lock == "cuda":
        # The wheels bring CUDA 13, which drivers before 580 do not run.
        commands.append(
            "! command -v nvidia-smi >/dev/null || nvidia-smi --query-gpu=driver_version --format=csv,noheader "
            '| awk -F. \'$1 < 580 { print "NVIDIA driver " $0 " is older than 580"; exit 1 }\''
        )
    exports = (
        f"export PATH={_VENV}/bin:$PATH",
        "export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0",
        "export GUILDHALL_API_KEYS_FILE=$HOME/.guildhall-keys GUILDHALL_DATA_DIR=$HOME/guildhall-data",
    )
    quoted = " ".join(f"'{line}'" for line in exports)
    return [
        *commands,
        # Debian's python3 without python3-venv leaves an environment without pip behind, and so it would stay.
        f"ls {_VENV}/.installed-* >/dev/null 2>&1 || test -x {_VENV}/bin/pip || rm -rf {_VENV}",
        f"make -C {HOME} install VENV={_VENV} ACCEL={accelerator}{python}",
        f"printf '%s\\n' {quoted} > {_ENVIRONMENT}",
        f"grep -qsF '. {_ENVIRONMENT}' ~/.bashrc || echo '. {_ENVIRONMENT}' >> ~/.bashrc",
    ]


def _install_packages(has: str, packages: str) -> str:
    """A command that installs packages of Debian or Ubuntu unless a machine `has` what they bring."""
    # A fresh machine installs its own updates first, and asks at the terminal which services to restart.
    install = "env DEBIAN_FRONTEND=noninteractive apt-get install --yes -o DPkg::Lock::Timeout=300"
    sudo = 'SUDO=$(test "$(id -u)" = 0 || echo sudo)'
    return f"({has}) >/dev/null 2>&1 || {{ {sudo}; $SUDO apt-get update && $SUDO {install} {packages}; }}"


def _check_indexes(fleet: Fleet) -> None:
    """Raise ConfigurationError for an index that machines without a common disk could not all read."""
    for name, domain in fleet.domains.items():
        location = domain.index.location if domain.index is not None else None
        if domain.index is not None and (location is None or not is_url(location)):
            raise ConfigurationError(
                f"domains.{name}.index lies on the disk of one machine, and the cloud's machines share none; set "
                f"domains.{name}.index.location to a URL such as s3://bucket/{name}"
            )


def _check_hosts(fleet: Fleet, site: Site) -> None:
    """Raise BadRequest unless there is a host for the head and each machine of the fleet, and a key that opens them."""
    wanted = 1 + sum(node.count for node in fleet.nodes.values())
    if len(site.hosts) != wanted or len(set(site.hosts)) != wanted:
        raise BadRequest(
            f"{len(set(site.hosts))} hosts are named, {wanted} are needed: one for the head, which runs no expert, and "
            f"{wanted - 1} for {', '.join(f'{node.count} {name}' for name, node in fleet.nodes.items())}; name each "
            "with --host, the head's first",
            "host",
        )
    if site.ssh_key is None:
        raise BadRequest(
            "the head starts the other hosts over ssh and needs a key for that; name the private key that opens all of "
            "them with --ssh-key, for example ~/.ssh/id_ed25519",
            "ssh_key",
        )


def _render_provider(fleet: Fleet, site: Site) -> dict[str, Any]:
    examples = {"aws": "eu-west-1", "gcp": "europe-west4-b", "azure": "westeurope"}
    if site.location is None:
        raise BadRequest(
            f"{site.provider} has many locations; name one with --location, for example {examples[site.provider]}",
            "location",
        )
    if site.provider == "aws":
        if site.ami is None:
            raise BadRequest(
                "AWS has other images in every region; name one of yours with --ami, as this prints it: aws ssm "
                f"get-parameter --region {site.location} --name {_AMI_PARAMETER} --query Parameter.Value",
                "ami",
            )
        # Stopped machines would keep their price for disks, and GPUs are seldom there when they are started again.
        return {"type": "aws", "region": site.location, "cache_stopped_nodes": False}
    if site.provider == "azure":
        return {"type": "azure", "location": site.location, "resource_group": f"guildhall-{fleet.name}"}
    if site.project is None:
        raise BadRequest("Google Cloud asks for a project; name yours with --project", "project")
    region = site.location.rpartition("-")[0]
    return {"type": "gcp", "region": region, "availability_zone": site.location, "project_id": site.project}


def _render_node_types(fleet: Fleet, site: Site, cloud: Cloud, lock: str) -> dict[str, Any]:
    types: dict[str, Any] = {
        HEAD_TYPE: {
            "min_workers": 0,
            "max_workers": 0,
            "resources": {"CPU": 0},
            "node_config": _render_machine(site, cloud, "the head", HEAD),
        }
    }
    for name, node in fleet.nodes.items():
        gpus = {"GPU": node.gpus} | ({f"accelerator_type:{node.gpu_type}": 1} if node.gpu_type else {})
        types[name] = {
            "min_workers": node.kept,
            "max_workers": node.count,
            "resources": {"CPU": int(node.cpus)} | (gpus if node.gpus else {}),
            "labels": {NODE_TYPE_LABEL: name},
            "node_config": _render_machine(site, cloud, name, node),
        }
        if lock == "cuda" and not node.gpus:
            types[name]["worker_setup_commands"] = _plan_setup("cpu", brings_python=True)
    return types


def _render_machine(site: Site, cloud: Cloud, name: str, node: NodeType) -> dict[str, Any]:
    """The provider's own description of a machine, from an image that has NVIDIA's driver where there are GPUs."""
    machine = choose_machine(cloud, name, node)
    if cloud == "aws":
        return {
            "InstanceType": machine.name,
            "ImageId": site.ami,
            "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": _DISK_GIB, "VolumeType": "gp3"}}],
        }
    if cloud == "azure":
        arm = (
            {"imagePublisher": "microsoft-dsvm", "imageOffer": "ubuntu-hpc", "imageSku": "2204"}
            if node.gpus
            else {"imagePublisher": "Canonical", "imageOffer": "ubuntu-24_04-lts", "imageSku": "server"}
        )
        return {"azure_arm_parameters": {"vmSize": machine.name, **arm, "imageVersion": "latest"}}
    image = (
        "projects/deeplearning-platform-release/global/images/family/common-cu129-ubuntu-2204-nvidia-580"
        if node.gpus
        else "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-amd64"
    )
    disk = {"diskSizeGb": _DISK_GIB, "sourceImage": image}
    config: dict[str, Any] = {
        "machineType": machine.name,
        "disks": [{"boot": True, "autoDelete": True, "type": "PERSISTENT", "initializeParams": disk}],
    }
    if node.gpus:
        # Machines with GPUs cannot be moved while they run.
        config["scheduling"] = [{"onHostMaintenance": "TERMINATE"}]
        config["metadata"] = {"items": [{"key": "install-nvidia-driver", "value": "True"}]}
    return config
