"""Requests that are handed over: to node agents (log, exec, attach, portforward) and to pods and services (proxy)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable
from typing import Any

import orjson
import pytest
import uvloop

from jota.aio.clock import SystemClock
from jota.api import backends
from jota.api.config import ApiConfig
from jota.api.subresources import kubelet, proxy
from jota.api.subresources.proxy import split_name
from jota.kinds.discovery.endpointslice import validate as validate_slice
from jota.meta.errors import ApiError
from jota.meta.resource import ENDPOINTSLICES, NODES, PODS, SERVICES
from jota.testing.cluster import ApiServer
from jota.wire.dial import forward
from jota.wire.http import HttpServer
from jota.wire.message import Request, Response, joined

POD_PATH = "/api/v1/namespaces/default/pods"


async def node_and_pod(api: ApiServer, address: str = "192.0.2.7", port: int = 10251) -> None:
    status = {
        "addresses": [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": address}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }
    await api.client.create(NODES, {"metadata": {"name": "n"}, "status": status})
    spec = {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}
    await api.client.create(PODS, {"metadata": {"name": "p"}, "spec": spec}, "default")


def test_paths_and_queries_of_the_kubelet(monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[tuple[Request, dict[str, Any]]] = []

    async def forward(request: Request, **where: Any) -> Response:
        passed.append((request, where))
        return Response(200, [], b"hello")

    monkeypatch.setattr(kubelet, "forward", forward)

    async def main() -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        async with ApiServer(config=ApiConfig(kubelet_tls=tls)) as api:
            await node_and_pod(api)
            for path, expected in (
                ("log?follow=true&tailLines=5&x=y", "/containerLogs/default/p/c?follow=true&tailLines=5"),
                ("log", "/containerLogs/default/p/c"),
                (
                    "exec?command=sh&command=-c&command=a%20b&stdin=true&stdout=1&tty=true&container=c",
                    "/exec/default/p/c?command=sh&command=-c&command=a+b&input=1&output=1&tty=1",
                ),
                ("attach?stdout=true&stderr=false", "/attach/default/p/c?output=1"),
                ("portforward?ports=80", "/portForward/default/p?ports=80"),
            ):
                response = await api.request(
                    "GET", f"{POD_PATH}/p/{path}", authorization="Bearer x", upgrade="websocket"
                )
                assert (response.status, response.body) == (200, b"hello")
                request, where = passed.pop()
                assert where == {"host": "192.0.2.7", "port": 10251, "path": expected, "ssl": tls}
                assert "authorization" not in request.headers
                assert request.headers["upgrade"] == "websocket"
            await api.request("GET", "/api/v1/nodes/n/proxy/metrics/resource?a=b")
            assert passed.pop()[1]["path"] == "/metrics/resource?a=b"

    asyncio.run(main())


def test_a_node_is_its_kubelet_or_the_port_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[dict[str, Any]] = []

    async def forward(request: Request, **where: Any) -> Response:
        passed.append(where)
        return Response(200, [], b"hello")

    monkeypatch.setattr(kubelet, "forward", forward)
    monkeypatch.setattr(proxy, "forward", forward)

    async def main() -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        async with ApiServer(config=ApiConfig(kubelet_tls=tls)) as api:
            await node_and_pod(api)

            async def ask(name: str) -> int:
                return (await api.request("GET", f"/api/v1/nodes/{name}/proxy/x", authorization="Bearer x")).status

            for name in ("n", "n:10251", "https:n:10251", "https:n:"):
                assert await ask(name) == 200
                assert passed.pop() == {"host": "192.0.2.7", "port": 10251, "path": "/x", "ssl": tls}, name
            for name in ("n:9100", "http:n:9100"):
                assert await ask(name) == 200
                assert passed.pop() == {"host": "192.0.2.7", "port": 9100, "path": "/x", "ssl": None}, name
            assert await ask("https:n:9100") == 200
            assert passed.pop()["ssl"] is not tls, "the server shows its certificate to kubelets alone"
            assert [await ask(name) for name in ("n:x", "n:70000", "a:b:c:d", "ftp:n:1", "m:9100")] == [400] * 4 + [404]
            local = [{"type": "InternalIP", "address": "127.0.0.1"}]
            await api.client.patch(NODES, "n", patch={"status": {"addresses": local}}, subresource="status")
            assert await ask("n:9100") == 400, "no way to what listens on the server's own host"
            assert not passed

    asyncio.run(main())


def test_a_node_that_does_not_answer_is_an_error_with_its_address() -> None:
    async def main() -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        async with ApiServer(config=ApiConfig(kubelet_tls=tls)) as api:
            await node_and_pod(api, "127.0.0.1", 1)
            response = await api.request("GET", f"{POD_PATH}/p/log")
            assert response.status == 500
            message = orjson.loads(response.body)["message"]  # type: ignore[arg-type]
            assert "error dialing backend: n (127.0.0.1:1)" in message
        async with ApiServer() as api:
            await node_and_pod(api)
            assert (await api.request("GET", f"{POD_PATH}/p/log")).status == 503

    asyncio.run(main())


def test_proxy_to_pods_and_services(monkeypatch: pytest.MonkeyPatch) -> None:
    def at_home(request: Request, *, host: str, **more: Any) -> Awaitable[Response]:
        """The pod network ends here."""
        assert host == "10.1.2.3"
        return forward(request, host="127.0.0.1", **more)

    monkeypatch.setattr(proxy, "forward", at_home)

    async def backend(request: Request) -> Response:
        text = f"{request.method} {request.path}?{request.query} {request.headers.get('authorization', '')}"
        text += request.headers.get("cookie", "")
        return Response(200, [("Content-Type", "text/plain")], text.encode() + request.body)

    async def main() -> None:
        server = HttpServer(backend, clock=SystemClock())
        await server.start("127.0.0.1", 0)
        port = server.port
        async with ApiServer(clock=SystemClock()) as api:
            container = {"name": "c", "image": "i", "ports": [{"name": "web", "containerPort": port}]}
            await api.client.create(PODS, {"metadata": {"name": "p"}, "spec": {"containers": [container]}}, "default")
            running = {"status": {"podIP": "10.1.2.3", "phase": "Running"}}
            await api.client.patch(PODS, "p", "default", running, subresource="status")
            target = {"kind": "Pod", "namespace": "default", "name": "p"}
            ports = [{"name": "http", "port": 80}]
            await api.client.create(SERVICES, {"metadata": {"name": "s"}, "spec": {"ports": ports}}, "default")
            slice_ = {
                "metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": ["10.1.2.3"], "conditions": {"ready": True}, "targetRef": target}],
                "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
            }
            await api.client.create(ENDPOINTSLICES, slice_, "default")
            services = "/api/v1/namespaces/default/services"
            for path in (
                "pods/p",
                "pods/p:web",
                f"pods/http:p:{port}",
                "services/s",
                "services/s:http",
                "services/s:80",
            ):
                url = f"/api/v1/namespaces/default/{path}/proxy"
                response = await api.request(
                    "POST", f"{url}/a/%2Fb?x=1", b"body", authorization="Bearer x", cookie="a=1 "
                )
                body = b"".join(response.body) if isinstance(response.body, list) else response.body
                assert (response.status, body) == (200, b"POST /a/%2Fb?x=1 a=1 body"), path
                assert (await api.request("GET", url)).status == 301
            assert (await api.request("GET", f"{services}/none/proxy/")).status == 404
            assert (await api.request("GET", f"{services}/s:99/proxy/")).status == 503
            assert (await api.request("GET", f"{POD_PATH}/p:nope/proxy/")).status == 400
            assert (await api.request("GET", f"{POD_PATH}/p:1/proxy/")).status == 503
        await server.close(0)

    asyncio.run(main())


def test_a_node_is_its_kubelet_or_what_listens_at_the_port_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As upstream: nodes/n:9100/proxy/metrics is a node exporter's, never the kubelet's."""
    passed: list[tuple[str, str, int, bool]] = []

    def noted(who: str) -> Any:
        async def forward(_request: Request, *, host: str, port: int, ssl: Any = None, **_more: Any) -> Response:
            passed.append((who, host, port, ssl is not None))
            return Response(200)

        return forward

    monkeypatch.setattr(kubelet, "forward", noted("kubelet"))
    monkeypatch.setattr(proxy, "forward", noted("node"))

    async def main() -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        async with ApiServer(config=ApiConfig(kubelet_tls=tls)) as api:
            await node_and_pod(api)
            for name in ("n", "n:10251", "https:n:10251", "n:9100", "https:n:9101"):
                assert (await api.request("GET", f"/api/v1/nodes/{name}/proxy/metrics")).status == 200, name
            assert (await api.request("GET", "/api/v1/nodes/n:web/proxy/metrics")).status == 400
            assert (await api.request("GET", "/api/v1/nodes/x:9100/proxy/metrics")).status == 404

    asyncio.run(main())
    own, at = ("kubelet", "192.0.2.7", 10251, True), "192.0.2.7"
    assert passed == [own, own, own, ("node", at, 9100, False), ("node", at, 9101, True)]


