"""A laboratory of network namespaces for kernel tests: nodes and pods without containers.

Servers are sockets opened inside a namespace and served by a thread of the test; clients likewise. All is removed at
the end, whatever happened.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from jota.net import names, netlink, sys

T = TypeVar("T")


class Lab:
    def __init__(self, instance: str) -> None:
        self.instance = instance
        self._pins: list[str] = []
        self._stop: list[Callable[[], None]] = []

    def namespace(self, name: str) -> str:
        path = f"/run/netns/{self.instance}-{name}"
        os.makedirs("/run/netns", exist_ok=True)
        sys.make_namespace(path)
        self._pins.append(path)
        sys.in_namespace(path, _loopback_up)
        return path

    def node(self, name: str = "node", address: str = "10.99.0.1") -> str:
        """A namespace that looks like a machine: an uplink (an empty bridge) with an address and a default route."""
        path = self.namespace(name)

        def prepare() -> None:
            with sys.Netlink() as route:
                route.run([netlink.simple_link("up0", "bridge")])
                link = route.link("up0")
                assert link is not None
                route.run([netlink.add_address(link.index, address, 24), netlink.link_up(link.index)])
                route.run([netlink.replace_route("0.0.0.0/0", link=link.index, gateway="10.99.0.254", onlink=True)])

        sys.in_namespace(path, prepare)
        return path

    def outside(self, node: str, address: str = "203.0.113.9", near: str = "203.0.113.1") -> str:
        """A machine beside the node, on a cable of its own, that routes everything through it."""
        path = self.namespace("outside")
        handle = sys.open_namespace(path)

        def plug(name: str, own: str, gateway: str = "") -> None:
            with sys.Netlink() as route:
                link = route.link(name)
                assert link is not None
                route.run([netlink.add_address(link.index, own, 24), netlink.link_up(link.index)])
                if gateway:
                    route.run([netlink.replace_route("0.0.0.0/0", link=link.index, gateway=gateway)])

        def cable() -> None:
            with sys.Netlink() as route:
                route.run([netlink.veth("cable", "eth0", peer_namespace=handle)])

        try:
            sys.in_namespace(node, cable)
        finally:
            os.close(handle)
        sys.in_namespace(node, lambda: plug("cable", near))
        sys.in_namespace(path, lambda: plug("eth0", address, near))
        return path

    def run(self, path: str, story: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run an asyncio story inside a namespace (its worker threads live there too)."""
        return sys.in_namespace(path, lambda: asyncio.run(story()))

    def serve(self, path: str, port: int, answer: str, *, udp: bool = False, address: str = "0.0.0.0") -> None:
        """Answer every connection (or datagram) with "<answer> <peer address>"; a connection stays open and echoes."""
        kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
        server = sys.in_namespace(path, lambda: socket.socket(socket.AF_INET, kind))
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        if not udp:
            server.listen(64)
        thread = threading.Thread(target=_serve_udp if udp else _serve_tcp, args=(server, answer), daemon=True)
        thread.start()

        def stop() -> None:
            try:
                server.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            server.close()
            thread.join(5)

        self._stop.append(stop)

    def connect(self, path: str, address: str, port: int, source: tuple[str, int] | None = None) -> socket.socket:
        def open_socket() -> socket.socket:
            client = socket.socket()
            client.settimeout(3)
            if source:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                client.bind(source)
            try:
                client.connect((address, port))
            except BaseException:
                client.close()
                raise
            return client

        return sys.in_namespace(path, open_socket)

    def ask(self, path: str, address: str, port: int) -> str:
        """One TCP connection: what the server says first."""
        with self.connect(path, address, port) as client:
            # An abortive close: no TIME_WAIT, so that source ports never run out or are mistaken for old connections.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return client.recv(100).decode()

    def ask_udp(self, path: str, address: str, port: int, source_port: int = 0, timeout: float = 3.0) -> str:
        def exchange() -> str:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.settimeout(timeout)
                client.bind(("0.0.0.0", source_port))
                client.connect((address, port))
                client.send(b"?")
                return client.recv(100).decode()

        return sys.in_namespace(path, exchange)

    def close(self) -> None:
        for stop in self._stop:
            stop()
        for path in self._pins:
            sys.remove_namespace(path)


def _loopback_up() -> None:
    with sys.Netlink() as route:
        route.run([netlink.link_up(1)])


def _serve_tcp(server: socket.socket, answer: str) -> None:
    def talk(client: socket.socket, peer: str) -> None:
        with client:
            client.settimeout(30)
            try:
                client.sendall(f"{answer} {peer}".encode())
                while data := client.recv(100):
                    client.sendall(data)
            except OSError:
                return

    while True:
        try:
            client, peer = server.accept()
        except OSError:
            return
        threading.Thread(target=talk, args=(client, peer[0]), daemon=True).start()


def _serve_udp(server: socket.socket, answer: str) -> None:
    while True:
        try:
            _, peer = server.recvfrom(100)
            if not peer:
                return
            server.sendto(f"{answer} {peer[0]}".encode(), peer)
        except (OSError, ValueError):
            return


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    made = Lab(f"jota-test-{names._short(request.node.nodeid, 6)}")
    try:
        made.run(made.namespace("probe"), _nothing)
    except OSError as error:
        made.close()
        pytest.skip(f"no network namespaces here: {error}")
    yield made
    made.close()


async def _nothing() -> None:
    return
