"""200 MB each way through `kubectl port-forward`, over WebSocket and over SPDY: every byte comes back, in order, at once."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from jota.testing.host import IMAGE, HostCluster

pytestmark = pytest.mark.kernel
SIZE = 200 << 20
BLOCK = bytes(range(251)) * 1044
"""Of a length that is no power of two: what is lost or doubled shows."""
PATIENCE = 20.0
"""Seconds without a byte that count as a stall."""


@pytest.fixture(scope="module")
def echo(cluster: HostCluster) -> str:
    container = {"name": "c", "image": IMAGE, "command": ["nc", "-ll", "-p", "8080", "-e", "cat"]}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "echo"}, "spec": spec}
    cluster.kubectl("apply", "-f", "-", input=json.dumps(pod))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/echo", "--timeout=30s")
    return "echo"


@contextmanager
def forwarded(cluster: HostCluster, pod: str, websockets: str) -> Iterator[int]:
    """The local port."""
    environment = {**cluster.environment, "KUBECTL_PORT_FORWARD_WEBSOCKETS": websockets}
    command = ["kubectl", "port-forward", f"pod/{pod}", ":8080", "--address=127.0.0.1"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"127\.0\.0\.1:(\d+)", line)
        assert found is not None, line
        yield int(found[1])
    finally:
        process.kill()
        process.communicate()


def echoed(port: int, size: int) -> tuple[int, str, str]:
    """(bytes that came back, digest of what was sent, digest of what came)."""
    sent, came = hashlib.sha256(), hashlib.sha256()
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:

        def send() -> None:
            left = size
            while left:
                piece = BLOCK[:left]
                connection.sendall(piece)
                sent.update(piece)
                left -= len(piece)

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        got = 0
        while got < size:
            data = connection.recv(1 << 20)
            if not data:
                break
            came.update(data)
            got += len(data)
        sender.join(PATIENCE)
    return got, sent.hexdigest(), came.hexdigest()


@pytest.mark.parametrize("websockets", ["true", "false"])
def test_a_large_transfer_does_not_stall(cluster: HostCluster, echo: str, websockets: str) -> None:
    with forwarded(cluster, echo, websockets) as port:
        got, sent, came = echoed(port, SIZE)
    assert got == SIZE
    assert came == sent


def test_many_connections_share_one_session(cluster: HostCluster, echo: str) -> None:
    with forwarded(cluster, echo, "true") as port:
        results: list[tuple[int, str, str]] = []
        threads = [threading.Thread(target=lambda: results.append(echoed(port, 10 << 20))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == 8
    assert all(got == 10 << 20 and sent == came for got, sent, came in results)


def test_a_file_is_copied_out_and_in(cluster: HostCluster, echo: str) -> None:
    path = cluster.directory / "large"
    path.write_bytes(os.urandom(1 << 20) * 60)
    cluster.kubectl("cp", str(path), f"{echo}:/tmp/large", timeout=60)
    cluster.kubectl("cp", f"{echo}:/tmp/large", str(path.with_name("back")), timeout=60)
    assert path.read_bytes() == path.with_name("back").read_bytes()
