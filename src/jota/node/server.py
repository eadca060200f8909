"""The kubelet's HTTP API (port 10250) as a Handler: logs, exec, attach, port-forward, pods, metrics of one node.

Requests come from the API server (which passes users' requests on after authorising them) and from scrapers, over TLS;
`admit` (`node/access.py`) says who may. No sockets here: `wire/http.py` serves it. Sessions are spoken by
`wire/remotecommand.py` and `wire/portforward.py`, log files read by `node/logs.py`.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, unquote

import orjson

from jota.aio.clock import Clock, parse_rfc3339
from jota.meta.errors import ApiError, bad_request, path_not_found
from jota.node import logfiles, mirror, summary
from jota.node.agentlog import Lines
from jota.node.itself import CONTAINER, Itself
from jota.node.logs import LogOptions, Parse, follow, parse
from jota.node.volumes import persistent
from jota.runtime.protocol import Container, Exec, Runtime, RuntimeFault, Stats
from jota.wire import portforward, remotecommand, websocket
from jota.wire.message import Duplex, Request, Response, Writer

log = logging.getLogger("jota.node")

Object = dict[str, Any]
Query = dict[str, list[str]]
JSON = ("Content-Type", "application/json")
TEXT = ("Content-Type", "text/plain")
_OWN_PROCESS = "cannot {} {}: it is the agent of node {} itself, a process of the node, and no container"
METRICS = ("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
LOG_PROTOCOLS = ["binary.k8s.io", "base64.binary.k8s.io"]


class KubeletServer:
    """`await KubeletServer(...).handle(request)`."""

    def __init__(
        self,
        runtime: Runtime,
        pods: Callable[[], list[Object]],
        *,
        clock: Clock,
        node_name: str,
        admit: Callable[[Request], Awaitable[None]],
        local_volumes: str = "",
        itself: Itself | None = None,
        configuration: Object | None = None,
        connect: Callable[[int], Awaitable[Duplex]] | None = None,
    ) -> None:
        """`pods`: the pods of this node as the API gave them. `admit` raises ApiError for who may not make a request.

        `itself`: the process behind the agent's own mirror pod. `configuration`: what /configz tells. `connect`: to a port of
        the node's own network; raises ConnectionError.
        """
        self._runtime, self._pods, self._clock = runtime, pods, clock
        self._node_name, self._admit = node_name, admit
        self._local_volumes, self._itself, self._connect = local_volumes, itself, connect
        self._configuration = configuration
        self._before: dict[str, Stats] = {}

    async def handle(self, request: Request) -> Response:
        """Never raises for what a client can cause: errors are answered as a `v1 Status`."""
        try:
            await self._admit(request)
            return await self._route(request)
        except ApiError as error:
            return Response(error.code, [JSON], orjson.dumps(error.status()))
        except RuntimeFault as fault:
            failed = ApiError(500, "InternalError", f"{fault.reason}: {fault.message}")
            return Response(500, [JSON], orjson.dumps(failed.status()))

    async def _route(self, request: Request) -> Response:
        head, *rest = [unquote(part) for part in request.path.strip("/").split("/")]
        query = parse_qs(request.query, keep_blank_values=True)
        if head in ("exec", "attach", "portForward"):
            if request.method not in ("GET", "POST"):
                raise _not_allowed(request)
            if head == "portForward" and len(rest) in (2, 3):
                return await self._port_forward(request, rest[0], rest[1])
            if head != "portForward" and len(rest) in (3, 4):
                return await self._session(request, head, rest[0], rest[1], rest[-1], query)
            raise path_not_found()
        if head == "localVolumes" and len(rest) == 1 and request.method == "DELETE":
            return await self._remove_volume(rest[0])
        if request.method not in ("GET", "HEAD"):
            raise _not_allowed(request)
        if head == "containerLogs" and len(rest) == 3:
            return await self._logs(request, rest[0], rest[1], rest[2], query)
        if head == "logs":
            own = self._itself.log_path if self._itself is not None else ""
            return await logfiles.serve([own] if own else [], rest, request.query)
        return await self._report("/" + "/".join((head, *rest)))

    async def _remove_volume(self, name: str) -> Response:
        """The directory of a local volume that the control plane reclaims."""
        try:
            found = await asyncio.to_thread(persistent.remove, self._local_volumes, name)
        except ValueError as e:
            raise bad_request(str(e)) from None
        if not found:
            raise ApiError(404, "NotFound", f"no local volume {name} on this node")
        return Response(200, [JSON], b"{}")

    async def _report(self, path: str) -> Response:
        if path == "/healthz":
            return Response(200, [TEXT], b"ok")
        if path == "/configz" and self._configuration is not None:
            return Response(200, [JSON], orjson.dumps({"kubeletconfig": self._configuration}))
        if path == "/pods":
            pods = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": self._pods()}
            return Response(200, [JSON], orjson.dumps(pods))
        if path == "/metrics":
            return Response(200, [METRICS], await self._metrics())
        if path in ("/metrics/resource", "/stats/summary"):
            found, node = await self._samples(), self._node_use()
            if path == "/metrics/resource":
                return Response(200, [METRICS], summary.resource_metrics(found, node))
            out = summary.summary(self._node_name, found, node, self._before)
            self._before = {s.container.id: s.stats for s in found}
            return Response(200, [JSON], orjson.dumps(out))
        raise path_not_found()

    async def _samples(self) -> list[summary.Sample]:
        containers, stats = await self._runtime.containers(), await self._runtime.stats()
        own = next((p for p in self._pods() if self._mirrored(p) is not None), None)
        if own is not None and self._itself is not None:
            containers = [*containers, self._itself.container(own["metadata"]["uid"])]
            stats = [*stats, self._itself.use(self._clock.now())]
        return summary.samples(self._pods(), containers, stats)

    def _node_use(self) -> summary.NodeUse:
        with open("/proc/stat", encoding="ascii") as stat, open("/proc/meminfo", encoding="ascii") as meminfo:
            return summary.parse_node_use(
                stat.read(), meminfo.read(), self._clock.now(), os.sysconf(os.sysconf_names["SC_CLK_TCK"])
            )

    async def _metrics(self) -> bytes:
        containers = await self._runtime.containers()
        sandboxes = await self._runtime.sandboxes()
        states: dict[str, int] = {}
        for container in containers:
            states[container.state] = states.get(container.state, 0) + 1
        lines = ["# TYPE kubelet_running_pods gauge"]
        lines.append(f"kubelet_running_pods {sum(s.state == 'ready' for s in sandboxes)}")
        lines.append("# TYPE kubelet_running_containers gauge")
        lines += [f'kubelet_running_containers{{container_state="{k}"}} {v}' for k, v in sorted(states.items())]
        lines += ["# TYPE kubelet_node_name gauge", f'kubelet_node_name{{node="{self._node_name}"}} 1']
        return ("\n".join(lines) + "\n").encode()

    # -- finding things --

    def _pod(self, namespace: str, name: str) -> Object:
        for pod in self._pods():
            metadata = pod["metadata"]
            if metadata["name"] == name and metadata["namespace"] == namespace:
                return pod
        raise ApiError(404, "NotFound", f'pods "{name}" not found', name=name, kind="pods")

    def _mirrored(self, pod: Object) -> Itself | None:
        """The agent's own process, when `pod` is its mirror."""
        return self._itself if mirror.is_own(pod, self._node_name) else None

    async def _attempts(self, pod: Object, name: str) -> list[Container]:
        """The runs of one container, the latest first."""
        uid = pod["metadata"]["uid"]
        if (itself := self._mirrored(pod)) is not None:
            return [itself.container(uid)] if name == CONTAINER else []
        found = [c for c in await self._runtime.containers() if c.pod_uid == uid and c.name == name]
        return sorted(found, key=lambda c: (c.attempt, c.created_at), reverse=True)

    async def _running(self, pod: Object, name: str) -> Container:
        attempts = await self._attempts(pod, name)
        if not attempts or attempts[0].state != "running":
            raise ApiError(404, "NotFound", f'container not found ("{name}")', name=name, kind="containers")
        return attempts[0]

    # -- sessions --

    async def _session(
        self, request: Request, verb: str, namespace: str, pod_name: str, name: str, query: Query
    ) -> Response:
        pod = self._pod(namespace, pod_name)
        if self._mirrored(pod) is not None:
            raise ApiError(
                403,
                "Forbidden",
                _OWN_PROCESS.format("exec into" if verb == "exec" else "attach to", pod_name, self._node_name),
            )
        container = await self._running(pod, name)
        tty = flag(query, "tty")
        options = remotecommand.Options(
            flag(query, "input", "stdin"),
            flag(query, "output", "stdout"),
            flag(query, "error", "stderr"),
            tty,
            tells_exit=verb == "exec",
        )
        command = query.get("command", [])
        if verb == "exec" and not command:
            raise bad_request("you must specify a command")

        async def open_session() -> Exec:
            if verb == "exec":
                return await self._runtime.exec(container.id, command, tty=tty, stdin=options.stdin)
            return await self._runtime.attach(container.id, stdin=options.stdin)

        return await remotecommand.serve(request, options, open_session)

    async def _port_forward(self, request: Request, namespace: str, pod_name: str) -> Response:
        pod = self._pod(namespace, pod_name)
        if self._mirrored(pod) is not None and self._connect is not None:
            return await portforward.serve(request, self._connect)
        uid = pod["metadata"]["uid"]
        ready = [s for s in await self._runtime.sandboxes() if s.spec.pod_uid == uid and s.state == "ready"]
        if not ready:
            raise ApiError(404, "NotFound", f'pod "{pod_name}" has no running sandbox', name=pod_name, kind="pods")
        sandbox = max(ready, key=lambda s: s.spec.attempt)

        async def connect(port: int) -> Duplex:
            try:
                return await self._runtime.port_forward(sandbox.id, port)
            except RuntimeFault as fault:
                raise ConnectionError(fault.message) from fault

        return await portforward.serve(request, connect)

    # -- logs --

    async def _logs(self, request: Request, namespace: str, pod_name: str, name: str, query: Query) -> Response:
        options = log_options(query, self._clock.now())
        pod = self._pod(namespace, pod_name)
        container = await self._logged(pod, name, previous=options.previous)
        if not container.log_path:
            raise self._no_log(pod, name)
        own = self._mirrored(pod) is not None
        parser: Callable[[], Parse] = Lines if own else lambda: parse

        async def running() -> bool:
            now = container if own else await self._runtime.container(container.id)
            return now is not None and now.state in ("created", "running")

        async def pieces() -> AsyncIterator[list[bytes]]:
            try:
                async for batch in follow(
                    container.log_path, options, clock=self._clock, running=running, parser=parser
                ):
                    yield batch
            except FileNotFoundError:
                return  # it has written nothing yet, or its log was cleaned away: an empty log either way

        if websocket.wanted(request):
            return _log_socket(request, pieces)

        async def stream(writer: Writer) -> None:
            async for batch in pieces():
                writer.write(batch)
                await writer.drain()

        return Response(200, [TEXT], stream=stream)

    def _no_log(self, pod: Object, name: str) -> ApiError:
        if self._mirrored(pod) is None:
            return ApiError(500, "InternalError", f'container "{name}" has no log file')
        text = f"the agent of node {self._node_name} does not log to a file, but to where it was started from: a terminal, "
        return bad_request(text + "or the journal of its machine")

    async def _logged(self, pod: Object, name: str, *, previous: bool) -> Container:
        attempts = await self._attempts(pod, name)
        pod_name = pod["metadata"]["name"]
        if previous:
            ended = attempts[1:] if attempts else []
            if not ended:
                raise bad_request(f'previous terminated container "{name}" in pod "{pod_name}" not found')
            return ended[0]
        if not attempts:
            raise bad_request(f'container "{name}" in pod "{pod_name}" is {waiting_reason(pod, name)}')
        # a container that is only created has no output; the run before it has
        if attempts[0].state == "created" and len(attempts) > 1:
            return attempts[1]
        return attempts[0]


