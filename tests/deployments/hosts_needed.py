"""What a machine must have for tests on hosts of their own."""

import os
import shutil

import pytest

from benchmarks.hosts import TOOLS


def require_hosts() -> None:
    """Skip, or fail where everything should be there, with what is missing."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None] + (["root"] if os.geteuid() else [])
    if missing:
        said = f"machines of their own need {', '.join(missing)}; apt-get install openssh-server rsync"
        pytest.fail(said) if os.environ.get("CI") == "true" else pytest.skip(said)
