"""ResourceQuota: refused beyond the limit, exactly, also when many write at once; counted in status."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jota.controllers.resourcequota import plan
from jota.kinds.core import quota as rules
from jota.kinds.core.quota import CLAIMS, QUOTAS
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, DEPLOYMENTS, NODES, PODS, SERVICES
from jota.testing.cluster import ApiServer, story


async def limit(api: ApiServer, hard: dict[str, str], **spec: Any) -> None:
    await api.client.create(QUOTAS, {"metadata": {"name": "q"}, "spec": {"hard": hard, **spec}}, "default")


def pod(name: str, cpu: str = "", **spec: Any) -> dict[str, Any]:
    resources = {"requests": {"cpu": cpu}} if cpu else {}
    container = {"name": "c", "image": "i", "resources": resources}
    return {"metadata": {"name": name}, "spec": {"containers": [container], **spec}}


async def refused(work: Any) -> str:
    with pytest.raises(ApiError) as caught:
        await work
    assert caught.value.code == 403
    return caught.value.message


@story
async def test_a_pod_beyond_the_quota_is_refused(api: ApiServer) -> None:
    await limit(api, {"requests.cpu": "1", "pods": "5"})
    await api.client.create(PODS, pod("a", "600m"), "default")
    text = await refused(api.client.create(PODS, pod("b", "500m"), "default"))
    assert text == (
        'pods "b" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, '
        "limited: requests.cpu=1"
    )
    text = await refused(api.client.create(PODS, pod("c"), "default"))
    assert text == 'pods "c" is forbidden: failed quota: q: must specify requests.cpu for: c'
    await api.client.patch(PODS, "a", "default", {"status": {"phase": "Succeeded"}}, subresource="status")
    await api.client.create(PODS, pod("b", "500m"), "default")
    await api.client.delete(PODS, "b", "default", grace=0)
    await api.client.create(PODS, pod("d", "1"), "default")


@story
async def test_many_at_once_get_exactly_the_quota(api: ApiServer) -> None:
    await limit(api, {"pods": "7", "count/configmaps": "3"})
    pods = [api.client.create(PODS, pod(f"p{n}"), "default") for n in range(20)]
    maps = [api.client.create(CONFIGMAPS, {"metadata": {"name": f"c{n}"}}, "default") for n in range(20)]
    done = await asyncio.gather(*pods, return_exceptions=True)
    assert sum(isinstance(d, dict) for d in done) == 7
    done = await asyncio.gather(*maps, return_exceptions=True)
    assert sum(isinstance(d, dict) for d in done) == 3


@story
async def test_a_create_that_fails_gives_its_share_back(api: ApiServer) -> None:
    await limit(api, {"pods": "2"})
    await api.client.create(PODS, pod("a"), "default")
    for _ in range(3):
        with pytest.raises(ApiError, match="already exists"):
            await api.client.create(PODS, pod("a"), "default")
    await api.client.create(PODS, pod("b"), "default")
    await refused(api.client.create(PODS, pod("c"), "default"))


@story
async def test_scopes_choose_the_pods_that_count(api: ApiServer) -> None:
    await limit(api, {"pods": "0"}, scopes=["BestEffort"])
    await refused(api.client.create(PODS, pod("a"), "default"))
    await api.client.create(PODS, pod("a", "1"), "default")


@story
async def test_services_and_claims_and_other_groups_count(api: ApiServer) -> None:
    await limit(
        api, {"services.nodeports": "1", "requests.storage": "5Gi", "count/deployments.apps": "0", "configmaps": "1"}
    )
    port = {"port": 80}
    await api.client.create(SERVICES, {"metadata": {"name": "a"}, "spec": {"ports": [port]}}, "default")
    node = {"type": "NodePort", "ports": [{**port, "name": "x"}, {"port": 81, "name": "y"}]}
    assert "services.nodeports=2" in await refused(
        api.client.create(SERVICES, {"metadata": {"name": "b"}, "spec": node}, "default")
    )
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "6Gi"}}}
    text = await refused(api.client.create(CLAIMS, {"metadata": {"name": "c"}, "spec": claim}, "default"))
    assert "requested: requests.storage=6Gi, used: requests.storage=0, limited: requests.storage=5Gi" in text
    await api.client.create(CONFIGMAPS, {"metadata": {"name": "a"}}, "default")
    assert "exceeded quota: q, requested: configmaps=1, used: configmaps=1, limited: configmaps=1" in await refused(
        api.client.create(CONFIGMAPS, {"metadata": {"name": "b"}}, "default")
    )
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod("x")["spec"]}
    deployment = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    await refused(api.client.create(DEPLOYMENTS, {"metadata": {"name": "d"}, "spec": deployment}, "default"))
    assert "type" in (await api.client.patch(SERVICES, "a", "default", {"spec": {"type": "NodePort"}}))["spec"]
    assert "exceeded quota" in await refused(
        api.client.patch(
            SERVICES, "a", "default", {"spec": {"ports": [{**port, "name": "x"}, {"port": 8, "name": "y"}]}}
        )
    )


@story
async def test_a_dry_run_takes_nothing(api: ApiServer) -> None:
    await limit(api, {"pods": "1"})
    for _ in range(3):
        await api.client.raw(
            "POST",
            "/api/v1/namespaces/default/pods",
            "dryRun=All",
            b'{"metadata":{"name":"a"},"spec":{"containers":[{"name":"c","image":"i"}]}}',
            {"content-type": "application/json"},
        )
    await api.client.create(PODS, pod("a"), "default")


def test_status_shows_every_limit() -> None:
    quota = {"spec": {"hard": {"pods": "5", "requests.memory": "1Gi", "count/x": "1"}}}
    used = rules.total(quota, PODS, [{"spec": pod("a")["spec"]}])
    assert plan(quota, used)["used"] == {"pods": "1", "requests.memory": "0", "count/x": "0"}


@story
async def test_a_resize_is_refused_beyond_the_quota_and_counts_as_the_larger_until_it_is_done(api: ApiServer) -> None:
    await limit(api, {"requests.cpu": "1"})
    await api.client.create(PODS, pod("a", "600m"), "default")

    async def resize(cpu: str) -> Any:
        patch = {"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}}
        return await api.client.patch(PODS, "a", "default", patch, type="strategic", subresource="resize")

    assert await refused(resize("1100m")) == (
        'pods "a" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, '
        "limited: requests.cpu=1"
    )
    status = {"name": "c", "allocatedResources": {"cpu": "600m"}, "resources": {"requests": {"cpu": "600m"}}}
    fields = {"state": {"running": {}}, "image": "i", "imageID": "", "ready": True, "restartCount": 0}
    body = {"status": {"containerStatuses": [{**status, **fields}]}}
    await api.client.patch(PODS, "a", "default", body, type="strategic", subresource="status")
    await resize("100m")
    await refused(api.client.create(PODS, pod("b", "500m"), "default"))
    done = {"allocatedResources": {"cpu": "100m"}, "resources": {"requests": {"cpu": "100m"}}}
    body = {"status": {"containerStatuses": [{"name": "c", **fields, **done}]}}
    await api.client.patch(PODS, "a", "default", body, subresource="status")
    await api.client.create(PODS, pod("b", "500m"), "default")


@story
async def test_a_resize_beyond_the_whole_node_is_refused_at_once(api: ApiServer) -> None:
    node = {"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "2", "memory": "1Gi"}}}
    await api.client.create(NODES, node)
    await api.client.patch(NODES, "n", "", {"status": node["status"]}, subresource="status")
    await api.client.create(PODS, pod("a", "600m", nodeName="n"), "default")
    patch = {"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "3", "memory": "2Gi"}}}]}}
    with pytest.raises(ApiError) as caught:
        await api.client.patch(PODS, "a", "default", patch, type="strategic", subresource="resize")
    assert caught.value.message == (
        'pods "a" is forbidden: node didn\'t have enough allocatable resources: cpu, requested: 3000, allocatable: 2000; '
        "memory, requested: 2147483648, allocatable: 1073741824"
    )
    assert (caught.value.code, caught.value.causes[0].reason) == (403, "NodeCapacity")
