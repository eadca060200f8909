"""Who gets into the kubelet API, judged by the real API server: certificates, tokens, RBAC, and an API that is away."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.api.test_security import account_token, secured

from jota.aio.clock import Clock
from jota.api.filters.attributes import User
from jota.client.client import Client
from jota.meta.errors import ApiError
from jota.meta.resource import Resource
from jota.node.access import DENIED_TTL, IDENTITY_TTL, Access, subresources
from jota.pki.ca import CertificateAuthority, Subject
from jota.testing.cluster import ApiServer
from jota.wire.message import Peer, Request

RBAC = "rbac.authorization.k8s.io"
CLUSTER_ROLES = Resource(RBAC, "v1", "clusterroles", "ClusterRole", False)
CLUSTER_ROLE_BINDINGS = Resource(RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", False)
NODE = User("system:node:n1", groups=("system:nodes", "system:authenticated"))
ROBOT = {"kind": "ServiceAccount", "name": "robot", "namespace": "default"}


class Story:
    """Requests to the kubelet of node n1, and how they are answered."""

    def __init__(self, server: ApiServer) -> None:
        self.server, self.away = server, False
        client = server.client_for(NODE)
        self.asked: list[str] = []
        self.access = Access(_Watched(client, self), server.clock, "n1")  # type: ignore[arg-type]

    async def ask(self, path: str, token: str = "", *, method: str = "GET", certificate: bytes | None = None) -> int:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        try:
            await self.access.admit(Request(method, path, headers=headers, peer=Peer(certificate=certificate)))
        except ApiError as e:
            self.told = e.message
            return e.code
        return 200

    async def grant(self, *resources: str, name: str = "scraper") -> None:
        rule = {"apiGroups": [""], "resources": list(resources), "verbs": ["get"]}
        client, role = self.server.client, {"apiGroup": RBAC, "kind": "ClusterRole", "name": name}
        await client.create(CLUSTER_ROLES, {"metadata": {"name": name}, "rules": [rule]})
        await client.create(
            CLUSTER_ROLE_BINDINGS,
            {"metadata": {"name": name}, "roleRef": role, "subjects": [{**ROBOT, "apiGroup": ""}]},
        )


class _Watched:
    """The node's client; counts, and fails while the API is away."""

    def __init__(self, client: Client, story: Story) -> None:
        self._client, self._story = client, story

    async def create(self, resource: Resource, obj: Any) -> Any:
        self._story.asked.append(resource.plural)
        if self._story.away:
            raise OSError("connection refused")
        return await self._client.create(resource, obj)


def story(test: Callable[[Story], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        async def main() -> None:
            async with secured() as server:
                await test(Story(server))

        asyncio.run(main())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def certificate(clock: Clock, name: str, *groups: str) -> bytes:
    now = clock.now()
    authority = CertificateAuthority(CertificateAuthority.create("ca", days=9, now=now))
    pair = authority.issue(Subject(name, groups), days=1, client=True, server=False, now=now)
    return ssl.PEM_cert_to_DER_cert(pair.certificate.decode())


@story
async def test_strangers_are_nobody(at: Story) -> None:
    assert await at.ask("/metrics") == 401
    assert at.asked == []
    assert await at.ask("/metrics", "nonsense") == 401
    request = Request("GET", "/metrics", headers={"authorization": "Basic YTpi"})
    with pytest.raises(ApiError, match="Unauthorized"):
        await at.access.admit(request)


@story
async def test_a_token_may_what_rbac_allows_on_nodes(at: Story) -> None:
    token = await account_token(at.server)
    assert await at.ask("/metrics", token) == 403
    name = "system:serviceaccount:default:robot"
    assert at.told == f"Forbidden (user={name}, verb=get, resource=nodes, subresource(s)=[metrics])"
    await at.grant("nodes/metrics")
    await at.server.advance(DENIED_TTL + 1)
    assert await at.ask("/metrics", token) == 200
    assert await at.ask("/metrics/resource", token, method="HEAD") == 200
    assert await at.ask("/pods", token) == 403
    assert await at.ask("/exec/ns/p/c", token, method="POST") == 403


@story
async def test_fine_paths_have_their_own_name_and_proxy_covers_them(at: Story) -> None:
    token = await account_token(at.server)
    await at.grant("nodes/proxy")
    assert [await at.ask(path, token) for path in ("/pods", "/healthz", "/containerLogs/ns/p/c")] == [200] * 3
    assert await at.ask("/stats/summary", token) == 403, "of its own name alone"
    assert subresources("/podsandmore") == ["proxy"]


@story
async def test_certificates_of_others_are_judged_by_their_names(at: Story) -> None:
    clock = at.server.clock
    assert await at.ask("/exec/ns/p/c", certificate=certificate(clock, "api", "system:masters")) == 200
    assert at.asked == [], "the API server gets in whatever it answers"
    assert await at.ask("/metrics", certificate=certificate(clock, "system:node:n2", "system:nodes")) == 403


@story
async def test_answers_are_kept_for_a_while_and_an_absent_api_lets_nobody_in(at: Story) -> None:
    token = await account_token(at.server)
    await at.grant("nodes/metrics")
    assert await at.ask("/metrics", token) == 200
    assert await at.ask("/metrics", token) == 200
    assert at.asked == ["tokenreviews", "subjectaccessreviews"]
    at.away = True
    assert await at.ask("/metrics", token) == 200
    assert (await at.ask("/stats", token), at.told[:19]) == (500, "Authorization error")
    await at.server.advance(IDENTITY_TTL + 1)
    assert await at.ask("/metrics", token) == 401
    at.away = False
    assert await at.ask("/metrics", token) == 200, "a failure is not kept"
