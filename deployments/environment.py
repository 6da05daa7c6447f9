"""The one file that reads environment variables: secrets and addresses, nothing else."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Environment:
    """What the environment says; None where a variable is absent or empty."""

    api_keys: str | None = field(repr=False)
    """GUILDHALL_API_KEYS: comma separated."""
    api_keys_file: Path | None
    """GUILDHALL_API_KEYS_FILE: one key per line."""
    index_keys: str | None = field(repr=False)
    """GUILDHALL_INDEX_KEYS: comma separated; the keys that may also change indexes."""
    index_keys_file: Path | None
    """GUILDHALL_INDEX_KEYS_FILE: one key per line."""
    url: str | None
    """GUILDHALL_URL: where the command line finds the gateway."""
    data_dir: Path
    """GUILDHALL_DATA_DIR: where indexes, this node's copies of indexes given by URL, and built experts are kept."""
    ray_address: str | None
    """RAY_ADDRESS: the Ray cluster to join."""
    grafana_token: str | None = field(repr=False, default=None)
    """GUILDHALL_GRAFANA_TOKEN: of a service account that may edit dashboards."""
    otlp_endpoint: str | None = None
    """OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT: where traces go; OpenTelemetry reads both."""


def read_environment(variables: Mapping[str, str] | None = None) -> Environment:
    """The environment of this process, or the variables given."""
    values = os.environ if variables is None else variables

    def read(name: str) -> str | None:
        return values.get(name, "").strip() or None

    def read_path(name: str) -> Path | None:
        value = read(name)
        return Path(value).expanduser() if value is not None else None

    data_dir = read("GUILDHALL_DATA_DIR")
    cache = read("XDG_CACHE_HOME")
    default = (Path(cache) if cache is not None else Path("~/.cache").expanduser()) / "guildhall"
    return Environment(
        api_keys=read("GUILDHALL_API_KEYS"),
        api_keys_file=read_path("GUILDHALL_API_KEYS_FILE"),
        index_keys=read("GUILDHALL_INDEX_KEYS"),
        index_keys_file=read_path("GUILDHALL_INDEX_KEYS_FILE"),
        url=read("GUILDHALL_URL"),
        data_dir=Path(data_dir).expanduser().absolute() if data_dir is not None else default,
        ray_address=read("RAY_ADDRESS"),
        grafana_token=read("GUILDHALL_GRAFANA_TOKEN"),
        otlp_endpoint=read("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or read("OTEL_EXPORTER_OTLP_ENDPOINT"),
    )
