"""kubernetes_asyncio: objects, watches, the dynamic client, and exec over WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from jota.testing.host import IMAGE, HostCluster

pytest.importorskip("kubernetes_asyncio", reason="kubernetes_asyncio is not installed (pip install -e '.[clients]')")

from kubernetes_asyncio import client, config, watch
from kubernetes_asyncio.client.exceptions import ApiException
from kubernetes_asyncio.dynamic import DynamicClient
from kubernetes_asyncio.stream import WsApiClient

pytestmark = [pytest.mark.clients, pytest.mark.kernel, pytest.mark.filterwarnings("default")]
Namespace = Callable[[HostCluster], str]


async def settings(cluster: HostCluster) -> Any:
    made = client.Configuration()
    await config.load_kube_config(str(cluster.kubeconfig), client_configuration=made)
    return made


def test_objects_and_a_watch(plane: HostCluster, namespace: Namespace) -> None:
    where = namespace(plane)

    async def main() -> None:
        async with client.ApiClient(await settings(plane)) as api:
            core = client.CoreV1Api(api)
            since = (await core.list_namespaced_config_map(where)).metadata.resource_version
            made = await core.create_namespaced_config_map(where, {"metadata": {"name": "a"}, "data": {"k": "1"}})
            made.data["k"] = "2"
            await core.replace_namespaced_config_map("a", where, made)
            patched = await core.patch_namespaced_config_map("a", where, {"data": {"l": "3"}})
            assert patched.data == {"k": "2", "l": "3"}
            await core.delete_namespaced_config_map("a", where)
            seen = []
            async with watch.Watch() as watching:
                stream = watching.stream(
                    core.list_namespaced_config_map, where, resource_version=since, timeout_seconds=1
                )
                async for event in stream:
                    if event["object"].metadata.name == "a":  # the namespace's own map may come meanwhile
                        seen.append((event["type"], event["object"].metadata.name))
            assert seen == [("ADDED", "a"), ("MODIFIED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
            with pytest.raises(ApiException) as gone:
                await core.read_namespaced_config_map("a", where)
            assert gone.value.status == 404

    asyncio.run(main())


def test_the_dynamic_client(plane: HostCluster, namespace: Namespace) -> None:
    where = namespace(plane)

    async def main() -> None:
        async with client.ApiClient(await settings(plane)) as api:
            anything = await DynamicClient(api)
            maps = await anything.resources.get(api_version="v1", kind="ConfigMap")
            await maps.create(body={"metadata": {"name": "a"}, "data": {"k": "1"}}, namespace=where)
            found = await maps.get(name="a", namespace=where)
            assert found.data.k == "1"
            await maps.delete(name="a", namespace=where)

    asyncio.run(main())


def test_exec(cluster: HostCluster, namespace: Namespace) -> None:
    where = namespace(cluster)
    container = {"name": "c", "image": IMAGE, "command": ["sh", "-c", "trap exit TERM; sleep 1000 & wait"]}
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 0}}

    async def main() -> None:
        given = await settings(cluster)
        async with client.ApiClient(given) as api, WsApiClient(given) as socket:
            core = client.CoreV1Api(api)
            await core.create_namespaced_pod(where, pod)
            async with asyncio.timeout(20):
                while (await core.read_namespaced_pod("p", where)).status.phase != "Running":  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            said = await client.CoreV1Api(socket).connect_get_namespaced_pod_exec(
                "p",
                where,
                command=["sh", "-c", "echo out; echo err >&2"],
                stdout=True,
                stderr=True,
                stdin=False,
                tty=False,
            )
            assert sorted(said.split()) == ["err", "out"]

    asyncio.run(main())
