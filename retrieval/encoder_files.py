"""Files made of an encoder's weights at first use and kept: whole and unchanged, or made again."""

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from experts.errors import ConfigurationError
from retrieval.held_files import Aside, make_durable_folder, sweep_aside, sync_folder, write_durably

MANIFEST = "manifest.json"
ASIDE = ".aside"


def load_encoder_files(folder: Path, make: Callable[[], Mapping[str, bytes]]) -> Mapping[str, bytes]:
    """The files of `folder`, which `make` gives when they are not there or not what the manifest says.

    Processes that make them at the same time keep those of the first. Raises ConfigurationError when they cannot be
    kept.
    """
    kept = _read(folder)
    if kept is not None:
        return kept
    made = make()
    try:
        _keep(folder, made)
    except OSError as error:
        raise ConfigurationError(
            f"the encoder's files cannot be kept in {folder}: {error.strerror}; make GUILDHALL_DATA_DIR a folder that "
            f"can be written, with {sum(map(len, made.values())) >> 20} MiB free"
        ) from error
    return made


def _read(folder: Path) -> dict[str, bytes] | None:
    """The files, or None where something is missing or damaged."""
    try:
        checksums = json.loads((folder / MANIFEST).read_bytes())
        files = {name: (folder / name).read_bytes() for name in checksums}
    except (OSError, ValueError, TypeError):
        return None
    return files if files and checksums == {name: _checksum(data) for name, data in files.items()} else None


def _keep(folder: Path, files: Mapping[str, bytes]) -> None:
    make_durable_folder(folder.parent)
    aside = folder.parent / ASIDE
    sweep_aside(aside)
    with Aside(aside / uuid.uuid4().hex) as fresh:
        for name, data in files.items():
            write_durably(fresh.path / name, data)
        checksums = {name: _checksum(data) for name, data in files.items()}
        write_durably(fresh.path / MANIFEST, json.dumps(checksums, indent=2).encode())
        sync_folder(fresh.path)
        if folder.exists() and _read(folder) is None:
            discarded = aside / uuid.uuid4().hex
            with suppress(FileNotFoundError):  # Another process was faster.
                folder.rename(discarded)
            shutil.rmtree(discarded, ignore_errors=True)
        try:
            fresh.path.rename(folder)
        except OSError:
            # Whole, it is another process's and as good.
            if _read(folder) is None:
                raise
        sync_folder(folder.parent)


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
