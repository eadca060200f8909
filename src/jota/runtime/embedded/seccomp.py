"""The default system call filter, compiled here to classic BPF: capabilities come in, a program (or OCI JSON) goes out. Pure.

The policy is the one that containers get by default elsewhere (moby's and containerd's default profile): calls that reach the kernel's
administration are refused with EPERM unless the capability for them is held, clone may not make namespaces, clone3 (whose arguments a
filter cannot see) and calls newer than this table give ENOSYS. crun takes the program as it is
(`run.oci.seccomp_bpf_data`), which saves the 11-15 ms that libseccomp needs per container; runc gets the JSON.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import struct
from typing import Any, Literal

# Calls that need a capability: they pass when one of these is held.
CONDITIONAL: dict[str, tuple[str, ...]] = {
    "SYS_ADMIN": (
        "bpf", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick", "lookup_dcookie", "mount", "mount_setattr",
        "move_mount", "open_tree", "open_tree_attr", "perf_event_open", "quotactl", "quotactl_fd", "setdomainname",
        "sethostname", "setns", "syslog", "umount", "umount2", "unshare",
    ),
    "DAC_READ_SEARCH": ("open_by_handle_at",),
    "SYS_BOOT": ("reboot",),
    "SYS_CHROOT": ("chroot",),
    "SYS_MODULE": ("delete_module", "init_module", "finit_module"),
    "SYS_PACCT": ("acct",),
    "SYS_PTRACE": ("kcmp", "pidfd_getfd", "process_madvise"),
    "SYS_RAWIO": ("iopl", "ioperm"),
    "SYS_TIME": ("settimeofday", "stime", "clock_settime", "clock_settime64"),
    "SYS_TTY_CONFIG": ("vhangup",),
    "SYS_NICE": ("get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node", "migrate_pages"),
    "SYSLOG": ("syslog",),
    "BPF": ("bpf",),
    "PERFMON": ("perf_event_open",),
}  # fmt: skip
# Never: not namespaced, obsolete, or a wide attack surface (io_uring, userfaultfd, keyrings).
BLOCKED = (
    "add_key", "keyctl", "request_key", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register", "uselib",
    "ustat", "sysfs", "_sysctl", "nfsservctl", "create_module", "get_kernel_syms", "query_module", "kexec_load",
    "kexec_file_load", "swapon", "swapoff", "pivot_root", "move_pages", "vm86", "vm86old", "afs_syscall", "getpmsg", "putpmsg",
    "security", "tuxcall", "vserver", "epoll_ctl_old", "epoll_wait_old", "bdflush", "idle", "lsm_set_self_attr",
)  # fmt: skip
NAMESPACE_FLAGS = 0x7E020000
"""CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}; CLONE_NEWTIME shares its bit with the exit signal and is not in clone(2)."""
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
AF_VSOCK = 40

Rule = Literal["allow", "refuse", "unknown", "clone", "personality", "socket"]

_AUDIT = {"x86_64": 0xC000003E, "x86": 0x40000003, "aarch64": 0xC00000B7}
_OCI = {"x86_64": "SCMP_ARCH_X86_64", "x86": "SCMP_ARCH_X86", "aarch64": "SCMP_ARCH_AARCH64"}
_ALSO = {"x86_64": ("x86_64", "x86"), "aarch64": ("aarch64",)}
_LD, _JEQ, _JGE, _JSET, _JA, _RET = 0x20, 0x15, 0x35, 0x45, 0x05, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


@functools.cache
def _tables() -> dict[str, dict[str, int]]:
    """Architecture -> call name -> number."""
    with open(os.path.join(os.path.dirname(__file__), "syscalls.json"), encoding="ascii") as file:
        tables: dict[str, dict[str, int]] = json.load(file)
    return tables


def architectures(machine: str | None = None) -> tuple[str, ...]:
    """The call tables that a process on this machine can reach; () when there is none for it."""
    return _ALSO.get(machine or os.uname().machine, ())


def rules(capabilities: frozenset[str], architecture: str) -> dict[str, Rule]:
    """What happens to each known call. `capabilities`: names without CAP_."""
    granted = {name for capability in capabilities for name in CONDITIONAL.get(capability, ())}
    refused = ({name for names in CONDITIONAL.values() for name in names} - granted) | set(BLOCKED)
    out: dict[str, Rule] = {}
    for name in _tables()[architecture]:
        out[name] = "refuse" if name in refused else "allow"
    out["personality"] = "personality"
    out["socket"] = "socket"
    if "SYS_ADMIN" not in capabilities:
        out["clone"] = "clone"
        out["clone3"] = "unknown"
    return out


def program(capabilities: frozenset[str], machine: str | None = None) -> bytes:
    """The filter as an array of struct sock_filter. Raises KeyError for a machine without a table."""
    return _program(capabilities, machine or os.uname().machine)


@functools.cache
def _program(capabilities: frozenset[str], machine: str) -> bytes:
    tables = [(name, _table(capabilities, name)) for name in _ALSO[machine]]
    code = [_op(_LD, 4)]
    for name, body in tables:
        # The right architecture falls through to its body; JA reaches farther than a jump's one byte.
        code += [_op(_JEQ, _AUDIT[name], 1, 0), _op(_JA, len(body)), *body]
    return b"".join([*code, _op(_RET, _ERRNO | errno.EPERM)])


def _op(code: int, k: int, jump_true: int = 0, jump_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, jump_true, jump_false, k)


def _table(capabilities: frozenset[str], architecture: str) -> list[bytes]:
    numbers = _tables()[architecture]
    by_number = {numbers[name]: rule for name, rule in rules(capabilities, architecture).items() if name in numbers}
    return [_op(_LD, 0), *_search(_ranges(by_number))]


def _ranges(by_number: dict[int, Rule]) -> list[tuple[int, Rule]]:
    """(first number, rule) of each run of equal rules. Holes in the table are refused; what lies above it is unknown.
    {0: allow, 1: allow, 3: refuse} -> [(0, allow), (2, refuse), (4, unknown)]"""
    out: list[tuple[int, Rule]] = []
    last = max(by_number)
    for number in range(last + 2):
        rule: Rule = by_number.get(number, "refuse") if number <= last else "unknown"
        if not out or out[-1][1] != rule:
            out.append((number, rule))
    return out


def _search(ranges: list[tuple[int, Rule]]) -> list[bytes]:
    """A balanced tree of comparisons over the accumulator (the call's number)."""
    if len(ranges) == 1:
        return _leaf(ranges[0][1])
    middle = len(ranges) // 2
    left, right = _search(ranges[:middle]), _search(ranges[middle:])
    return [_op(_JGE, ranges[middle][0], 0, 1), _op(_JA, len(left)), *left, *right]


def _leaf(rule: Rule) -> list[bytes]:
    allow, refuse = _op(_RET, _ALLOW), _op(_RET, _ERRNO | errno.EPERM)
    argument = _op(_LD, 16)  # the low half of args[0]: the kernel takes these three as 32-bit values
    if rule == "allow":
        return [allow]
    if rule == "refuse":
        return [refuse]
    if rule == "unknown":
        return [_op(_RET, _ERRNO | errno.ENOSYS)]
    if rule == "clone":
        return [argument, _op(_JSET, NAMESPACE_FLAGS, 0, 1), refuse, allow]
    if rule == "socket":
        return [argument, _op(_JEQ, AF_VSOCK, 0, 1), refuse, allow]
    tests = [_op(_JEQ, value, len(PERSONALITIES) - index, 0) for index, value in enumerate(PERSONALITIES)]
    return [argument, *tests, refuse, allow]


def profile(capabilities: frozenset[str], machine: str | None = None) -> dict[str, Any]:
    """The same policy as OCI linux.seccomp, for runc."""
    found = architectures(machine)
    allowed: set[str] = set()
    for architecture in found:
        allowed |= {name for name, rule in rules(capabilities, architecture).items() if rule == "allow"}
    calls: list[dict[str, Any]] = [{"names": sorted(allowed), "action": "SCMP_ACT_ALLOW"}]
    for value in PERSONALITIES:
        calls.append(_call("personality", "SCMP_CMP_EQ", value))
    calls.append(_call("socket", "SCMP_CMP_NE", AF_VSOCK))
    if "SYS_ADMIN" not in capabilities:
        clone = {"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": NAMESPACE_FLAGS, "valueTwo": 0}
        calls.append({"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [clone]})
        calls.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS})
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.EPERM,
        "architectures": [_OCI[name] for name in found],
        "syscalls": calls,
    }


def _call(name: str, op: str, value: int) -> dict[str, Any]:
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "op": op, "value": value}]}