def waiting_reason(pod: Object, name: str) -> str:
    """`waiting to start: <reason>` from the pod's status, or that there is no such container."""
    spec, status = pod.get("spec", {}), pod.get("status", {})
    kinds = ("containers", "initContainers", "ephemeralContainers")
    if not any(c["name"] == name for kind in kinds for c in spec.get(kind) or []):
        return "not valid: the pod has no such container"
    for kind in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for found in status.get(kind) or []:
            waiting = (found.get("state") or {}).get("waiting") or {}
            if found["name"] == name and waiting.get("reason"):
                return f"waiting to start: {waiting['reason']}"
    return "waiting to start: ContainerCreating"


def _log_socket(request: Request, pieces: Callable[[], AsyncIterator[list[bytes]]]) -> Response:
    """The log as WebSocket messages, `binary.k8s.io` or in base64."""
    try:
        protocol, headers = websocket.handshake(request, LOG_PROTOCOLS)
    except websocket.HandshakeError as error:
        raise bad_request(str(error)) from error

    async def upgrade(duplex: Duplex) -> None:
        socket = websocket.WebSocket(duplex)

        async def send() -> None:
            async for batch in pieces():
                data = b"".join(batch)
                socket.send(base64.b64encode(data).decode() if protocol.startswith("base64.") else data)
                await socket.drain()

        await websocket.tell(socket, send())

    return Response(101, headers, upgrade=upgrade)


