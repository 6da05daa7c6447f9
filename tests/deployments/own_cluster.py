"""A Ray cluster of several nodes on this machine that no other one is found by or told of."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import ray
from ray.cluster_utils import Cluster

NODE_SIZE = {"object_store_memory": 80 * 2**20, "include_dashboard": False}


@contextmanager
def own_cluster() -> Iterator[Cluster]:
    """A cluster without nodes; at the end of the block it is gone, and this process is connected to none."""
    patch = pytest.MonkeyPatch()
    # Short, because sockets live below it; its own, so that no other cluster on the machine is found or told of it.
    folder = tempfile.mkdtemp(prefix="gh-", dir="/tmp")
    patch.setenv("RAY_TMPDIR", folder)
    patch.setenv("RAY_AUTH_MODE", "disabled")
    patch.delenv("RAY_ADDRESS", raising=False)
    cluster = Cluster()
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
        patch.undo()
        shutil.rmtree(folder, ignore_errors=True)
