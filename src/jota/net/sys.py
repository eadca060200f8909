"""The one door to the kernel of this package: netlink sockets, namespaces, sysctls, libnftables.

Comes in: requests built by `netlink` and nftables command texts from `links`, `nodes`, `services`. Goes out: the
kernel's answers, or `NetworkFault` with the step, the cause and the errno. Every call blocks for well under a
millisecond or two; callers run them on a worker thread. A socket and an nftables context stay in the network namespace
of the thread that opened them, whatever that thread does later. Next: links.py.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from jota.net import netlink
from jota.net.netlink import Address, Link, Request, Route

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
MS_BIND, MS_REC, MS_SHARED = 4096, 16384, 1 << 20
MNT_DETACH = 2
SOL_NETLINK, NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK = 270, 10, 11, 12
NLMSGERR_ATTR_MSG = 1
NAMESPACES = "/run/netns"

_libc = ctypes.CDLL(None, use_errno=True)


class NetworkFault(OSError):
    """A step of network set-up failed: errno, the step in words, and the kernel's own explanation when it gave one."""

    def __init__(self, number: int, step: str, detail: str = "") -> None:
        super().__init__(number, f"{step}: {os.strerror(number)}" + (f" ({detail})" if detail else ""))
        self.step = step


class NftError(Exception):
    """nftables refused a command; the text carries its own message with the failing line."""


def _check(result: int, step: str) -> None:
    if result < 0:
        raise NetworkFault(ctypes.get_errno(), step)


# --- netlink


