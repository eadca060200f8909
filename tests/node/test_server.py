"""The kubelet's API over a small double of the runtime: who may, what is found, what comes back."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from jota.aio.clock import SystemClock
from jota.meta.errors import ApiError
from jota.node.config import EvictionThresholds, NodeConfig
from jota.node.configz import configuration
from jota.node.itself import Itself
from jota.node.server import KubeletServer, flag, log_options
from jota.runtime.protocol import Container, Sandbox, SandboxSpec, Stats
from jota.wire.message import Peer, Request

POD = {
    "metadata": {"name": "p", "namespace": "ns", "uid": "u1"},
    "spec": {"containers": [{"name": "c"}, {"name": "late"}]},
    "status": {"containerStatuses": [{"name": "late", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]},
}


class Runtime:
    """Two attempts of one container; no processes."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.asked: list[object] = []

    def make(self, attempt: int, state: str) -> Container:
        path = str(self.folder / f"{attempt}.log")
        started = 1000.0 + attempt
        return Container(f"id{attempt}", "s1", "u1", "c", attempt, "i", "i", state, started, started, log_path=path)

    async def containers(self):
        return [self.make(0, "exited"), self.make(1, "running")]

    async def container(self, number):
        return next((c for c in await self.containers() if c.id == number), None)

    async def sandboxes(self):
        return [Sandbox("s1", SandboxSpec("u1", "p", "ns"), "ready", 1.0)]

    async def stats(self):
        return [Stats("id1", 2000.0, 5_000_000_000, 1234, 2345)]

    async def exec(self, container_id, command, *, tty, stdin):
        self.asked.append((container_id, command, tty, stdin))
        raise RuntimeError("not here")


