"""Real clusters for stories that need one: started with `jota up`, purged at the end, and nothing may be left of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jota.testing.host import HostCluster, lacking


@pytest.fixture(scope="module")
def make_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], HostCluster]]:
    """`make_cluster("a")`: a cluster that is not started yet. Its name is free: the process id is part of it."""
    if reason := lacking():
        pytest.skip(reason)
    made: list[HostCluster] = []

    def make(name: str) -> HostCluster:
        cluster = HostCluster(f"t{os.getpid()}{name}", tmp_path_factory.mktemp(name))
        made.append(cluster)
        return cluster

    yield make
    for cluster in made:
        cluster.jota("down", "--name", cluster.name, "--purge", check=False)
    for cluster in made:
        assert cluster.traces() == []
        assert not Path(f"/var/lib/jota/instances/{cluster.name}.json").exists()


@pytest.fixture(scope="module")
def cluster(make_cluster: Callable[[str], HostCluster]) -> HostCluster:
    """One node, Ready, with the busybox image."""
    started = make_cluster("c")
    started.up()
    started.load_image()
    return started
