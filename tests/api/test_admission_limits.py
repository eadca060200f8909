"""Limit ranges, default storage classes, protection finalizers, and the taint of new nodes."""

from __future__ import annotations

from typing import Any

import pytest

from jota.api.admission import default_ingress_class as ingress
from jota.api.admission.limit_ranger import ANNOTATION, CLAIMS, LIMIT_RANGES
from jota.kinds.core.pod.totals import totals
from jota.meta.errors import ApiError
from jota.meta.resource import NODES, PODS, Resource
from jota.testing.cluster import ApiServer, story

VOLUMES = Resource("", "v1", "persistentvolumes", "PersistentVolume", False)
CLASSES = Resource("storage.k8s.io", "v1", "storageclasses", "StorageClass", False)


def pod(name: str, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    named = [{"name": f"c{n}", "image": "i", **c} for n, c in enumerate(containers or ({},))]
    return {"metadata": {"name": name}, "spec": {"containers": named, **spec}}


def asks(requests: dict[str, str] | None = None, limits: dict[str, str] | None = None) -> dict[str, Any]:
    return {"resources": {k: v for k, v in (("requests", requests), ("limits", limits)) if v}}


async def limit(api: ApiServer, **item: Any) -> None:
    await api.client.create(LIMIT_RANGES, {"metadata": {"name": "l"}, "spec": {"limits": [item]}}, "default")


@story
async def test_containers_get_the_default_resources(api: ApiServer) -> None:
    await limit(api, type="Container", default={"cpu": "500m"}, defaultRequest={"cpu": "100m"})
    got = await api.client.create(PODS, pod("a", {}, asks({"cpu": "200m"})), "default")
    first, second = got["spec"]["containers"]
    assert first["resources"] == {"requests": {"cpu": "100m"}, "limits": {"cpu": "500m"}}
    assert second["resources"] == {"requests": {"cpu": "200m"}, "limits": {"cpu": "500m"}}
    said = (
        "LimitRanger plugin set: cpu request for container c0; cpu limit for container c0; cpu limit for container c1"
    )
    assert got["metadata"]["annotations"][ANNOTATION] == said
    assert got["status"]["qosClass"] == "Burstable"


@pytest.mark.parametrize(
    ("item", "resources", "words"),
    [
        ({"min": {"cpu": "100m"}}, asks({"cpu": "50m"}), "minimum cpu usage per {} is 100m, but request is 50m"),
        (
            {"max": {"memory": "1Gi"}},
            asks(None, {"memory": "2Gi"}),
            "maximum memory usage per {} is 1Gi, but limit is 2Gi",
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            asks({"cpu": "1"}, {"cpu": "4"}),
            "cpu max limit to request ratio per {} is 2, but provided ratio is 4.000000",
        ),
    ],
)
@pytest.mark.parametrize("type_", ["Container", "Pod"])
def test_what_is_out_of_bounds_is_refused(item: Any, resources: Any, words: str, type_: str) -> None:
    @story
    async def run(api: ApiServer) -> None:
        await limit(api, type=type_, **item)
        with pytest.raises(ApiError) as refused:
            await api.client.create(PODS, pod("a", resources), "default")
        assert (refused.value.code, refused.value.message) == (403, f'pods "a" is forbidden: {words.format(type_)}')

    run()


@story
async def test_claims_have_bounds_too(api: ApiServer) -> None:
    await limit(api, type="PersistentVolumeClaim", min={"storage": "1Gi"}, max={"storage": "5Gi"})
    for size, fine in (("500Mi", False), ("2Gi", True), ("6Gi", False)):
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
        work = api.client.create(CLAIMS, {"metadata": {"generateName": "c-"}, "spec": spec}, "default")
        if fine:
            await work
        else:
            with pytest.raises(ApiError, match=f"per PersistentVolumeClaim is .*, but request is {size}"):
                await work


@story
async def test_a_claim_without_a_class_gets_the_default_one(api: ApiServer) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    built_in = await api.client.create(CLAIMS, {"metadata": {"name": "first"}, "spec": dict(spec)}, "default")
    assert built_in["spec"]["storageClassName"] == "local"
    await api.client.delete(CLASSES, "local")
    early = await api.client.create(CLAIMS, {"metadata": {"name": "early"}, "spec": dict(spec)}, "default")
    assert "storageClassName" not in early["spec"]
    mark = {"storageclass.kubernetes.io/is-default-class": "true"}
    for name, marks in (("plain", {}), ("b", mark), ("a", mark)):
        storage_class = {"metadata": {"name": name, "annotations": marks}, "provisioner": "x.example.com"}
        await api.client.create(CLASSES, storage_class)
    got = await api.client.create(CLAIMS, {"metadata": {"name": "c"}, "spec": dict(spec)}, "default")
    assert got["spec"]["storageClassName"] == "a"
    own = await api.client.create(
        CLAIMS, {"metadata": {"name": "d"}, "spec": {**spec, "storageClassName": ""}}, "default"
    )
    assert own["spec"]["storageClassName"] == ""
    assert own["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]


@story
async def test_a_volume_is_protected_and_a_new_node_is_tainted(api: ApiServer) -> None:
    source = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}
    volume = await api.client.create(VOLUMES, {"metadata": {"name": "v"}, "spec": source})
    assert volume["metadata"]["finalizers"] == ["kubernetes.io/pv-protection"]
    node = await api.client.create(NODES, {"metadata": {"name": "n"}})
    assert node["spec"]["taints"] == [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]


def test_totals_of_a_pod() -> None:
    spec = {
        "containers": [asks({"cpu": "1"}), asks({"cpu": "1"})],
        "initContainers": [{**asks({"cpu": "500m"}), "restartPolicy": "Always"}, asks({"cpu": "4"})],
        "overhead": {"cpu": "100m"},
    }
    assert totals(spec, "requests") == {"cpu": 4_600_000_000}
    assert totals({**spec, "initContainers": []}, "requests") == {"cpu": 2_100_000_000}
    assert totals({**spec, "resources": {"requests": {"cpu": "1"}}}, "requests") == {"cpu": 1_100_000_000}


@story
async def test_an_ingress_without_a_class_gets_the_default_one(api: ApiServer) -> None:
    for name, marks in (("plain", {}), ("b", {ingress.DEFAULT: "true"}), ("a", {ingress.DEFAULT: "true"})):
        made = {"metadata": {"name": name, "annotations": marks}, "spec": {"controller": "example.com/c"}}
        await api.client.create(ingress.CLASSES, made)
    backend = {"service": {"name": "s", "port": {"number": 80}}}
    for name, spec, wanted in (("x", {}, "a"), ("y", {"ingressClassName": "plain"}, "plain")):
        obj = {"metadata": {"name": name}, "spec": {"defaultBackend": backend, **spec}}
        got = await api.client.create(ingress.INGRESSES, obj, "default")
        assert got["spec"]["ingressClassName"] == wanted
