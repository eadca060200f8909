"""Requests that are passed on to an extension server, and whether it is there."""

from __future__ import annotations

import asyncio
import base64
import ssl

import orjson
import pytest

from jota.aio.clock import SystemClock
from jota.api.aggregation import availability
from jota.api.filters.attributes import COMPONENT
from jota.controllers.discovery import discover
from jota.kinds.apiregistration.apiservice import APISERVICES
from jota.kinds.rbac import clusterrole
from jota.meta.errors import ApiError
from jota.testing.cluster import ApiServer
from jota.testing.extension import GROUP, ROOT
from jota.wire.dial import dial
from jota.wire.message import Request

from .world import BOB, FLUNDERS, NAME, Object, World, apiservice, flunder, grant, told, world

# -- requests


@told
async def test_requests_reach_the_extension_server_as_their_user(w: World) -> None:
    await w.register()
    await w.becomes("True", "Passed")
    rule = {"verbs": ["*"], "apiGroups": [GROUP], "resources": ["flunders"]}
    await w.api.client.create(clusterrole.KIND.resource, {"metadata": {"name": "flunders"}, "rules": [rule]})
    await grant(w.api.client, "flunders", "flunders", BOB.name)
    bob = w.api.client_for(BOB)
    made = await bob.create(FLUNDERS, flunder("f"), "default")
    assert made["metadata"]["uid"]
    assert [f["metadata"]["name"] for f in (await bob.list(FLUNDERS, "default"))["items"]] == ["f"]
    user, groups, headers = w.extension.users[-1]
    assert (user, groups) == (BOB.name, list(BOB.groups))
    assert headers["x-remote-uid"] == "u-1"
    assert headers["x-remote-extra-example.com%2fscopes"] == "a\nb"
    with pytest.raises(ApiError) as missing:
        await bob.get(FLUNDERS, "none", "default")
    assert missing.value.reason == "NotFound"
    await bob.delete(FLUNDERS, "f", "default")
    assert w.extension.flunders == {}


@told
async def test_rights_are_judged_here_first_and_there_again(w: World) -> None:
    await w.register()
    await w.becomes("True", "Passed")
    before = len(w.extension.users)
    status, body = await w.get(f"{ROOT}/namespaces/default/flunders", BOB)
    assert (status, body["reason"]) == (403, "Forbidden")
    assert 'cannot list resource "flunders" in API group "wardle.example.com"' in body["message"]
    assert len(w.extension.users) == before, "it never saw the request"
    # the extension server asks by itself whether somebody it hears of may: an unknown front proxy's word is not taken
    answer = await w.extension._client.raw(
        "POST",
        "/apis/authorization.k8s.io/v1/subjectaccessreviews",
        body=orjson.dumps({"spec": {"user": "bob", "resourceAttributes": {"group": GROUP, "resource": "flunders"}}}),
        headers={"content-type": "application/json"},
    )
    assert orjson.loads(answer.body)["status"]["allowed"] is False


@told
async def test_what_a_client_claims_of_itself_ends_here(w: World) -> None:
    await w.register()
    await w.becomes("True", "Passed")
    path = f"{ROOT}/namespaces/default/flunders"
    claims = {"x_remote_user": "admin", "x_remote_group": "system:masters", "x_remote_extra_a": "b"}
    assert (await w.get(path, BOB, **claims))[0] == 403
    assert (await w.get(path, COMPONENT, authorization="Bearer secret", **claims))[0] == 200
    user, groups, headers = w.extension.users[-1]
    assert user == COMPONENT.name
    assert "system:masters" in groups
    assert not {"authorization", "x-remote-extra-a", "x-remote-uid"} & set(headers)
    assert (await w.get(path, COMPONENT, impersonate_user="alice"))[0] == 403
    assert (await w.get(ROOT, COMPONENT, impersonate_user="alice"))[0] == 200
    assert w.extension.users[-1][0] == "alice"
    assert "impersonate-user" not in w.extension.users[-1][2]
    names = ("X_Remote_User", "x-remote_group", "X_Remote-Extra-A", "AUTHORIZATION", "Impersonate_User", "x_kept")
    headers = {name.lower(): "v" for name in names} | {"connection": "X-Remote-User, close"}
    answer = await w.api.api.handle(Request("GET", path, headers=headers, user=COMPONENT))
    assert answer.status == 200
    user, groups, seen = w.extension.users[-1]
    assert (user, "system:masters" in groups) == (COMPONENT.name, True)
    assert seen["x_kept"] == "v"
    spellings = {k: v for k, v in seen.items() if k.replace("_", "-").startswith(("x-remote-", "impersonate-", "auth"))}
    assert set(spellings) == {"x-remote-user", "x-remote-group"}, (
        "another spelling of the same name is the same name to some"
    )


