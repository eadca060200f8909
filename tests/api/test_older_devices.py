"""resource.k8s.io/v1beta1: requests without `exactly`, devices with `basic`; the same objects as in v1."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jota.api.config import ApiConfig
from jota.kinds.resource.v1beta1 import KINDS
from jota.meta.errors import ApiError
from jota.meta.resource import Resource
from jota.testing.cluster import ApiServer, Watching, story_in

Object = dict[str, Any]


def resource(plural: str, kind: str, version: str, namespaced: bool = True) -> Resource:
    return Resource("resource.k8s.io", version, plural, kind, namespaced)


CLAIMS, OLD_CLAIMS = (resource("resourceclaims", "ResourceClaim", v) for v in ("v1", "v1beta1"))
TEMPLATES, OLD_TEMPLATES = (resource("resourceclaimtemplates", "ResourceClaimTemplate", v) for v in ("v1", "v1beta1"))
SLICES, OLD_SLICES = (resource("resourceslices", "ResourceSlice", v, False) for v in ("v1", "v1beta1"))
CLASSES, OLD_CLASSES = (resource("deviceclasses", "DeviceClass", v, False) for v in ("v1", "v1beta1"))
CHOICE = {"name": "small", "deviceClassName": "gpu.example.com"}


story = story_in(lambda: ApiServer(config=ApiConfig(runtime_config={"resource.k8s.io/v1beta1": True})))


def requests(obj: Object) -> Any:
    spec = obj["spec"].get("spec", obj["spec"])
    return spec["devices"]["requests"]


@story
async def test_a_request_is_flat_in_one_and_exact_in_the_other(api: ApiServer) -> None:
    selector = {"cel": {"expression": "device.driver == 'gpu.example.com'"}}
    flat = {"name": "gpu", "deviceClassName": "gpu.example.com", "selectors": [selector], "adminAccess": None}
    either = {"name": "any", "firstAvailable": [CHOICE]}
    for old, new, wrap in (
        (OLD_CLAIMS, CLAIMS, lambda s: s),
        (OLD_TEMPLATES, TEMPLATES, lambda s: {"spec": s}),
    ):
        body = {"metadata": {"name": "c"}, "spec": wrap({"devices": {"requests": [flat, either]}})}
        made = await api.client.create(old, copy.deepcopy(body), "default")
        exact = {
            "deviceClassName": "gpu.example.com",
            "selectors": [selector],
            "allocationMode": "ExactCount",
            "count": 1,
        }
        assert requests(made) == [
            {"name": "gpu", **exact},
            {"name": "any", "firstAvailable": [{**CHOICE, "allocationMode": "ExactCount", "count": 1}]},
        ]
        seen = await api.client.get(new, "c", "default")
        assert requests(seen)[0] == {"name": "gpu", "exactly": exact}
        assert requests(seen)[1] == requests(made)[1]
        assert (seen["apiVersion"], seen["metadata"]["uid"]) == ("resource.k8s.io/v1", made["metadata"]["uid"])
        listed = await api.client.list(old, "default")
        assert requests(listed["items"][0]) == requests(made)
        same = await api.client.update(old, made)
        assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"], "nothing changed"
        with pytest.raises(ApiError, match="field is immutable"):
            await api.client.patch(old, "c", "default", {"spec": wrap({"devices": {"requests": [{"name": "x"}]}})})


@story
async def test_what_is_made_in_v1_is_watched_in_v1beta1(api: ApiServer) -> None:
    path = f"{OLD_CLAIMS.path('default')}?watch=1"
    async with Watching(api, path) as older:
        exactly = {"deviceClassName": "gpu.example.com", "allocationMode": "All"}
        spec = {"devices": {"requests": [{"name": "r", "exactly": exactly}]}}
        claim = await api.client.create(CLAIMS, {"metadata": {"name": "c"}, "spec": spec}, "default")
        result = {"request": "r", "driver": "d.example.com", "pool": "p", "device": "gpu-0"}
        claim["status"] = {"allocation": {"devices": {"results": [result]}}}
        await api.client.update(CLAIMS, claim, subresource="status")
        await api.client.patch(OLD_CLAIMS, "c", "default", {"metadata": {"labels": {"a": "b"}}})
        await api.settle()
        kinds = [kind for kind, _ in older.events]
        assert kinds == ["ADDED", "MODIFIED", "MODIFIED"]
        for _, seen in older.events:
            assert seen["apiVersion"] == "resource.k8s.io/v1beta1"
            assert requests(seen) == [{"name": "r", **exactly}]
        assert older.events[-1][1]["status"]["allocation"]["devices"]["results"] == [result]
    live = await api.client.get(CLAIMS, "c", "default")
    assert live["spec"] == spec
    assert live["metadata"]["labels"] == {"a": "b"}


@story
async def test_devices_of_a_slice_are_basic(api: ApiServer) -> None:
    pool = {"name": "p", "generation": 1, "resourceSliceCount": 1}
    about = {"attributes": {"model": {"string": "x"}}, "capacity": {"memory": {"value": "8Gi"}}}
    spec = {"driver": "d.example.com", "nodeName": "n", "pool": pool}
    body = {"metadata": {"name": "s"}, "spec": {**spec, "devices": [{"name": "gpu-0", "basic": about}]}}
    made = await api.client.create(OLD_SLICES, body)
    assert made["spec"]["devices"] == [{"name": "gpu-0", "basic": about}]
    seen = await api.client.get(SLICES, "s")
    assert seen["spec"]["devices"] == [{"name": "gpu-0", **about}]
    chosen = await api.client.list(OLD_SLICES, fields="spec.nodeName=n")
    assert [s["metadata"]["name"] for s in chosen["items"]] == ["s"]
    seen["spec"]["devices"].append({"name": "gpu-1"})
    await api.client.update(SLICES, seen)
    older = await api.client.get(OLD_SLICES, "s")
    assert older["spec"]["devices"][1] == {"name": "gpu-1", "basic": {}}
    assert older["metadata"]["generation"] == 2


@story
async def test_errors_name_the_fields_of_the_version_that_was_written(api: ApiServer) -> None:
    wrong = {"name": "r", "allocationMode": "All", "selectors": [{"cel": {"expression": "1 +"}}]}
    for old, new, path, wrap in (
        (OLD_CLAIMS, CLAIMS, "spec", lambda s: s),
        (OLD_TEMPLATES, TEMPLATES, "spec.spec", lambda s: {"spec": s}),
    ):
        at = f"{path}.devices.requests[0]"
        for target, request, inner in (
            (old, wrong, ""),
            (new, {"name": "r", "exactly": {k: v for k, v in wrong.items() if k != "name"}}, ".exactly"),
        ):
            body = {"metadata": {"name": "c"}, "spec": wrap({"devices": {"requests": [request]}})}
            with pytest.raises(ApiError) as refused:
                await api.client.create(target, body, "default")
            assert {c.field for c in refused.value.causes} == {
                f"{at}{inner}.deviceClassName",
                f"{at}{inner}.selectors[0].cel.expression",
            }
    mixed = {"metadata": {"name": "c"}, "spec": {"devices": {"requests": [{"name": "r", "exactly": CHOICE}]}}}
    response = await api.request(
        "POST", OLD_CLAIMS.path("default"), mixed, query="fieldValidation=Strict", content_type="application/json"
    )
    assert response.status == 400
    assert b'unknown field \\"spec.devices.requests[0].exactly\\"' in response.body  # type: ignore[operator]


@story
async def test_server_side_apply_in_the_older_version(api: ApiServer) -> None:
    body = {
        "apiVersion": "resource.k8s.io/v1beta1",
        "kind": "ResourceClaim",
        "metadata": {"name": "c"},
        "spec": {"devices": {"requests": [{"name": "r", "deviceClassName": "gpu.example.com"}]}},
    }
    for _ in range(2):
        made = await api.client.patch(OLD_CLAIMS, "c", "default", body, type="apply", manager="m")
    assert requests(made)[0]["deviceClassName"] == "gpu.example.com"
    (owner,) = made["metadata"]["managedFields"]
    assert owner["apiVersion"] == "resource.k8s.io/v1beta1"
    assert owner["fieldsV1"]["f:spec"] == {"f:devices": {"f:requests": {}}}, "requests are one field, in any version"


@story
async def test_classes_have_one_shape(api: ApiServer) -> None:
    spec = {"selectors": [{"cel": {"expression": "device.driver == 'x'"}}]}
    await api.client.create(OLD_CLASSES, {"metadata": {"name": "c.example.com"}, "spec": spec})
    assert (await api.client.get(CLASSES, "c.example.com"))["spec"] == spec


WORDS = st.sampled_from(
    ["name", "deviceClassName", "count", "exactly", "firstAvailable", "basic", "attributes", "devices"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.resource.plural)
@given(items=st.lists(st.dictionaries(WORDS, VALUES, max_size=4) | VALUES, max_size=3))
def test_nothing_is_lost_between_the_versions(kind: Any, items: list[Any]) -> None:
    """What v1beta1 can say survives the way through v1; what is not an object stays as it is; the given object is not changed."""
    path = {"resourceclaims": ("devices", "requests"), "resourceclaimtemplates": ("spec", "devices", "requests")}
    items = [{k: v for k, v in i.items() if k != "exactly"} if isinstance(i, dict) else i for i in items]
    if kind.resource.plural == "resourceslices":
        items = [
            {"name": "n", "basic": {k: v for k, v in i.items() if k != "name"}} if isinstance(i, dict) else i
            for i in items
        ]
    spec: Any = items
    for key in reversed(path.get(kind.resource.plural, ("devices",))):
        spec = {key: spec}
    obj = {"apiVersion": "resource.k8s.io/v1beta1", "kind": kind.resource.kind, "metadata": {"name": "x"}, "spec": spec}
    before = copy.deepcopy(obj)
    stored = dict(obj)
    kind.to_storage(stored)
    assert obj == before
    assert stored["apiVersion"] == "resource.k8s.io/v1"
    kind.from_storage(stored)
    assert {**stored, "apiVersion": obj["apiVersion"]} == before
