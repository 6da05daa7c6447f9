"""The shipped encoder's files for questions, made once per test run: ten seconds of one core."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from deployments.fleet_encoder import FleetEncoder, load_fleet_encoder
from retrieval.encoder import SHIPPED_ENCODER
from retrieval.question_encoder import ENCODERS_FOLDER


@cache
def load_shipped_encoder() -> FleetEncoder:
    """The encoder as a gateway holds it."""
    return load_fleet_encoder(SHIPPED_ENCODER, _data_dir())


def lend_encoder_files(data_dir: Path) -> None:
    """Put the files where a process with this data folder finds them."""
    load_shipped_encoder()
    shutil.copytree(_data_dir() / ENCODERS_FOLDER, data_dir / ENCODERS_FOLDER, dirs_exist_ok=True)


@cache
def _data_dir() -> Path:
    folder = tempfile.mkdtemp(prefix="guildhall-encoders-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