class Out:
    """Collects a stream."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, parts) -> None:
        self.data += b"".join(parts)

    async def drain(self) -> None:
        return None


@pytest.fixture
def kubelet(tmp_path):
    for n in (0, 1):
        (tmp_path / f"{n}.log").write_bytes(f"2026-01-02T03:04:05.000000000Z stdout F run {n}\n".encode())
    runtime = Runtime(tmp_path)

    async def admit(request: Request) -> None:
        if request.user == "evil":
            raise ApiError(403, "Forbidden", "not you")

    return KubeletServer(runtime, lambda: [POD], clock=SystemClock(), node_name="n1", admit=admit)


def ask(kubelet, path, method="GET", *, user=None, headers=None):
    path, _, query = path.partition("?")
    request = Request(method, path, query, headers or {}, b"", Peer(), user)

    async def main():
        response = await kubelet.handle(request)
        if response.stream is None:
            return response.status, response.body
        out = Out()
        await response.stream(out)
        return response.status, out.data

    return asyncio.run(main())


def test_only_who_is_admitted_gets_in(kubelet):
    assert ask(kubelet, "/healthz", user="evil")[0] == 403
    assert ask(kubelet, "/healthz") == (200, b"ok")


def test_its_settings_are_told_under_upstreams_names(tmp_path):
    async def admit(request: Request) -> None:
        """Everybody."""

    config = NodeConfig(
        "n1", "192.0.2.7", "/d", "/l", cluster_dns="10.96.0.10", pod_cidr="10.64.0.0/24", reserved={"cpu": "100m"}
    )
    told = configuration(config, log_size=10 << 20, log_files=5)
    node = KubeletServer(
        Runtime(tmp_path), lambda: [], clock=SystemClock(), node_name="n1", admit=admit, configuration=told
    )
    status, raw = ask(node, "/configz")
    found = json.loads(raw)["kubeletconfig"]
    assert status == 200
    assert (found["address"], found["port"], found["podCIDR"]) == ("192.0.2.7", 10250, "10.64.0.0/24")
    assert (found["clusterDNS"], found["clusterDomain"]) == (["10.96.0.10"], "cluster.local")
    assert found["authentication"] == {"anonymous": {"enabled": False}, "webhook": {"enabled": True}}
    assert (found["nodeStatusUpdateFrequency"], found["nodeStatusReportFrequency"]) == ("10s", "5m0s")
    assert found["crashLoopBackOff"] == {"maxContainerRestartPeriod": "1m0s"}
    assert found["evictionHard"] == {
        "memory.available": "100Mi",
        "nodefs.available": "10%",
        "nodefs.inodesFree": "5%",
        "pid.available": "5%",
    }
    assert (found["containerLogMaxSize"], found["containerLogMaxFiles"]) == ("10Mi", 5)
    assert found["systemReserved"] == {"cpu": "100m"}
    assert found["maxPods"] == 110
    off = configuration(replace(config, eviction=EvictionThresholds(enabled=False)), log_size=1 << 20, log_files=2)
    assert off["evictionHard"] == {}


def test_without_settings_there_is_nothing_to_tell(kubelet):
    assert ask(kubelet, "/configz")[0] == 404


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/containerLogs/ns/p/c", b"run 1\n"),
        ("/containerLogs/ns/p/c?previous=true", b"run 0\n"),
        ("/containerLogs/ns/p/c?timestamps=1&tailLines=1", b"2026-01-02T03:04:05.000000000Z run 1\n"),
        ("/containerLogs/ns/p/c?limitBytes=3", b"run"),
        ("/containerLogs/ns/p/c?stream=Stderr", b""),
    ],
)
def test_logs(kubelet, path, text):
    assert ask(kubelet, path) == (200, text)


@pytest.mark.parametrize(
    ("method", "path", "code", "message"),
    [
        ("GET", "/containerLogs/ns/none/c", 404, 'pods "none" not found'),
        ("GET", "/containerLogs/ns/p/late", 400, 'container "late" in pod "p" is waiting to start: ImagePullBackOff'),
        ("GET", "/containerLogs/ns/p/nope", 400, "no such container"),
        ("GET", "/containerLogs/ns/p/late?previous=1", 400, "previous terminated container"),
        ("GET", "/containerLogs/ns/p/c?tailLines=-1", 422, "tailLines"),
        ("GET", "/containerLogs/ns/p/c?tailLines=x", 400, "tailLines"),
        ("GET", "/containerLogs/ns/p/c?sinceTime=x", 400, "sinceTime"),
        ("DELETE", "/containerLogs/ns/p/c", 405, "DELETE"),
        ("GET", "/exec/ns/p/c", 400, "command"),
        ("GET", "/exec/ns/p/c?command=ls&output=1", 400, "Upgrade"),
        ("GET", "/exec/ns/p/late?command=ls&output=1", 404, 'container not found ("late")'),
        ("GET", "/attach/ns/p", 404, "could not find"),
        ("GET", "/portForward/ns/p", 400, "Upgrade"),
        ("GET", "/portForward/ns/none", 404, "not found"),
        ("GET", "/nothing", 404, "could not find"),
    ],
)
def test_refusals_are_statuses(kubelet, method, path, code, message):
    status, body = ask(kubelet, path, method)
    decoded = json.loads(body)
    assert (status, decoded["code"], decoded["kind"]) == (code, code, "Status")
    assert message in decoded["message"]


def test_the_nodes_own_log_is_served_as_a_file_and_nothing_beside_it(kubelet, tmp_path):
    (tmp_path / "jota-agent.log").write_bytes(b"x" * 70_000 + b"end")
    own = Itself(1, 1, 1.0, "0", str(tmp_path / "jota-agent.log"))

    async def admit(request: Request) -> None: ...

    node = KubeletServer(Runtime(tmp_path), lambda: [POD], clock=SystemClock(), node_name="n1", admit=admit, itself=own)
    status, listing = ask(node, "/logs/")
    assert (status, listing) == (200, b'<!doctype html>\n<pre>\n<a href="jota-agent.log">jota-agent.log</a>\n</pre>\n')
    assert ask(node, "/logs/jota-agent.log") == (200, b"x" * 70_000 + b"end")
    for path in ("/logs/1.log", "/logs/..", "/logs/%2e%2e%2f1.log", "/logs/jota-agent.log/x"):
        assert ask(node, path)[0] == 404
    assert ask(node, "/logs/?query=kubelet")[0] == 400
    assert ask(node, "/logs/", "DELETE")[0] == 405
    (tmp_path / "jota-agent.log").unlink()
    assert ask(node, "/logs/jota-agent.log")[0] == 404
    assert ask(kubelet, "/logs/") == (200, b"<!doctype html>\n<pre>\n</pre>\n")  # it logs to no file


def test_exec_hands_the_command_to_the_latest_attempt(kubelet):
    from jota.wire.duplex import SocketDuplex
    from jota.wire.websocket import WebSocket

    headers = {
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-protocol": "v5.channel.k8s.io",
    }
    query = "command=sh&command=-c&command=a%20b&input=1&output=1&tty=true"
    request = Request("GET", "/exec/ns/p/c", query, headers, b"", Peer(certificate=b"der"))

    async def main():
        import socket

        response = await kubelet.handle(request)
        assert response.status == 101
        ends = []
        for sock in socket.socketpair():
            ends.append((await asyncio.get_running_loop().create_connection(SocketDuplex, sock=sock))[1])
        session = asyncio.ensure_future(response.upgrade(ends[0]))
        client, last = WebSocket(ends[1], client=True), b""
        while (message := await client.receive()) is not None:
            last = message
        ends[1].close()
        await session
        return last

    last = asyncio.run(main())
    assert json.loads(last[1:])["reason"] == "InternalError"
    assert kubelet._runtime.asked == [("id1", ["sh", "-c", "a b"], True, True)]


@pytest.mark.parametrize(
    ("protocol", "message"),
    [("binary.k8s.io", b"run 1\n"), ("base64.binary.k8s.io", "cnVuIDEK"), ("", b"run 1\n")],
)
def test_logs_over_a_websocket(kubelet, protocol, message):
    import socket

    from jota.wire.duplex import SocketDuplex
    from jota.wire.websocket import WebSocket

    headers = {
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    if protocol:
        headers["sec-websocket-protocol"] = protocol
    request = Request("GET", "/containerLogs/ns/p/c", "", headers, b"", Peer(certificate=b"der"))

    async def main():
        response = await kubelet.handle(request)
        assert response.status == 101
        assert dict(response.headers).get("Sec-WebSocket-Protocol", "") == protocol
        ends = []
        for sock in socket.socketpair():
            ends.append((await asyncio.get_running_loop().create_connection(SocketDuplex, sock=sock))[1])
        serving = asyncio.ensure_future(response.upgrade(ends[0]))
        client = WebSocket(ends[1], client=True)
        found = [await client.receive(), await client.receive()]
        ends[1].close()
        await serving
        return found, client.close_code

    assert asyncio.run(main()) == ([message, None], 1000)


def test_reports(kubelet):
    pods = json.loads(ask(kubelet, "/pods")[1])
    assert pods["kind"] == "PodList"
    assert pods["items"][0]["metadata"]["name"] == "p"
    text = ask(kubelet, "/metrics/resource")[1].decode()
    assert 'container_cpu_usage_seconds_total{container="c",namespace="ns",pod="p"} 5 2000000' in text
    assert 'pod_memory_working_set_bytes{namespace="ns",pod="p"} 1234 2000000' in text
    assert "node_memory_working_set_bytes" in text
    summary = json.loads(ask(kubelet, "/stats/summary")[1])
    assert summary["node"]["nodeName"] == "n1"
    assert summary["pods"][0]["containers"][0]["cpu"]["usageCoreNanoSeconds"] == 5_000_000_000
    assert "kubelet_running_pods 1" in ask(kubelet, "/metrics")[1].decode()


def test_queries():
    assert flag({"input": ["1"]}, "input", "stdin")
    assert flag({"stdin": ["true"]}, "input", "stdin")
    assert not flag({"stdin": ["0"]}, "input", "stdin")
    options = log_options({"sinceSeconds": ["10"], "follow": ["true"], "tailLines": ["5"]}, 100.0)
    assert (options.since, options.follow, options.tail) == (90.0, True, 5)
    with pytest.raises(ApiError):
        log_options({"sinceSeconds": ["10"], "sinceTime": ["2026-01-02T03:04:05Z"]}, 0.0)
