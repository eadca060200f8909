"""API checklist, section B: errors are Status objects that clients can match on."""

from __future__ import annotations

import orjson
import pytest

from jota.api.filters.attributes import User
from jota.api.flowcontrol.objects import AUTOUPDATE, FLOW_SCHEMAS, PRIORITY_LEVELS
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, DEPLOYMENTS, PODS
from jota.testing.cluster import ApiServer, story
from jota.wire.message import Response

CM = "/api/v1/namespaces/default/configmaps"


async def refused_for_load(api: ApiServer) -> Response:
    """A request of somebody whose priority level has no seats."""
    limited = {"nominalConcurrencyShares": 0, "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"}}
    level = {"metadata": {"name": "none"}, "spec": {"type": "Limited", "limited": limited}}
    await api.client.create(PRIORITY_LEVELS, level)
    mine = {"metadata": {"annotations": {AUTOUPDATE: "false"}}}
    mine["spec"] = {"priorityLevelConfiguration": {"name": "none"}}  # type: ignore[dict-item]
    await api.client.patch(FLOW_SCHEMAS, "global-default", "", mine)
    await api.settle()
    return await api.request("GET", CM, user=User("alice", groups=("system:authenticated",)))


@story
async def test_11_every_error_is_a_status_whose_code_is_the_http_code(api: ApiServer) -> None:
    cases = [
        ("GET", f"{CM}/none", b"", 404, "NotFound"),
        ("GET", "/api/v1/nothings", b"", 404, "NotFound"),
        ("GET", "/apis/apps/v9/deployments", b"", 404, "NotFound"),
        ("GET", "/nowhere", b"", 404, "NotFound"),
        ("POST", "/readyz", b"", 405, "MethodNotAllowed"),
        ("PUT", CM, b"{}", 405, "MethodNotAllowed"),
        ("POST", f"{CM}/x", b"{}", 405, "MethodNotAllowed"),
        ("POST", CM, b"", 400, "BadRequest"),
        ("POST", CM, b"{", 400, "BadRequest"),
        ("POST", CM, b"[]", 400, "BadRequest"),
        ("POST", CM, {"metadata": {"name": "Not A Name"}}, 422, "Invalid"),
        ("GET", f"{CM}?labelSelector=a%3D%3D%3D", b"", 400, "BadRequest"),
        ("GET", f"{CM}?fieldSelector=spec.x%3D1", b"", 400, "BadRequest"),
        ("GET", f"{CM}?limit=many", b"", 400, "BadRequest"),
        ("GET", f"{CM}?timeoutSeconds=1.5", b"", 400, "BadRequest"),
        ("BREW", CM, b"", 405, "MethodNotAllowed"),
        ("PURGE", "/api/v1/namespaces/default/pods/p/proxy/x", b"", 405, "MethodNotAllowed"),
        ("MKCOL", "/api/v1/nodes/n/proxy/x", b"", 405, "MethodNotAllowed"),
    ]
    for method, path, body, code, reason in cases:
        response = await api.request(method, path, body)  # type: ignore[arg-type]
        status = orjson.loads(response.body)  # type: ignore[arg-type]
        assert (response.status, status["code"], status["reason"]) == (code, code, reason), (method, path, status)
        assert (status["kind"], status["apiVersion"], status["status"]) == ("Status", "v1", "Failure")
        assert status["metadata"] == {}
        assert status["message"]


@story
async def test_11_who_may_not_do_this_is_told_what_may_be_done(api: ApiServer) -> None:
    """RFC 9110 15.5.6: an origin server MUST send Allow with a 405; go-restful, before upstream's verbs, does."""
    for method, path, allowed in (
        ("PUT", CM, {"GET", "HEAD", "POST", "DELETE"}),
        ("BREW", CM, {"GET", "HEAD", "POST", "DELETE"}),
        ("POST", f"{CM}/x", {"GET", "HEAD", "PUT", "PATCH", "DELETE"}),
        ("BREW", f"{CM}/x", {"GET", "HEAD", "PUT", "PATCH", "DELETE"}),
        ("POST", "/api/v1/namespaces/default/pods/x/status", {"GET", "HEAD", "PUT", "PATCH"}),
        ("DELETE", "/api/v1/namespaces/default/pods/x/binding", {"POST"}),
        ("DELETE", "/api/v1/componentstatuses/x", {"GET", "HEAD"}),
        ("DELETE", "/apis", {"GET", "HEAD"}),
        ("DELETE", "/openapi/v3", {"GET", "HEAD"}),
        ("DELETE", "/version", {"GET", "HEAD"}),
    ):
        response = await api.request(method, path)
        assert response.status == 405, path
        assert set(dict(response.headers)["Allow"].split(", ")) == allowed, (method, path)


