"""What requests share is worked out once, and never outlives what it follows from: roles, bindings, authorizers, flow schemas,
what is served, certificates. Each story asks the same thing before and after a change, on the real engine."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jota.api import path
from jota.api.audit import Audit
from jota.api.filters.attributes import Attributes, Decision, User
from jota.api.filters.authz import AlwaysAllow, AlwaysDeny, ClusterAuthorizer, Rbac
from jota.api.flowcontrol.objects import FLOW_SCHEMAS
from jota.api.rbac.index import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES
from jota.api.security import secure, write_roles
from jota.kinds.apiextensions.crd import CRDS
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, PODS, SECRETS
from jota.pki.ca import CertificateAuthority, Subject
from jota.pki.jwt import TokenSigner
from jota.testing.cluster import ApiServer, story_in
from jota.wire.message import Alike, Peer, Request, Response

Object = dict[str, Any]
ADA = User("ada", groups=("system:authenticated",))
MASTER = User("root", groups=("system:masters",))
CM = "/api/v1/namespaces/default/configmaps"
RBAC = "rbac.authorization.k8s.io"


class Server(ApiServer):
    reconfigure: Callable[[Any], None]

    async def code(self, method: str = "GET", url: str = f"{CM}/c", body: Any = b"", user: User | None = ADA) -> int:
        return (await self.request(method, url, body, user=user, content_type="application/json")).status

    async def let(self, name: str, **rule: Any) -> None:
        """Ada may, by a role and a binding of this name."""
        rules = [{"verbs": ["*"], "apiGroups": [""], "resources": ["configmaps"], **rule}]
        await self.client.create(ROLES, {"metadata": {"name": name}, "rules": rules}, "default")
        ref = {"kind": "Role", "apiGroup": RBAC, "name": name}
        subjects = [{"kind": "User", "name": "ada", "apiGroup": RBAC}]
        binding = {"metadata": {"name": name}, "roleRef": ref, "subjects": subjects}
        await self.client.create(ROLE_BINDINGS, binding, "default")


@asynccontextmanager
async def secured(authorizers: Any = ("Node", "RBAC")) -> AsyncIterator[Server]:
    server = Server()
    server.reconfigure = secure(server.api, TokenSigner(TokenSigner.create_key()), "https://x", authorizers=authorizers)
    async with server:
        await write_roles(server.api)
        await server.client.create(CONFIGMAPS, {"metadata": {"name": "c"}}, "default")
        yield server


story = story_in(secured)


# -- roles and bindings


@story
async def test_a_binding_counts_from_the_next_request_on_and_no_longer_than_it_is_there(server: Server) -> None:
    new = {"metadata": {"generateName": "n-"}}
    for _ in range(2):
        assert [await server.code(), await server.code("POST", CM, new), await server.code("GET", CM)] == [403] * 3
        await server.let("r")
        for _ in range(2):
            codes = [await server.code(), await server.code("POST", CM, new), await server.code("GET", CM)]
            assert codes == [200, 201, 200]
        await server.client.delete(ROLE_BINDINGS, "r", "default")
        await server.client.delete(ROLES, "r", "default")


@story
async def test_a_role_that_is_narrowed_counts_at_once(server: Server) -> None:
    await server.let("r")
    assert [await server.code(), await server.code("PATCH", body={})] == [200, 415]
    assert await server.code("DELETE") == 200
    await server.client.patch(
        ROLES, "r", "default", {"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"]}]}
    )
    assert [await server.code(), await server.code("DELETE"), await server.code("GET", CM)] == [404, 403, 403]


@story
async def test_roles_that_name_objects_allow_those_alone(server: Server) -> None:
    await server.let("named", resourceNames=["c"], verbs=["get"])
    await server.let("unnamed", resourceNames=[""], verbs=["get"])
    for _ in range(2):
        assert [await server.code(), await server.code(url=f"{CM}/other"), await server.code(url=CM)] == [200, 403, 403]
    await server.let("all", verbs=["get"])
    assert [await server.code(), await server.code(url=f"{CM}/other"), await server.code(url=CM)] == [200, 404, 403]


@story
async def test_namespaces_and_subresources_are_lanes_of_their_own(server: Server) -> None:
    await server.let("r", resources=["pods"])
    pods = "/api/v1/namespaces/{}/pods/p{}"
    assert await server.code(url=pods.format("default", "")) == 404
    assert await server.code(url=pods.format("kube-system", "")) == 403
    assert await server.code(url=pods.format("default", "/status")) == 403
    assert await server.code(url=pods.format("default", "/log")) == 403
    assert await server.code(url="/api/v1/pods") == 403
    await server.let("sub", resources=["pods/log", "pods/status"])
    assert await server.code(url=pods.format("default", "/status")) == 404
    assert await server.code(url=pods.format("default", "/log")) == 404


@story
async def test_what_follows_a_subresource_is_no_such_subresource(server: Server) -> None:
    spec = {"containers": [{"name": "c", "image": "x"}]}
    await server.client.create(PODS, {"metadata": {"name": "p"}, "spec": spec}, "default")
    status = "/api/v1/namespaces/default/pods/p/status"
    for _ in range(2):
        assert [await server.code(url=url, user=MASTER) for url in (status, f"{status}/x", status)] == [200, 404, 200]
    assert path.parse("GET", status, {}).kin is not path.parse("GET", f"{status}/x", {}).kin


@story
async def test_a_group_is_not_remembered_for_a_user_who_has_left_it(server: Server) -> None:
    ref = {"kind": "ClusterRole", "apiGroup": RBAC, "name": "cluster-admin"}
    binding = {
        "metadata": {"name": "ops"},
        "roleRef": ref,
        "subjects": [{"kind": "Group", "name": "ops", "apiGroup": RBAC}],
    }
    await server.client.create(CLUSTER_ROLE_BINDINGS, binding)
    inside, masters = User("ada", groups=("ops",)), User("ada", groups=("system:masters",))
    for _ in range(2):
        assert [await server.code(user=one) for one in (inside, ADA, masters, ADA)] == [200, 403, 200, 403]


@story
async def test_an_aggregated_role_follows_its_parts(server: Server) -> None:
    selector = {"clusterRoleSelectors": [{"matchLabels": {"part": "x"}}]}
    await server.client.create(CLUSTER_ROLES, {"metadata": {"name": "whole"}, "aggregationRule": selector})
    ref = {"kind": "ClusterRole", "apiGroup": RBAC, "name": "whole"}
    subjects = [{"kind": "User", "name": "ada", "apiGroup": RBAC}]
    await server.client.create(CLUSTER_ROLE_BINDINGS, {"metadata": {"name": "b"}, "roleRef": ref, "subjects": subjects})
    assert await server.code() == 403
    rules = [{"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"]}]
    await server.client.create(CLUSTER_ROLES, {"metadata": {"name": "part", "labels": {"part": "x"}}, "rules": rules})
    assert await server.code() == 200
    await server.client.patch(CLUSTER_ROLES, "part", "", {"metadata": {"labels": {"part": "y"}}})
    assert await server.code() == 403


@story
async def test_selectors_are_judged_each_time(server: Server) -> None:
    await server.let("r")
    assert await server.code(url=CM) == 200
    assert await server.code(url=f"{CM}?fieldSelector=metadata.name%3Dc") == 200
    assert await server.code(url=f"{CM}?fieldSelector=no+selector") == 400
    await server.client.delete(ROLES, "r", "default")
    await server.let("named", resourceNames=["c"])
    assert await server.code(url=CM) == 403
    assert await server.code(url=f"{CM}?fieldSelector=metadata.name%3Dc") == 200


@story
async def test_a_node_is_judged_by_what_is_its_own(server: Server) -> None:
    node = User("system:node:n1", groups=("system:nodes", "system:authenticated"))
    for name, on in (("mine", "n1"), ("other", "n2")):
        await server.client.create(SECRETS, {"metadata": {"name": name}}, "default")
        volume = {"name": "v", "secret": {"secretName": name}}
        spec = {"nodeName": on, "containers": [{"name": "c", "image": "x"}], "volumes": [volume]}
        await server.client.create(PODS, {"metadata": {"name": name}, "spec": spec}, "default")
    secret = "/api/v1/namespaces/default/secrets/"
    for _ in range(2):
        assert [await server.code(url=secret + name, user=node) for name in ("mine", "other", "mine")] == [
            200,
            403,
            200,
        ]
    await server.client.delete(PODS, "mine", "default", grace=0)
    assert await server.code(url=secret + "mine", user=node) == 403


# -- authorizers


@story
async def test_authorizers_that_are_put_in_force_count_from_the_next_request_on(server: Server) -> None:
    await server.let("r")
    assert await server.code() == 200
    server.reconfigure(("AlwaysDeny",))
    assert await server.code() == 403
    server.reconfigure(("AlwaysAllow",))
    assert [await server.code(), await server.code(url="/api/v1/namespaces/kube-system/secrets")] == [200, 200]
    server.reconfigure(("Node", "RBAC"))
    assert [await server.code(), await server.code(url="/api/v1/namespaces/kube-system/secrets")] == [200, 403]
    server.api.authorizer = AlwaysDeny()
    assert await server.code() == 403
    server.api.authorizer = None
    assert await server.code() == 200


class Moody:
    """Denies every second question."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def authorize(self, user: User, attributes: Attributes) -> Decision:
        self.asked.append(attributes.name)
        return Decision(False, denied=len(self.asked) % 2 == 0)