class Netlink:
    """A netlink socket in the namespace of the calling thread. Not for use by two threads at once."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.bind((0, 0))
        self._socket.settimeout(5.0)
        for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK):
            self._socket.setsockopt(SOL_NETLINK, option, 1)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, requests: Iterable[Request]) -> None:
        """Send all in one call and read every acknowledgement. Raises NetworkFault for the first that failed.

        The kernel carries on after a failure: later requests of the batch have been tried as well.
        """
        batch = list(requests)
        waiting: dict[int, Request] = {}
        parts = []
        for request in batch:
            self._sequence += 1
            waiting[self._sequence] = request
            parts.append(netlink.encode(request, self._sequence))
        if not parts:
            return
        self._socket.send(b"".join(parts))
        failure: NetworkFault | None = None
        while waiting:
            for kind, sequence, body in netlink.messages(self._socket.recv(1 << 16)):
                if kind == netlink.NLMSG_ERROR and sequence in waiting:
                    request = waiting.pop(sequence)
                    failure = failure or _failure(request, body)
        if failure:
            raise failure

    def query(self, request: Request) -> list[bytes]:
        """Bodies of the answers: one for a plain get, all of them for a dump. Raises NetworkFault."""
        self._sequence += 1
        self._socket.send(netlink.encode(request, self._sequence))
        bodies: list[bytes] = []
        dump = request.flags & netlink.NLM_F_DUMP
        while True:
            for kind, sequence, body in netlink.messages(self._socket.recv(1 << 20)):
                if sequence != self._sequence:
                    continue
                if kind == netlink.NLMSG_ERROR:
                    failure = _failure(request, body)
                    if failure:
                        raise failure
                    return bodies
                if kind == netlink.NLMSG_DONE:
                    return bodies
                bodies.append(body)
                if not dump:
                    return bodies

    def link(self, name: str) -> Link | None:
        """The link of that name, None if there is none."""
        try:
            return netlink.read_link(self.query(netlink.get_link(name))[0])
        except NetworkFault as fault:
            if fault.errno == errno.ENODEV:
                return None
            raise

    def links(self) -> list[Link]:
        return [netlink.read_link(body) for body in self.query(netlink.dump_links())]

    def routes(self) -> list[Route]:
        """IPv4 routes of every table."""
        return [netlink.read_route(body) for body in self.query(netlink.dump_routes())]

    def addresses(self) -> list[Address]:
        """IPv4 addresses."""
        return [netlink.read_address(body) for body in self.query(netlink.dump_addresses())]


def _failure(request: Request, body: bytes) -> NetworkFault | None:
    number = -int.from_bytes(body[:4], sys.byteorder, signed=True)
    if number == 0 or number in request.tolerate:
        return None
    # With NETLINK_CAP_ACK the error is followed by the request's header alone (4 + 16 bytes), then by attributes.
    detail = netlink.attributes(body, 20).get(NLMSGERR_ATTR_MSG, b"").rstrip(b"\0").decode(errors="replace")
    return NetworkFault(number, request.what, detail)


# --- namespaces


def open_namespace(path: str = "/proc/thread-self/ns/net") -> int:
    """A file descriptor of a network namespace (the calling thread's by default); the caller closes it."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NetworkFault(error.errno or errno.EIO, f"open network namespace {path}") from error


def namespace_id(path: str) -> int:
    """Inode number of the namespace: the same for every path that leads to it. Raises NetworkFault."""
    try:
        return os.stat(path).st_ino
    except OSError as error:
        raise NetworkFault(error.errno or errno.EIO, f"look at network namespace {path}") from error


def in_namespace(path: str, function: Callable[[], T]) -> T:
    """Run `function` on a fresh thread inside the network namespace at `path`; its result or exception is ours.

    The thread ends afterwards, so no other work ever finds itself in the wrong namespace.
    """
    handle = open_namespace(path)
    try:
        return _on_thread(lambda: _enter(handle, path), function)
    finally:
        os.close(handle)


def make_namespace(path: str) -> None:
    """Create a network namespace and pin it by a bind mount at `path`. Raises NetworkFault, EEXIST if it is there."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY | os.O_CLOEXEC, 0o444))
    except OSError as error:
        raise NetworkFault(error.errno or errno.EIO, f"create {path}") from error
    try:
        _on_thread(lambda: _check(_libc.unshare(CLONE_NEWNET), "unshare the network namespace"), lambda: _pin(path))
    except BaseException:
        os.unlink(path)
        raise


def remove_namespace(path: str) -> None:
    """Unpin: the namespace goes once nothing runs in it. Idempotent."""
    if _libc.umount2(path.encode(), MNT_DETACH) < 0:
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOENT):
            raise NetworkFault(number, f"unmount {path}")
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def share_namespace_directory(directory: str = NAMESPACES) -> None:
    """Make the directory of pins a shared mount, as `ip netns` does: an unmount then reaches every mount namespace."""
    os.makedirs(directory, exist_ok=True)
    name = directory.encode()
    if _libc.mount(b"", name, b"none", ctypes.c_ulong(MS_SHARED | MS_REC), None) == 0:
        return
    _check(_libc.mount(name, name, b"none", ctypes.c_ulong(MS_BIND | MS_REC), None), f"bind {directory} on itself")
    _check(_libc.mount(b"", name, b"none", ctypes.c_ulong(MS_SHARED | MS_REC), None), f"share {directory}")


def _enter(handle: int, path: str) -> None:
    _check(_libc.setns(handle, CLONE_NEWNET), f"enter network namespace {path}")


def _pin(path: str) -> None:
    source = f"/proc/self/task/{threading.get_native_id()}/ns/net".encode()
    _check(_libc.mount(source, path.encode(), b"none", ctypes.c_ulong(MS_BIND), None), f"pin namespace at {path}")


def _on_thread(prepare: Callable[[], None], function: Callable[[], T]) -> T:
    outcome: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            prepare()
            outcome.append(function())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=body, name="jota-netns")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


# --- sysctls


def read_sysctl(name: str) -> str:
    """The value of e.g. "net/ipv4/ip_forward" in the calling thread's namespace; "" if the kernel has no such knob."""
    try:
        return Path("/proc/sys", name).read_text().strip()
    except FileNotFoundError:
        return ""


def ensure_sysctl(name: str, value: str) -> bool:
    """Set a sysctl unless it has the value already; True if it was changed. Raises NetworkFault with the advice."""
    if read_sysctl(name) == value:
        return False
    try:
        Path("/proc/sys", name).write_text(value)
    except OSError as error:
        step = f"set sysctl {name.replace('/', '.')} to {value} (run: sysctl -w {name.replace('/', '.')}={value})"
        raise NetworkFault(error.errno or errno.EIO, step) from error
    return True


# --- nftables


class Nft:
    """One libnftables context, or the `nft` program where the library is missing. One thread at a time.

    Keeping the context in the process costs 0.1-1.4 ms per change instead of 4-30 ms for a process.
    """

    def __init__(self) -> None:
        self._library = _load_library()
        self._context: int | None = None
        if self._library is not None:
            self._context = self._library.nft_ctx_new(0)
            if not self._context:
                raise NftError("libnftables gave no context")
            self._library.nft_ctx_buffer_error(self._context)
            self._library.nft_ctx_buffer_output(self._context)

    def run(self, commands: str) -> str:
        """Apply nft commands as one transaction; returns what they print. Raises NftError with nft's message."""
        if self._library is None:
            return _run_program(["nft", "-f", "-"], commands)
        if self._library.nft_run_cmd_from_buffer(self._context, commands.encode()):
            raise NftError(_explain(self._library.nft_ctx_get_error_buffer(self._context), commands))
        output: bytes = self._library.nft_ctx_get_output_buffer(self._context)
        return output.decode(errors="replace")

    def read(self, command: str) -> list[dict[str, Any]]:
        """The objects that a `list` command prints, as nft's JSON (libnftables-json(5)). Raises NftError."""
        if self._library is None:
            text = _run_program(["nft", "-j", *command.split()], "")
        else:
            self._library.nft_ctx_output_set_flags(self._context, 1 << 4)
            try:
                text = self.run(command)
            finally:
                self._library.nft_ctx_output_set_flags(self._context, 0)
        objects: list[dict[str, Any]] = json.loads(text)["nftables"] if text.strip() else []
        return objects

    def tables(self, family: str = "ip") -> list[str]:
        """Names of the tables of a family."""
        found = self.read(f"list tables {family}")
        return [entry["table"]["name"] for entry in found if "table" in entry]

    def close(self) -> None:
        if self._library is not None and self._context:
            self._library.nft_ctx_free(self._context)
            self._context = None


def _load_library() -> Any:
    try:
        library = ctypes.CDLL("libnftables.so.1")
    except OSError:
        return None
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    for name in ("nft_ctx_free", "nft_ctx_buffer_error", "nft_ctx_buffer_output"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    for name in ("nft_ctx_get_error_buffer", "nft_ctx_get_output_buffer"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
        getattr(library, name).restype = ctypes.c_char_p
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return library


def _run_program(arguments: list[str], commands: str) -> str:
    try:
        done = subprocess.run(arguments, input=commands, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        raise NftError("neither libnftables.so.1 nor nft is installed (Debian: apt install nftables)") from None
    if done.returncode:
        raise NftError(_explain(done.stderr.encode(), commands))
    return done.stdout


def _explain(error: bytes, commands: str) -> str:
    """nft's message, cut to size, with the command line that it points at when that can be told."""
    text = error.decode(errors="replace").strip()
    first = text.split("\n", 1)[0]
    parts = first.split(":")
    lines = commands.split("\n")
    if len(parts) > 1 and parts[1].isdigit() and 0 < int(parts[1]) <= len(lines):
        return f"{text[:600]} [in: {lines[int(parts[1]) - 1].strip()[:300]}]"
    return f"{text[:600]} [in: {commands.strip()[:300]}]"
