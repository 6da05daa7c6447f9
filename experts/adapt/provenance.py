"""Where an artifact comes from: `guildhall.json` beside its weights, so that serving sees which prompt it learned."""

import os
from hashlib import file_digest, sha256
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from experts.errors import ConfigurationError

PROVENANCE_FILE = "guildhall.json"
# peft's names of an adapter's settings and weights; what else lies in the folder changes no answer.
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.*")
# A model's settings, tokenizer and weights, as transformers and vLLM name them.
_MODEL_FILES = ("*.json", "*.jinja", "*.model", "*.txt", "*.safetensors", "*.bin")
# Of a larger file of a model this many parts are read, evenly spread: training changes weights everywhere, and 15 GB
# would take half a minute at every `guildhall up`.
_WHOLE_BYTES = 2**26
_PARTS = 64
_PART_BYTES = 2**18


class Provenance(BaseModel):
    """What is known of how a model or an adapter was made. Keys of later versions are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    template: str = Field(min_length=1, description="`fingerprint_template()` of the prompts that it was trained on.")
    data: str | None = Field(default=None, description="Fingerprint of the data; absent: not known.")
    trained_by: str | None = Field(default=None, description="Command that made it; absent: not known.")


def write_provenance(folder: Path, provenance: Provenance) -> None:
    """Write `guildhall.json` into an artifact's folder, which exists; aside first, so that nobody reads half of it."""
    aside = folder / f".{PROVENANCE_FILE}.aside"
    aside.write_text(provenance.model_dump_json(indent=2, exclude_none=True) + "\n", encoding="utf-8")
    os.replace(aside, folder / PROVENANCE_FILE)


def read_provenance(folder: Path) -> Provenance | None:
    """What an artifact's folder says of it; None without `guildhall.json`: from a hub or made elsewhere.

    Raises ConfigurationError when the file is there and says nothing that can be understood.
    """
    path = folder / PROVENANCE_FILE
    try:
        return Provenance.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except ValidationError as error:
        first = error.errors()[0]
        reason = ": ".join([*map(str, first["loc"]), first["msg"]])
    raise ConfigurationError(
        f"{path} cannot be read ({reason}); needed: a JSON object with the text key 'template'; make the artifact "
        "again with `guildhall adapt`, or remove the file where the artifact was not made by Guildhall"
    )


def checksum_adapter(folder: Path) -> str:
    """16 hex digits over an adapter's settings and weights: another value is another adapter.

    Raises OSError where a file cannot be read.
    """
    digest = sha256()
    for path in sorted(path for pattern in _ADAPTER_FILES for path in folder.glob(pattern)):
        with path.open("rb") as file:
            digest.update(path.name.encode() + b"\0" + file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def checksum_model(folder: Path) -> str:
    """16 hex digits that another training of a model changes; of its large files only parts are read.

    Raises OSError where a file cannot be read.
    """
    digest = sha256()
    for path in sorted({path for pattern in _MODEL_FILES for path in folder.glob(pattern)}):
        if path.name == PROVENANCE_FILE:
            continue
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest.update(f"{path.name} {size}".encode() + b"\0")
            if size <= _WHOLE_BYTES:
                digest.update(file_digest(file, "sha256").digest())
                continue
            for part in range(_PARTS):
                file.seek((size - _PART_BYTES) * part // (_PARTS - 1))
                digest.update(file.read(_PART_BYTES))
    return digest.hexdigest()[:16]
