"""Admission plugins: what is added to a write, and what is refused."""

from __future__ import annotations

import ipaddress
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.api.admission.default_tolerations import TAINTS
from jota.api.admission.service_account import PATH, mount
from jota.api.config import ApiConfig
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, ENDPOINTS, ENDPOINTSLICES, PODS, SERVICEACCOUNTS, SERVICES, Resource
from jota.testing.cluster import ApiServer, story

CLASSES = Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", False)


async def pod(api: ApiServer, namespace: str = "default", **spec: Any) -> dict[str, Any]:
    containers = spec.pop("containers", [{"name": "c", "image": "i"}])
    obj = {"metadata": {"generateName": "p-"}, "spec": {"containers": containers, **spec}}
    return (await api.client.create(PODS, obj, namespace))["spec"]  # type: ignore[no-any-return]


@story
async def test_nothing_is_created_in_a_namespace_that_is_not_there(api: ApiServer) -> None:
    with pytest.raises(ApiError, match='namespaces "none" not found') as refused:
        await api.client.create(CONFIGMAPS, {"metadata": {"name": "a"}}, "none")
    assert refused.value.code == 404


@story
async def test_pods_get_an_account_and_its_volume(api: ApiServer) -> None:
    spec = await pod(api)
    assert spec["serviceAccountName"] == spec["serviceAccount"] == "default"
    (volume,) = spec["volumes"]
    assert volume["name"].startswith("kube-api-access-")
    assert len(volume["name"]) == len("kube-api-access-12345")
    sources = volume["projected"]["sources"]
    assert sources[0]["serviceAccountToken"] == {"expirationSeconds": 3607, "path": "token"}
    assert sources[1]["configMap"]["name"] == "kube-root-ca.crt"
    assert volume["projected"]["defaultMode"] == 420
    assert spec["containers"][0]["volumeMounts"] == [{"name": volume["name"], "readOnly": True, "mountPath": PATH}]


@story
async def test_the_pods_wish_not_to_have_a_token_counts_first(api: ApiServer) -> None:
    quiet = {"metadata": {"name": "quiet"}, "automountServiceAccountToken": False, "imagePullSecrets": [{"name": "s"}]}
    await api.client.create(SERVICEACCOUNTS, quiet, "default")
    assert "volumes" not in await pod(api, serviceAccountName="quiet")
    assert "volumes" in await pod(api, serviceAccountName="quiet", automountServiceAccountToken=True)
    assert "volumes" not in await pod(api, automountServiceAccountToken=False)
    assert (await pod(api, serviceAccountName="quiet"))["imagePullSecrets"] == [{"name": "s"}]
    with pytest.raises(ApiError, match="error looking up service account default/none"):
        await pod(api, serviceAccountName="none")


def test_a_container_that_mounts_something_there_keeps_it() -> None:
    spec = {"containers": [{"name": "c", "volumeMounts": [{"name": "own", "mountPath": PATH}]}]}
    mount(spec)
    assert "volumes" not in spec


