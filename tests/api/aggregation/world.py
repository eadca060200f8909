"""Another server's group version behind this one: a real extension server over TLS (jota.testing.extension), and who asks."""

from __future__ import annotations

import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson

from jota.aio.clock import SystemClock
from jota.api.config import ApiConfig, FrontProxy
from jota.api.filters.attributes import COMPONENT, User
from jota.api.security import secure, write_roles
from jota.client.client import Client
from jota.client.https import Https
from jota.kinds.apiregistration.apiservice import APISERVICES
from jota.kinds.rbac import clusterrole, clusterrolebinding
from jota.meta import conditions
from jota.meta.resource import ENDPOINTSLICES, NAMESPACES, SERVICES, Resource
from jota.pki.ca import CertificateAuthority, Subject
from jota.pki.jwt import TokenSigner
from jota.testing.cluster import ApiServer, story_in
from jota.testing.extension import GROUP, VERSION, ExtensionServer
from jota.wire.http import HttpServer

Object = dict[str, Any]
NAME = f"{VERSION}.{GROUP}"
FLUNDERS = Resource(GROUP, VERSION, "flunders", "Flunder")
BOB = User("böb", "u-1", ("team, one", "system:authenticated"), {"example.com/Scopes": ["a", "b"]})


@dataclass
class World:
    api: ApiServer
    extension: ExtensionServer
    edge: HttpServer
    directory: Path
    bundle: str
    authorities: dict[str, CertificateAuthority]
    port: int = 0

    async def register(self, **spec: Any) -> None:
        """Service, endpoints and APIService of the extension server."""
        await self.service()
        given = {"caBundle": self.bundle, **spec}
        await self.api.client.create(APISERVICES, apiservice(**{k: v for k, v in given.items() if v is not None}))

    async def service(self, namespace: str = "wardle") -> None:
        client = self.api.client
        await client.create(NAMESPACES, {"metadata": {"name": namespace}})
        ports = [{"name": "https", "port": 443}]
        await client.create(SERVICES, {"metadata": {"name": "api"}, "spec": {"ports": ports}}, namespace)
        await self.endpoints(True, namespace)

    async def endpoints(self, ready: bool, namespace: str = "wardle") -> None:
        piece = {
            "metadata": {"name": "api-1", "labels": {"kubernetes.io/service-name": "api"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": ready}}],
            "ports": [{"name": "https", "port": self.port, "protocol": "TCP"}],
        }
        await put_local(self.api, piece, namespace)

    async def becomes(self, status: str, reason: str) -> Object:
        """Wait for the condition Available."""

        def found() -> Object | None:
            stored = self.api.api.registry.get(APISERVICES, "", NAME) or {}
            return conditions.find((stored.get("status") or {}).get("conditions"), "Available")

        await self.api.until(
            lambda: [(found() or {}).get(k) for k in ("status", "reason")] == [status, reason], within=10
        )
        return found() or {}

    async def get(self, path: str, user: User = COMPONENT, **headers: str) -> tuple[int, Any]:
        answer = await self.api.request("GET", path, user=user, **headers)
        body = answer.body if isinstance(answer.body, bytes) else b"".join(answer.body)
        if answer.stream is not None:
            from jota.wire.dial import whole

            body = await whole(answer, 1 << 24)
        try:
            return answer.status, orjson.loads(body)
        except orjson.JSONDecodeError:
            return answer.status, body.decode()

    def client(self, certificate: str = "", **more: Any) -> Client:
        pair = {"certificate": self.directory / f"{certificate}.crt", "key": self.directory / f"{certificate}.key"}
        url = f"https://127.0.0.1:{self.edge.port}"
        return Client(Https(url, ca=self.directory / "ca.crt", **(pair if certificate else {}), **more))


async def put_local(api: ApiServer, piece: Object, namespace: str) -> None:
    """Store an EndpointSlice of this machine's own address, which the API would refuse."""
    served = api.api.engine.kind(ENDPOINTSLICES)
    key = served.key(namespace, piece["metadata"]["name"])
    known = api.store.get(key)
    whole = {**piece, "metadata": {**piece["metadata"], "namespace": namespace, "uid": key}}
    await api.store.put(key, served.encode(whole), expect=known.revision if known is not None else 0)


def apiservice(**spec: Any) -> Object:
    where = {"namespace": "wardle", "name": "api"}
    given = {"group": GROUP, "version": VERSION, "groupPriorityMinimum": 2000, "versionPriority": 200, "service": where}
    return {"metadata": {"name": f"{spec.get('version', VERSION)}.{spec.get('group', GROUP)}"}, "spec": given | spec}


def put(directory: Path, name: str, authority: CertificateAuthority, subject: Subject, *, server: bool = False) -> None:
    pair = authority.issue(subject, days=1, client=not server, server=server, now=SystemClock().now())
    (directory / f"{name}.crt").write_bytes(pair.certificate)
    (directory / f"{name}.key").write_bytes(pair.key)


@asynccontextmanager
async def world(*, aggregated: bool = True) -> AsyncIterator[World]:
    clock = SystemClock()
    ours, proxies, theirs = (
        CertificateAuthority(CertificateAuthority.create(n, days=1, now=clock.now()))
        for n in ("ca", "proxies", "theirs")
    )
    with TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "ca.crt").write_bytes(ours.certificate_pem)
        put(directory, "server", ours, Subject("api", (), ("localhost",), ("127.0.0.1",)), server=True)
        put(directory, "alice", ours, Subject("alice", ()))
        put(directory, "wardle", ours, Subject("system:serviceaccount:wardle:api", ()))
        put(directory, "front-proxy-client", proxies, Subject("front-proxy-client", ()))
        put(directory, "stranger", proxies, Subject("stranger", ()))
        put(directory, "extension", theirs, Subject("x", (), ("api.wardle.svc",)), server=True)
        proxy = FrontProxy(
            directory / "front-proxy-client.crt",
            directory / "front-proxy-client.key",
            proxies.certificate_pem.decode(),
            ours.certificate_pem.decode(),
        )
        api = ApiServer(clock=clock, config=ApiConfig(front_proxy=proxy))
        secure(api.api, TokenSigner(TokenSigner.create_key()), "https://x")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "server.crt", directory / "server.key")
        context.load_verify_locations(cadata=(ours.certificate_pem + proxies.certificate_pem).decode())
        context.verify_mode = ssl.CERT_OPTIONAL
        edge = HttpServer(api.api.handle, ssl=context, clock=clock)
        async with api:
            await write_roles(api.api)
            await edge.start("127.0.0.1", 0)
            bundle = base64.b64encode(theirs.certificate_pem).decode()
            authorities = {"ours": ours, "proxies": proxies}
            found = World(api, None, edge, directory, bundle, authorities)  # type: ignore[arg-type]
            await grant(api.client, "delegator", "system:auth-delegator", "system:serviceaccount:wardle:api")
            rule = {"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"]}
            await api.client.create(clusterrole.KIND.resource, {"metadata": {"name": "maps"}, "rules": [rule]})
            await grant(api.client, "maps", "maps", "system:serviceaccount:wardle:api")
            own = found.client("wardle")
            pair = directory / "extension.crt", directory / "extension.key"
            found.extension = ExtensionServer(own, *pair, aggregated=aggregated)
            found.port = await found.extension.start()
            try:
                yield found
            finally:
                await found.extension.close()
                await own.close()
                await edge.close(0)


async def grant(client: Client, name: str, role: str, user: str) -> None:
    subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}
    ref = {"kind": "ClusterRole", "apiGroup": "rbac.authorization.k8s.io", "name": role}
    obj = {"metadata": {"name": name}, "roleRef": ref, "subjects": [subject]}
    await client.create(clusterrolebinding.KIND.resource, obj)


told = story_in(world)


def flunder(name: str) -> Object:
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "Flunder", "metadata": {"name": name}}