@story
async def test_11_media_types_have_their_own_errors(api: ApiServer) -> None:
    response = await api.request("POST", CM, b"x", content_type="text/html")
    assert response.status == 415
    assert b"the body of the request was in an unknown format - accepted media types include: " in response.body
    response = await api.request("GET", CM, accept="text/html")
    assert response.status == 406
    assert b"only the following media types are accepted: application/json" in response.body


@story
async def test_11_the_bytes_of_an_error_are_those_that_clients_compare(api: ApiServer) -> None:
    account = {
        "metadata": {"name": "x"},
        "roleRef": {"kind": "Role", "name": "r", "apiGroup": "rbac.authorization.k8s.io"},
    }
    path = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings"
    assert (await api.request("POST", path, account)).status == 201
    again = await api.request("POST", path, account)
    assert again.body == (
        b'{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",'
        b'"message":"rolebindings.rbac.authorization.k8s.io \\"x\\" already exists","reason":"AlreadyExists",'
        b'"details":{"name":"x","group":"rbac.authorization.k8s.io","kind":"rolebindings"},"code":409}\n'
    )


@story
async def test_12_messages_are_those_that_clients_match(api: ApiServer) -> None:
    with pytest.raises(ApiError, match=r'^configmaps "x" not found$') as missing:
        await api.client.get(CONFIGMAPS, "x", "default")
    assert missing.value.kind == "configmaps"
    await api.client.create(CONFIGMAPS, {"metadata": {"name": "x"}}, "default")
    with pytest.raises(ApiError, match=r'^configmaps "x" already exists$'):
        await api.client.create(CONFIGMAPS, {"metadata": {"name": "x"}}, "default")
    with pytest.raises(ApiError, match=r'^deployments.apps "y" not found$') as grouped:
        await api.client.get(DEPLOYMENTS, "y", "default")
    assert (grouped.value.group, grouped.value.kind) == ("apps", "deployments")
    old = await api.client.get(CONFIGMAPS, "x", "default")
    await api.client.update(CONFIGMAPS, {**old, "data": {"a": "1"}})
    text = (
        'Operation cannot be fulfilled on configmaps "x": the object has been modified; please apply your changes to '
    )
    with pytest.raises(ApiError, match="^" + text + "the latest version and try again$"):
        await api.client.update(CONFIGMAPS, {**old, "data": {"a": "2"}})


@story
async def test_13_invalid_lists_its_causes_with_paths_and_names_the_kind(api: ApiServer) -> None:
    with pytest.raises(ApiError) as refused:
        await api.client.create(PODS, {"metadata": {"name": "p"}, "spec": {"containers": []}}, "default")
    assert (refused.value.code, refused.value.kind) == (422, "Pod")
    assert refused.value.message.startswith('Pod "p" is invalid: spec.containers: Required value')
    assert [(c.reason, c.field) for c in refused.value.causes] == [("FieldValueRequired", "spec.containers")]


@story
async def test_14_conflicts(api: ApiServer) -> None:
    made = await api.client.create(CONFIGMAPS, {"metadata": {"name": "x"}}, "default")
    other = {**made, "metadata": {**made["metadata"], "uid": "11111111-1111-4111-8111-111111111111"}}
    with pytest.raises(ApiError, match="Precondition failed: UID in precondition") as refused:
        await api.client.update(CONFIGMAPS, other)
    assert refused.value.code == 409
    with pytest.raises(ApiError) as refused:
        await api.client.delete(CONFIGMAPS, "x", "default", uid="other")
    assert refused.value.code == 409
    with pytest.raises(ApiError) as refused:
        await api.client.delete(CONFIGMAPS, "x", "default", resource_version="1")
    assert refused.value.code == 409


@story
async def test_15_too_many_requests_says_when_to_come_back(api: ApiServer) -> None:
    response = await refused_for_load(api)
    assert response.status == 429
    assert ("Retry-After", "1") in response.headers
    assert orjson.loads(response.body)["details"]["retryAfterSeconds"] == 1  # type: ignore[arg-type]


@story
async def test_16_warnings_are_headers_without_duplicates(api: ApiServer) -> None:
    body = {"metadata": {"name": "x"}, "dat": {}, "data": {"a": "b"}}
    response = await api.request("POST", CM, body)
    assert response.status == 201
    said = [v for k, v in response.headers if k == "Warning"]
    assert said == ['299 - "unknown field \\"dat\\""', '299 - "\\"dat\\": did you mean \\"data\\"?"']


@story
async def test_an_unexpected_failure_is_an_internal_error_and_not_an_exception(
    api: ApiServer,
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("boom")

    api.api.registry.look = broken  # type: ignore[assignment]
    response = await api.request("POST", CM, {"metadata": {"name": "x"}})
    assert response.status == 500
    assert orjson.loads(response.body)["reason"] == "InternalError"  # type: ignore[arg-type]
