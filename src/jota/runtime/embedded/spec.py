"""A ContainerSpec, its image's config and the sandbox come in; an OCI runtime config (config.json) goes out.

Pure, but for `find_user`, which reads the container's own /etc/passwd. Defaults (capabilities, masked paths, devices, mounts) are
those that Kubernetes nodes give with containerd. Next: `container.py` writes it into a bundle.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jota.runtime import sys as kernel
from jota.runtime.protocol import ContainerSpec, Device, Resources, RuntimeFault, SandboxSpec

DEFAULT_CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
    "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
)  # fmt: skip
# By number, include/uapi/linux/capability.h.
ALL_CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO",
    "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME",
    "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
    "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)  # fmt: skip
MASKED_PATHS = (
    "/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/proc/interrupts", "/sys/firmware",
    "/sys/devices/virtual/powercap",
)  # fmt: skip
READ_ONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NOFILE = 1 << 20
"""Open files that containers get where the machine allows it."""


@dataclass(slots=True)
class Machine:
    """What this process may hand down; asked for more, a container gets this (and `clamped` says so)."""

    capabilities: frozenset[str]
    nofile_hard: int
    oom_score_adj: int
    raise_oom_only: bool
    """Without CAP_SYS_RESOURCE oom_score_adj cannot go below our own."""


def this_machine() -> Machine:
    """Read our own bounds from /proc and getrlimit."""
    import resource

    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        bounding = next(int(line.split()[1], 16) for line in file if line.startswith("CapBnd:"))
    with open("/proc/self/oom_score_adj", encoding="ascii") as file:
        adjust = int(file.read())
    have = frozenset(name for number, name in enumerate(ALL_CAPABILITIES) if bounding >> number & 1)
    return Machine(have, resource.getrlimit(resource.RLIMIT_NOFILE)[1], adjust, "SYS_RESOURCE" not in have)


@dataclass(slots=True)
class User:
    uid: int = 0
    gid: int = 0
    groups: list[int] = field(default_factory=list)
    home: str = "/"


@dataclass(slots=True)
class Paths:
    """Host paths that the container sees."""

    rootfs: str
    namespaces: dict[str, str]
    """OCI namespace type -> path ("" makes a new one); types that are absent are shared with the host."""
    shm: str
    hostname: str = ""
    """File bound to /etc/hostname unless the spec mounts its own."""
    cgroup: str = ""
    """For a low-level runtime that makes cgroups itself (v2)."""


def _lines(root: int, path: bytes) -> list[list[str]]:
    """Colon-separated fields of a file inside the container's root (links resolved inside it); [] when absent.

    An image may hold a FIFO or a device there: opening one waits for ever, or does something to the machine."""
    try:
        handle = kernel.open_in_root(root, path, os.O_PATH)
    except OSError:
        return []
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return []
        with open(f"/proc/self/fd/{handle}", encoding="utf-8", errors="replace") as file:
            return [line.rstrip("\n").split(":") for line in file.read(1 << 20).splitlines()]
    finally:
        os.close(handle)


def _id(text: str) -> int | None:
    """Ten digits at most, for longer texts are no ids, and Python refuses to read very long ones."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < 2**32 - 1 else None


def _account(passwd: list[list[str]], name: str, number: int | None) -> list[str] | None:
    """The line of a user. A number is an id and never a name (as with containerd): else an image with a user who is called
    "1000" and is root would make root of runAsUser: 1000."""
    key, wanted = (0, name) if number is None else (2, str(number))
    return next((f for f in passwd if len(f) >= 6 and f[key] == wanted), None) if name else None


def find_user(rootfs: str, spec: ContainerSpec, image_user: str) -> User:
    """Who runs: runAsUser, else the image's USER (name or number[:group]), looked up in the container's own files.
    Raises RuntimeFault(CreateContainerError) for a name that is not there."""
    name, _, group = (image_user or "").partition(":")
    if spec.security.user_name and spec.security.uid is None:
        name, _, group = spec.security.user_name.partition(":")
    if spec.security.uid is not None:
        name, group = str(spec.security.uid), ""
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY)
    try:
        passwd, groups = _lines(root, b"etc/passwd"), _lines(root, b"etc/group")
    finally:
        os.close(root)
    user = User()
    number = _id(name)
    entry = _account(passwd, name, number)
    if entry is not None:
        ids = _id(entry[2]), _id(entry[3])
        if ids[0] is None or ids[1] is None:
            raise RuntimeFault(
                "CreateContainerError", f"unable to find user {name}: its ids in the passwd file are bad"
            )
        user = User(ids[0], ids[1], [], entry[5] or "/")
    elif number is not None:
        user.uid = number
    elif name:
        raise RuntimeFault("CreateContainerError", f"unable to find user {name}: no matching entries in passwd file")
    if group:
        found = _id(group)  # a number is an id here, too
        if found is None:
            found = next((_id(f[2]) for f in groups if len(f) >= 3 and f[0] == group), None)
        if found is None:
            raise RuntimeFault(
                "CreateContainerError", f"unable to find group {group}: no matching entries in group file"
            )
        user.gid = found
    if spec.security.gid is not None:
        user.gid = spec.security.gid
    account = entry[0] if entry is not None else name
    extra = {_id(f[2]) for f in groups if len(f) >= 4 and account and account in f[3].split(",")}
    if spec.security.strict_groups:
        extra = set()
    # The primary group is also a supplementary one, as with containerd: giving it up would otherwise gain access.
    user.groups = sorted({g for g in extra if g is not None} | set(spec.security.groups) | {user.gid})
    return user