@told
async def test_watches_and_upgrades_pass_through(w: World) -> None:
    await w.register()
    await w.becomes("True", "Passed")
    seen: list[tuple[str, str]] = []

    async def watch() -> None:
        async for event, obj in w.api.client.watch(FLUNDERS, "default"):
            seen.append((event, orjson.loads(obj)["metadata"]["name"]))

    watching = asyncio.ensure_future(watch())
    for name in ("a", "b"):
        await w.api.client.create(FLUNDERS, flunder(name), "default")
    await w.api.client.delete(FLUNDERS, "a", "default")
    await w.api.until(lambda: ("DELETED", "a") in seen)
    watching.cancel()
    assert seen[-3:] == [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a")]
    # over the wire, with the client certificate of an administrator
    await grant(w.api.client, "root", "cluster-admin", "alice")
    tls = ssl.create_default_context(cafile=str(w.directory / "ca.crt"))
    tls.load_cert_chain(w.directory / "alice.crt", w.directory / "alice.key")
    duplex = await dial("127.0.0.1", w.edge.port, ssl=tls)
    head = f"POST {ROOT}/namespaces/default/flunders/a/connect HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n"
    duplex.write(head.encode() + b"Content-Length: 0\r\n\r\n")
    assert (await duplex.read()).startswith(b"HTTP/1.1 101 ")
    duplex.write(b"hello")
    assert await duplex.read() == b"hello"
    duplex.close()
    assert w.extension.users[-1][0] == "alice"


@told
async def test_requests_that_pass_through_are_counted_and_noted(w: World) -> None:
    from jota.api.audit import Audit
    from jota.api.auditpolicy import EVERYTHING

    lines: list[Object] = []

    class Sink:
        def write(self, found: list[bytes]) -> None:
            lines.extend(map(orjson.loads, found))

    await w.register()
    await w.becomes("True", "Passed")
    w.api.api.audit = Audit(EVERYTHING, Sink(), w.api.clock)
    assert (await w.get(f"{ROOT}/namespaces/default/flunders/none"))[0] == 404
    await asyncio.sleep(0)  # the trail is written at the end of the turn
    noted = [e for e in lines if e.get("objectRef", {}).get("apiGroup") == GROUP]
    assert [(e["stage"], e["verb"], e["responseStatus"]["code"]) for e in noted][-1] == ("ResponseComplete", "get", 404)
    assert noted[-1]["objectRef"] | {"resource": "flunders", "name": "none"} == noted[-1]["objectRef"]
    assert noted[-1]["user"]["username"] == COMPONENT.name
    counted = (await w.get("/metrics"))[1]
    assert f'group="{GROUP}",resource="flunders"' in counted


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"items":[1,{"metadata":[],"versions":{}},{"metadata":{"name":"wardle.example.com"},"versions":[7]}]}',
        b'{"resources":{"name":1},"paths":[1],"items":7}',
        b'{"resources":[{"name":7},{"name":"a/b/c","verbs":"x"},null],"paths":{"apis/wardle.example.com/v1alpha1":3}}',
        b"[" * 5000,
    ],
)
def test_an_extension_server_that_talks_nonsense_harms_nobody_else(garbage: bytes) -> None:
    async def tale() -> None:
        from jota.wire.message import Response

        async def handle(request: Request) -> Response:
            kind = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            return Response(200, [("Content-Type", kind)], garbage)

        async with world() as w:
            w.extension.handle = handle  # type: ignore[method-assign]
            await w.extension.close()
            w.port = await w.extension.start()
            await w.register()
            await w.becomes("True", "Passed")
            await asyncio.sleep(0.05)
            for path in ("/apis", "/openapi/v2", "/openapi/v3", f"/apis/{GROUP}", "/api/v1"):
                status, body = await w.get(path)
                assert status == 200, path
                assert isinstance(body, dict)
            accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            items = (await w.get("/apis", accept=accept))[1]["items"]
            assert {"apps", GROUP} <= {i["metadata"]["name"] for i in items}
            assert isinstance(await discover(w.api.client), object)

    asyncio.run(tale())


