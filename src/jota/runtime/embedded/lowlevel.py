"""crun and runc: which one, its command lines, and its error messages in Kubernetes' words. Pure but for `choose`.

A container id and paths come in, argv lists go out; `supervisor.py` runs them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass

from jota.runtime.protocol import RuntimeFault

_RUNC = re.compile(r'exec: "[^"]*": .+$')
_NOT_FOUND = re.compile(r"executable file [`'\"]?([^`'\"]+?)[`'\"]? not found", re.I)
_CANNOT_RUN = re.compile(
    r"(?:open executable|exec(?:ve)?(?: container process)?) ?[`'\"]?([^`'\":]*)[`'\"]?: (.+)", re.I
)


@dataclass(slots=True, frozen=True)
class LowLevel:
    """A low-level runtime. `own_cgroups`: we make and join the cgroups (crun on v1), it does not."""

    path: str
    state: str
    own_cgroups: bool

    @property
    def is_crun(self) -> bool:
        return os.path.basename(self.path).startswith("crun")

    def _base(self, log: str) -> list[str]:
        argv = [self.path, "--root", self.state, "--log", log, "--log-format", "json"]
        return [*argv, "--cgroup-manager=disabled"] if self.own_cgroups else argv

    def run(self, id: str, bundle: str, pid_file: str, log: str, console: str = "") -> list[str]:
        """Create and start, detached: one process instead of two."""
        argv = [*self._base(log), "run", "--detach", "--bundle", bundle, "--pid-file", pid_file]
        return [*argv, *(["--console-socket", console] if console else []), id]

    def exec(self, id: str, process: str, pid_file: str, log: str, console: str = "") -> list[str]:
        argv = [*self._base(log), "exec", "--detach", "--process", process, "--pid-file", pid_file]
        return [*argv, *(["--console-socket", console, "--tty"] if console else []), id]

    def delete(self, id: str) -> list[str]:
        return [*self._base("/dev/null"), "delete", "--force", id]


def choose(state: str, v1: bool, preferred: str | None = None) -> LowLevel:
    """`preferred`: a name or path; otherwise crun, then runc. Raises RuntimeFault that says what to install."""
    for name in [preferred] if preferred else ["crun", "runc"]:
        path = shutil.which(
            name, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
        )
        if path:
            return LowLevel(path, state, v1 and os.path.basename(path).startswith("crun"))
    wanted = preferred or "crun (or runc)"
    raise RuntimeFault("RuntimeMissing", f"{wanted} is not installed: apt-get install crun, or dnf install crun")


def explain(log: str, argv0: str, fallback: str) -> tuple[str, str]:
    """(reason, message) from the low-level runtime's log file text (JSON lines), worded as containerd does."""
    last = ""
    for line in log.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level", "error") == "error" and entry.get("msg"):
            last = str(entry["msg"])
    text = last or fallback
    runc = _RUNC.search(text)
    if runc:
        return "StartError", runc.group(0)
    if _NOT_FOUND.search(text):
        return "StartError", f'exec: "{argv0}": executable file not found in $PATH'
    found = _CANNOT_RUN.search(text)
    if found:
        detail = found.group(2)
        known = detail.lower() in ("no such file or directory", "permission denied", "exec format error")
        return "StartError", f'exec: "{argv0}": {detail.lower() if known else detail}'
    return "StartError", text