def capabilities(spec: ContainerSpec, machine: Machine) -> list[str]:
    """The effective set, within what the machine can give."""
    security = spec.security
    if security.privileged:
        wanted = set(ALL_CAPABILITIES)
    else:
        plain = [
            [c.upper().removeprefix("CAP_") for c in names]
            for names in (security.add_capabilities, security.drop_capabilities)
        ]
        added, dropped = plain
        wanted = set(ALL_CAPABILITIES) if "ALL" in added else set(DEFAULT_CAPABILITIES)
        if "ALL" in dropped:
            wanted = set()
        # containerd's order: what is both added and dropped is dropped
        wanted = (wanted | set(added)) - set(dropped)
    return [f"CAP_{name}" for name in ALL_CAPABILITIES if name in wanted & machine.capabilities]


def environment(spec: ContainerSpec, image: dict[str, Any], hostname: str, home: str) -> list[str]:
    """Image's variables, then the spec's; PATH, HOSTNAME and HOME are added when absent."""
    merged: dict[str, str] = {}
    for line in [*(image.get("Env") or [])]:
        key, _, value = line.partition("=")
        merged[key] = value
    if "PATH" not in merged:
        merged["PATH"] = DEFAULT_PATH.partition("=")[2]
    if spec.tty:
        merged.setdefault("TERM", "xterm")
    if hostname:
        merged["HOSTNAME"] = hostname
    merged.update(spec.env)
    merged.setdefault("HOME", home)
    return [f"{key}={value}" for key, value in merged.items()]


def arguments(spec: ContainerSpec, image: dict[str, Any]) -> list[str]:
    """`command` replaces ENTRYPOINT and drops the image's CMD; `args` replaces CMD."""
    default = [*(image.get("Entrypoint") or []), *(spec.args or image.get("Cmd") or [])]
    argv = [*spec.command, *spec.args] if spec.command else default
    if not argv:
        raise RuntimeFault("CreateContainerError", "no command specified")
    return argv


def _mounts(spec: ContainerSpec, sandbox: SandboxSpec, paths: Paths) -> list[dict[str, Any]]:
    quiet = ["nosuid", "noexec", "nodev"]
    access = "rw" if spec.security.privileged else "ro"
    own = {os.path.normpath(m.target) for m in spec.mounts}
    if sandbox.host_network:
        sys_mount = {
            "destination": "/sys",
            "type": "bind",
            "source": "/sys",
            "options": [*quiet, "rbind", f"r{access}"],
        }
    else:
        sys_mount = {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*quiet, access]}
    out: list[dict[str, Any]] = [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": list(quiet)},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": list(quiet)},
        sys_mount,
        {
            "destination": "/sys/fs/cgroup",
            "type": "cgroup",
            "source": "cgroup",
            "options": [*quiet, "relatime", access],
        },
    ]
    if sandbox.host_network:
        out.pop()
    if "/dev/shm" not in own:
        options = ["nosuid", "noexec", "nodev", "rbind"]
        out.append({"destination": "/dev/shm", "type": "bind", "source": paths.shm, "options": options})
    if paths.hostname and "/etc/hostname" not in own:
        out.append(
            {"destination": "/etc/hostname", "type": "bind", "source": paths.hostname, "options": ["rbind", "rprivate"]}
        )
    kinds = {"private": "rprivate", "rslave": "rslave", "rshared": "rshared"}
    for mount in sorted(spec.mounts, key=lambda m: os.path.normpath(m.target).count("/")):
        # `rro`: a plain `ro` leaves what is mounted below the source writable. crun 1.8 fails with it on a file, below
        # which nothing can be mounted anyway.
        read_only = "rro" if os.path.isdir(mount.source) else "ro"
        options = ["rbind", kinds[mount.propagation], read_only if mount.read_only else "rw"]
        if mount.image:
            options.append("noexec")
        out.append({"destination": mount.target, "type": "bind", "source": mount.source, "options": options})
    return out


