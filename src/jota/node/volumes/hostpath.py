"""hostPath: a path of the node itself, checked by `type`."""

from __future__ import annotations

import os
import stat

from jota.node.model import Object
from jota.node.volumes.volume import Context, Driver, Mounted, VolumeFault

_CHECKS = {
    "Directory": (stat.S_ISDIR, "is not a directory"),
    "File": (stat.S_ISREG, "is not a file"),
    "Socket": (stat.S_ISSOCK, "is not a socket file"),
    "CharDevice": (stat.S_ISCHR, "is not a character device"),
    "BlockDevice": (stat.S_ISBLK, "is not a block device"),
}


async def mount(name: str, source: Object, ctx: Context) -> Mounted:
    path, kind = source["path"], source.get("type") or ""
    if kind == "DirectoryOrCreate" and not os.path.exists(path):
        os.makedirs(path, mode=0o755)
    elif kind == "FileOrCreate" and not os.path.exists(path):
        with open(path, "a", encoding="utf-8"):
            os.chmod(path, 0o644)
    elif kind == "" and not os.path.exists(path):
        # Without a type nothing is checked; container engines make the missing directory.
        os.makedirs(path, mode=0o755, exist_ok=True)
    wanted = {"DirectoryOrCreate": "Directory", "FileOrCreate": "File"}.get(kind, kind)
    if wanted:
        test, complaint = _CHECKS[wanted]
        try:
            mode = os.stat(path).st_mode
        except OSError as e:
            raise VolumeFault(f"hostPath type check failed: {path} {complaint}: {e.strerror}") from e
        if not test(mode):
            raise VolumeFault(f"hostPath type check failed: {path} {complaint}")
    return Mounted(path)


DRIVER = Driver(mount)
