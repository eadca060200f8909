"""Sandboxes: the namespaces of a pod, pinned as files, without a process that holds them.

A SandboxSpec comes in; bind-mounted namespace files, /dev/shm and a hostname go out, all below the sandbox's directory. A thread
that unshares makes them and ends (a namespace lives as long as its pin). Next: `container.py` runs containers in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import struct
import threading
from collections.abc import Callable

from jota.runtime import sys as kernel
from jota.runtime.embedded.cgroups import Cgroups
from jota.runtime.protocol import RuntimeFault, SandboxSpec

_KINDS = {"net": kernel.CLONE_NEWNET, "ipc": kernel.CLONE_NEWIPC, "uts": kernel.CLONE_NEWUTS}
_OCI = {"net": "network", "ipc": "ipc", "uts": "uts"}
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
SHM_SIZE = "65536k"
# Rootless ports and ping, as containerd 2 gives every pod.
_SYSCTLS = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}


def kinds(spec: SandboxSpec) -> list[str]:
    """Which namespaces the sandbox has of its own."""
    shared = {"net": spec.host_network, "ipc": spec.host_ipc, "uts": spec.host_network}
    return [kind for kind in _KINDS if not shared[kind]]


def namespace_paths(directory: str, spec: SandboxSpec) -> dict[str, str]:
    """OCI namespace type -> pin."""
    return {_OCI[kind]: f"{directory}/ns/{kind}" for kind in kinds(spec)}


def set_up(directory: str, spec: SandboxSpec) -> None:
    """Make namespaces, shm and hostname file. Blocks for about a millisecond. Raises RuntimeFault; then nothing is left."""
    try:
        os.makedirs(f"{directory}/ns", mode=0o755, exist_ok=True)
        _in_thread(lambda: _make(directory, spec))
        if not spec.host_ipc:
            os.makedirs(f"{directory}/shm", mode=0o1777, exist_ok=True)
            flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
            kernel.mount("shm", f"{directory}/shm", "tmpfs", flags, f"mode=1777,size={SHM_SIZE}")
        with open(f"{directory}/hostname", "w", encoding="utf-8") as file:
            file.write(f"{spec.hostname or socket.gethostname()}\n")
        os.chmod(f"{directory}/hostname", 0o644)
    except OSError as fault:
        tear_down(directory)
        raise RuntimeFault(
            "FailedCreatePodSandBox", f"cannot set up the sandbox of {spec.namespace}/{spec.name}: {fault}"
        ) from fault


def tear_down(directory: str) -> None:
    """Release the namespaces and the memory file system. Idempotent; the directory stays."""
    for name in ("ns/net", "ns/ipc", "ns/uts", "ns/pid", "shm"):
        kernel.umount_if_mounted(f"{directory}/{name}")
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(f"{directory}/ns")


def make_pause_root(directory: str, cgroups: Cgroups, group: str) -> None:
    """What the pause process needs: an empty root and a group."""
    os.makedirs(f"{directory}/empty", mode=0o555, exist_ok=True)
    cgroups.create(group)


def pin_process_namespace(directory: str, pid: int) -> None:
    """Raises RuntimeFault when the process is gone already."""
    try:
        pin = f"{directory}/ns/pid"
        os.close(os.open(pin, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
        kernel.mount(f"/proc/{pid}/ns/pid", pin, "", kernel.MS_BIND)
    except OSError as fault:
        raise RuntimeFault("FailedCreatePodSandBox", f"the pause process died: {fault}") from fault


def unfinished(directory: str, spec: SandboxSpec) -> bool:
    """Whether whoever made the sandbox died before its shared process namespace was pinned: no container can start in it."""
    return spec.share_process_namespace and not spec.host_pid and not os.path.ismount(f"{directory}/ns/pid")


def shm_path(directory: str, spec: SandboxSpec) -> str:
    return "/dev/shm" if spec.host_ipc else f"{directory}/shm"


def _in_thread(work: Callable[[], None]) -> None:
    """Run `work` on a thread of its own: its namespaces must not leak into a pool."""
    faults: list[OSError] = []

    def body() -> None:
        try:
            work()
        except OSError as fault:
            faults.append(fault)

    thread = threading.Thread(target=body, name="sandbox")
    thread.start()
    thread.join()
    if faults:
        raise faults[0]


def _make(directory: str, spec: SandboxSpec) -> None:
    wanted = kinds(spec)
    kernel.unshare(sum(_KINDS[kind] for kind in wanted))
    if "uts" in wanted and spec.hostname:
        socket.sethostname(spec.hostname)
    if "net" in wanted:
        _loopback_up()
    sysctls = {**(_SYSCTLS if "net" in wanted else {}), **spec.sysctls}
    for name, value in sysctls.items():
        _sysctl(name, value, must=name in spec.sysctls)
    own = f"/proc/self/task/{threading.get_native_id()}/ns"
    for kind in wanted:
        pin = f"{directory}/ns/{kind}"
        os.close(os.open(pin, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
        kernel.mount(f"{own}/{kind}", pin, "", kernel.MS_BIND)


def _sysctl(name: str, value: str, must: bool) -> None:
    """/proc/sys shows the namespaces of the thread that opens it. Dots separate, as in sysctl(8); slashes are kept."""
    path = "/proc/sys/" + (name if "/" in name else name.replace(".", "/"))
    try:
        with open(path, "wb") as file:
            file.write(value.encode())
    except OSError as fault:
        if must:
            raise OSError(fault.errno, f"sysctl {name}={value}: {fault.strerror}") from fault


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack_from("16sh", fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))
