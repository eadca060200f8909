"""What the supervisor's children do between fork and exec (or instead of it). Nothing here returns to the caller.

Loaded by the supervisor: standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
from typing import Any

from jota.runtime import sys as kernel
from jota.runtime.embedded.supervise.process import rename_self

_PR_SET_PDEATHSIG = 1
_RESTORED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)


def _join(paths: list[str]) -> None:
    """Enter cgroups by ourselves: "0" is the writer."""
    for path in paths:
        fd = os.open(path, os.O_WRONLY)
        os.write(fd, b"0")
        os.close(fd)


def low_level(request: dict[str, Any], argv: list[str], stdio: tuple[int, int, int], parent: int) -> None:
    """Become the low-level runtime, in the container's cgroups. Never returns. Exit status 126, and the reason in the log file,
    when a step fails."""
    try:
        signal.set_wakeup_fd(-1)
        for number in _RESTORED:
            signal.signal(number, signal.SIG_DFL)
        kernel.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(126)
        _join(request["join"])
        if request["hide"]:
            # crun refuses a hybrid layout whose unified tree lists controllers: show it an empty list.
            kernel.unshare(kernel.CLONE_NEWNS)
            kernel.mount("", "/", "", kernel.MS_REC | kernel.MS_SLAVE)
            kernel.mount("/dev/null", request["hide"], "", kernel.MS_BIND)
        os.chdir(request["cwd"])
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in stdio]
        for target, fd in enumerate(high):
            os.dup2(fd, target, inheritable=True)
        os.execv(argv[0], argv)
    except BaseException as fault:  # a forked child must never unwind into the parent's loop
        with contextlib.suppress(BaseException), open(request["error_log"], "a", encoding="utf-8") as file:
            file.write(json.dumps({"msg": f"cannot run {argv[0]}: {fault}", "level": "error"}) + "\n")
    finally:
        os._exit(126)


def pause_parent(message: dict[str, Any], write: int) -> None:
    """Enter new namespaces; the next child is PID 1 there. Never returns."""
    try:
        _join(message["join"])
        kernel.unshare(kernel.CLONE_NEWPID | kernel.CLONE_NEWNS)
        child = os.fork()
        if child == 0:
            _pause(message["root"])
        os.write(write, str(child).encode())
    except BaseException as fault:  # a forked child must never unwind into the parent's loop
        with contextlib.suppress(BaseException):
            os.write(write, str(fault).encode())
    finally:
        os._exit(0)


def _pause(root: str) -> None:
    """PID 1. Ignoring SIGCHLD makes the kernel reap the orphans."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        kernel.set_name("pause")
        rename_self(b"/pause")
        os.closerange(0, 1 << 20)
        os.chroot(root)
        os.chdir("/")
        os.setgroups([])
        os.setgid(65535)
        os.setuid(65535)
        while True:
            signal.pause()
    finally:
        os._exit(1)
