"""What this machine must have, checked one by one: each answer names what is missing, what needs it and how to get it."""

from __future__ import annotations

import ctypes.util
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_APT = "apt-get install -y "


@dataclass(slots=True, frozen=True)
class Check:
    name: str
    ok: bool
    found: str
    """What is there, or what is missing."""
    remedy: str = ""
    needed_for: str = "running pods"


def checks() -> list[Check]:
    """Every check, in the order in which a user should mend what fails. Takes a few milliseconds."""
    return [probe() for probe in _PROBES]


def missing() -> list[Check]:
    return [c for c in checks() if not c.ok]


def _root() -> Check:
    ok = os.geteuid() == 0
    return Check("root", ok, "yes" if ok else f"no (user id {os.geteuid()})", "run the command with sudo")


def _low_level_runtime() -> Check:
    found = shutil.which("crun") or shutil.which("runc")
    return Check("crun or runc", bool(found), found or "neither is on the PATH", _APT + "crun")


def _nftables() -> Check:
    library = ctypes.util.find_library("nftables") if not shutil.which("nft") else shutil.which("nft")
    return Check("nftables", bool(library), library or "neither nft nor libnftables", _APT + "nftables", "services")


def _nsenter() -> Check:
    found = shutil.which("nsenter")
    return Check(
        "nsenter", bool(found), found or "not on the PATH", _APT + "util-linux", "several nodes on one host (--nodes)"
    )


def _cgroups() -> Check:
    mounts = [line.split() for line in _lines("/proc/self/mounts")]
    v2 = any(m[1] == "/sys/fs/cgroup" and m[2] == "cgroup2" for m in mounts)
    controllers = {c for m in mounts if m[2] == "cgroup" for c in m[3].split(",")}
    v1 = {"memory", "cpu", "pids"} <= controllers
    hybrid = v1 and any(m[2] == "cgroup2" for m in mounts)
    found = "v2" if v2 else "v1 and v2 (hybrid)" if hybrid else "v1" if v1 else "none"
    return Check("control groups", v2 or v1, found, "mount cgroup2 on /sys/fs/cgroup", "limits")


def _writable_cgroups() -> Check:
    places = ["/sys/fs/cgroup"] if Path("/sys/fs/cgroup/cgroup.controllers").exists() else ["/sys/fs/cgroup/memory"]
    ok = all(os.access(p, os.W_OK) for p in places)
    return Check(
        "writable control groups",
        ok,
        "yes" if ok else f"{places[0]} is read-only",
        "run as root, or with cgroup delegation",
        "limits",
    )


def _overlay() -> Check:
    ok = any(line.split()[-1] == "overlay" for line in _lines("/proc/filesystems"))
    return Check("overlayfs", ok, "yes" if ok else "not in /proc/filesystems", "modprobe overlay", "images")


def _namespaces() -> Check:
    absent = [n for n in ("net", "ipc", "uts", "pid", "mnt") if not Path(f"/proc/self/ns/{n}").exists()]
    return Check(
        "namespaces",
        not absent,
        "all" if not absent else "missing: " + ", ".join(absent),
        "use a kernel with namespaces",
    )


def _forwarding() -> Check:
    path = Path("/proc/sys/net/ipv4/ip_forward")
    ok = path.exists() and (path.read_text().strip() == "1" or os.access(path, os.W_OK))
    return Check(
        "IPv4 forwarding", ok, "can be set" if ok else "cannot be set", "sysctl -w net.ipv4.ip_forward=1", "pod traffic"
    )


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


_PROBES: tuple[Callable[[], Check], ...] = (
    _root,
    _low_level_runtime,
    _nftables,
    _nsenter,
    _cgroups,
    _writable_cgroups,
    _overlay,
    _namespaces,
    _forwarding,
)