def _resources(resources: Resources, privileged: bool, more: Sequence[str]) -> dict[str, Any]:
    """linux.resources for a low-level runtime that makes the cgroup itself. `more`: device rules beyond the default ones."""
    from jota.runtime.embedded.cgroups import DEFAULT_DEVICES

    r, cpu = resources, {}
    if r.cpu_shares:
        cpu["shares"] = max(2, r.cpu_shares)
    if r.cpu_quota:
        cpu["quota"], cpu["period"] = r.cpu_quota, r.cpu_period
    devices: list[dict[str, Any]] = [{"allow": privileged, "access": "rwm"}]
    for rule in () if privileged else (*DEFAULT_DEVICES, *more):
        kind, numbers, access = rule.split(" ")
        entry: dict[str, Any] = {"allow": True, "type": kind, "access": access}
        for key, text in zip(("major", "minor"), numbers.split(":"), strict=True):
            if text != "*":
                entry[key] = int(text)
        devices.append(entry)
    out: dict[str, Any] = {"devices": devices}
    if cpu:
        out["cpu"] = cpu
    if r.memory_limit:
        out["memory"] = {"limit": r.memory_limit, "swap": r.memory_limit}
    if r.pids_limit:
        out["pids"] = {"limit": r.pids_limit}
    return out


def device_rule(device: Device) -> tuple[dict[str, Any], str]:
    """(OCI linux.devices entry, cgroup rule) of a host device. Raises RuntimeFault."""
    path = device.source
    try:
        info = os.stat(path)
    except OSError as fault:
        raise RuntimeFault("CreateContainerError", f"device {path}: {fault.strerror}") from fault
    if not (stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode)):
        raise RuntimeFault("CreateContainerError", f"{path} is not a device")
    kind, major, minor = "c" if stat.S_ISCHR(info.st_mode) else "b", os.major(info.st_rdev), os.minor(info.st_rdev)
    entry = {
        "path": device.target,
        "type": kind,
        "major": major,
        "minor": minor,
        "fileMode": stat.S_IMODE(info.st_mode),
    }
    entry.update(uid=info.st_uid, gid=info.st_gid)
    return entry, f"{kind} {major}:{minor} {device.access}"


def _host_devices() -> list[str]:
    """Device nodes of /dev that a privileged container gets (terminals and shared memory are its own)."""
    own = ("pts", "shm", "fd", "mqueue", "console", "ptmx", "tty", "null", "zero", "full", "random", "urandom")
    out = []
    for entry in os.scandir("/dev"):
        if entry.name not in own:
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                out.append(entry.path)
    return sorted(out)


def build(
    spec: ContainerSpec,
    sandbox: SandboxSpec,
    image: dict[str, Any],
    user: User,
    paths: Paths,
    machine: Machine,
    seccomp: dict[str, Any] | None = None,
    annotations: dict[str, str] | None = None,
) -> dict[str, Any]:
    """The OCI config. `image` is the image's `config` object; `user` comes from `find_user`."""
    security = spec.security
    caps = capabilities(spec, machine)
    ambient_free = dict.fromkeys(("bounding", "effective", "permitted"), caps)
    if user.uid != 0:
        # A process that is not root keeps no effective set across exec, as with containerd.
        ambient_free = {"bounding": caps, "effective": [], "permitted": []}
    nofile = min(NOFILE, machine.nofile_hard)
    adjust = spec.resources.oom_score_adj
    process: dict[str, Any] = {
        "terminal": spec.tty,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.groups},
        "args": arguments(spec, image),
        "env": environment(spec, image, sandbox.hostname, user.home),
        "cwd": spec.working_dir or image.get("WorkingDir") or "/",
        "capabilities": ambient_free,
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": nofile, "soft": nofile}],
        "noNewPrivileges": security.no_new_privileges,
        "oomScoreAdj": max(adjust, machine.oom_score_adj) if machine.raise_oom_only else adjust,
    }
    linux: dict[str, Any] = {
        "namespaces": [{"type": k, "path": p} if p else {"type": k} for k, p in sorted(paths.namespaces.items())],
        "maskedPaths": list(MASKED_PATHS) if security.masked_paths and not security.privileged else [],
        "readonlyPaths": list(READ_ONLY_PATHS) if security.masked_paths and not security.privileged else [],
    }
    own = {device.target for device in spec.devices}
    every = [Device(path, path) for path in (_host_devices() if security.privileged else ()) if path not in own]
    ruled = [device_rule(device) for device in (*every, *spec.devices)]
    if ruled:
        linux["devices"] = [entry for entry, _ in ruled]
    if paths.cgroup:
        linux["cgroupsPath"] = paths.cgroup
        linux["resources"] = _resources(spec.resources, security.privileged, [rule for _, rule in ruled])
    if seccomp is not None:
        linux["seccomp"] = seccomp
    if any(mount.propagation == "rshared" for mount in spec.mounts):
        linux["rootfsPropagation"] = "rslave"
    return {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": paths.rootfs, "readonly": security.read_only_root},
        "mounts": _mounts(spec, sandbox, paths),
        "annotations": annotations or {},
        "linux": linux,
    }