@story
async def test_who_judges_each_request_is_asked_about_each(server: Server) -> None:
    await server.let("r")
    chain = server.api.authorizer
    assert isinstance(chain, ClusterAuthorizer)
    moody = Moody()
    chain.chain = (moody, *chain.chain)
    server.api.lanes.forget()
    assert [await server.code() for _ in range(4)] == [200, 403, 200, 403]
    assert moody.asked == ["c"] * 4
    chain.chain = (*chain.chain[1:], moody)
    server.api.lanes.forget()
    assert [await server.code() for _ in range(4)] == [200] * 4
    assert len(moody.asked) == 4


def test_always_is_said_only_of_what_no_name_changes() -> None:
    class Index:
        def always(self, user: User, asked: Attributes) -> bool:
            return asked.resource == "pods"

    rbac = Rbac(Index())  # type: ignore[arg-type]
    pods, others = Attributes(ADA, "get", resource="pods"), Attributes(ADA, "get", resource="secrets")
    table: list[tuple[list[Any], tuple[bool | None, bool | None]]] = [
        ([], (None, None)),
        ([rbac], (True, None)),
        ([rbac, AlwaysAllow()], (True, True)),
        ([AlwaysDeny(), rbac], (False, False)),
        ([Moody(), rbac], (False, False)),
        ([rbac, Moody(), AlwaysAllow()], (True, False)),
    ]
    for chain, expected in table:
        authorizer = ClusterAuthorizer(chain)
        assert (authorizer.always(ADA, pods), authorizer.always(ADA, others)) == expected, chain
        assert authorizer.always(User("x", groups=("system:masters",)), others) is True


