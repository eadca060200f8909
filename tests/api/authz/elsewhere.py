"""Who decides elsewhere: a real webhook behind TLS, a cluster that asks it, and what users are refused."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from jota.aio.clock import SystemClock
from jota.api.authn.kubeconfig import endpoint
from jota.api.authz.config import Configured, Webhook
from jota.api.filters.attributes import User
from jota.api.security import secure, write_roles
from jota.meta.errors import ApiError
from jota.meta.resource import Resource
from jota.pki.ca import CertificateAuthority, Subject
from jota.pki.jwt import TokenSigner
from jota.testing.cluster import ApiServer
from jota.wire.http import HttpServer
from jota.wire.message import Request, Response

ROLES = Resource("rbac.authorization.k8s.io", "v1", "roles", "Role")
BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
CLUSTER_BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", False)
CSRS = Resource("certificates.k8s.io", "v1", "certificatesigningrequests", "CertificateSigningRequest", False)
ADA = User("ada", "7", ("dev", "system:authenticated"), {"scope": ["a"]})
AUTHORIZATION = "/apis/authorization.k8s.io/v1"
Spec = dict[str, Any]
Judge = Callable[[Spec], Any]


class Service:
    """The webhook: `judge` says the status for a spec, or gives the bytes of an answer."""

    def __init__(self) -> None:
        self.judge: Judge = lambda _: {"allowed": False}
        self.asked: list[dict[str, Any]] = []
        self.requests: list[Request] = []
        self.port = 0
        self.config: dict[str, Any] = {}

    @property
    def specs(self) -> list[Spec]:
        return [review["spec"] for review in self.asked]

    async def handle(self, request: Request) -> Response:
        review = orjson.loads(request.body)
        self.requests.append(request)
        self.asked.append(review)
        said = self.judge(review["spec"])
        if isinstance(said, Awaitable):
            said = await said
        if isinstance(said, Response):
            return said
        if not isinstance(said, bytes):
            answer = {"apiVersion": review["apiVersion"], "kind": "SubjectAccessReview", "status": said}
            said = orjson.dumps(answer)
        return Response(200, [("Content-Type", "application/json")], said)

    def webhook(self, folder: Path, **more: Any) -> Webhook:
        return Webhook("w", endpoint(self.config, folder), more.pop("version", "v1"), **more)


def may(**wanted: str) -> Judge:
    """Allow what has these attributes."""

    def judge(spec: Spec) -> dict[str, Any]:
        attributes = spec.get("resourceAttributes") or spec.get("nonResourceAttributes") or {}
        return {"allowed": all(attributes.get(name, "") == value for name, value in wanted.items())}

    return judge


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Service]:
    now = SystemClock().now()
    authority = CertificateAuthority(CertificateAuthority.create("test", days=1, now=now))
    pair = authority.issue(Subject("s", (), (), ("127.0.0.1",)), days=1, client=False, server=True, now=now)
    (folder / "c").write_bytes(pair.certificate)
    (folder / "k").write_bytes(pair.key)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "c", folder / "k")
    service = Service()
    server = HttpServer(service.handle, ssl=tls, clock=SystemClock())
    await server.start("127.0.0.1", 0)
    service.port = server.port
    data = base64.b64encode(authority.certificate_pem).decode()
    url = f"https://127.0.0.1:{server.port}/authorize"
    service.config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "w", "user": "u"}}],
        "clusters": [{"name": "w", "cluster": {"server": url, "certificate-authority-data": data}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
    }
    (folder / "hook.yaml").write_text(yaml.safe_dump(service.config))
    try:
        yield service
    finally:
        await server.close(0)


@asynccontextmanager
async def cluster(authorizers: Configured) -> AsyncIterator[ApiServer]:
    server = ApiServer()
    secure(server.api, TokenSigner(TokenSigner.create_key()), "https://x", authorizers=authorizers)
    async with server:
        await write_roles(server.api)
        yield server


def story(test: Callable[[Service, Path], Awaitable[None]]) -> Callable[[Path], None]:
    def run(tmp_path: Path) -> None:
        async def main() -> None:
            async with serving(tmp_path) as service:
                await test(service, tmp_path)

        asyncio.run(main())

    run.__name__ = test.__name__
    return run


async def refusal(work: Awaitable[Any]) -> ApiError:
    with pytest.raises(ApiError) as refused:
        await work
    return refused.value


async def review(server: ApiServer, kind: str, spec: Spec, user: User = ADA) -> dict[str, Any]:
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
    response = await server.request("POST", f"{AUTHORIZATION}/{kind.lower()}s", body, user=user)
    document: dict[str, Any] = orjson.loads(response.body)  # type: ignore[arg-type]
    return document.get("status", document) if response.status == 201 else document


def config_map(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": {}}


def role(*verbs: str, resource: str = "secrets") -> dict[str, Any]:
    return {
        "metadata": {"name": "r"},
        "rules": [{"apiGroups": [""], "resources": [resource], "verbs": list(verbs)}],
    }


def document(folder: Path, *conditions: str, **more: Any) -> dict[str, Any]:
    webhook: dict[str, Any] = {
        "timeout": "3s",
        "subjectAccessReviewVersion": "v1",
        "failurePolicy": "NoOpinion",
        "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": str(folder / "hook.yaml")},
        **more,
    }
    if conditions:
        webhook["matchConditionSubjectAccessReviewVersion"] = "v1"
        webhook["matchConditions"] = [{"expression": c} for c in conditions]
    return {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthorizationConfiguration",
        "authorizers": [
            {"type": "Node", "name": "node"},
            {"type": "RBAC", "name": "rbac"},
            {"type": "Webhook", "name": "hook.example.com", "webhook": webhook},
        ],
    }


def loaded(folder: Path) -> Callable[[str], Any]:
    return lambda name: endpoint(yaml.safe_load(Path(name).read_text()), folder)
