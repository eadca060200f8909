"""persistentVolumeClaim: the node's side of local and hostPath volumes. In: a claim's name. Out: the volume's directory.

The claim comes from the pod's references, the volume is read by name. A directory that the provisioner of class `local`
promised is made here, at the first mount; `remove` takes it away when the volume is reclaimed. A local volume may also be a
block device: given as it is (volumeMode: Block), or mounted in the pod's own directory (blockdevice.py). The kernel keeps one
file system per device, however often it is mounted, and each mount goes with its pod.
"""

from __future__ import annotations

import asyncio
import os

from jota.meta.errors import ApiError
from jota.meta.resource import Resource
from jota.node.model import Object
from jota.node.volumes import blockdevice, hostpath, ownership
from jota.node.volumes.volume import Context, Driver, Mounted, VolumeFault
from jota.runtime import trees

CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
VOLUMES = Resource("", "v1", "persistentvolumes", "PersistentVolume", False)
LOCAL = "jota.dev/local"
LOCAL_ROOT = "jota.dev/local-storage"
"""Annotation of this node: where it keeps the directories of local volumes."""


async def mount(name: str, source: Object, ctx: Context) -> Mounted:
    claim = ctx.lookup(CLAIMS, source["claimName"])
    if claim is None:
        raise VolumeFault(f'persistentvolumeclaim "{source["claimName"]}" not found')
    wanted = claim["spec"].get("volumeName")
    if not wanted or (claim.get("status") or {}).get("phase") != "Bound":
        raise VolumeFault(f'persistentvolumeclaim "{source["claimName"]}" is not bound to a volume yet')
    if ctx.volume is None:
        raise VolumeFault("this node cannot read PersistentVolumes")
    try:
        volume = await ctx.volume(wanted)
    except ApiError as e:
        raise VolumeFault(f'persistentvolume "{wanted}" could not be read: {e}') from e
    holder = volume["spec"].get("claimRef") or {}
    if holder.get("uid") != claim["metadata"]["uid"]:
        raise VolumeFault(f'persistentvolume "{wanted}" is bound to another claim')
    read_only = bool(source.get("readOnly"))
    if volume["spec"].get("volumeMode") == "Block":
        return Mounted(_device(volume), read_only, device=True)
    return Mounted(await _path(name, volume, ctx, read_only=read_only), read_only)


def _device(volume: Object) -> str:
    path = str((volume["spec"].get("local") or {}).get("path") or "")
    if not path:
        raise VolumeFault(
            f'persistentvolume "{volume["metadata"]["name"]}": only local volumes are block devices on this node'
        )
    if not blockdevice.is_block_device(path):
        raise VolumeFault(f"local volume: path {path} is not a block device of this node")
    return path


async def _path(name: str, volume: Object, ctx: Context, *, read_only: bool) -> str:
    spec = volume["spec"]
    if spec.get("hostPath"):
        return (await hostpath.mount(name, spec["hostPath"], ctx)).path
    if not spec.get("local"):
        kinds = ", ".join(k for k, v in spec.items() if isinstance(v, dict) and k not in _NO_SOURCES)
        raise VolumeFault(
            f'persistentvolume "{volume["metadata"]["name"]}": type {kinds} is not supported on this node'
        )
    path = str(spec["local"]["path"])
    annotations = volume["metadata"].get("annotations") or {}
    if annotations.get("pv.kubernetes.io/provisioned-by") == LOCAL and not os.path.isdir(path):
        # For everybody in the pods that mount it, and for nobody else on this machine.
        os.makedirs(os.path.dirname(path), mode=0o750, exist_ok=True)
        os.makedirs(path, exist_ok=True)
        os.chmod(path, 0o777)
    if not os.path.exists(path):
        raise VolumeFault(f"local volume: path {path} does not exist on this node")
    if blockdevice.is_block_device(path):
        device, path = path, os.path.join(ctx.directory, "kubernetes.io~local-volume", name)
        kind = spec["local"].get("fsType") or blockdevice.DEFAULT
        await blockdevice.mount(device, path, kind, spec.get("mountOptions") or ())
    if ctx.fs_group is not None and not read_only:
        await _give(name, path, ctx.fs_group, ctx)
    return path


async def _give(name: str, path: str, group: int, ctx: Context) -> None:
    """Once per pod: volumes are mounted again at every refresh."""
    done = os.path.join(ctx.directory, "kubernetes.io~local-volume", f"{name}.owned")
    if os.path.exists(done):
        return
    policy = (ctx.pod["spec"].get("securityContext") or {}).get("fsGroupChangePolicy") or "Always"
    await asyncio.to_thread(ownership.give, path, group, policy)
    os.makedirs(done)


_NO_SOURCES = frozenset({"capacity", "claimRef", "nodeAffinity"})


def remove(root: str, name: str) -> bool:
    """Delete the directory of a reclaimed volume; False when there is none. Raises ValueError for a name that is none."""
    if not name or name != os.path.basename(name) or name in (".", ".."):
        raise ValueError(f"not a volume's name: {name!r}")
    path = os.path.join(root, name)
    if not os.path.isdir(path) or os.path.islink(path):
        return False
    trees.remove(path)
    return True


DRIVER = Driver(mount, lambda source: [(CLAIMS, source["claimName"])])


async def _mount_ephemeral(name: str, source: Object, ctx: Context) -> Mounted:
    """A generic ephemeral volume: its claim is named after the pod and the volume."""
    return await mount(name, {"claimName": ephemeral_claim(ctx.pod, name)}, ctx)


def ephemeral_claim(pod: Object, volume: str) -> str:
    return f"{pod['metadata']['name']}-{volume}"


EPHEMERAL = Driver(_mount_ephemeral)
