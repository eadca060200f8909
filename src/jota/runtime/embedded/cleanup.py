"""Remove every trace of a node's runtime, with or without a supervisor (after kill -9, by `jota down`).

A root directory and a node name come in; afterwards there is no process, mount, cgroup or file of it. Idempotent.
"""

from __future__ import annotations

import contextlib
import os
import signal

from jota.runtime import sys as kernel
from jota.runtime import trees
from jota.runtime.embedded import cgroups
from jota.runtime.embedded.cgroups import Cgroups
from jota.runtime.embedded.images.content import Content
from jota.runtime.embedded.state import read_json
from jota.runtime.protocol import RuntimeFault

_PATIENCE = 5.0


def cleanup(root: str, name: str) -> None:
    """Blocking. Raises RuntimeFault when a process survives SIGKILL (uninterruptible sleep)."""
    root = os.path.abspath(root)
    about = read_json(f"{root}/runtime.json") or {}
    layout = cgroups.detect()
    parents = [str(about["cgroup_parent"])] if "cgroup_parent" in about else cgroups.find_parents(layout, name)
    _kill_supervisor(f"{root}/run")
    for parent in parents:
        groups = Cgroups(layout, parent, name)
        _kill_all(groups)
        groups.remove_parents()
    for point in kernel.mounts_below(root):
        kernel.umount_if_mounted(point)
    images = about.get("images_root")
    if images and os.path.isdir(images):
        Content(images).release_all(name)
    with contextlib.suppress(OSError):
        trees.remove(root)


def _kill_supervisor(root: str) -> None:
    """By its pid file, if that process still is a supervisor of this directory."""
    try:
        with open(f"{root}/supervisor.pid", encoding="ascii") as file:
            pid = int(file.read())
        pidfd = os.pidfd_open(pid)
    except (OSError, ValueError):
        return
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
        if root.encode() in words and any(word.endswith(b"supervisor.py") for word in words):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            _gone(pidfd)
    except (OSError, ProcessLookupError):
        return
    finally:
        os.close(pidfd)


def _gone(pidfd: int) -> None:
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll(_PATIENCE * 1000)


def _kill_all(groups: Cgroups) -> None:
    if not groups.end("", _PATIENCE):
        left = groups.processes()
        raise RuntimeFault("KillContainerError", f"processes {left} in cgroup {groups.base} do not die")
