"""Bundles: a ContainerSpec becomes a directory that the low-level runtime can run, and goes away without a trace.

Blocking functions for the engine's worker threads. Set-up makes cgroup, overlay, FIFOs and config.json in this order; tear-down
undoes each, whether or not it is there. `supervisor.py` starts what stands here.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
from dataclasses import dataclass, replace
from typing import Any

from jota.runtime import sys as kernel
from jota.runtime import trees
from jota.runtime.embedded import cgroups as groups
from jota.runtime.embedded import imagemounts
from jota.runtime.embedded import sandbox as boxes
from jota.runtime.embedded import seccomp as filters
from jota.runtime.embedded import spec as oci
from jota.runtime.embedded.cgroups import Cgroups
from jota.runtime.embedded.images.library import Library
from jota.runtime.embedded.lowlevel import LowLevel
from jota.runtime.embedded.state import Record
from jota.runtime.protocol import RuntimeFault, Sandbox, SandboxSpec


@dataclass(slots=True)
class Workshop:
    """What every container of this node is made with."""

    root: str
    """Volatile: bundles, FIFOs, records."""
    snapshots: str
    """On disk: what containers write into their root file systems."""
    name: str
    library: Library
    cgroups: Cgroups
    low_level: LowLevel
    machine: oci.Machine


def pod_group(pod_uid: str) -> str:
    return f"pod{pod_uid}"


def group(record: Record) -> str:
    """The container's cgroup below the node's base."""
    return f"{pod_group(record.pod_uid)}/{record.id}"


def pause_group(box: Sandbox) -> str:
    """The group of the process that holds a shared process namespace."""
    return f"{pod_group(box.spec.pod_uid)}/pause-{box.id[:16]}"


def set_up(shop: Workshop, record: Record, sandbox: SandboxSpec, sandbox_dir: str, process_namespace: str) -> None:
    """Make the bundle. `process_namespace`: path of a namespace to join, "" for a new one, "host" to share the host's.
    Raises RuntimeFault(CreateContainerError); then nothing is left of it."""
    directory = f"{shop.root}/containers/{record.id}"
    try:
        os.makedirs(f"{directory}/rootfs", mode=0o711)
        mounted = [mount.image for mount in record.spec.mounts if mount.image]
        shop.library.content.lease(shop.name, record.id, record.spec.image, *mounted)
        mount_root(shop, record)
        config = _config(shop, record, sandbox, sandbox_dir, process_namespace, directory)
        record.argv0 = config["process"]["args"][0]
        with open(f"{directory}/config.json", "w", encoding="utf-8") as file:
            json.dump(config, file)
        for name in ("stdout", "stderr", *(["stdin"] if record.spec.stdin else [])):
            os.mkfifo(f"{directory}/{name}", 0o600)
        _make_groups(shop, record)
    except OSError as fault:
        tear_down(shop, record)
        raise RuntimeFault("CreateContainerError", f"container {record.spec.name}: {fault}") from fault
    except BaseException:
        tear_down(shop, record)
        raise


def writable(shop: Workshop, record: Record) -> str:
    """Where what the container writes into its root file system lies."""
    return f"{shop.snapshots}/{record.id}/upper"


def mount_root(shop: Workshop, record: Record) -> None:
    """The root file system: the image's layers below a directory of the container's own."""
    own = f"{shop.snapshots}/{record.id}"
    for directory in (own, writable(shop, record), f"{own}/work"):
        os.mkdir(directory, 0o755)
    layers = shop.library.layers(record.spec.image)[::-1]
    kernel.mount_overlay(f"{shop.root}/containers/{record.id}/rootfs", layers, writable(shop, record), f"{own}/work")


def _config(
    shop: Workshop, record: Record, sandbox: SandboxSpec, sandbox_dir: str, process_namespace: str, directory: str
) -> dict[str, Any]:
    image = shop.library.config(record.spec.image).get("config") or {}
    rootfs = f"{directory}/rootfs"
    namespaces = {"mount": "", "pid": process_namespace, **boxes.namespace_paths(sandbox_dir, sandbox)}
    if process_namespace == "host":
        del namespaces["pid"]
    if not record.spec.security.privileged:
        namespaces["cgroup"] = ""
    hostname = f"{sandbox_dir}/hostname" if os.path.exists(f"{sandbox_dir}/hostname") else ""
    cgroup = "" if shop.low_level.own_cgroups else f"/{shop.cgroups.base}/{group(record)}"
    paths = oci.Paths(rootfs, namespaces, boxes.shm_path(sandbox_dir, sandbox), hostname, cgroup)
    user = oci.find_user(rootfs, record.spec, image.get("User") or "")
    seccomp, annotations = _seccomp(shop, record)
    mounts = imagemounts.mount(shop.library, directory, record.spec.mounts)
    spec = replace(record.spec, mounts=mounts)
    return oci.build(spec, sandbox, image, user, paths, shop.machine, seccomp, annotations)


def _seccomp(shop: Workshop, record: Record) -> tuple[dict[str, Any] | None, dict[str, str]]:
    """(linux.seccomp, annotations). Raises RuntimeFault for a profile that cannot be read."""
    security = record.spec.security
    if security.privileged or security.seccomp == "Unconfined":
        return None, {}
    if security.seccomp == "Localhost":
        try:
            with open(security.seccomp_path, encoding="utf-8") as file:
                return dict(json.load(file)), {}
        except (OSError, ValueError, TypeError) as fault:
            raise RuntimeFault("CreateContainerError", f"seccomp profile {security.seccomp_path}: {fault}") from fault
    held = frozenset(name.removeprefix("CAP_") for name in oci.capabilities(record.spec, shop.machine))
    if not filters.architectures():
        return None, {}
    if shop.low_level.is_crun:
        return None, {"run.oci.seccomp_bpf_data": base64.b64encode(filters.program(held)).decode()}
    return filters.profile(held), {}


def _make_groups(shop: Workshop, record: Record) -> None:
    path = group(record)
    shop.cgroups.create(pod_group(record.pod_uid))
    shop.cgroups.create(path, record.spec.resources)
    if shop.low_level.own_cgroups and not record.spec.security.privileged:
        extra = tuple(oci.device_rule(device)[1] for device in record.spec.devices)
        shop.cgroups.allow_devices(path, groups.DEFAULT_DEVICES + extra)


def tear_down(shop: Workshop, record: Record) -> None:
    """Remove every trace of a dead container. Idempotent. Raises RuntimeFault while a process is left in it."""
    directory = f"{shop.root}/containers/{record.id}"
    kernel.umount_if_mounted(f"{directory}/rootfs")
    imagemounts.unmount(directory)
    shop.cgroups.kill(group(record))
    if not shop.cgroups.remove(group(record)):
        raise RuntimeFault("RemoveContainerError", f"container {record.id}: a process is left in its cgroup")
    for tree in (f"{shop.low_level.state}/{record.id}", f"{shop.snapshots}/{record.id}", directory):
        with contextlib.suppress(OSError):
            trees.remove(tree)
    shop.library.content.release(shop.name, record.id)
