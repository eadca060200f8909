"""All volumes of one pod: mount, refresh, the mounts of a container, unmount. Next: worker.py calls it; table.py has the types."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jota.meta.resource import Resource
from jota.node.env import expand
from jota.node.model import Object, parts
from jota.node.volumes import persistent, subpath
from jota.node.volumes.table import DRIVERS
from jota.node.volumes.volume import Context, Driver, Mounted, VolumeFault
from jota.runtime import sys, trees
from jota.runtime.protocol import Device, Mount

_PROPAGATION: dict[str, Any] = {"HostToContainer": "rslave", "Bidirectional": "rshared"}


def source_of(volume: Object) -> tuple[str, Object]:
    """("configMap", {...}); a volume without a source is an emptyDir."""
    for key, value in volume.items():
        if key != "name":
            return key, value or {}
    return "emptyDir", {}


def used(pod: Object) -> list[Object]:
    """The volumes that some container mounts: the others are left alone, whatever they refer to (as by the kubelet)."""
    fields = ("volumeMounts", "volumeDevices")
    names = {use["name"] for part in parts(pod) for field in fields for use in part.spec.get(field) or []}
    return [volume for volume in pod["spec"].get("volumes") or [] if volume["name"] in names]


def references(pod: Object) -> set[tuple[Resource, str]]:
    """The ConfigMaps, Secrets and claims that the pod's used volumes name."""
    out: set[tuple[Resource, str]] = set()
    for volume in used(pod):
        kind, source = source_of(volume)
        if driver := DRIVERS.get(kind):
            out.update(driver.references(source))
        if kind == "ephemeral":  # the one type whose object is named after the pod
            out.add((persistent.CLAIMS, persistent.ephemeral_claim(pod, volume["name"])))
    return out


def unsupported(volumes: Iterable[Object]) -> list[str]:
    """Complaints about volumes of types that this node does not know."""
    out = []
    for volume in volumes:
        kind, _ = source_of(volume)
        if kind not in DRIVERS:
            out.append(f'volume "{volume["name"]}": type {kind} is not supported on this node')
    return out


async def mount_all(volumes: Sequence[Object], ctx: Context) -> dict[str, Mounted]:
    """Mount (or refresh) the volumes, side by side. Raises VolumeFault naming each one that failed."""
    if bad := unsupported(volumes):
        raise VolumeFault("; ".join(bad))
    results = await asyncio.gather(*(_mount(v, ctx) for v in volumes), return_exceptions=True)
    failed, out = [], {}
    for volume, result in zip(volumes, results, strict=True):
        if isinstance(result, VolumeFault | OSError):
            failed.append(f'MountVolume.SetUp failed for volume "{volume["name"]}" : {result}')
        elif isinstance(result, BaseException):
            raise result
        else:
            out[volume["name"]] = result
    if failed:
        raise VolumeFault("; ".join(failed))
    return out


async def _mount(volume: Object, ctx: Context) -> Mounted:
    kind, source = source_of(volume)
    driver: Driver = DRIVERS[kind]
    return await driver.mount(volume["name"], source, ctx)


def check_modes(pod: Object, mounted: Mapping[str, Mounted]) -> None:
    """Devices are no file systems, and the other way round. Raises VolumeFault."""
    for part in parts(pod):
        for field, mode, device in (("volumeMounts", "Block", True), ("volumeDevices", "Filesystem", False)):
            for name in (use["name"] for use in part.spec.get(field) or []):
                if name in mounted and mounted[name].device is device:
                    raise VolumeFault(f"volume {name} has volumeMode {mode}, but is specified in {field}")


def container_mounts(
    container: Object, mounted: Mapping[str, Mounted], variables: Mapping[str, str], subpaths: str
) -> list[Mount]:
    """The bind mounts of a container. `subpaths`: directory for sub-path binds. Raises VolumeFault."""
    out = []
    for n, m in enumerate(container.get("volumeMounts") or []):
        volume = mounted.get(m["name"])
        if volume is None:
            raise VolumeFault(f'container {container["name"]}: volume "{m["name"]}" is not mounted')
        source = volume.path
        path = m.get("subPath") or expand_strictly(m.get("subPathExpr") or "", variables)
        if path and volume.image:
            subpath.check(path)
            source = path
        elif path:
            target = os.path.join(subpaths, m["name"], container["name"], str(n))
            source = subpath.bind(volume.path, path, target)
        read_only = bool(m.get("readOnly")) or volume.read_only
        propagation = _PROPAGATION.get(m.get("mountPropagation", ""), "private")
        out.append(Mount(source, m["mountPath"], read_only, propagation, volume.image))
    return out


def container_devices(container: Object, mounted: Mapping[str, Mounted]) -> list[Device]:
    """The block devices of a container. Raises VolumeFault."""
    out = []
    for d in container.get("volumeDevices") or []:
        volume = mounted.get(d["name"])
        if volume is None:
            raise VolumeFault(f'container {container["name"]}: volume "{d["name"]}" is not mounted')
        out.append(Device(volume.path, d["devicePath"], "r" if volume.read_only else "rwm"))
    return out


def expand_strictly(text: str, variables: Mapping[str, str]) -> str:
    """subPathExpr: unlike in env, a missing variable is an error, and so is an absolute result."""
    out = expand(text, variables)
    if "$(" in out:
        raise VolumeFault(f"subPathExpr {text!r}: missing value for a variable")
    if out:
        subpath.check(out)
    return out


async def unmount_all(directories: list[str]) -> None:
    """Undo every mount under the directories and delete them. Idempotent; raises OSError if a mount is stuck."""
    for directory in directories:
        for path in sorted(sys.mounts_below(directory), key=len, reverse=True):
            sys.umount(path, sys.MNT_DETACH)
        if os.path.isdir(directory):
            # somebody else may remove the same: an agent that was told to stop may still be at it
            await asyncio.to_thread(trees.remove, directory)


def fs_user(pod: Object) -> int | None:
    """The uid that all containers run as, when they all say the same."""
    outer = (pod["spec"].get("securityContext") or {}).get("runAsUser")
    users = {(p.spec.get("securityContext") or {}).get("runAsUser", outer) for p in parts(pod) if p.role != "ephemeral"}
    only = users.pop() if len(users) == 1 else None
    return int(only) if only is not None else None
