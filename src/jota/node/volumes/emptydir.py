"""emptyDir: a directory that lives as long as the pod, on disk or (medium Memory) in a tmpfs."""

from __future__ import annotations

import os
import stat

from jota.meta.quantity import parse
from jota.node.model import Object
from jota.node.volumes.volume import Context, Driver, Mounted, VolumeFault
from jota.runtime import sys


async def mount(name: str, source: Object, ctx: Context) -> Mounted:
    path = os.path.join(ctx.directory, "kubernetes.io~empty-dir", name)
    medium = source.get("medium") or ""
    if medium not in ("", "Memory"):
        raise VolumeFault(f'emptyDir volume "{name}": medium {medium} is not supported on this node')
    made = not os.path.isdir(path)
    os.makedirs(path, mode=0o777, exist_ok=True)
    if medium == "Memory" and not os.path.ismount(path):
        _tmpfs(path, source)
        made = True
    if made or stat.S_IMODE(os.stat(path).st_mode) & 0o777 == 0:
        # makedirs obeys the umask; upstream promises 0777, and a tmpfs of its own has the sticky bit as well.
        # With fsGroup the directory also passes its group on.
        sticky = 0o1000 if medium == "Memory" else 0
        os.chmod(path, 0o777 | sticky | (0 if ctx.fs_group is None else 0o2000))
        if ctx.fs_group is not None:
            os.chown(path, -1, ctx.fs_group)
    return Mounted(path)


def _tmpfs(path: str, source: Object) -> None:
    limit = source.get("sizeLimit")
    data = "mode=1777" + (f",size={parse(limit).value}" if limit and parse(limit).value else "")
    try:
        sys.mount("tmpfs", path, "tmpfs", 0, data)
    except OSError as e:
        raise VolumeFault(f"emptyDir with medium Memory: {e}") from e


DRIVER = Driver(mount)