# -- flow control


@story
async def test_a_flow_schema_counts_from_the_next_request_on(server: Server) -> None:
    async def schema() -> str:
        answer = await server.api.handle(Request("GET", f"{CM}/c", peer=Peer()))
        lines = dict(line.split(": ", 1) for line in answer.own.decode().splitlines())
        return lines["X-Kubernetes-PF-FlowSchema-UID"]

    before = await schema()
    rule = {"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"], "namespaces": ["*"]}
    subject = {"kind": "Group", "group": {"name": "system:unauthenticated"}}
    spec = {
        "priorityLevelConfiguration": {"name": "workload-low"},
        "matchingPrecedence": 2,
        "rules": [{"subjects": [subject], "resourceRules": [rule]}],
    }
    made = await server.client.create(FLOW_SCHEMAS, {"metadata": {"name": "mine"}, "spec": spec})
    assert await schema() == made["metadata"]["uid"] != before
    await server.client.delete(FLOW_SCHEMAS, "mine")
    assert await schema() == before


@story
async def test_who_waits_in_a_queue_is_judged_when_its_turn_comes(server: Server) -> None:
    await server.let("r")
    assert await server.code() == 200
    flows = server.api.flows
    waiting = asyncio.Event()
    real = flows.wait

    async def wait(flow: Any, seats: int, seconds: float) -> int:
        waiting.set()
        await gone.wait()
        flow.level.take(seats)
        return seats

    gone = asyncio.Event()
    flows.enter = lambda flow, seats, now: False  # type: ignore[method-assign]
    flows.wait = wait  # type: ignore[method-assign]
    request = asyncio.ensure_future(server.code())
    await waiting.wait()
    await server.client.delete(ROLE_BINDINGS, "r", "default")
    gone.set()
    assert await request == 403
    flows.wait = real  # type: ignore[method-assign]


