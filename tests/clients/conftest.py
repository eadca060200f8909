"""Real clusters for real clients: one control plane without nodes, and one with a node, both shared by the whole session."""

from __future__ import annotations

import gc
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jota.testing.host import HostCluster, lacking


def _started(tmp_path_factory: pytest.TempPathFactory, name: str, nodes: str) -> Iterator[HostCluster]:
    if reason := lacking():
        pytest.skip(reason)
    cluster = HostCluster(f"k{os.getpid()}{name}", tmp_path_factory.mktemp(name))
    try:
        cluster.up("--nodes", nodes)
        yield cluster
    finally:
        cluster.jota("down", "--name", cluster.name, "--purge", check=False)
    assert cluster.traces() == []
    assert not Path(f"/var/lib/jota/instances/{cluster.name}.json").exists()


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostCluster]:
    """A control plane without nodes."""
    yield from _started(tmp_path_factory, "p", "0")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostCluster]:
    """One node, Ready, with the busybox image."""
    for started in _started(tmp_path_factory, "c", "1"):
        started.load_image()
        yield started


@pytest.fixture(autouse=True)
def _left_behind() -> Iterator[None]:
    """Libraries leave sockets to Python's collector: it comes here, where that is a warning, not in somebody else's test."""
    yield
    gc.collect()


@pytest.fixture
def namespace() -> Callable[[HostCluster], str]:
    """`namespace(cluster)`: a namespace of the test's own, with its default ServiceAccount."""

    def make(cluster: HostCluster) -> str:
        name = f"t-{uuid.uuid4().hex[:8]}"
        cluster.kubectl("create", "namespace", name)
        return name

    return make