@story
async def test_tolerations_for_five_minutes(api: ApiServer) -> None:
    assert [(t["key"], t["tolerationSeconds"]) for t in (await pod(api))["tolerations"]] == [(t, 300) for t in TAINTS]
    own = {"key": TAINTS[0], "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
    assert [t["tolerationSeconds"] for t in (await pod(api, tolerations=[own]))["tolerations"]] == [5, 300]
    assert len((await pod(api, tolerations=[{"operator": "Exists"}]))["tolerations"]) == 1


@story
async def test_priorities(api: ApiServer) -> None:
    assert ((await pod(api))["priority"], (await pod(api))["preemptionPolicy"]) == (0, "PreemptLowerPriority")
    assert (await pod(api, "kube-system", priorityClassName="system-node-critical"))["priority"] == 2_000_001_000
    high = {"metadata": {"name": "high"}, "value": 7, "globalDefault": True, "preemptionPolicy": "Never"}
    await api.client.create(CLASSES, high)
    spec = await pod(api)
    assert (spec["priorityClassName"], spec["priority"], spec["preemptionPolicy"]) == ("high", 7, "Never")
    with pytest.raises(ApiError, match="no PriorityClass with name none was found"):
        await pod(api, priorityClassName="none")
    with pytest.raises(ApiError, match="the integer value of priority"):
        await pod(api, priority=3)
    with pytest.raises(ApiError, match="Only one default can exist"):
        await api.client.create(CLASSES, {**high, "metadata": {"name": "other"}})


@story
async def test_runtime_classes(api: ApiServer) -> None:
    with pytest.raises(ApiError, match='pod rejected: RuntimeClass "none" not found') as refused:
        await pod(api, runtimeClassName="none")
    assert refused.value.code == 403
    taint = {"key": "k", "operator": "Exists", "effect": "NoSchedule"}
    made = {
        "metadata": {"name": "r"},
        "handler": "h",
        "overhead": {"podFixed": {"cpu": "10m"}},
        "scheduling": {"nodeSelector": {"a": "b"}, "tolerations": [taint]},
    }
    await api.client.create(Resource("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", False), made)
    spec = await pod(api, runtimeClassName="r", nodeSelector={"x": "y"})
    assert (spec["overhead"], spec["nodeSelector"]) == ({"cpu": "10m"}, {"x": "y", "a": "b"})
    assert taint in spec["tolerations"]
    with pytest.raises(ApiError, match="conflict"):
        await pod(api, runtimeClassName="r", nodeSelector={"a": "c"})


# -- service addresses


async def service(api: ApiServer, name: str, **spec: Any) -> dict[str, Any]:
    spec.setdefault("ports", [{"port": 80}])
    return (await api.client.create(SERVICES, {"metadata": {"name": name}, "spec": spec}, "default"))["spec"]  # type: ignore[no-any-return]


@story
async def test_every_service_has_an_address_of_its_own(api: ApiServer) -> None:
    made = [await service(api, f"s{i}") for i in range(50)]
    addresses = {s["clusterIP"] for s in made}
    assert len(addresses) == 50
    assert all(ipaddress.ip_address(a) in ipaddress.ip_network("10.96.0.0/12") for a in addresses)
    assert all((s["clusterIPs"], s["ipFamilies"]) == ([s["clusterIP"]], ["IPv4"]) for s in made)
    assert all(s["ipFamilyPolicy"] == "SingleStack" for s in made)


@story
async def test_headless_and_external_services_need_none(api: ApiServer) -> None:
    headless = await service(api, "h", clusterIP="None")
    assert (headless["clusterIP"], headless["clusterIPs"]) == ("None", ["None"])
    external = await service(api, "e", type="ExternalName", externalName="example.com")
    assert not {"clusterIP", "clusterIPs", "ipFamilies"} & set(external)


@story
async def test_fixed_addresses_and_ports_are_given_once_and_come_back(api: ApiServer) -> None:
    fixed = {"clusterIP": "10.96.0.10", "type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}
    await service(api, "a", **fixed)
    with pytest.raises(ApiError) as refused:
        await service(api, "b", **fixed)
    assert [c.field for c in refused.value.causes] == ["spec.clusterIPs", "spec.ports[0].nodePort"]
    await api.client.delete(SERVICES, "a", "default")
    assert (await service(api, "b", **fixed))["clusterIP"] == "10.96.0.10"
    for bad in (
        {"clusterIP": "192.168.0.1"},
        {"clusterIP": "x"},
        {"type": "NodePort", "ports": [{"port": 1, "nodePort": 80}]},
    ):
        with pytest.raises(ApiError) as refused:
            await service(api, "c", **bad)
        assert refused.value.code == 422


@story
async def test_types_may_change(api: ApiServer) -> None:
    first = await service(api, "s", type="NodePort")
    port = first["ports"][0]["nodePort"]
    assert 30000 <= port <= 32767
    patch = api.client.patch
    same = (await patch(SERVICES, "s", "default", {"spec": {"selector": {"a": "b"}}}))["spec"]
    assert (same["clusterIP"], same["ports"]) == (first["clusterIP"], first["ports"])
    plain = (await patch(SERVICES, "s", "default", {"spec": {"type": "ClusterIP"}}))["spec"]
    assert "nodePort" not in plain["ports"][0]
    assert (await service(api, "t", type="NodePort", ports=[{"port": 1, "nodePort": port}]))["ports"][0][
        "nodePort"
    ] == port
    out = (await patch(SERVICES, "s", "default", {"spec": {"type": "ExternalName", "externalName": "x.y"}}))["spec"]
    assert "clusterIP" not in out
    back = (await patch(SERVICES, "s", "default", {"spec": {"type": "ClusterIP", "externalName": None}}))["spec"]
    assert back["clusterIP"]


@story
async def test_dry_runs_take_nothing(api: ApiServer) -> None:
    body = {"metadata": {"name": "d"}, "spec": {"clusterIP": "10.96.0.11", "ports": [{"port": 1}]}}
    assert (await api.request("POST", "/api/v1/namespaces/default/services?dryRun=All", body)).status == 201
    assert (await service(api, "s", clusterIP="10.96.0.11"))["clusterIP"] == "10.96.0.11"


@story
async def test_one_number_for_two_protocols(api: ApiServer) -> None:
    ports = [
        {"name": "t", "port": 53, "protocol": "TCP", "nodePort": 30053},
        {"name": "u", "port": 53, "protocol": "UDP", "nodePort": 30053},
    ]
    assert [p["nodePort"] for p in (await service(api, "s", type="NodePort", ports=ports))["ports"]] == [30053, 30053]


def test_a_small_range_is_used_up_and_then_refused() -> None:
    import asyncio

    async def main() -> None:
        async with ApiServer(config=ApiConfig(service_cidr="10.0.0.0/29")) as api:
            seen = {(await service(api, f"s{i}"))["clusterIP"] for i in range(5)}
            assert seen == {f"10.0.0.{i}" for i in range(2, 7)}  # the first is default/kubernetes
            with pytest.raises(ApiError, match="range is full"):
                await service(api, "more")

    asyncio.run(main())


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(["create", "delete", "node", "external", "cluster"]), max_size=25), st.integers(0, 99))
def test_no_address_is_ever_given_twice(steps: list[str], seed: int) -> None:
    """Property: whatever is done to services, no two of them hold one address or port."""
    import asyncio

    async def main() -> None:
        random = Random(seed)
        async with ApiServer(seed=seed, config=ApiConfig(service_cidr="10.0.0.0/27", node_ports=(30000, 30020))) as api:
            for i, step in enumerate(steps):
                names = [s["metadata"]["name"] for s in (await api.client.list(SERVICES, "default"))["items"]][1:]
                if step == "create" or not names:
                    await service(api, f"s{i}")
                    continue
                name = random.choice(names)
                if step == "delete":
                    await api.client.delete(SERVICES, name, "default")
                    continue
                kind = {"node": "NodePort", "external": "ExternalName", "cluster": "ClusterIP"}[step]
                await api.client.patch(SERVICES, name, "default", {"spec": {"type": kind, "externalName": "x.y"}})
            items = (await api.client.list(SERVICES, "default"))["items"]
            held = [s["spec"].get("clusterIP") for s in items if s["spec"].get("clusterIP")]
            held += [p["nodePort"] for s in items for p in s["spec"].get("ports", ()) if "nodePort" in p]
            assert len(held) == len(set(held))

    asyncio.run(main())


def test_the_api_is_a_service_with_endpoints() -> None:
    import asyncio

    async def main() -> None:
        config = ApiConfig(advertise_address="192.0.2.1", advertise_port=6443)
        async with ApiServer(config=config) as api:
            made = await api.client.get(SERVICES, "kubernetes", "default")
            assert made["spec"]["clusterIP"] == "10.96.0.1"
            endpoints = await api.client.get(ENDPOINTS, "kubernetes", "default")
            assert endpoints["subsets"][0]["addresses"] == [{"ip": "192.0.2.1"}]
            slice_ = await api.client.get(ENDPOINTSLICES, "kubernetes", "default")
            assert slice_["endpoints"][0]["addresses"] == ["192.0.2.1"]
            assert slice_["ports"] == [{"name": "https", "port": 6443, "protocol": "TCP"}]
            before = api.store.revision
            from jota.api import bootstrap

            await bootstrap.run(api.api)  # a second start changes nothing
            assert api.store.revision == before

    asyncio.run(main())