# -- what is served


@story
async def test_a_kind_that_comes_and_goes(server: Server) -> None:
    await server.let("r", apiGroups=["*"], resources=["*"])
    widget = "/apis/example.com/v1/namespaces/default/widgets/w"
    for _ in range(2):
        assert await server.code(url=widget) == 404
        assert b"could not find the requested resource" in (await server.request("GET", widget, user=ADA)).body
        schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
        names = {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"}
        spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]}
        await server.client.create(CRDS, {"metadata": {"name": "widgets.example.com"}, "spec": spec})
        await server.until(lambda: ("example.com", "v1", "widgets") in server.api.served)
        new = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}
        assert await server.code("POST", widget[:-2], new) == 201
        assert await server.code(url=widget) == 200
        await server.client.delete(CRDS, "widgets.example.com")
        await server.until(lambda: ("example.com", "v1", "widgets") not in server.api.served)


# -- who asks: requests with the same headers from the same peer


def certificate(server: ApiServer, name: str, *groups: str, days: float = 1) -> bytes:
    now = server.clock.now()
    authority = CertificateAuthority(CertificateAuthority.create("ca", days=9, now=now))
    pair = authority.issue(Subject(name, groups), days=days, client=True, server=False, now=now)
    return ssl.PEM_cert_to_DER_cert(pair.certificate.decode())


