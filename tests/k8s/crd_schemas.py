"""KubeRay's own schemas, from a folder that the reader has downloaded, with unknown fields rejected.

The CRDs are not copied into this repository: what is checked is named here, and a file that differs is refused. Closed
is every object whose schema lists its fields, as Kubernetes prunes it and `--validate=strict` reports it:
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#field-pruning. Rules in
CEL (`x-kubernetes-validations`) are left to the cluster; this version's are about fields that Guildhall does not set.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from jsonschema.protocols import Validator


@dataclass(frozen=True)
class CrdFile:
    """One CRD of KubeRay: `path` is that in its repository."""

    version: str
    path: str
    sha256: str

    @property
    def name(self) -> str:
        return Path(self.path).name

    def show_download(self, folder: str) -> str:
        """The command that brings the file into a folder."""
        url = f"https://raw.githubusercontent.com/ray-project/kuberay/{self.version}/{self.path}"
        return f"curl --fail --silent --show-error --location --create-dirs --output {folder}/{self.name} {url}"


RAY_SERVICE = CrdFile(
    version="v1.7.0",
    path="ray-operator/config/crd/bases/ray.io_rayservices.yaml",
    sha256="0a8fc325e6e22b9231c1f282b309555e2ecf94227ca20a03df3d1d9a403907ab",
)


def load_crd(folder: Path, file: CrdFile) -> dict[str, Any]:
    """The CRD; raises ValueError where the folder's file is another one."""
    content = (folder / file.name).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise ValueError(
            f"{folder / file.name} has the SHA-256 {found}, that of KubeRay {file.version} is {file.sha256}; "
            f"download it again: {file.show_download(str(folder))}"
        )
    crd: dict[str, Any] = yaml.load(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return crd


def build_validator(crd: Mapping[str, Any], version: str) -> Validator:
    """A validator of one API version of a CRD; an object's own metadata is Kubernetes' and left to its schema."""
    (schema,) = [one["schema"]["openAPIV3Schema"] for one in crd["spec"]["versions"] if one["name"] == version]
    closed = close_schema(schema)
    closed["properties"]["metadata"] = {"type": "object"}
    return jsonschema.Draft202012Validator(closed)


def close_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A structural schema as JSON schema that rejects every field which Kubernetes would prune."""
    closed = dict(schema)
    if "properties" in schema:
        closed["properties"] = {name: close_schema(inner) for name, inner in schema["properties"].items()}
    if "items" in schema:
        closed["items"] = close_schema(schema["items"])
    more = schema.get("additionalProperties")
    if isinstance(more, Mapping):
        closed["additionalProperties"] = close_schema(more)
    elif more is None and schema.get("type") == "object" and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed["additionalProperties"] = False
    if schema.get("nullable"):
        closed["type"] = [schema["type"], "null"]
    return closed


def find_crd_mistakes(validator: Validator, manifest: Mapping[str, Any]) -> list[str]:
    """What is wrong with a manifest, as `path: what`."""
    return [
        f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in validator.iter_errors(dict(manifest))
    ]
