"""An extension API server for tests: group wardle.example.com with one kind, Flunder, kept in memory.

It does what Kubernetes' sample-apiserver does: it learns from ConfigMap kube-system/extension-apiserver-authentication whom
to believe, takes the user from X-Remote-* headers of a front proxy's certificate, and asks this user's rights with a
SubjectAccessReview. In: a client of the cluster. Out: HTTPS. `python -m jota.testing.extension` runs it as a process.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import orjson

from jota.aio.clock import SystemClock, rfc3339
from jota.client.client import Client
from jota.client.https import Https
from jota.meta.resource import CONFIGMAPS
from jota.pki.ca import read_certificate
from jota.wire.http import HttpServer
from jota.wire.message import Duplex, Request, Response, Writer

Object = dict[str, Any]
GROUP, VERSION = "wardle.example.com", "v1alpha1"
ROOT = f"/apis/{GROUP}/{VERSION}"
VERBS = ["create", "delete", "get", "list", "watch"]
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_KIND = {"group": GROUP, "version": VERSION, "kind": "Flunder"}


class ExtensionServer:
    """`aggregated`: whether it knows aggregated discovery, as servers since Kubernetes 1.27 do."""

    def __init__(self, client: Client, certificate: Path, key: Path, *, aggregated: bool = True) -> None:
        self._client, self._pair, self._aggregated = client, (certificate, key), aggregated
        self.flunders: dict[tuple[str, str], Object] = {}
        self.users: list[tuple[str, list[str], dict[str, str]]] = []
        """(user, groups, all headers) of every request that was believed, in order; the aggregator's own looks apart."""
        self.looks: list[str] = []
        """Paths that the aggregator asked for by itself."""
        self._names: list[str] = []
        self._revision = count(1)
        self._watchers: list[Callable[[str, Object], None]] = []
        self._server: HttpServer | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Serve; returns the port. Raises ApiError when the ConfigMap cannot be read."""
        trust = (await self._client.get(CONFIGMAPS, "extension-apiserver-authentication", "kube-system"))["data"]
        self._names = json.loads(trust["requestheader-allowed-names"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self._pair)
        context.load_verify_locations(cadata=trust["requestheader-client-ca-file"])
        context.verify_mode = ssl.CERT_REQUIRED
        self._server = HttpServer(self.handle, ssl=context, clock=SystemClock())
        await self._server.start(host, port)
        return self._server.port

    async def close(self) -> None:
        if self._server is not None:
            await self._server.close(0)

    async def handle(self, request: Request) -> Response:
        certificate = request.peer.certificate
        if certificate is None or read_certificate(certificate).common_name not in self._names:
            return _status(401, "Unauthorized", "not a front proxy")
        headers = request.headers
        groups = [g for g in headers.get("x-remote-group", "").split("\n") if g]
        user = headers.get("x-remote-user", "").encode("latin-1").decode()
        if user == "system:kube-aggregator":
            self.looks.append(request.path)
        else:
            self.users.append((user, groups, headers))
        document = self._document(request)
        if document is not None:
            return document
        if not request.path.startswith(f"{ROOT}/namespaces/"):
            return await self._resource(request, user, groups, "", request.path.removeprefix(ROOT).split("/")[1:])
        parts = request.path.removeprefix(f"{ROOT}/namespaces/").split("/")
        return await self._resource(request, user, groups, parts[0], parts[1:])

    # -- documents

    def _document(self, request: Request) -> Response | None:
        path, accept = request.path.rstrip("/"), request.headers.get("accept", "")
        if path == "/apis" and self._aggregated and "as=APIGroupDiscoveryList" in accept:
            return _json(200, self._discovery(), AGGREGATED)
        documents: dict[str, Callable[[], Object]] = {
            ROOT: _resources,
            "/openapi/v2": _swagger,
            "/openapi/v3": lambda: {"paths": {ROOT[1:]: {"serverRelativeURL": f"/openapi/v3{ROOT}?hash={_hash()}"}}},
            f"/openapi/v3{ROOT}": _openapi,
        }
        return _json(200, documents[path]()) if path in documents else None

    def _discovery(self) -> Object:
        resource = {
            "resource": "flunders",
            "responseKind": _KIND,
            "scope": "Namespaced",
            "singularResource": "flunder",
            "shortNames": ["fl"],
            "verbs": VERBS,
        }
        versions = [{"version": VERSION, "freshness": "Current", "resources": [resource]}]
        item = {"metadata": {"name": GROUP}, "versions": versions}
        return {
            "kind": "APIGroupDiscoveryList",
            "apiVersion": "apidiscovery.k8s.io/v2",
            "metadata": {},
            "items": [item],
        }

    # -- flunders

    async def _resource(
        self, request: Request, user: str, groups: list[str], namespace: str, parts: list[str]
    ) -> Response:
        name, sub = [*parts, "", ""][1:3]
        watch = parse_qs(request.query).get("watch", [""])[0] in ("1", "true")
        verb = {"POST": "create", "DELETE": "delete"}.get(request.method, "get" if name else "list")
        attributes = {
            "group": GROUP,
            "resource": parts[0],
            "subresource": sub,
            "namespace": namespace,
            "verb": "watch" if watch else verb,
            "name": name,
        }
        spec = {"user": user, "groups": groups, "resourceAttributes": {k: v for k, v in attributes.items() if v}}
        review = await self._client.raw(
            "POST",
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            body=orjson.dumps({"spec": spec}),
            headers={"content-type": "application/json"},
        )
        body = review.body if isinstance(review.body, bytes) else b"".join(review.body)
        if review.status != 201 or not orjson.loads(body)["status"]["allowed"]:
            return _status(403, "Forbidden", f'User "{user}" cannot {verb} flunders')
        if parts[0] != "flunders":
            return _status(404, "NotFound", "no such resource")
        if sub == "connect":
            return Response(101, [("Connection", "Upgrade"), ("Upgrade", "echo")], upgrade=_echo)
        if watch:
            return Response(200, [("Content-Type", "application/json")], stream=self._watch(namespace))
        return self._verb(verb, namespace, name, request)

    def _verb(self, verb: str, namespace: str, name: str, request: Request) -> Response:
        if verb == "list":
            items = [f for (where, _), f in sorted(self.flunders.items()) if where == namespace or not namespace]
            revision = str(next(self._revision))
            return _json(200, {**_head("FlunderList"), "metadata": {"resourceVersion": revision}, "items": items})
        if verb == "create":
            obj = orjson.loads(request.body)
            name = obj["metadata"]["name"]
            digest = hashlib.sha256(f"{namespace}/{name}".encode()).hexdigest()
            meta = {"namespace": namespace, "uid": digest[:32], "creationTimestamp": rfc3339(SystemClock().now())}
            obj["metadata"] |= {**meta, "resourceVersion": str(next(self._revision))}
            self.flunders[(namespace, name)] = obj
            self._notify("ADDED", obj)
            return _json(201, obj)
        found = self.flunders.get((namespace, name))
        if found is None:
            return _status(404, "NotFound", f'flunders.{GROUP} "{name}" not found')
        if verb == "delete":
            del self.flunders[(namespace, name)]
            self._notify("DELETED", found)
            return _status(200, "", "")
        return _json(200, found)

    def _notify(self, event: str, obj: Object) -> None:
        for watcher in self._watchers:
            watcher(event, obj)

    def _watch(self, namespace: str) -> Callable[[Writer], Any]:
        async def stream(writer: Writer) -> None:
            def send(event: str, obj: Object) -> None:
                if namespace in ("", obj["metadata"]["namespace"]):
                    writer.write([orjson.dumps({"type": event, "object": obj}) + b"\n"])

            for found in list(self.flunders.values()):
                send("ADDED", found)
            self._watchers.append(send)
            try:
                await asyncio.Event().wait()
            finally:
                self._watchers.remove(send)

        return stream


async def _echo(duplex: Duplex) -> None:
    while data := await duplex.read():
        duplex.write(data)
        await duplex.drain()
    duplex.close()


def _head(kind: str) -> Object:
    return {"kind": kind, "apiVersion": f"{GROUP}/{VERSION}"}


def _resources() -> Object:
    flunders = {"name": "flunders", "singularName": "flunder", "namespaced": True, "kind": "Flunder", "verbs": VERBS}
    resources = [{**flunders, "shortNames": ["fl"]}]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/{VERSION}", "resources": resources}


def _schema() -> Object:
    spec = {"type": "object", "description": "What a flunder is.", "properties": {"reference": {"type": "string"}}}
    texts = {key: {"type": "string"} for key in ("apiVersion", "kind")}
    gvk = {"x-kubernetes-group-version-kind": [_KIND]}
    return {"type": "object", "properties": {**texts, "metadata": {"type": "object"}, "spec": spec}, **gvk}


def _operation(reference: Object) -> Object:
    marks = {"x-kubernetes-action": "post", "x-kubernetes-group-version-kind": _KIND}
    return {"post": {"operationId": "createFlunder", **reference, **marks}}


def _swagger() -> Object:
    schema = {"schema": {"$ref": "#/definitions/com.example.wardle.v1alpha1.Flunder"}}
    operation = _operation({"responses": {"200": {"description": "OK", **schema}}})
    paths = {f"{ROOT}/namespaces/{{namespace}}/flunders": operation}
    return {"swagger": "2.0", "paths": paths, "definitions": {"com.example.wardle.v1alpha1.Flunder": _schema()}}


def _openapi() -> Object:
    schema = {"schema": {"$ref": "#/components/schemas/com.example.wardle.v1alpha1.Flunder"}}
    operation = _operation({"responses": {"200": {"description": "OK", "content": {"application/json": schema}}}})
    paths = {f"{ROOT}/namespaces/{{namespace}}/flunders": operation}
    schemas = {"schemas": {"com.example.wardle.v1alpha1.Flunder": _schema()}}
    return {"openapi": "3.0.0", "info": {"title": "wardle", "version": "1"}, "paths": paths, "components": schemas}


def _hash() -> str:
    return hashlib.sha256(orjson.dumps(_openapi())).hexdigest()[:16].upper()


def _json(code: int, value: Object, content_type: str = "application/json") -> Response:
    return Response(code, [("Content-Type", content_type)], orjson.dumps(value))


def _status(code: int, reason: str, message: str) -> Response:
    word = "Success" if code < 400 else "Failure"
    status = {"kind": "Status", "apiVersion": "v1", "status": word, "code": code}
    return _json(code, {**status, "reason": reason, "message": message} if reason else status)


async def _main(url: str, ca: str, admin: str, certificate: str, host: str) -> None:
    """Print the port, then serve until killed. `admin`: path of a client certificate, with its key beside it."""
    client = Client(Https(url, ca=Path(ca), certificate=admin, key=Path(admin).with_suffix(".key")))
    server = ExtensionServer(client, Path(certificate), Path(certificate).with_suffix(".key"))
    print(await server.start(host), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