def flag(query: Query, *names: str) -> bool:
    """True for 1, true and the like, as Go's strconv.ParseBool reads them; under any of the names."""
    return any(value in ("1", "t", "T", "true", "True", "TRUE") for name in names for value in query.get(name, []))


def log_options(query: Query, now: float) -> LogOptions:
    """v1 PodLogOptions from a query. Raises ApiError 400 / 422 with upstream's words."""
    tail, limit, since = (_integer(query, name) for name in ("tailLines", "limitBytes", "sinceSeconds"))
    if tail is not None and tail < 0:
        raise _invalid("tailLines", tail, "must be greater than or equal to 0")
    if limit is not None and limit < 1:
        raise _invalid("limitBytes", limit, "must be greater than 0")
    if since is not None and since < 1:
        raise _invalid("sinceSeconds", since, "must be greater than 0")
    time = query.get("sinceTime", [""])[0]
    if since is not None and time:
        raise ApiError(422, "Invalid", "at most one of `sinceTime` or `sinceSeconds` may be specified")
    start = None if since is None else now - since
    if time:
        try:
            start = parse_rfc3339(time)
        except ValueError as error:
            raise bad_request(f"sinceTime is not an RFC 3339 time: {time}") from error
    stream = query.get("stream", ["All"])[0] or "All"
    streams: dict[str, Any] = {"All": "", "Stdout": "stdout", "Stderr": "stderr"}
    if stream not in streams:
        raise bad_request(f"stream must be one of All, Stdout, Stderr: {stream}")
    follows, previous, stamped = (flag(query, name) for name in ("follow", "previous", "timestamps"))
    return LogOptions(follows and not previous, previous, tail, start, stamped, limit, streams[stream])


def _integer(query: Query, name: str) -> int | None:
    text = query.get(name, [""])[0]
    if not text:
        return None
    try:
        return int(text)
    except ValueError as error:
        raise bad_request(f'{name} is not a number: "{text}"') from error


def _invalid(name: str, value: int, detail: str) -> ApiError:
    return ApiError(422, "Invalid", f"PodLogOptions is invalid: {name}: Invalid value: {value}: {detail}")


def _not_allowed(request: Request) -> ApiError:
    return ApiError(405, "MethodNotAllowed", f"{request.method} is not allowed on {request.path}")