# -- availability


@told
async def test_the_condition_follows_the_service_and_its_endpoints(w: World) -> None:
    await w.api.client.create(APISERVICES, apiservice(caBundle=w.bundle))
    found = await w.becomes("False", "ServiceNotFound")
    assert found["message"] == 'service/api in "wardle" is not present'
    assert await w.get(f"{ROOT}/flunders") == (503, "service unavailable\n")
    await w.service()
    await w.becomes("True", "Passed")
    assert (await w.get(f"{ROOT}/flunders"))[0] == 200
    await w.endpoints(False)
    found = await w.becomes("False", "MissingEndpoints")
    assert found["message"] == 'endpointslices for service/api in "wardle" have no addresses with port name "https"'
    assert await w.get(ROOT) == (503, "service unavailable\n")
    await w.endpoints(True)
    await w.becomes("True", "Passed")
    await w.extension.close()
    await w.api.client.patch(APISERVICES, NAME, patch={"spec": {"versionPriority": 7}})
    found = await w.becomes("False", "FailedDiscoveryCheck")
    assert f"failing or missing response from https://127.0.0.1:{w.port}{ROOT}" in found["message"]
    await w.api.client.delete(APISERVICES, NAME)
    w.api.api.registry.catch_up()
    assert (await w.get(f"{ROOT}/flunders"))[0] == 404


@told
async def test_a_server_that_is_not_the_one_of_the_bundle_is_not_believed(w: World) -> None:
    other = base64.b64encode((w.directory / "ca.crt").read_bytes()).decode()
    await w.register(caBundle=other)
    await w.becomes("True", "Passed")  # the check asks only whether somebody answers, as upstream's
    status, body = await w.get(f"{ROOT}/flunders")
    assert status == 503
    assert "certificate verify failed" in body
    await w.api.client.patch(APISERVICES, NAME, patch={"spec": {"caBundle": base64.b64encode(b"no PEM").decode()}})
    w.api.api.registry.catch_up()
    assert (await w.get(f"{ROOT}/flunders"))[0] == 500
    await w.api.client.patch(APISERVICES, NAME, patch={"spec": {"caBundle": None, "insecureSkipTLSVerify": True}})
    w.api.api.registry.catch_up()
    assert (await w.get(f"{ROOT}/flunders"))[0] == 200


@told
async def test_a_crash_between_any_two_steps_is_mended_by_the_next_start(w: World) -> None:
    await w.register()
    await w.becomes("True", "Passed")
    again = ApiServer(clock=SystemClock(), store=w.api.store, config=w.api.api.config)
    await again.api.start()
    answer = await again.request("GET", f"{ROOT}/flunders")
    assert answer.status == 200, "what was known before is known at once"
    await again.api.close()


def test_verdicts() -> None:
    reference = {"namespace": "n", "name": "s", "port": 8443}
    service = {"spec": {"type": "ClusterIP", "ports": [{"name": "a", "port": 8443}]}}
    ready = {"ports": [{"name": "a", "port": 1}], "endpoints": [{"addresses": ["192.0.2.1"], "conditions": {}}]}
    for given, slices, reason in (
        (None, [], "ServiceNotFound"),
        ({"spec": {"ports": [{"port": 443}]}}, [ready], "ServicePortError"),
        (service, [], "EndpointsNotFound"),
        (service, [{**ready, "ports": [{"name": "b", "port": 1}]}], "MissingEndpoints"),
        (
            service,
            [{**ready, "endpoints": [{"addresses": ["192.0.2.1"], "conditions": {"ready": False}}]}],
            "MissingEndpoints",
        ),
    ):
        verdict = availability.judge(reference, given, slices)
        assert verdict is not None
        assert verdict[:2] == ("False", reason)
    assert availability.judge(reference, service, [ready]) is None
    assert availability.judge(reference, {"spec": {"type": "ExternalName", "externalName": "x"}}, []) is None
