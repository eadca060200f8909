"""Tier 0 of the conformance suite, row by row: objects whose whole story is the API server's.

Each test is named after its row in the list of capabilities. Beside it: test_tier0_machinery.py (discovery, watches, chunks,
events), test_tier0_custom.py (definitions), test_tier0_access.py (who may), test_tier0_resources.py (every kind's life).
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from jota.api.config import ApiConfig
from jota.testing.cluster import ApiServer, Watching, story

CORE = "/api/v1/namespaces/default"
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
WHEN = "2026-01-01T00:00:00Z"
POD = {"containers": [{"name": "c", "image": "i"}]}


async def do(api: ApiServer, method: str, path: str, body: Any = b"", **headers: str) -> tuple[int, Any]:
    response = await api.request(method, path, body, **headers)
    data = response.body if isinstance(response.body, bytes) else b"".join(response.body)
    return response.status, orjson.loads(data)


async def ok(api: ApiServer, method: str, path: str, body: Any = b"", **headers: str) -> Any:
    status, data = await do(api, method, path, body, **headers)
    assert status in (200, 201), (method, path, data)
    return data


async def merged(api: ApiServer, path: str, body: Any) -> Any:
    return await ok(api, "PATCH", path, body, content_type=MERGE)


async def gone(api: ApiServer, path: str) -> None:
    assert (await do(api, "GET", path))[0] == 404


@story
async def test_api_flowcontrol(api: ApiServer) -> None:
    group = "/apis/flowcontrol.apiserver.k8s.io/v1"
    for plural, spec, changed in (
        (
            "flowschemas",
            {"matchingPrecedence": 10000, "priorityLevelConfiguration": {"name": "global-default"}},
            "matchingPrecedence",
        ),
        (
            "prioritylevelconfigurations",
            {"type": "Limited", "limited": {"nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}}},
            "",
        ),
    ):
        where = f"{group}/{plural}"
        async with Watching(api, f"{where}?watch=1&labelSelector=e2e%3Dyes") as watching:
            await ok(api, "POST", where, {"metadata": {"name": "f", "labels": {"e2e": "yes"}}, "spec": spec})
            await merged(api, f"{where}/f", {"metadata": {"annotations": {"patched": "true"}}})
            if changed:
                assert (await merged(api, f"{where}/f", {"spec": {changed: 9999}}))["spec"][changed] == 9999
            condition = {"type": "e2e", "status": "True", "reason": "r", "message": "m", "lastTransitionTime": WHEN}
            told = await merged(api, f"{where}/f/status", {"status": {"conditions": [condition]}})
            assert told["status"]["conditions"] == [condition]
            told["status"]["conditions"][0]["message"] = "put"
            assert (await ok(api, "PUT", f"{where}/f/status", told))["status"]["conditions"][0]["message"] == "put"
            await ok(api, "DELETE", f"{where}?labelSelector=e2e%3Dyes")
            await api.settle()
            types = [kind for kind, _ in watching.events]
            assert (types[0], types[-1]) == ("ADDED", "DELETED")
        await gone(api, f"{where}/f")


@story
async def test_api_configmap_and_secret(api: ApiServer) -> None:
    for plural in ("configmaps", "secrets"):
        where = f"{CORE}/{plural}"
        assert (await do(api, "POST", where, {"metadata": {"name": "e"}, "data": {"": "dg=="}}))[0] == 422
        await ok(api, "POST", where, {"metadata": {"name": "m", "labels": {"t": plural}}, "data": {"k": "dg=="}})
        got = await ok(api, "GET", f"{where}/m")
        got["data"]["k"] = "eA=="
        assert (await ok(api, "PUT", f"{where}/m", got))["data"] == {"k": "eA=="}
        patched = await ok(api, "PATCH", f"{where}/m", {"data": {"n": "eQ=="}}, content_type=STRATEGIC)
        assert patched["data"] == {"k": "eA==", "n": "eQ=="}
        found = await ok(api, "GET", f"/api/v1/{plural}?labelSelector=t%3D{plural}")
        assert [o["metadata"]["name"] for o in found["items"]] == ["m"]
        await ok(api, "DELETE", f"{where}?labelSelector=t%3D{plural}")
        await gone(api, f"{where}/m")


@story
async def test_api_podtemplate(api: ApiServer) -> None:
    where = f"{CORE}/podtemplates"
    body = {
        "metadata": {"name": "t", "labels": {"set": "nginx"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": POD},
    }
    await ok(api, "POST", where, body)
    patched = await merged(api, f"{where}/t", {"metadata": {"labels": {"podtemplate": "patched"}}})
    assert patched["metadata"]["labels"] == {"set": "nginx", "podtemplate": "patched"}
    replaced = await ok(
        api, "PUT", f"{where}/t", {**patched, "metadata": {**patched["metadata"], "annotations": {"updated": "true"}}}
    )
    assert replaced["metadata"]["annotations"] == {"updated": "true"}
    assert len((await ok(api, "GET", "/api/v1/podtemplates?labelSelector=podtemplate%3Dpatched"))["items"]) == 1
    await ok(api, "DELETE", f"{where}?labelSelector=podtemplate%3Dpatched")
    await gone(api, f"{where}/t")


@story
async def test_api_lease(api: ApiServer) -> None:
    where = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    spec = {
        "holderIdentity": "h",
        "leaseDurationSeconds": 30,
        "leaseTransitions": 0,
        "acquireTime": "2026-01-01T00:00:00.000005Z",
    }
    made = await ok(api, "POST", where, {"metadata": {"name": "l"}, "spec": spec})
    assert made["spec"] == spec
    made["spec"] |= {"holderIdentity": "h2", "leaseTransitions": 1, "renewTime": "2026-01-01T00:00:01.000006Z"}
    assert (await ok(api, "PUT", f"{where}/l", made))["spec"] == made["spec"]
    patch = {"spec": {"leaseDurationSeconds": 40}}
    assert (await ok(api, "PATCH", f"{where}/l", patch, content_type=STRATEGIC))["spec"]["leaseDurationSeconds"] == 40
    await ok(api, "POST", where, {"metadata": {"name": "l2", "labels": {"deletecollection": "true"}}})
    await ok(api, "DELETE", f"{where}?labelSelector=deletecollection%3Dtrue")
    assert [o["metadata"]["name"] for o in (await ok(api, "GET", where))["items"]] == ["l"]


@story
async def test_api_node(api: ApiServer) -> None:
    where = "/api/v1/nodes"
    await ok(
        api, "POST", where, {"metadata": {"name": "fake", "labels": {"e2e": "fake"}}, "status": {"phase": "Running"}}
    )
    got = await ok(api, "GET", f"{where}/fake")
    await merged(api, f"{where}/fake", {"metadata": {"labels": {"patched": "yes"}}})
    assert (await do(api, "PUT", f"{where}/fake", got))[0] == 409
    got = await ok(api, "GET", f"{where}/fake")
    got["metadata"]["labels"]["updated"] = "yes"
    assert (await ok(api, "PUT", f"{where}/fake", got))["metadata"]["labels"]["updated"] == "yes"
    capacity = {"status": {"capacity": {"example.com/gpu": "2"}, "allocatable": {"example.com/gpu": "2"}}}
    told = await ok(api, "PATCH", f"{where}/fake/status", capacity, content_type=STRATEGIC)
    assert told["status"]["capacity"]["example.com/gpu"] == "2"
    await ok(api, "DELETE", f"{where}?labelSelector=e2e%3Dfake")
    await gone(api, f"{where}/fake")


@story
async def test_ctl_namespace_patch_update_status_and_finalizers(api: ApiServer) -> None:
    where = "/api/v1/namespaces"
    made = await ok(api, "POST", where, {"metadata": {"name": "n"}})
    assert (made["spec"]["finalizers"], made["status"]["phase"]) == (["kubernetes"], "Active")
    assert made["metadata"]["labels"]["kubernetes.io/metadata.name"] == "n"
    await merged(api, f"{where}/n", {"metadata": {"labels": {"e2e": "patched"}}})
    condition = {"type": "StatusPatch", "status": "True", "reason": "E2E", "message": "m", "lastTransitionTime": WHEN}
    told = await merged(api, f"{where}/n/status", {"status": {"conditions": [condition]}})
    assert told["status"]["conditions"] == [condition]
    told["status"]["conditions"].append({**condition, "type": "StatusUpdate"})
    assert len((await ok(api, "PUT", f"{where}/n/status", told))["status"]["conditions"]) == 2
    held = await ok(api, "GET", f"{where}/n")
    held["spec"]["finalizers"].append("e2e.example.com/fake")
    assert (await ok(api, "PUT", f"{where}/n/finalize", held))["spec"]["finalizers"] == [
        "kubernetes",
        "e2e.example.com/fake",
    ]
    going = await ok(api, "DELETE", f"{where}/n")
    assert going["status"]["phase"] == "Terminating"
    status, told = await do(api, "POST", f"{where}/n/configmaps", {"metadata": {"name": "late"}})
    assert (status, told["details"]["causes"][0]["reason"]) == (403, "NamespaceTerminating")
    free = await ok(api, "GET", f"{where}/n")
    free["spec"]["finalizers"] = []
    await ok(api, "PUT", f"{where}/n/finalize", free)
    await gone(api, f"{where}/n")


@story
async def test_ctl_cronjob_api(api: ApiServer) -> None:
    where = "/apis/batch/v1/namespaces/default/cronjobs"
    template = {"spec": {"template": {"spec": {**POD, "restartPolicy": "OnFailure"}}}}
    spec = {"schedule": "* */1 * * ?", "jobTemplate": template}
    made = await ok(api, "POST", where, {"metadata": {"name": "c", "labels": {"special": "1"}}, "spec": spec})
    assert (made["spec"]["concurrencyPolicy"], made["spec"]["suspend"]) == ("Allow", False)
    status, _ = await do(api, "POST", where, {"metadata": {"name": "bad"}, "spec": {**spec, "schedule": "x"}})
    assert status == 422
    assert (await merged(api, f"{where}/c/status", {"status": {"lastScheduleTime": WHEN}}))["status"][
        "lastScheduleTime"
    ] == WHEN
    got = await ok(api, "GET", f"{where}/c/status")
    got["status"]["lastScheduleTime"] = "2026-01-01T00:01:00Z"
    got["spec"]["suspend"] = True
    told = await ok(api, "PUT", f"{where}/c/status", got)
    assert (told["status"]["lastScheduleTime"], told["spec"]["suspend"]) == ("2026-01-01T00:01:00Z", False)
    assert len((await ok(api, "GET", "/apis/batch/v1/cronjobs?labelSelector=special%3D1"))["items"]) == 1
    await ok(api, "DELETE", f"{where}?labelSelector=special%3D1")
    await gone(api, f"{where}/c")


def test_net_kubernetes_service_endpoints() -> None:
    async def main() -> None:
        async with ApiServer(config=ApiConfig(advertise_address="192.0.2.5")) as api:
            await _service_and_endpoints(api)

    asyncio.run(main())


async def _service_and_endpoints(api: ApiServer) -> None:
    service = await ok(api, "GET", f"{CORE}/services/kubernetes")
    assert [(p["name"], p["port"]) for p in service["spec"]["ports"]] == [("https", 443)]
    endpoints = await ok(api, "GET", f"{CORE}/endpoints/kubernetes")
    (subset,) = endpoints["subsets"]
    found = await ok(
        api,
        "GET",
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io/service-name%3Dkubernetes",
    )
    (piece,) = found["items"]
    assert [a["ip"] for a in subset["addresses"]] == [a for e in piece["endpoints"] for a in e["addresses"]]
    assert [(p["name"], p["port"]) for p in subset["ports"]] == [(p["name"], p["port"]) for p in piece["ports"]]
    assert subset["ports"][0]["name"] == "https"


@story
async def test_net_service_api(api: ApiServer) -> None:
    where = f"{CORE}/services"
    for name in ("a", "b", "c"):
        body = {
            "metadata": {"name": name, "labels": {"e2e": "svc"}},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
        }
        await ok(api, "POST", where, body)
    balanced = {
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}},
        "metadata": {"annotations": {"p": "1"}},
    }
    told = await merged(api, f"{where}/a/status", balanced)
    assert told["status"]["loadBalancer"]["ingress"][0]["ip"] == "203.0.113.1"
    got = await ok(api, "GET", f"{where}/a/status")
    got["status"]["conditions"] = [
        {"type": "E2E", "status": "True", "reason": "r", "message": "m", "lastTransitionTime": WHEN}
    ]
    assert (await ok(api, "PUT", f"{where}/a/status", got))["status"]["conditions"][0]["type"] == "E2E"
    assert {"a", "b", "c"} <= {o["metadata"]["name"] for o in (await ok(api, "GET", "/api/v1/services"))["items"]}
    await ok(api, "DELETE", f"{where}?labelSelector=e2e%3Dsvc")
    assert [o["metadata"]["name"] for o in (await ok(api, "GET", where))["items"]] == ["kubernetes"]


@story
async def test_net_endpoints_endpointslice_ingress_servicecidr_and_ipaddress_apis(api: ApiServer) -> None:
    networking = "/apis/networking.k8s.io/v1"
    address = f"{networking}/ipaddresses"
    parent = {"resource": "services", "namespace": "default", "name": "foo"}
    for name in ("192.0.2.9", "fe80::42:1dff:fe84:f9e2"):
        await ok(api, "POST", address, {"metadata": {"name": name}, "spec": {"parentRef": parent}})
    for name in ("192.0.2.09", "2001:DB8::1", "2001:db8:0::1", "x"):
        assert (await do(api, "POST", address, {"metadata": {"name": name}, "spec": {"parentRef": parent}}))[
            0
        ] == 422, name
    assert (await do(api, "POST", address, {"metadata": {"name": "192.0.2.8"}, "spec": {}}))[0] == 422
    assert (
        await do(api, "PATCH", f"{address}/192.0.2.9", {"spec": {"parentRef": {"name": "bar"}}}, content_type=MERGE)
    )[0] == 422
    cidr = f"{networking}/servicecidrs"
    await ok(api, "POST", cidr, {"metadata": {"name": "extra"}, "spec": {"cidrs": ["192.0.2.0/24"]}})
    assert (await do(api, "PATCH", f"{cidr}/extra", {"spec": {"cidrs": ["198.51.100.0/24"]}}, content_type=MERGE))[
        0
    ] == 422
    assert (await do(api, "POST", cidr, {"metadata": {"name": "bad"}, "spec": {"cidrs": ["192.0.2.1/24"]}}))[0] == 422
    ingress = f"{networking}/namespaces/default/ingresses"
    rule = {
        "host": "h.example.com",
        "http": {
            "paths": [{"path": "/", "pathType": "Exact", "backend": {"service": {"name": "s", "port": {"number": 80}}}}]
        },
    }
    await ok(api, "POST", ingress, {"metadata": {"name": "i"}, "spec": {"rules": [rule]}})
    told = await merged(api, f"{ingress}/i/status", {"status": {"loadBalancer": {"ingress": [{"ip": "169.254.1.1"}]}}})
    assert told["status"]["loadBalancer"]["ingress"][0]["ip"] == "169.254.1.1"
    slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    body = {"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": [{"addresses": ["192.0.2.1"]}], "ports": []}
    await ok(api, "POST", slices, body)
    assert (await do(api, "PATCH", f"{slices}/s", {"addressType": "IPv6"}, content_type=MERGE))[0] == 422
    crowd = [{"addresses": [f"10.0.{n >> 8}.{n & 255}"]} for n in range(1001)]
    for wrong, words in (
        ({"endpoints": crowd}, "endpoints: Too many: 1001: must have at most 1000 items"),
        (
            {"endpoints": [{"addresses": [e["addresses"][0] for e in crowd[:101]]}]},
            "endpoints[0].addresses: Too many: 101",
        ),
    ):
        status, told = await do(api, "POST", slices, {**body, "metadata": {"name": "big"}, **wrong})
        assert (status, words in told["message"]) == (422, True), told
    async with Watching(api, "/api/v1/endpoints?watch=1&labelSelector=e2e%3Dyes") as watching:
        await ok(api, "POST", f"{CORE}/endpoints", {"metadata": {"name": "e", "labels": {"e2e": "yes"}}})
        subset = {"addresses": [{"ip": "10.0.0.24"}], "ports": [{"name": "http", "port": 80}]}
        await merged(api, f"{CORE}/endpoints/e", {"subsets": [subset]})
        await ok(api, "DELETE", f"{CORE}/endpoints?labelSelector=e2e%3Dyes")
        await api.settle()
        assert watching.names() == [("ADDED", "e"), ("MODIFIED", "e"), ("DELETED", "e")]


@story
async def test_node_pod_lifecycle_api_and_qos(api: ApiServer) -> None:
    where = f"{CORE}/pods"
    sized = {
        "containers": [
            {
                "name": "c",
                "image": "i",
                "resources": {"requests": {"cpu": "1", "memory": "1Mi"}, "limits": {"cpu": "1", "memory": "1Mi"}},
            }
        ]
    }
    async with Watching(api, f"{where}?watch=1&labelSelector=type%3DTesting") as watching:
        made = await ok(api, "POST", where, {"metadata": {"name": "p", "labels": {"type": "Testing"}}, "spec": sized})
        assert (made["status"]["phase"], made["status"]["qosClass"], made["metadata"]["generation"]) == (
            "Pending",
            "Guaranteed",
            1,
        )
        for change in ({"metadata": {"labels": {"time": "later"}}}, {"spec": {"activeDeadlineSeconds": 5}}):
            await ok(api, "PATCH", f"{where}/p", change, content_type=STRATEGIC)
        assert (await do(api, "PATCH", f"{where}/p", {"spec": {"activeDeadlineSeconds": 6}}, content_type=MERGE))[
            0
        ] == 422
        condition = {"type": "StatusPatched", "status": "True"}
        told = await ok(
            api, "PATCH", f"{where}/p/status", {"status": {"conditions": [condition]}}, content_type=STRATEGIC
        )
        assert condition.items() <= told["status"]["conditions"][-1].items()
        assert told["metadata"]["generation"] == 2
        await ok(api, "DELETE", f"{where}?labelSelector=type%3DTesting")
        await api.settle()
        assert watching.events[0][0] == "ADDED"
        assert watching.events[-1][0] == "DELETED"
    await gone(api, f"{where}/p")


@story
async def test_node_runtimeclass_api(api: ApiServer) -> None:
    where = "/apis/node.k8s.io/v1/runtimeclasses"
    overhead = {"podFixed": {"cpu": "250m", "memory": "10Mi"}}
    placing = {"nodeSelector": {"foo": "bar"}, "tolerations": [{"key": "foo", "operator": "Exists"}]}
    body = {
        "metadata": {"name": "rc", "labels": {"t": "1"}},
        "handler": "runc",
        "overhead": overhead,
        "scheduling": placing,
    }
    await ok(api, "POST", where, body)
    assert (await do(api, "POST", where, body))[0] == 409
    assert (await do(api, "PATCH", f"{where}/rc", {"handler": "other"}, content_type=MERGE))[0] == 422
    made = await ok(api, "POST", f"{CORE}/pods", {"metadata": {"name": "p"}, "spec": {**POD, "runtimeClassName": "rc"}})
    assert (made["spec"]["overhead"], made["spec"]["nodeSelector"]) == (overhead["podFixed"], {"foo": "bar"})
    assert placing["tolerations"][0].items() <= made["spec"]["tolerations"][0].items()  # type: ignore[index]
    await ok(api, "DELETE", f"{where}?labelSelector=t%3D1")
    status, told = await do(
        api, "POST", f"{CORE}/pods", {"metadata": {"name": "q"}, "spec": {**POD, "runtimeClassName": "rc"}}
    )
    assert (status, 'pod rejected: RuntimeClass "rc" not found' in told["message"]) == (403, True)


@story
async def test_sched_priorityclass_api(api: ApiServer) -> None:
    where = "/apis/scheduling.k8s.io/v1/priorityclasses"
    await ok(api, "POST", where, {"metadata": {"name": "p1"}, "value": 10, "description": "d"})
    assert (await merged(api, f"{where}/p1", {"description": "new"}))["description"] == "new"
    assert (await do(api, "PATCH", f"{where}/p1", {"value": 11}, content_type=MERGE))[0] in (403, 422)
    made = await ok(
        api, "POST", f"{CORE}/pods", {"metadata": {"name": "p"}, "spec": {**POD, "priorityClassName": "p1"}}
    )
    assert made["spec"]["priority"] == 10
    assert (
        await do(api, "POST", f"{CORE}/pods", {"metadata": {"name": "q"}, "spec": {**POD, "priorityClassName": "no"}})
    )[0] == 403
    critical = {**POD, "priorityClassName": "system-cluster-critical"}
    assert (
        await ok(api, "POST", "/api/v1/namespaces/kube-system/pods", {"metadata": {"name": "c"}, "spec": critical})
    )["spec"]["priority"] == 2_000_000_000


@story
async def test_sched_limitrange(api: ApiServer) -> None:
    where = f"{CORE}/limitranges"
    item = {
        "type": "Container",
        "min": {"cpu": "50m", "memory": "100Mi"},
        "max": {"cpu": "500m", "memory": "500Mi"},
        "default": {"cpu": "500m", "memory": "500Mi"},
        "defaultRequest": {"cpu": "100m", "memory": "200Mi"},
    }
    await ok(api, "POST", where, {"metadata": {"name": "l", "labels": {"e2e": "l"}}, "spec": {"limits": [item]}})
    made = await ok(api, "POST", f"{CORE}/pods", {"metadata": {"name": "none"}, "spec": POD})
    assert made["spec"]["containers"][0]["resources"] == {"limits": item["default"], "requests": item["defaultRequest"]}
    for name, resources in (("small", {"requests": {"cpu": "10m"}}), ("big", {"limits": {"cpu": "600m"}})):
        spec = {"containers": [{**POD["containers"][0], "resources": resources}]}
        assert (await do(api, "POST", f"{CORE}/pods", {"metadata": {"name": name}, "spec": spec}))[0] == 403, name
    patched = await ok(api, "PATCH", f"{where}/l", {"metadata": {"labels": {"patched": "1"}}}, content_type=STRATEGIC)
    assert patched["spec"]["limits"] == [item]
    assert len((await ok(api, "GET", "/api/v1/limitranges?labelSelector=patched%3D1"))["items"]) == 1
    await ok(api, "DELETE", f"{where}?labelSelector=patched%3D1")
    await gone(api, f"{where}/l")


VOLUME = {
    "capacity": {"storage": "1Gi"},
    "accessModes": ["ReadWriteOnce"],
    "storageClassName": "s",
    "nfs": {"server": "s", "path": "/"},
}
CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "s"}


@pytest.mark.parametrize(
    ("where", "spec", "finalizer"),
    [
        ("/api/v1/persistentvolumes", VOLUME, "kubernetes.io/pv-protection"),
        (f"{CORE}/persistentvolumeclaims", CLAIM, "kubernetes.io/pvc-protection"),
    ],
    ids=["pv", "pvc"],
)
def test_storage_pv_and_pvc_api(where: str, spec: dict[str, Any], finalizer: str) -> None:
    @story
    async def tale(api: ApiServer) -> None:
        made = await ok(api, "POST", where, {"metadata": {"name": "v", "labels": {"e2e": "v"}}, "spec": spec})
        assert (made["metadata"]["finalizers"], made["status"]["phase"]) == ([finalizer], "Pending")
        condition = {"type": "StatusPatched", "status": "True", "reason": "r", "message": "m"}
        change = (
            {"conditions": [condition]} if "claims" in where else {"message": "StatusPatched", "phase": "Available"}
        )
        told = await ok(api, "PATCH", f"{where}/v/status", {"status": change}, content_type=STRATEGIC)
        assert change.keys() <= told["status"].keys()
        got = await ok(api, "GET", f"{where}/v/status")
        got["metadata"]["labels"]["put"] = "1"
        assert (await ok(api, "PUT", f"{where}/v", {**got})) is not None
        await ok(api, "DELETE", f"{where}?labelSelector=e2e%3Dv")
        waiting = await ok(api, "GET", f"{where}/v")
        assert waiting["metadata"]["deletionTimestamp"]
        await merged(api, f"{where}/v", {"metadata": {"finalizers": None}})
        await gone(api, f"{where}/v")

    tale()


@story
async def test_storage_class_attachment_driver_node_and_capacity_apis(api: ApiServer) -> None:
    group = "/apis/storage.k8s.io/v1"
    bodies: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
        "storageclasses": ("", {"provisioner": "e2e"}, {"metadata": {"labels": {"p": "1"}}}),
        "volumeattributesclasses": (
            "",
            {"driverName": "e2e", "parameters": {"a": "b"}},
            {"metadata": {"labels": {"p": "1"}}},
        ),
        "csidrivers": ("", {"spec": {"attachRequired": True}}, {"metadata": {"labels": {"p": "1"}}}),
        "csinodes": ("", {"spec": {"drivers": [{"name": "d", "nodeID": "1"}]}}, {"metadata": {"labels": {"p": "1"}}}),
        "csistoragecapacities": ("default", {"storageClassName": "s", "capacity": "2Gi"}, {"capacity": "3Gi"}),
        "volumeattachments": (
            "",
            {"spec": {"attacher": "e2e", "nodeName": "n", "source": {"persistentVolumeName": "v"}}},
            {"metadata": {"labels": {"p": "1"}}},
        ),
    }
    for plural, (namespace, body, change) in bodies.items():
        where = f"{group}/namespaces/{namespace}/{plural}" if namespace else f"{group}/{plural}"
        await ok(api, "POST", where, {"metadata": {"name": "o", "labels": {"e2e": "s"}}, **body})
        await ok(api, "PATCH", f"{where}/o", change, content_type=STRATEGIC)
        if plural == "volumeattachments":
            told = await merged(api, f"{where}/o/status", {"status": {"attached": True}})
            assert told["status"]["attached"] is True
            assert (await merged(api, f"{where}/o/status", {"spec": {"nodeName": "x"}}))["spec"]["nodeName"] == "n"
        got = await ok(api, "GET", f"{where}/o")
        got["metadata"]["labels"]["put"] = "1"
        await ok(api, "PUT", f"{where}/o", got)
        assert len((await ok(api, "GET", f"{group}/{plural}?labelSelector=put%3D1"))["items"]) == 1
        await ok(api, "DELETE", f"{where}?labelSelector=put%3D1")
        await gone(api, f"{where}/o")
    status, _ = await do(
        api,
        "POST",
        f"{group}/storageclasses",
        {"metadata": {"name": "im"}, "provisioner": "e2e", "parameters": {"a": "b"}},
    )
    assert status == 201
    assert (await do(api, "PATCH", f"{group}/storageclasses/im", {"parameters": {"a": "c"}}, content_type=MERGE))[
        0
    ] in (403, 422)


@story
async def test_api_crud_storageversionmigration_and_dra_status(api: ApiServer) -> None:
    migrations = "/apis/storagemigration.k8s.io/v1/storageversionmigrations"
    await ok(api, "POST", migrations, {"metadata": {"name": "m"}, "spec": {"resource": {"resource": "configmaps"}}})
    condition = {"type": "Running", "status": "True", "reason": "r", "message": "m", "lastTransitionTime": WHEN}
    told = await merged(api, f"{migrations}/m/status", {"status": {"conditions": [condition]}})
    assert told["status"]["conditions"][0]["type"] == "Running"
    claims = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims"
    asked = {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c.example.com"}}]}}
    made = await ok(api, "POST", claims, {"metadata": {"name": "c"}, "spec": asked})
    assert made["spec"]["devices"]["requests"][0]["exactly"] == {
        "deviceClassName": "c.example.com",
        "allocationMode": "ExactCount",
        "count": 1,
    }
    changed = {"spec": {"devices": {"requests": [{"name": "other", "exactly": {"deviceClassName": "c.example.com"}}]}}}
    assert (await do(api, "PATCH", f"{claims}/c", changed, content_type=MERGE))[0] == 422


@story
async def test_auth_serviceaccount_api_and_automount(api: ApiServer) -> None:
    where = f"{CORE}/serviceaccounts"
    async with Watching(api, f"{where}?watch=1&labelSelector=e2e%3Dsa") as watching:
        await ok(api, "POST", where, {"metadata": {"name": "sa", "labels": {"e2e": "sa"}}})
        patch = {"automountServiceAccountToken": False}
        await ok(api, "PATCH", f"{where}/sa", patch, content_type=STRATEGIC)
        assert len((await ok(api, "GET", "/api/v1/serviceaccounts?labelSelector=e2e%3Dsa"))["items"]) == 1
        for pod, (own, mounted) in {"unset": (None, False), "yes": (True, True), "no": (False, False)}.items():
            spec = {**POD, "serviceAccountName": "sa", **({} if own is None else {"automountServiceAccountToken": own})}
            made = await ok(api, "POST", f"{CORE}/pods", {"metadata": {"name": pod}, "spec": spec})
            volumes = [v["name"] for v in made["spec"].get("volumes", ())]
            assert any(name.startswith("kube-api-access-") for name in volumes) is mounted, pod
            mounts = made["spec"]["containers"][0].get("volumeMounts", ())
            assert [m["mountPath"] for m in mounts] == ["/var/run/secrets/kubernetes.io/serviceaccount"] * mounted
        await ok(api, "DELETE", f"{where}?labelSelector=e2e%3Dsa")
        await api.settle()
        assert watching.names() == [("ADDED", "sa"), ("MODIFIED", "sa"), ("DELETED", "sa")]
    made = await ok(api, "GET", f"{CORE}/pods/yes")
    sources = made["spec"]["volumes"][0]["projected"]["sources"]
    assert [s["serviceAccountToken"]["expirationSeconds"] for s in sources if "serviceAccountToken" in s] == [3607]
    assert [s["configMap"]["name"] for s in sources if "configMap" in s] == ["kube-root-ca.crt"]