async def ended(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: bytes) -> None:
    """One request, one answer; the client hangs up."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(answer)
    await reader.read()
    writer.close()


def test_what_a_backend_says_to_head_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 147\r\n\r\n"
        backend = await asyncio.start_server(lambda r, w: ended(r, w, answer), "127.0.0.1", 0)
        port = backend.sockets[0].getsockname()[1]
        monkeypatch.setattr(backends, "reachable", lambda _: True)
        try:
            async with ApiServer(clock=SystemClock()) as api:
                containers = [{"name": "c", "image": "i"}]
                await api.client.create(
                    PODS, {"metadata": {"name": "p"}, "spec": {"containers": containers}}, "default"
                )
                status = {"status": {"podIP": "127.0.0.1"}}
                await api.client.patch(PODS, "p", "default", status, subresource="status")
                response = await api.request("HEAD", f"{POD_PATH}/p:{port}/proxy/x")
                assert [v for k, v in response.headers if k.lower() == "content-length"] == ["147"]
                for wrong in (port + 65536, 0):  # a loop that takes the lower bits would get through
                    response = await api.request("GET", f"{POD_PATH}/p:{wrong}/proxy/x")
                    assert response.status == 503
                    assert f"{wrong} is no port".encode() in joined(response.body)
        finally:
            backend.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(main(), 10))


async def service(api: ApiServer, name: str, *endpoints: dict[str, Any], **more: Any) -> int:
    """The status of a GET through a service with these endpoints."""
    await api.client.create(SERVICES, {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}}, "default")
    piece = {
        "metadata": {"name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": list(endpoints),
        "ports": [{"port": 80}],
        **more,
    }
    await api.client.create(ENDPOINTSLICES, piece, "default")
    return (await api.request("GET", f"/api/v1/namespaces/default/services/{name}/proxy/")).status


def test_through_the_server_users_reach_pods_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes endpoints, or the status of a pod, must not borrow this server's place in the network."""

    async def main() -> None:
        dialled: list[str] = []

        async def note(_request: Request, *, host: str, **_more: Any) -> Response:
            dialled.append(host)
            return Response(200)

        monkeypatch.setattr(proxy, "forward", note)
        async with ApiServer() as api:
            for name, ip in (("good", "10.1.2.3"), ("self", "127.0.0.1"), ("link", "169.254.169.254")):
                containers = [{"name": "c", "image": "i"}]
                await api.client.create(
                    PODS, {"metadata": {"name": name}, "spec": {"containers": containers}}, "default"
                )
                status = {"status": {"podIP": ip}}
                await api.client.patch(PODS, name, "default", status, subresource="status")
            answers = {n: await api.request("GET", f"{POD_PATH}/{n}/proxy/") for n in ("good", "self", "link")}
            assert {n: a.status for n, a in answers.items()} == {"good": 200, "self": 400, "link": 400}
            assert b'"message":"address not allowed"' in answers["self"].body  # type: ignore[operator]

            target = {"kind": "Pod", "namespace": "default", "name": "good"}
            elsewhere = {**target, "namespace": "kube-system"}
            assert await service(api, "a", {"addresses": ["10.1.2.3"], "targetRef": target}) == 200
            assert await service(api, "b", {"addresses": ["10.1.2.3"]}) == 503
            assert await service(api, "c", {"addresses": ["10.1.2.4"], "targetRef": target}) == 503
            assert await service(api, "d", {"addresses": ["10.1.2.3"], "targetRef": elsewhere}) == 503
            assert (
                await service(api, "e", {"addresses": ["example.com"], "targetRef": target}, addressType="FQDN") == 503
            )
            assert dialled == ["10.1.2.3"] * 2

    asyncio.run(main())


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "224.0.0.1", "0.0.0.0"])
def test_endpoints_are_never_at_addresses_of_each_host_itself(address: str) -> None:
    for type_, value in (("IPv4", address), ("IPv6", f"::ffff:{address}")):
        piece = {"addressType": type_, "endpoints": [{"addresses": [value]}]}
        assert [e.field for e in validate_slice(piece)] == ["endpoints[0].addresses[0]"], value


def test_names_with_scheme_and_port() -> None:
    assert split_name("web") == ("", "web", "")
    assert split_name("web:80") == ("", "web", "80")
    assert split_name("https:web:") == ("https", "web", "")
    with pytest.raises(ApiError):
        split_name("ftp:web:80")
