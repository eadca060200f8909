"""A GET like one before it is answered straight away: by the same bytes, lines and counts as any other, and only while all still holds
that was found out for the first. Each story asks both ways, on the real engine."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from tests.api.test_audit import Kept
from tests.api.test_lanes import certificate

from jota.api.audit import Audit
from jota.api.auditpolicy import EVERYTHING
from jota.api.compress import SMALLEST
from jota.api.flowcontrol.flows import SLICE
from jota.api.flowcontrol.objects import FLOW_SCHEMAS
from jota.api.rbac.index import ROLE_BINDINGS, ROLES
from jota.api.security import secure, write_roles
from jota.kinds.apiextensions.crd import CRDS
from jota.meta.resource import CONFIGMAPS, NAMESPACES, PODS, SERVICEACCOUNTS
from jota.pki.jwt import TokenSigner
from jota.testing.cluster import ApiServer, story_in
from jota.wire.message import Alike, Peer, Request, Response

Object = dict[str, Any]
CM = "/api/v1/namespaces/default/configmaps"
HPA = "/apis/autoscaling/v%d/namespaces/default/horizontalpodautoscalers"
RBAC = "rbac.authorization.k8s.io"
HEADERS = {"host": "x", "accept": "application/json", "user-agent": "a%b", "accept-encoding": "gzip"}


class Connection:
    """As wire/ sees one client: requests with the same headers from the same peer."""

    def __init__(self, server: Server, certificate: bytes | None, headers: dict[str, str]) -> None:
        self._server, self._headers = server, headers
        self._peer, self._alikes = Peer("10.0.0.1", 1, certificate), defaultdict[str, Alike](Alike)

    async def get(self, url: str, method: str = "GET", body: bytes = b"") -> tuple[bool, Response]:
        """(whether it passed no chain, the answer)."""
        answer = self.send(url, method, body)
        if isinstance(answer, Response):
            return True, answer
        return isinstance(answer, asyncio.Future), await answer

    def send(self, url: str, method: str, body: bytes = b"") -> Response | Awaitable[Response]:
        path, _, query = url.partition("?")
        request = Request(method, path, query, dict(self._headers), body, self._peer, alike=self._alikes[method])
        return self._server.api.reply(request)

    async def at_once(self, url: str) -> Response:
        """What is answered at once, when it was asked for before."""
        await self.get(url)
        await self.get(url)
        straight, answer = await self.get(url)
        assert straight
        return answer

    async def at_length(self, url: str, code: int = 200) -> Response:
        """What is not, however often it is asked for."""
        for _ in range(3):
            straight, answer = await self.get(url)
            assert (straight, answer.status) == (False, code)
        return answer


class Server(ApiServer):
    kept: Kept

    def connect(self, name: str = "ada", **headers: str) -> Connection:
        """Of a user with a certificate for an hour."""
        der = certificate(self, name, days=1 / 24)
        return Connection(self, der, {**HEADERS, **{k.replace("_", "-"): v for k, v in headers.items()}})

    def connect_with(self, token: str) -> Connection:
        return Connection(self, None, {**HEADERS, "authorization": f"Bearer {token}"})

    async def let(self, name: str, subject: Object, **rule: Any) -> None:
        rules = [{"verbs": ["get"], "apiGroups": ["*"], "resources": ["*"], **rule}]
        await self.client.create(ROLES, {"metadata": {"name": name}, "rules": rules}, "default")
        ref = {"kind": "Role", "apiGroup": RBAC, "name": name}
        await self.client.create(
            ROLE_BINDINGS, {"metadata": {"name": name}, "roleRef": ref, "subjects": [subject]}, "default"
        )

    def lines(self) -> list[bytes]:
        """Of the audit log since the last look, without what is never the same."""
        found, self.kept.lines = self.kept.lines, []
        return [re.sub(rb'"(auditID|\w+Timestamp)":"[^"]*"', rb'"\1":""', line) for line in found]


ADA = {"kind": "User", "name": "ada", "apiGroup": RBAC}
ROBOT = {"kind": "ServiceAccount", "name": "robot", "namespace": "default"}


@asynccontextmanager
async def secured(policy: Object = EVERYTHING) -> AsyncIterator[Server]:
    server = Server()
    secure(server.api, TokenSigner(TokenSigner.create_key()), "https://x")
    server.kept = Kept()
    server.api.audit = Audit(policy, server.kept, server.clock)
    async with server:
        await write_roles(server.api)
        await server.let("ada", ADA)
        await server.client.create(CONFIGMAPS, {"metadata": {"name": "c"}, "data": {"k": "1"}}, "default")
        yield server


story = story_in(secured)


def whole(answer: Response) -> tuple[int, list[tuple[str, str]], bytes, bytes]:
    body = answer.body if isinstance(answer.body, bytes) else b"".join(answer.body)
    return answer.status, answer.headers, body, re.sub(rb"Audit-Id: \S+", b"", answer.own)


@story
async def test_answer_and_line_and_counts_are_those_of_the_long_way(server: Server) -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
    scaler = {"metadata": {"name": "h"}, "spec": {"scaleTargetRef": target, "maxReplicas": 3}}
    made = await server.request("POST", HPA % 2, scaler, content_type="application/json")
    assert made.status == 201
    for url in (f"{CM}/c", f"{HPA % 1}/h", f"{HPA % 2}/h"):
        ada, counted = server.connect(), []
        for _ in range(5):
            await server.settle()
            server.lines()
            before = counts(server)
            straight, answer = await ada.get(url)
            await server.settle()
            after = counts(server)
            counted.append((straight, whole(answer), server.lines(), {k: after[k] - before.get(k, 0) for k in after}))
        assert [straight for straight, *_ in counted] == [False, True, True, True, True]
        assert all(rest == counted[0][1:] for _, *rest in counted for rest in [tuple(rest)])
        assert len(counted[0][2]) == 1
        assert counted[0][1][0] == 200


def counts(server: Server) -> dict[str, float]:
    """Of all metrics that count something."""
    found: dict[str, float] = {}
    for line in server.api.metrics.text().decode().splitlines():
        name, _, value = line.rpartition(" ")
        if not line.startswith("#") and re.match(r"\w+(_total|_count)\b", name):
            found[name] = float(value)
    return found


@story
async def test_each_line_is_of_its_own_request(server: Server) -> None:
    rules = [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]
    names = ("d", 'n:"b', "n\\")
    for name in names:
        await server.client.create(ROLES, {"metadata": {"name": name}, "rules": rules}, "default")
    ada, where, ids = server.connect(), f"/apis/{RBAC}/v1/namespaces/default/roles", []
    await ada.at_once(f"{where}/d")
    await server.settle()
    server.kept.lines.clear()
    for name in names:
        straight, answer = await ada.get(f"{where}/{name}")
        assert (straight, answer.status) == (True, 200)
        ids.append(re.findall(rb"Audit-Id: (\S+)", answer.own)[0].decode())
    await server.settle()
    events = [orjson.loads(line) for line in server.kept.lines]
    assert [e["auditID"] for e in events] == ids
    assert [e["objectRef"]["name"] for e in events] == list(names)
    assert [e["requestURI"] for e in events] == [f"{where}/{name}" for name in names]
    assert {e["userAgent"] for e in events} == {"a%b"}


@story
async def test_what_was_written_is_read_and_what_is_gone_is_gone(server: Server) -> None:
    ada, url = server.connect(), f"{CM}/d"
    await ada.at_once(f"{CM}/c")
    for value in ("1", "2"):
        assert (await ada.at_length(url, 404)).status == 404
        await server.client.create(CONFIGMAPS, {"metadata": {"name": "d"}, "data": {"k": value}}, "default")
        assert b'"k":"%b"' % value.encode() in whole(await ada.at_once(url))[2]
        await server.client.delete(CONFIGMAPS, "d", "default")


@story
async def test_who_may_no_longer_is_refused_at_once(server: Server) -> None:
    ada = server.connect()
    await ada.at_once(f"{CM}/c")
    await server.client.delete(ROLE_BINDINGS, "ada", "default")
    await ada.at_length(f"{CM}/c", 403)
    await server.let("names", ADA, resourceNames=["c"])
    await ada.at_length(f"{CM}/c")
    await ada.at_length(f"{CM}/d", 403)


@story
async def test_a_certificate_lets_in_until_it_expires(server: Server) -> None:
    ada = server.connect()
    await ada.at_once(f"{CM}/c")
    await server.advance(3500)
    await ada.at_once(f"{CM}/c")
    await server.advance(200)
    await ada.at_length(f"{CM}/c", 401)


async def _token(server: Server, pod: str = "") -> str:
    spec: Object = {"expirationSeconds": 600}
    if pod:
        spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": pod}
    made = await server.client.create(SERVICEACCOUNTS, {"spec": spec}, "default", "token", "robot")
    return str(made["status"]["token"])


@story
async def test_a_token_lets_in_as_long_as_all_that_it_is_bound_to_lives(server: Server) -> None:
    account = {"metadata": {"name": "robot"}}
    await server.client.create(SERVICEACCOUNTS, account, "default")
    await server.let("robot", ROBOT)
    spec = {"containers": [{"name": "c", "image": "i"}], "serviceAccountName": "robot"}
    await server.client.create(PODS, {"metadata": {"name": "p"}, "spec": spec}, "default")
    timed, bound = server.connect_with(await _token(server)), server.connect_with(await _token(server, "p"))
    forged = server.connect_with((await _token(server))[:-6] + "AAAAAA")
    await forged.at_length(f"{CM}/c", 401)
    for one in (timed, bound):
        await one.at_once(f"{CM}/c")
    await server.client.delete(PODS, "p", "default")
    await bound.at_length(f"{CM}/c", 401)
    await server.client.create(PODS, {"metadata": {"name": "p"}, "spec": spec}, "default")
    await bound.at_length(f"{CM}/c", 401)  # a namesake
    await timed.at_once(f"{CM}/c")
    await server.advance(605)
    await timed.at_once(f"{CM}/c")  # clocks may differ
    await server.advance(6)
    await timed.at_length(f"{CM}/c", 401)
    held = {"metadata": {"name": "q", "finalizers": ["example.com/hold"]}, "spec": spec}
    await server.client.create(PODS, held, "default")
    bound = server.connect_with(await _token(server, "q"))
    await bound.at_once(f"{CM}/c")
    await server.client.delete(PODS, "q", "default", grace=0)
    await bound.at_once(f"{CM}/c")
    await server.advance(62)
    await bound.at_length(f"{CM}/c", 401)
    later = server.connect_with(await _token(server))
    await later.at_once(f"{CM}/c")
    await server.client.delete(SERVICEACCOUNTS, "robot", "default")
    await server.client.create(SERVICEACCOUNTS, account, "default")
    await later.at_length(f"{CM}/c", 401)


@story
async def test_a_flow_schema_that_comes_counts_from_then_on(server: Server) -> None:
    ada = server.connect()
    before = (await ada.at_once(f"{CM}/c")).own
    rule = {
        "subjects": [{"kind": "User", "user": {"name": "ada"}}],
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}],
    }
    spec = {
        "priorityLevelConfiguration": {"name": "workload-low"},
        "matchingPrecedence": 10,
        "distinguisherMethod": {"type": "ByUser"},
        "rules": [rule],
    }
    schema = await server.client.create(FLOW_SCHEMAS, {"metadata": {"name": "own"}, "spec": spec})
    await server.settle()
    after = (await ada.at_once(f"{CM}/c")).own
    assert schema["metadata"]["uid"].encode() in after
    assert schema["metadata"]["uid"].encode() not in before


@story
async def test_a_kind_that_comes_and_goes(server: Server) -> None:
    where = "/apis/example.com/v1/namespaces/default/widgets"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    ada = server.connect()
    for _ in range(2):
        await ada.at_length(f"{where}/w", 404)
        await server.client.create(CRDS, {"metadata": {"name": "widgets.example.com"}, "spec": spec})
        await server.until(lambda: ("example.com", "v1", "widgets") in server.api.served)
        new = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}
        made = await server.request("POST", where, new, content_type="application/json")
        assert made.status == 201
        await ada.at_once(f"{where}/w")
        await server.client.delete(CRDS, "widgets.example.com")
        await server.until(lambda: ("example.com", "v1", "widgets") not in server.api.served)


@story
async def test_who_takes_a_group_over_is_asked_from_then_on(server: Server) -> None:
    class Elsewhere:
        async def serve(self, request: Any, user: Any) -> Response:
            return Response(299)

    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
    scaler = {"metadata": {"name": "h"}, "spec": {"scaleTargetRef": target, "maxReplicas": 3}}
    await server.request("POST", HPA % 2, scaler, content_type="application/json")
    ada, remotes = server.connect(), server.api.aggregation.remotes
    await ada.at_once(f"{HPA % 2}/h")
    remotes[("autoscaling", "v2")] = Elsewhere()  # type: ignore[assignment]
    await ada.at_length(f"{HPA % 2}/h", 299)
    await ada.at_once(f"{HPA % 1}/h")
    del remotes[("autoscaling", "v2")]
    await ada.at_once(f"{HPA % 2}/h")


@story
async def test_a_store_that_may_be_behind_is_waited_for(server: Server) -> None:
    ada = server.connect()
    await ada.at_once(f"{CM}/c")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server.api.store, "behind", True)
        await ada.at_length(f"{CM}/c")
    await ada.at_once(f"{CM}/c")


@story
async def test_who_comes_when_the_turn_is_over_waits_for_the_next(server: Server) -> None:
    ada, url = server.connect(), f"{CM}/c"
    await ada.at_once(url)
    await server.settle()
    server.api.flows._open, server.api.flows._turn_began = True, server.clock.monotonic() - 2 * SLICE
    request = Request("GET", url, "", dict(HEADERS), b"", ada._peer, alike=ada._alikes["GET"])
    waits = server.api.reply(request)
    assert not isinstance(waits, Response)
    server.api.flows._turn()
    assert (await waits).status == 200


@story
async def test_what_is_asked_for_in_another_way_is_answered_in_its_own(server: Server) -> None:
    large = {"metadata": {"name": "large"}, "data": {"k": "x" * SMALLEST}}
    await server.client.create(CONFIGMAPS, large, "default")
    ada = server.connect()
    await ada.at_once(f"{CM}/c")
    zipped = await ada.at_length(f"{CM}/large")
    assert ("Content-Encoding", "gzip") in zipped.headers
    await ada.at_length(f"{CM}/c?pretty=true")
    assert (await ada.at_length(CM, 403)).status == 403
    assert whole(await ada.at_length(f"{CM}/%63"))[2] == whole(await ada.at_once(f"{CM}/c"))[2]
    await ada.at_length(f"{CM}/c/status", 404)
    assert (await ada.get(f"{CM}/c", "HEAD"))[0] is False
    table = server.connect(accept="application/json;as=Table;g=meta.k8s.io;v=v1")
    assert b'"kind":"Table"' in whole(await table.at_length(f"{CM}/c"))[2]
    await server.connect(accept="text/html").at_length(f"{CM}/c", 406)
    own = await server.connect(audit_id="mine").at_length(f"{CM}/c")
    assert b"Audit-Id: mine\r\n" in own.own
    await server.connect(impersonate_user="bob").at_length(f"{CM}/c", 403)


@story
async def test_a_namespace_by_its_name(server: Server) -> None:
    """Its name is also the namespace that roles are looked up in."""
    await server.client.create(NAMESPACES, {"metadata": {"name": "other"}})
    ada = server.connect()
    await ada.at_length("/api/v1/namespaces/default")
    await ada.at_length("/api/v1/namespaces/other", 403)


@pytest.mark.parametrize(
    ("policy", "straight", "lines"),
    [
        ({"rules": [{"level": "None"}]}, True, 0),
        ({"rules": [{"level": "None", "verbs": ["get"]}, {"level": "Metadata"}]}, True, 0),
        ({"rules": [{"level": "Metadata"}], "omitStages": ["RequestReceived", "ResponseComplete"]}, True, 0),
        ({"rules": [{"level": "Metadata"}], "omitStages": ["RequestReceived"]}, True, 1),
        ({"rules": [{"level": "Metadata"}]}, False, 2),
        ({"rules": [{"level": "RequestResponse"}], "omitStages": ["RequestReceived"]}, False, 1),
        (
            {
                "rules": [
                    {
                        "level": "None",
                        "resources": [{"group": "", "resources": ["configmaps"], "resourceNames": ["d"]}],
                    },
                    {"level": "Metadata"},
                ],
                "omitStages": ["RequestReceived"],
            },
            False,
            1,
        ),
    ],
)
def test_what_is_noted_the_policy_decides(policy: Object, straight: bool, lines: int) -> None:
    async def main() -> None:
        async with secured(policy) as server:
            ada = server.connect()
            await (ada.at_once if straight else ada.at_length)(f"{CM}/c")
            await server.settle()
            server.lines()
            await ada.get(f"{CM}/c")
            await server.settle()
            assert len(server.lines()) == lines

    asyncio.run(main())


@story
async def test_many_places_on_one_connection(server: Server) -> None:
    ada, seen = server.connect(), []
    for group, version, plural in list(server.api.served) * 3:
        root = f"/apis/{group}/{version}" if group else f"/api/{version}"
        await ada.get(f"{root}/namespaces/default/{plural}/none")
        await ada.at_once(f"{CM}/c")
        seen.append(len(ada._alikes["GET"].ways))
    assert max(seen) == 16
