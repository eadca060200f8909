"""The filter, executed by a small BPF machine, against the policy's words; and against libseccomp's JSON form."""

from __future__ import annotations

import errno
import struct

import pytest

from jota.runtime.embedded import seccomp

DEFAULT = frozenset({"CHOWN", "SYS_CHROOT", "KILL"})
ALLOW, EPERM, ENOSYS = "allow", errno.EPERM, errno.ENOSYS


def evaluate(program: bytes, number: int, audit: int = 0xC000003E, args: tuple[int, ...] = ()) -> object:
    data = struct.pack("<iIQ6Q", number, audit, 0, *(args + (0,) * 6)[:6])
    code = [struct.unpack_from("<HBBI", program, at) for at in range(0, len(program), 8)]
    at, accumulator = 0, 0
    while True:
        op, jump_true, jump_false, k = code[at]
        at += 1
        if op == 0x20:
            accumulator = struct.unpack_from("<I", data, k)[0]
        elif op == 0x05:
            at += k
        elif op == 0x06:
            return ALLOW if k == 0x7FFF0000 else k & 0xFFFF
        else:
            test = {0x15: accumulator == k, 0x35: accumulator >= k, 0x45: bool(accumulator & k)}[op]
            at += jump_true if test else jump_false


def number(name: str, architecture: str = "x86_64") -> int:
    return seccomp._tables()[architecture][name]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("read", ALLOW), ("openat", ALLOW), ("chroot", ALLOW), ("ptrace", ALLOW), ("futex_waitv", ALLOW), ("statmount", ALLOW),
        ("mount", EPERM), ("unshare", EPERM), ("setns", EPERM), ("bpf", EPERM), ("reboot", EPERM), ("keyctl", EPERM),
        ("io_uring_setup", EPERM), ("userfaultfd", EPERM), ("init_module", EPERM), ("kexec_load", EPERM), ("swapon", EPERM),
        ("open_by_handle_at", EPERM), ("fsopen", EPERM), ("clone3", ENOSYS),
    ],
)  # fmt: skip
def test_calls(name, expected):
    program = seccomp.program(DEFAULT, "x86_64")
    assert evaluate(program, number(name)) == expected


def test_the_whole_table_on_every_architecture():
    for machine, architectures in (("x86_64", ("x86_64", "x86")), ("aarch64", ("aarch64",))):
        program = seccomp.program(DEFAULT, machine)
        for architecture in architectures:
            for name, rule in seccomp.rules(DEFAULT, architecture).items():
                if name in seccomp._tables()[architecture] and rule in ("allow", "refuse"):
                    found = evaluate(program, number(name, architecture), seccomp._AUDIT[architecture])
                    assert found == (ALLOW if rule == "allow" else EPERM), name


def test_capabilities_open_their_calls():
    program = seccomp.program(DEFAULT | {"SYS_ADMIN", "SYS_TIME"}, "x86_64")
    for name in ("mount", "unshare", "clone3", "clone", "settimeofday"):
        assert evaluate(program, number(name), args=(0x10000000,)) == ALLOW
    assert evaluate(program, number("reboot")) == EPERM


def test_arguments():
    program = seccomp.program(DEFAULT, "x86_64")
    assert evaluate(program, number("clone"), args=(17,)) == ALLOW
    for flag in (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert evaluate(program, number("clone"), args=(flag | 17,)) == EPERM
    assert [evaluate(program, number("socket"), args=(family,)) for family in (1, 2, 10, 16, 40)] == [ALLOW] * 4 + [
        EPERM
    ]
    for value in seccomp.PERSONALITIES:
        assert evaluate(program, number("personality"), args=(value,)) == ALLOW
    assert evaluate(program, number("personality"), args=(0x0040000,)) == EPERM


def test_unknown_numbers_and_architectures():
    program = seccomp.program(DEFAULT, "x86_64")
    assert evaluate(program, 9999) == ENOSYS
    assert evaluate(program, 0x40000001) == ENOSYS
    assert evaluate(program, 0, audit=0x12345678) == EPERM
    assert len(program) // 8 < 4096
    assert seccomp.architectures("riscv64") == ()


def test_the_json_form_says_the_same():
    profile = seccomp.profile(DEFAULT, "x86_64")
    names = {
        name
        for call in profile["syscalls"]
        if not call.get("args") and call["action"] == "SCMP_ACT_ALLOW"
        for name in call["names"]
    }
    assert {"read", "chroot"} <= names
    assert not names & {"mount", "clone", "clone3", "keyctl", "personality", "socket", "reboot"}
