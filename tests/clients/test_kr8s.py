"""kr8s: objects that know their cluster, waits, scale, watches, exec and port-forward."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from jota.testing.host import IMAGE, HostCluster

pytest.importorskip("kr8s", reason="kr8s is not installed (pip install -e '.[clients]')")

import kr8s
from kr8s.asyncio.objects import ConfigMap, Deployment, Pod

pytestmark = [pytest.mark.clients, pytest.mark.kernel, pytest.mark.filterwarnings("default")]
Namespace = Callable[[HostCluster], str]


def container(script: str) -> dict[str, Any]:
    return {"name": "c", "image": IMAGE, "command": ["sh", "-c", script], "ports": [{"containerPort": 8080}]}


def test_objects(plane: HostCluster, namespace: Namespace) -> None:
    where = namespace(plane)

    async def main() -> None:
        api = await kr8s.asyncio.api(kubeconfig=str(plane.kubeconfig))
        assert (await api.version())["gitVersion"].startswith("v1.")
        made = await ConfigMap({"metadata": {"name": "a", "namespace": where}, "data": {"k": "1"}}, api=api)
        await made.create()
        await made.patch({"data": {"l": "2"}})
        await made.label(x="y")
        assert (made.data.to_dict(), made.labels.to_dict()) == ({"k": "1", "l": "2"}, {"x": "y"})
        assert [m.name async for m in api.get("configmaps", namespace=where, label_selector="x=y")] == ["a"]
        labels = {"app": "d"}
        spec = {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container("sleep 1")]}},
        }
        deployment = await Deployment({"metadata": {"name": "d", "namespace": where}, "spec": spec}, api=api)
        await deployment.create()
        await deployment.patch({"spec": {"replicas": 0}})
        await deployment.wait("condition=Available", timeout=20)
        seen: list[str] = []

        async def follow() -> None:
            async for event, found in api.watch("configmaps", namespace=where):
                if found.name == "a":
                    seen.append(event)
                if event == "DELETED":
                    return

        task = asyncio.ensure_future(follow())
        while not seen:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        await made.annotate(z="1")
        await made.delete()
        async with asyncio.timeout(10):
            await task
        assert seen == ["ADDED", "MODIFIED", "DELETED"]
        assert not await made.exists()

    asyncio.run(main())


def test_a_kind_that_is_new(plane: HostCluster) -> None:
    word = uuid.uuid4().hex[:6]
    kind, plural = f"Kite{word}", f"kites{word}"
    names = {"plural": plural, "singular": kind.lower(), "kind": kind}
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.kr8s.jota.test"},
        "spec": {"group": "kr8s.jota.test", "scope": "Namespaced", "names": names, "versions": [version]},
    }

    async def main() -> None:
        from kr8s.asyncio.objects import CustomResourceDefinition, new_class

        api = await kr8s.asyncio.api(kubeconfig=str(plane.kubeconfig))
        definition = await CustomResourceDefinition(body, api=api)
        await definition.create()
        await definition.wait("condition=Established", timeout=10)
        kite_class = new_class(kind=kind, version="kr8s.jota.test/v1", namespaced=True, plural=plural)
        kite = await kite_class({"metadata": {"name": "a", "namespace": "default"}, "spec": {"string": 3}}, api=api)
        await kite.create()
        await kite.patch({"spec": {"string": 4}})
        assert kite.spec.string == 4
        await kite.delete()
        await definition.delete()

    asyncio.run(main())


def test_pods(cluster: HostCluster, namespace: Namespace) -> None:
    where = namespace(cluster)
    script = "mkdir /www; echo greetings > /www/index.html; echo started; exec httpd -f -p 8080 -h /www"
    spec = {"containers": [container(script)], "terminationGracePeriodSeconds": 0}

    async def main() -> None:
        import httpx

        api = await kr8s.asyncio.api(kubeconfig=str(cluster.kubeconfig))
        pod = await Pod({"metadata": {"name": "p", "namespace": where}, "spec": spec}, api=api)
        await pod.create()
        await pod.wait("condition=Ready", timeout=20)
        done = await pod.exec(["sh", "-c", "echo hello; exit 0"])
        assert (done.returncode, done.stdout) == (0, b"hello\n")
        assert [line async for line in pod.logs()] == ["started"]
        async with pod.portforward(remote_port=8080) as port, httpx.AsyncClient(trust_env=False) as http:
            for _ in range(50):
                try:
                    answer = await http.get(f"http://127.0.0.1:{port}/")
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.1)
            assert answer.text == "greetings\n"
        await pod.delete()
        await pod.wait("delete", timeout=20)

    asyncio.run(main())
