"""Write a set of files so that a reader sees all of the old or all of the new. In: directory, payload. Out: True if changed.

The layout is Kubernetes' (clients and tests know it):

    dir/..2026_01_31_12_00_00.123456/ca.crt     the files
    dir/..data -> ..2026_01_31_12_00_00.123456  swapped by one rename
    dir/ca.crt -> ..data/ca.crt                 what users open
"""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime

from jota.node.volumes.volume import File, Payload, VolumeFault
from jota.runtime import trees

DATA = "..data"


def write(directory: str, payload: Payload, now: float, *, fs_group: int | None = None) -> bool:
    """Make `directory` show exactly `payload`. Raises VolumeFault for a path that leaves the volume."""
    for path in payload:
        check_path(path)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    current = _current(directory)
    if current is not None and _same(os.path.join(directory, current), payload, fs_group):
        _links(directory, payload)
        return False
    name = datetime.fromtimestamp(now, UTC).strftime("..%Y_%m_%d_%H_%M_%S.%f")
    while os.path.lexists(os.path.join(directory, name)):
        name += "0"
    fresh = os.path.join(directory, name)
    try:
        _fill(fresh, payload, fs_group)
    except OSError:  # paths that exclude each other, no space: tried again and again, in memory
        trees.remove(fresh)
        raise
    _swap(directory, name)
    _links(directory, payload)
    for entry in os.listdir(directory):
        # The previous version, and what a crash between the steps left behind.
        if entry.startswith("..") and entry not in (DATA, name):
            _remove(os.path.join(directory, entry))
    if fs_group is not None:
        os.chown(directory, -1, fs_group)
        os.chmod(directory, 0o2755 | stat.S_ISGID)
    return True


def check_path(path: str) -> None:
    steps = path.split("/")
    if not path or path.startswith("/") or ".." in steps or steps[0].startswith(".."):
        raise VolumeFault(f"invalid path {path!r}: must be relative, without '..'")


def _current(directory: str) -> str | None:
    try:
        return os.readlink(os.path.join(directory, DATA))
    except OSError:
        return None


def final_mode(file: File, fs_group: int | None) -> int:
    """With fsGroup the group may read (and execute what its owner may)."""
    if fs_group is None:
        return file.mode
    return file.mode | 0o440 | (0o110 if file.mode & 0o100 else 0)


def _same(root: str, payload: Payload, fs_group: int | None) -> bool:
    found: set[str] = set()
    for base, _, names in os.walk(root):
        found.update(os.path.relpath(os.path.join(base, n), root) for n in names)
    if found != set(payload) or not os.path.isdir(root):
        return False
    for path, file in payload.items():
        full = os.path.join(root, path)
        if stat.S_IMODE(os.lstat(full).st_mode) != final_mode(file, fs_group):
            return False
        with open(full, "rb") as f:
            if f.read() != file.data:
                return False
    return True


def _fill(root: str, payload: Payload, fs_group: int | None) -> None:
    os.mkdir(root, 0o755)
    os.chmod(root, 0o755)
    for path, file in payload.items():
        full = os.path.join(root, path)
        os.makedirs(os.path.dirname(full), mode=0o755, exist_ok=True)
        with open(full, "xb", opener=lambda p, flags: os.open(p, flags, 0o600)) as f:
            f.write(file.data)
            if fs_group is not None or file.uid >= 0:
                os.fchown(f.fileno(), file.uid, -1 if fs_group is None else fs_group)
            os.fchmod(f.fileno(), final_mode(file, fs_group))


def _swap(directory: str, name: str) -> None:
    temporary = os.path.join(directory, "..data_tmp")
    if os.path.lexists(temporary):
        os.unlink(temporary)
    os.symlink(name, temporary)
    os.rename(temporary, os.path.join(directory, DATA))


def _links(directory: str, payload: Payload) -> None:
    """One link per first path component; others that no longer lead anywhere go."""
    wanted = {path.split("/")[0] for path in payload}
    for entry in os.listdir(directory):
        full = os.path.join(directory, entry)
        if not entry.startswith("..") and entry not in wanted and os.path.islink(full):
            os.unlink(full)
    for entry in wanted:
        full = os.path.join(directory, entry)
        if not os.path.lexists(full):
            os.symlink(f"{DATA}/{entry}", full)


def _remove(path: str) -> None:
    if os.path.islink(path) or not os.path.isdir(path):
        os.unlink(path)
    else:
        trees.remove(path)