async def again(server: Server, der: bytes | None, alike: Alike, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await server.api.handle(Request("GET", f"{CM}/c", headers=named, peer=Peer("", 0, der), alike=alike))


@story
async def test_a_certificate_that_expires_on_a_connection_lets_in_no_longer(server: Server) -> None:
    der, alike = certificate(server, "root", "system:masters"), Alike()
    for _ in range(2):
        assert (await again(server, der, alike)).status == 200
    assert alike.caller.user.name == "root"
    await server.advance(86_300)
    assert (await again(server, der, alike)).status == 200
    await server.advance(200)
    late = await again(server, der, alike)
    assert (late.status, b"has expired" in late.body) == (401, True)


@story
async def test_a_user_that_was_set_beforehand_is_nobody_elses(server: Server) -> None:
    der, alike = certificate(server, "root", "system:masters"), Alike()
    peer, url = Peer("", 0, der), f"{CM}/c"
    for _ in range(2):
        assert (await server.api.handle(Request("GET", url, peer=peer, user=ADA, alike=alike))).status == 403
        assert (await again(server, der, alike)).status == 200


@story
async def test_impersonation_and_its_permission_are_looked_at_each_time(server: Server) -> None:
    der, alike = certificate(server, "ada", "system:authenticated"), Alike()
    ref = {"kind": "ClusterRole", "apiGroup": RBAC, "name": "cluster-admin"}
    binding = {
        "metadata": {"name": "b"},
        "roleRef": ref,
        "subjects": [{"kind": "User", "name": "ada", "apiGroup": RBAC}],
    }
    await server.client.create(CLUSTER_ROLE_BINDINGS, binding)
    for _ in range(2):
        answer = await again(server, der, alike, impersonate_user="bob")
        assert (answer.status, b'User \\"bob\\" cannot get' in answer.body) == (403, True)
        assert alike.caller is None
    await server.client.delete(CLUSTER_ROLE_BINDINGS, "b")
    assert b"cannot impersonate" in (await again(server, der, alike, impersonate_user="bob")).body
    assert (await again(server, der, alike, impersonate_uid="1")).status == 400


@story
async def test_a_token_among_sub_protocols_is_taken_out_each_time(server: Server) -> None:
    der, alike = certificate(server, "root", "system:masters"), Alike()
    for _ in range(3):
        headers = {"sec-websocket-protocol": "base64url.bearer.authorization.k8s.io.dG9rZW4"}
        request = Request("GET", f"{CM}/c", headers=headers, peer=Peer("", 0, der), alike=alike)
        assert (await server.api.handle(request)).status == 200
        assert headers == {}
    assert alike.caller is None


@story
async def test_tokens_and_strangers_are_looked_at_each_time(server: Server) -> None:
    data = {"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true"}
    secret = {
        "metadata": {"name": "bootstrap-token-abcdef"},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": data,
    }
    await server.client.create(SECRETS, secret, "kube-system")
    alike, headers = Alike(), {"authorization": "Bearer abcdef.0123456789abcdef"}
    assert (await again(server, None, alike, **headers)).status == 403
    await server.client.delete(SECRETS, "bootstrap-token-abcdef", "kube-system")
    assert (await again(server, None, alike, **headers)).status == 401
    assert (await again(server, None, alike)).status == 403
    assert alike.caller is None


@story
async def test_a_trail_tells_who_each_request_was(server: Server) -> None:
    events: list[Object] = []

    class Sink:
        def write(self, found: list[bytes]) -> None:
            events.extend(map(orjson.loads, found))

    rule = {"level": "Metadata", "users": ["root"]}
    server.api.audit = Audit({"rules": [rule], "omitStages": ["RequestReceived"]}, Sink(), server.clock)
    der, alike = certificate(server, "root", "system:masters"), Alike()
    for _ in range(3):
        assert (await again(server, der, alike)).status == 200
    await asyncio.sleep(0)  # the trail is written at the end of the turn
    assert [e["user"]["username"] for e in events] == ["root"] * 3
    assert [e["annotations"] for e in events] == [{"authorization.k8s.io/decision": "allow"}] * 3
    assert len({e["auditID"] for e in events}) == 3


# -- paths

_SEGMENT = st.sampled_from(
    [
        "api",
        "apis",
        "v1",
        "apps",
        "namespaces",
        "a",
        "pods",
        "p",
        "watch",
        "proxy",
        "status",
        "finalize",
        "",
        "%2F",
        "nodes",
        "log",
    ]
)
_PATHS = st.lists(_SEGMENT, min_size=1, max_size=9).map(lambda parts: "/" + "/".join(parts))
_METHODS = st.sampled_from(["GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS"])
_PARAMS = st.sampled_from([{}, {}, {"watch": "1"}, {"watch": "0"}, {"fieldSelector": "a=b"}, {"watch": "x"}])
_ASKED = st.lists(st.tuples(_METHODS, _PATHS, _PARAMS), min_size=1, max_size=6)


def read(parse: Callable[[str, str, dict[str, str]], path.Target], asked: tuple[str, str, dict[str, str]]) -> Any:
    method, url, params = asked[0], asked[1], dict(asked[2])
    try:
        t = parse(method, url, params)
    except ApiError as problem:
        return problem.code
    return (t.path, t.verb, t.group, t.version, t.namespace, t.resource, t.name, t.subresource, t.rest, params)


@given(_ASKED)
@example([("GET", "/api/v1/pods/a//a", {})])
@example([("GET", "/api/v1/namespaces/a/status", {})])
@example([("PUT", "/api/v1/namespaces/a/pods/p/status", {})])
@example([("GET", "/api/v1/nodes/p/proxy", {})])
def test_a_path_is_read_the_same_whatever_was_read_before(asked: list[tuple[str, str, dict[str, str]]]) -> None:
    near = [
        (method, url.rpartition("/")[0] + "/" + last, params)
        for method, url, params in asked
        for last in ("x", "proxy", "")
    ]
    for method, url, params in asked:
        where, _, last = url.rpartition("/")
        near += [(method, f"{where.rpartition('/')[0]}/{name}/{last}", params) for name in ("x", "%2F", "proxy", "")]
    for one in asked + near + asked:
        assert read(path.parse, one) == read(path._parse, one)


def test_kin_are_one_and_the_number_of_them_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = path.parse("GET", f"{CM}/a", {}), path.parse("GET", f"{CM}/b", {})
    assert first.kin is second.kin is not None
    assert (first.name, second.name, second.path, first.kin.name) == ("a", "b", f"{CM}/b", "")
    assert path.parse("DELETE", f"{CM}/a", {}).kin is not first.kin
    assert path.parse("GET", "/version", {}).kin is None
    monkeypatch.setattr(path, "_MOST_KNOWN", 10)
    for n in range(100):
        path.parse("GET", f"/api/v1/namespaces/n{n}/pods/p", {})
        path.parse("GET", f"/api/v1/namespaces/n{n}/pods/p/status", {})
        path.parse("GET", f"/api/v1/namespaces/n{n}/pods", {})
    assert max(map(len, (path._kin, path._objects, path._collections, path._subresources))) <= 10
