"""`jota down`: end an instance's processes and remove every trace from the kernel; with purge, its data too.

Works on whatever is left: after a clean run, after kill -9 of any part, twice in a row. Each step is idempotent.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from jota.run import kubeconfig, pidfile, processes
from jota.run.instance import INSTANCE_FILE, Instance, Registry

_GRACE = 5.0


def down(registry: Registry, name: str, *, purge: bool) -> None:
    """Raises Refused when there is no such instance."""
    with registry.locked(name):
        if purge and registry.abandoned(name):
            return registry.forget(name)
        instance = registry.get(name)
        _stop(instance)
        if instance.kubeconfig:
            kubeconfig.remove_from(Path(instance.kubeconfig), instance.context)
        if purge:
            _purge(instance.root)
            registry.forget(name)


def _purge(root: Path) -> None:
    """instance.json goes last: as long as it is there, a purge that was cut off can be repeated."""
    from jota.runtime import trees

    for entry in root.iterdir():
        if entry.name == INSTANCE_FILE:
            continue
        if entry.is_dir() and not entry.is_symlink():
            trees.remove(str(entry))
        else:
            entry.unlink()
    trees.remove(str(root))


def _stop(instance: Instance) -> None:
    """Who makes nodes first, then agents (they would report dying containers), then what they ran, then the server."""
    processes.end([p for p in processes.running(instance) if p.role == "autoscaler"], _GRACE)
    processes.end(processes.strays(instance), grace=0.0)
    live = processes.running(instance)
    processes.end([p for p in live if p.role in ("agent", "hollow")], _GRACE)
    if (instance.nodes or instance.namespaced) and os.geteuid() == 0:  # without root no node was ever started
        _clean(instance.name, {n.name: instance.node_dir(n.name) for n in instance.nodes}, instance.root)
    processes.end([p for p in processes.running(instance) if p.role == "server"], _GRACE)
    shutil.rmtree(instance.root / "run", ignore_errors=True)


def leave(name: str, node: str, directory: Path) -> None:
    """This machine stops being a node that it became by `jota agent --token`: pods, network and identity are removed.

    The Node object stays: whoever runs the cluster deletes it. Raises Refused while the agent runs.
    """
    from jota.runtime import trees

    with pidfile.held(directory / "agent.pid", f"the agent of node {node}", remedy="stop it first (SIGTERM)"):
        _clean(name, {node: directory}, directory)
        trees.remove(str(directory))


def _clean(name: str, nodes: Mapping[str, Path], root: Path) -> None:
    from jota.net.links import cleanup as clean_network
    from jota.runtime.embedded.cleanup import cleanup as clean_runtime

    for node, directory in nodes.items():
        clean_runtime(str(directory / "runtime"), f"{name}-{node}")
    clean_network(name)
    unmount_below(root)


def unmount_below(directory: Path) -> None:
    """Volumes of pods that no agent lived to unmount; inner mounts first."""
    from jota.runtime.sys import umount_if_mounted

    lines = Path("/proc/self/mounts").read_text().splitlines()
    mounted = [line.split()[1].encode().decode("unicode_escape") for line in lines]
    for place in reversed([m for m in mounted if Path(m).is_relative_to(directory)]):
        umount_if_mounted(place)
