"""Whatever is sent, the answer is a Status with a code that blames the sender, never 500, and nothing is stored."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.kinds.table import KINDS
from jota.meta.resource import CONFIGMAPS
from jota.testing.cluster import ApiServer, story

CM = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
MEDIA = [
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "",
    "application/json; charset=x",
]
PATCHES = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
]
BODIES: list[bytes] = [
    b"",
    b" ",
    b"{",
    b"null",
    b"5",
    b'"x"',
    b"[]",
    b"[{}]",
    b"{}",
    b'{"metadata":5}',
    b'{"metadata":[]}',
    b'{"metadata":{"name":["x"]}}',
    b'{"metadata":{"name":"a","labels":[1]}}',
    b'{"metadata":{"name":"a","ownerReferences":[5]}}',
    b'{"metadata":{"name":"a","ownerReferences":5}}',
    b'{"metadata":{"name":"a","finalizers":[5]}}',
    b'{"metadata":{"name":"a","managedFields":[5]}}',
    b'{"metadata":{"name":"a","managedFields":[{"fieldsV1":5}]}}',
    b'{"metadata":{"name":"\\u0000"}}',
    b'{"metadata":{"name":"../../etc"}}',
    b'{"metadata":{"name":"a"},"spec":5}',
    b'{"metadata":{"name":"a"},"spec":{"containers":5}}',
    b'{"metadata":{"name":"a"},"spec":{"containers":[5]}}',
    b'{"metadata":{"name":"a"},"spec":{"containers":[{"name":{}}]}}',
    b'{"metadata":{"name":"a"},"data":5}',
    b'{"metadata":{"name":"a"},"data":{"k":{}}}',
    b'{"metadata":{"name":"a"},"kind":5}',
    b'{"metadata":{"name":"a"},"apiVersion":{}}',
    b'{"metadata":{"name":"a","resourceVersion":"x"}}',
    b'{"metadata":{"name":"a","resourceVersion":5}}',
    b'{"metadata":{"name":"a","deletionTimestamp":"never"}}',
    b'{"a":' * 3000 + b"1" + b"}" * 3000,
    b"[" * 100_000,
    b"\xff\xfe\x00",
    b"k8s\x00",
    b"k8s\x00\xff\xff\xff\xff\xff",
    b"a: &a [*a]",
    b"a: &a {<<: *a}",
    b"- - - -",
    b"!!python/object/apply:os.system [ls]",
    b'{"metadata":{"name":"a","annotations":{"k":"\xed\xa0\x80"}}}',
]


def check(response: Any, what: object) -> None:
    assert response.status < 500, (what, response.body)
    if response.status >= 400:
        assert orjson.loads(response.body)["code"] == response.status, what


@pytest.mark.parametrize("media", MEDIA)
def test_bodies_of_writes(media: str) -> None:
    async def main() -> None:
        async with ApiServer() as api:
            await api.client.create(CONFIGMAPS, {"metadata": {"name": "there"}}, "default")
            for body in BODIES:
                for method, path in (
                    ("POST", CM),
                    ("POST", PODS),
                    ("PUT", f"{CM}/there"),
                    ("PUT", f"{PODS}/x/status"),
                    ("POST", f"{PODS}/x/binding"),
                    ("POST", f"{PODS}/x/eviction"),
                    ("PUT", "/apis/apps/v1/namespaces/default/deployments/x/scale"),
                    ("PUT", "/api/v1/namespaces/kube-public/finalize"),
                    ("DELETE", f"{CM}/nobody"),
                ):
                    response = await api.request(method, path, body, content_type=media)
                    check(response, (method, path, media, body[:60]))

    asyncio.run(main())


@pytest.mark.parametrize("media", PATCHES)
def test_bodies_of_patches(media: str) -> None:
    async def main() -> None:
        async with ApiServer() as api:
            await api.client.create(CONFIGMAPS, {"metadata": {"name": "there"}, "data": {"k": "v"}}, "default")
            for body in BODIES:
                for query in ("", "fieldManager=m&force=true", "dryRun=All&fieldManager=m&fieldValidation=Strict"):
                    response = await api.request("PATCH", f"{CM}/there?{query}", body, content_type=media)
                    check(response, (media, body[:60]))
            assert (await api.client.get(CONFIGMAPS, "there", "default"))["metadata"]["name"] == "there"

    asyncio.run(main())


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    "metadata",
    "spec",
    "status",
    "data",
    "kind",
    "apiVersion",
    "rules",
    "subsets",
    "stringData",
    "template",
    "subjects",
]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([k for k in KINDS if "create" in k.verbs]),
    st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=4),
)
def test_random_objects_of_every_kind(kind: Any, obj: dict[str, Any]) -> None:
    async def main() -> None:
        async with ApiServer() as api:
            metadata = {"name": "x"} if not isinstance(obj.get("metadata"), dict) else {"name": "x", **obj["metadata"]}
            for sent in (obj, {**obj, "metadata": metadata}):
                try:
                    body = orjson.dumps(sent)
                except TypeError:
                    return  # integers beyond 64 bits cannot be sent by this client
                path = kind.resource.path("default")
                check(await api.request("POST", path, body), (path, sent))
                media = {"content_type": "application/merge-patch+json"}
                check(await api.request("PATCH", f"{path}/x", body, **media), (path, sent))

    asyncio.run(main())


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", ""]),
    st.lists(
        st.sampled_from(
            [
                "api",
                "apis",
                "v1",
                "apps",
                "namespaces",
                "default",
                "pods",
                "x",
                "",
                "status",
                "..",
                "%2F",
                "%zz",
                "watch",
                "proxy",
                "log",
                "exec",
            ]
        ),
        max_size=9,
    ),
    st.text(alphabet="abc=&%;+,()!0123456789", max_size=24),
)
def test_random_paths(method: str, parts: list[str], query: str) -> None:
    async def main() -> None:
        async with ApiServer() as api:
            response = await api.request(method, "/" + "/".join(parts), query=query)
            assert response.status not in (500, 502), (method, parts, query, response.body)

    asyncio.run(main())


@story
async def test_parameters_of_lists(api: ApiServer) -> None:
    for query in (
        "limit=-1",
        "limit=1e9",
        "limit=" + "9" * 40,
        "limit=",
        "limit=1_0",
        "limit=%201",
        "continue=" + "A" * 5000,
        "resourceVersion=-1",
        "resourceVersion=01x",
        "labelSelector=" + "a," * 2000,
        "labelSelector=a%20in%20(",
        "labelSelector=%00",
        "fieldSelector=a",
        "fieldSelector=metadata.name",
        "fieldSelector=%5C",
        "watch=maybe",
        "watch=1&timeoutSeconds=x",
        "watch=1&timeoutSeconds=",
        "timeoutSeconds=" + "9" * 30 + "&watch=1",
        "&".join(f"a{i}=1" for i in range(2000)),
    ):
        response = await api.request("GET", CM, query=query)
        assert 400 <= response.status < 500, (query[:50], response.status, response.body)


@story
async def test_headers(api: ApiServer) -> None:
    for accept in (
        ";;;",
        "application/json;as=Table;v=v9;g=meta.k8s.io",
        "*/*;q=x",
        "application/json;q=0.1;as",
        "a" * 5000,
    ):
        check(await api.request("GET", CM, accept=accept), accept)
    for agent in ("", "\x00", "é" * 300, "x" * 10_000, "/"):
        response = await api.request("POST", CM, {"metadata": {"generateName": "a"}}, user_agent=agent)
        assert response.status == 201, (agent[:10], response.body)
    response = await api.request("POST", CM, {"metadata": {"name": "a"}}, query="fieldManager=" + "x" * 129)
    assert response.status == 422


@story
async def test_a_body_that_is_no_json_is_shown_and_so_is_what_was_awaited(api: ApiServer) -> None:
    must = (
        "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: "
    )
    cases = [
        (b"apiVersion: v1, and so on and on and on", f" ({b'apiVersion: v1, and so on and '.hex()} ...)"),
        (b"hello", " (68656c6c6f)"),
        (b'{"kind":"ConfigMap", oh', ' ({"kind":"ConfigMap", oh)'),
    ]
    for body, shown in cases:
        answer = await api.request("POST", CM, body, content_type="application/json")
        said = orjson.loads(answer.body)
        assert (answer.status, said["reason"]) == (400, "BadRequest")
        assert said["message"].startswith(must)
        assert said["message"].endswith(shown)
