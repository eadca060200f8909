"""--runtime-config: what is served and what is not, further versions of the same objects, and keys that are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from jota.api.config import ApiConfig
from jota.api.runtime_config import BadRuntimeConfig, left_out, parse
from jota.kinds.prerelease import ABSENT, VERSIONS
from jota.kinds.table import KINDS, OLDER, STABLE, YOUNG
from jota.meta import schema
from jota.meta.errors import ApiError
from jota.meta.resource import Resource
from jota.testing.cluster import ApiServer, Watching

RULES = Resource("resource.k8s.io", "v1", "devicetaintrules", "DeviceTaintRule", False)
BETA, ALPHA = RULES._replace(version="v1beta2"), RULES._replace(version="v1alpha3")
POLICIES = Resource(
    "admissionregistration.k8s.io", "v1beta1", "mutatingadmissionpolicies", "MutatingAdmissionPolicy", False
)


def served(config: str) -> set[str]:
    """Group versions."""
    wanted = ApiConfig(runtime_config=parse(config))
    return {k.resource.api_version for k in KINDS if wanted.serves(k)}


def test_beta_and_alpha_are_off_until_somebody_asks() -> None:
    plain = served("")
    assert plain == {k.resource.api_version for k in STABLE}
    assert served("api/beta=true") - plain == {
        "admissionregistration.k8s.io/v1beta1",
        "certificates.k8s.io/v1beta1",
        "coordination.k8s.io/v1beta1",
        "resource.k8s.io/v1beta1",
        "resource.k8s.io/v1beta2",
        "scheduling.k8s.io/v1beta1",
        "storagemigration.k8s.io/v1beta1",
    }
    assert served("api/alpha") - plain == {
        "admissionregistration.k8s.io/v1alpha1",
        "coordination.k8s.io/v1alpha2",
        "lifecycle.k8s.io/v1alpha1",
        "resource.k8s.io/v1alpha3",
    }
    assert served("api/all=true") == {k.resource.api_version for k in KINDS}
    assert served("resource.k8s.io/v1beta2=1") - plain == {"resource.k8s.io/v1beta2"}


def test_the_more_exact_key_wins_wherever_it_stands() -> None:
    for config in ("api/all=true,resource.k8s.io/v1beta2=false", "resource.k8s.io/v1beta2=false,api/all=true"):
        assert "resource.k8s.io/v1beta2" not in served(config)
        assert "certificates.k8s.io/v1beta1" in served(config)
    one = ApiConfig(runtime_config=parse("resource.k8s.io/v1beta2/resourceslices=true"))
    assert [k.resource.plural for k in KINDS if one.serves(k) and k.stability != "stable"] == ["resourceslices"]
    off = served("apps/v1=false, batch/v1=f,")
    assert {"apps/v1", "batch/v1"} & off == set()
    alone = served("api/ga=false,v1=true,rbac.authorization.k8s.io/v1=true,apps/v1=true")
    assert alone == {"v1", "rbac.authorization.k8s.io/v1", "apps/v1"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("apps/v1=maybe", "apps/v1=maybe: give true or false"),
        ("api/gamma=true", "api/gamma: there is no such stage; there are api/all, api/alpha, api/beta, api/ga"),
        ("beta=true", "beta: give a group with a version, as in apps/v1, or a stage, as in api/beta"),
        ("aps/v1=false", "aps/v1: this server has no API group aps"),
        (
            "resource.k8s.io/v1alpha1=true",
            "resource.k8s.io/v1alpha1: this server has no version v1alpha1 of resource.k8s.io; it has v1, v1alpha3, "
            "v1beta1, v1beta2",
        ),
        ("scheduling.k8s.io/v1alpha3", "scheduling.k8s.io/v1alpha3: this server has no version v1alpha3"),
        (
            "certificates.k8s.io/v1beta1/podcertificaterequests=true",
            "certificates.k8s.io/v1beta1/podcertificaterequests: this server has no podcertificaterequests in "
            "certificates.k8s.io/v1beta1; it has clustertrustbundles",
        ),
        ("v1=false", "cannot be switched off: the server itself needs v1 and rbac.authorization.k8s.io/v1"),
        ("api/all=false", "cannot be switched off: the server itself needs v1"),
    ],
)
def test_what_there_is_not_is_refused_by_name(config: str, message: str) -> None:
    with pytest.raises(BadRuntimeConfig) as caught:
        parse(config)
    assert message in str(caught.value)


def test_a_whole_stage_says_what_it_leaves_out() -> None:
    assert left_out({}) == []
    assert left_out(parse("api/all=true")) == list(ABSENT)
    beta = left_out(parse("api/beta=true"))
    assert "certificates.k8s.io/v1beta1/podcertificaterequests" in beta
    assert not any("alpha" in name for name in beta)
    assert left_out(parse("certificates.k8s.io/v1beta1=true")) == ["certificates.k8s.io/v1beta1/podcertificaterequests"]


def test_every_group_version_of_the_release_is_served_or_named() -> None:
    """The schema knows what this release of Kubernetes has; nothing of it is forgotten silently."""
    ours = {(k.resource.group, k.resource.version, k.resource.kind) for k in KINDS}
    absent = {tuple(name.split("/")[:2]) for name in ABSENT}
    for name in schema.names():
        for gvk in (schema.source(name) or {}).get("x-kubernetes-group-version-kind") or ():
            group, version, kind = gvk["group"], gvk["version"], gvk["kind"]
            shared = kind.endswith("List") or kind in ("DeleteOptions", "WatchEvent")
            if group and not shared and ("alpha" in version or "beta" in version):
                assert (group, version, kind) in ours or (group, version) in absent, gvk


@pytest.mark.parametrize("kind", KINDS[len(STABLE + YOUNG + OLDER) :], ids=lambda k: k.resource.api_version)
def test_a_further_version_has_the_fields_of_the_stable_one(kind: Any) -> None:
    def shape(name: str, above: tuple[str, ...] = ()) -> Any:
        found = schema.source(name)
        return node(found, (*above, name)) if found is not None and name not in above else name

    def node(value: Any, above: tuple[str, ...]) -> Any:
        if "$ref" in value:
            target = value["$ref"].rpartition("/")[2]
            return shape(target, above) if target.startswith("io.k8s.api.") else target
        out = {k: value[k] for k in ("type", "format", "required") if k in value}
        own = {k: v for k, v in value.get("properties", {}).items() if k not in ("apiVersion", "kind")}
        out["fields"] = {k: node(v, above) for k, v in own.items()}
        for key in ("items", "additionalProperties"):
            if isinstance(value.get(key), dict):
                out[key] = node(value[key], above)
        return out

    stable = next(k for k in STABLE + YOUNG if k.resource == kind.storage)
    assert kind.schema != stable.schema
    assert schema.source(kind.schema) is not None
    assert shape(kind.schema) == shape(stable.schema)


def test_each_listed_version_is_there() -> None:
    assert sum(len(plurals) for _, _, plurals in VERSIONS) == len(KINDS) - len(STABLE + YOUNG + OLDER)


# --- over the API ----------------------------------------------------------------------------------------------------------


def with_config(config: str) -> Callable[[Callable[[ApiServer], Awaitable[None]]], Callable[[], None]]:
    def decorate(tale: Callable[[ApiServer], Awaitable[None]]) -> Callable[[], None]:
        def test() -> None:
            async def run() -> None:
                async with ApiServer(
                    config=ApiConfig(runtime_config=parse(config), advertise_address="10.0.0.1")
                ) as api:
                    await tale(api)

            asyncio.run(run())

        test.__name__ = tale.__name__
        return test

    return decorate


async def get(api: ApiServer, path: str) -> tuple[int, dict[str, Any]]:
    response = await api.request("GET", path)
    return response.status, orjson.loads(response.body if isinstance(response.body, bytes) else b"".join(response.body))


def rule(effect: str = "None") -> dict[str, Any]:
    return {"metadata": {"name": "r"}, "spec": {"taint": {"key": "a", "effect": effect}}}


@with_config("api/beta=true,api/alpha=true")
async def test_one_object_in_several_versions(api: ApiServer) -> None:
    async with Watching(api, f"{ALPHA.path()}?watch=1") as alpha, Watching(api, f"{RULES.path()}?watch=1") as stable:
        made = await api.client.create(BETA, rule())
        assert made["apiVersion"] == "resource.k8s.io/v1beta2"
        for resource in (RULES, BETA, ALPHA):
            found = await api.client.get(resource, "r")
            assert (found["apiVersion"], found["metadata"]) == (resource.api_version, made["metadata"])
            listed = await api.client.list(resource, fields="metadata.name=r")
            assert [i["metadata"]["uid"] for i in listed["items"]] == [made["metadata"]["uid"]]
        await api.client.patch(ALPHA, "r", "", {"spec": {"taint": {"effect": "NoExecute"}}})
        about = {
            "type": "A",
            "status": "True",
            "reason": "R",
            "message": "",
            "lastTransitionTime": made["metadata"]["creationTimestamp"],
        }
        seen = await api.client.get(RULES, "r")
        await api.client.update(RULES, {**seen, "status": {"conditions": [about]}}, "status")
        wanted = {"apiVersion": BETA.api_version, "kind": BETA.kind, **rule("NoSchedule")}
        applied = await api.client.patch(BETA, "r", "", wanted, "apply", manager="m", force=True)
        assert applied["spec"]["taint"]["effect"] == "NoSchedule"
        await api.client.delete(BETA, "r")
        await api.settle()
        kinds = [t for t, _ in stable.events]
        assert kinds == [t for t, _ in alpha.events] == ["ADDED", "MODIFIED", "MODIFIED", "MODIFIED", "DELETED"]
        assert {o["apiVersion"] for _, o in alpha.events} == {"resource.k8s.io/v1alpha3"}
    _, found = await get(api, "/apis/resource.k8s.io")
    assert [v["version"] for v in found["versions"]] == ["v1", "v1beta2", "v1beta1", "v1alpha3"]
    assert found["preferredVersion"]["version"] == "v1"
    _, found = await get(api, "/apis/resource.k8s.io/v1beta2")
    assert "devicetaintrules/status" in [r["name"] for r in found["resources"]]
    status_, document = await get(api, "/openapi/v3/apis/resource.k8s.io/v1beta2")
    assert status_ == 200
    assert "io.k8s.api.resource.v1beta2.DeviceTaintRule" in document["components"]["schemas"]
    policy = {"metadata": {"name": "p"}, "spec": {"reinvocationPolicy": "Never"}}
    with pytest.raises(ApiError, match=r"spec\.mutations: Required value"):
        await api.client.create(POLICIES, policy)


@with_config("resource.k8s.io/v1=false,resource.k8s.io/v1beta2=true")
async def test_a_version_alone_without_the_stable_one(api: ApiServer) -> None:
    await api.client.create(BETA, rule())
    assert (await api.client.get(BETA, "r"))["spec"]["taint"]["effect"] == "None"
    assert (await get(api, RULES.path()))[0] == 404
    _, found = await get(api, "/apis/resource.k8s.io")
    assert [v["version"] for v in found["versions"]] == ["v1beta2"]


@with_config(
    "storage.k8s.io/v1=false,scheduling.k8s.io/v1=false,discovery.k8s.io/v1=false,authentication.k8s.io/v1=false,batch/v1=false"
)
async def test_a_group_that_is_switched_off_is_not_there(api: ApiServer) -> None:
    _, groups = await get(api, "/apis")
    names = {g["name"] for g in groups["groups"]}
    assert {
        "storage.k8s.io",
        "batch",
        "discovery.k8s.io",
        "scheduling.k8s.io",
        "authentication.k8s.io",
    } & names == set()
    for path in ("/apis/batch/v1", "/apis/batch", "/apis/batch/v1/namespaces/default/jobs"):
        assert (await get(api, path))[0] == 404, path
    _, document = await get(api, "/openapi/v2")
    assert not any(name.startswith("io.k8s.api.batch.") for name in document["definitions"])
    made = await api.client.create(
        Resource("", "v1", "pods", "Pod"),
        {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        "default",
    )
    assert made["spec"]["priority"] == 0
    assert (await get(api, POLICIES.path()))[0] == 404, "beta is off"


@with_config("")
async def test_the_parts_of_the_control_plane(api: ApiServer) -> None:
    api.api.components["scheduler"] = lambda: False
    response = await api.request("GET", "/api/v1/componentstatuses")
    assert ("Warning", '299 - "v1 ComponentStatus is deprecated in v1.19+"') in response.headers
    _, found = await get(api, "/api/v1/componentstatuses")
    assert [(i["metadata"]["name"], i["conditions"][0]["status"]) for i in found["items"]] == [
        ("etcd-0", "True"),
        ("scheduler", "False"),
    ]
    assert all(i["metadata"].keys() == {"name"} for i in found["items"]), "a null is no time"
    _, one = await get(api, "/api/v1/componentstatuses?fieldSelector=metadata.name=scheduler")
    assert [i["metadata"]["name"] for i in one["items"]] == ["scheduler"]
    assert (await get(api, "/api/v1/componentstatuses/etcd-0"))[1]["conditions"][0]["message"] == "ok"
    assert (await get(api, "/api/v1/componentstatuses/other"))[0] == 404
    table = await api.request("GET", "/api/v1/componentstatuses", accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    assert isinstance(table.body, bytes)
    assert [r["cells"] for r in orjson.loads(table.body)["rows"]] == [
        ["etcd-0", "Healthy", "ok", ""],
        ["scheduler", "Unhealthy", "it does not run", "stopped"],
    ]
    assert (await api.request("DELETE", "/api/v1/componentstatuses/etcd-0")).status == 405
