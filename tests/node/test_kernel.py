"""The agent on the real runtime: real containers, volumes and probes; the API on the memory store, real time."""

# ruff: noqa: E501 (tables)
from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from jota.aio.clock import SystemClock
from jota.meta.resource import (
    CLUSTER_TRUST_BUNDLES,
    CONFIGMAPS,
    POD_CERTIFICATE_REQUESTS,
    PODS,
    SECRETS,
    SERVICEACCOUNTS,
)
from jota.node.agent import NodeAgent
from jota.node.config import EvictionThresholds, NodeConfig
from jota.node.remains import log_lines
from jota.runtime import sys as kernel
from jota.runtime.embedded.runtime import EmbeddedRuntime
from jota.testing.cluster import ApiServer
from jota.testing.images import busybox_archive

from .doubles import FakeNetwork
from .signer import SIGNER, authority, issue
from .world import World, pod

IMAGE = "jota.test/busybox:1"
pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(
        os.geteuid() != 0 or not (shutil.which("crun") or shutil.which("runc")) or not shutil.which("busybox"),
        reason="needs root, crun or runc, and busybox",
    ),
]


class RealWorld(World):
    """Like World, on the embedded runtime and the machine's clock. The network only hands out addresses."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, api=ApiServer(clock=SystemClock(), plugins=()))
        self.directory = directory
        self.config = NodeConfig(
            name="n1",
            address="127.0.0.1",
            data_dir=str(directory / "data"),
            log_dir=str(directory / "logs"),
            eviction=EvictionThresholds(enabled=False),
        )
        self.network = FakeNetwork()

    def make(self) -> EmbeddedRuntime:
        name = f"n{os.getpid()}"
        root, images = str(self.directory / "rt"), str(self.directory / "images")
        return EmbeddedRuntime(root, images, name=name, cgroup_parent="jota-test", clock=SystemClock())

    async def boot(self) -> None:
        self.real = self.make()
        await self.real.start()
        if not await self.real.images.get(IMAGE):
            archive = str(self.directory / "image.tar")
            busybox_archive(archive, IMAGE, {"VERSION": "1"})
            await self.real.images.load(archive)
        self.agent = NodeAgent(
            self.api.client, self.real, self.network, config=self.config, clock=self.clock, random=Random(1)
        )
        self.task = asyncio.create_task(self.agent.run())
        await self.until(self.agent.ready.is_set, within=10)

    async def until(self, holds: Callable[[], Any], *, within: float = 20.0, step: float = 0.005) -> None:
        async with asyncio.timeout(within):
            while True:
                result = holds()
                if asyncio.iscoroutine(result):
                    result = await result
                if result:
                    return
                await asyncio.sleep(step)

    async def settle(self) -> None:
        await asyncio.sleep(0.02)

    async def until_phase(self, phase: str, name: str = "web", *, within: float = 20.0) -> dict[str, Any]:
        return await super().until_phase(phase, name, within=within)

    async def until_gone(self, name: str = "web", *, within: float = 20.0) -> None:
        await super().until_gone(name, within=within)

    def log(self, name: str, container: str = "c", attempt: int = 0) -> str:
        found = [d for d in (self.directory / "logs").iterdir() if f"_{name}_" in d.name]
        return "".join(log_lines(str(found[0] / container / f"{attempt}.log"), 1000)).rstrip("\n")


def tell(tmp_path: Path, body: Callable[[RealWorld], Awaitable[None]]) -> None:
    async def main() -> None:
        w = RealWorld(tmp_path)
        try:
            async with w:
                await body(w)
        finally:
            await w.real.shutdown()

    asyncio.run(main())
    assert kernel.mounts_below(str(tmp_path)) == []


def sh(script: str, name: str = "c", **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script], **fields}


def test_a_pod_runs_to_its_end(tmp_path: Path) -> None:
    async def body(w: RealWorld) -> None:
        await w.create(
            pod(
                "web",
                sh("echo hello $WHO; echo bye >/dev/termination-log", env=[{"name": "WHO", "value": "you"}]),
                restartPolicy="Never",
            )
        )
        status = await w.until_phase("Succeeded")
        ended = status["containerStatuses"][0]["state"]["terminated"]
        assert (ended["exitCode"], ended["reason"], ended["message"]) == (0, "Completed", "bye\n")
        assert w.log("web") == "hello you"
        await w.api.client.delete(PODS, "web", "default")
        await w.until_gone()

    tell(tmp_path, body)


def test_volumes_and_files_of_the_node(tmp_path: Path) -> None:
    script = """
      cat /c/text; ls -lL /s/token | cut -c1-10; cat /s/token; cat /sub/file; stat -c %a /e /m; mount | grep ' /m ' | cut -d' ' -f1
      head -1 /etc/hosts; grep -c 10.42.0.1 /etc/hosts; hostname; cat /etc/hostname; cat /p/name /p/labels; echo; touch /c/x 2>/dev/null || echo ro
      echo done; sleep 60
    """

    async def body(w: RealWorld) -> None:
        await w.api.client.create(CONFIGMAPS, {"metadata": {"name": "cm"}, "data": {"text": "one\n"}}, "default")
        await w.api.client.create(SECRETS, {"metadata": {"name": "s"}, "stringData": {"token": "t0p\n"}}, "default")
        downward = {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}
        name = {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}
        volumes = [
            {"name": "c", "configMap": {"name": "cm"}},
            {"name": "s", "secret": {"secretName": "s", "defaultMode": 0o400}},
            {"name": "e", "emptyDir": {}},
            {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "p", "projected": {"sources": [{"downwardAPI": downward}, {"downwardAPI": name}]}},
        ]
        mounts = [{"name": n, "mountPath": f"/{n}"} for n in "csemp"]
        mounts.append({"name": "e", "mountPath": "/sub", "subPathExpr": "$(WHO)/deep"})
        env = [{"name": "WHO", "value": "me"}]
        fill = sh("mkdir -p /e/me/deep; echo one >/e/me/deep/file", "i", volumeMounts=mounts[2:3])
        obj = pod("web", sh(script, volumeMounts=mounts, env=env), volumes=volumes, initContainers=[fill])
        obj["metadata"]["labels"] = {"a": "b"}
        await w.create(obj)
        await w.until_phase("Running")
        await w.until(lambda: "done" in w.log("web"))
        lines = w.log("web").splitlines()
        assert lines == [
            "one", "-r--------", "t0p", "one", "777", "1777", "tmpfs", "# Kubernetes-managed hosts file.", "1", "web", "web",
            'weba="b"', "ro", "done",
        ]  # fmt: skip
        await w.api.client.patch(CONFIGMAPS, "cm", "default", {"data": {"text": "two\n"}})

        async def changed() -> bool:
            c = next(iter(w.agent.workers.values())).seen.of("c")[0]
            code, out, _ = await w.real.exec_sync(c.id, ["cat", "/c/text"], 5)
            return code == 0 and out == b"two\n"

        await w.until(changed, within=5)

    tell(tmp_path, body)


def test_a_file_of_a_config_map_by_sub_path(tmp_path: Path) -> None:
    async def body(w: RealWorld) -> None:
        await w.api.client.create(CONFIGMAPS, {"metadata": {"name": "cm"}, "data": {"text": "one"}}, "default")
        mount = {"name": "c", "mountPath": "/etc/conf.d/it", "subPath": "text"}
        volumes = [{"name": "c", "configMap": {"name": "cm"}}]
        await w.create(
            pod("web", sh("cat /etc/conf.d/it", volumeMounts=[mount]), volumes=volumes, restartPolicy="Never")
        )
        await w.until_phase("Succeeded")
        assert w.log("web") == "one"

    tell(tmp_path, body)


def test_probes_restart_and_ready(tmp_path: Path) -> None:
    async def body(w: RealWorld) -> None:
        ready = {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1}
        alive = {"exec": {"command": ["test", "!", "-e", "/tmp/dead"]}, "periodSeconds": 1, "failureThreshold": 1}
        await w.create(
            pod(
                "web",
                sh(
                    "sleep 0.2; touch /tmp/ready; sleep 1; touch /tmp/dead; sleep 60",
                    readinessProbe=ready,
                    livenessProbe=alive,
                ),
                terminationGracePeriodSeconds=1,
            )
        )

        async def status() -> dict[str, Any]:
            found: dict[str, Any] = ((await w.status()).get("containerStatuses") or [{}])[0]
            return found

        async def is_ready() -> bool:
            return bool((await status()).get("ready"))

        async def restarted() -> bool:
            return int((await status()).get("restartCount", 0)) >= 1

        await w.until(is_ready)
        await w.until(restarted)
        assert any("iveness probe failed" in m for m in await w.events("Unhealthy"))

    tell(tmp_path, body)


def test_the_agent_is_replaced_under_a_running_pod(tmp_path: Path) -> None:
    async def body(w: RealWorld) -> None:
        await w.create(pod("web", sh("sleep 60")))
        before = (await w.until_phase("Running"))["containerStatuses"]
        await w.kill()
        await w.real.close()
        await w.boot()
        await asyncio.sleep(0.3)
        assert (await w.status())["containerStatuses"] == before

    tell(tmp_path, body)


def test_trust_anchors_and_a_pods_own_certificate(tmp_path: Path) -> None:
    """Two sources in one volume: the container starts once both are there, may read them as its user, and sees them change."""
    volume = {
        "name": "v",
        "projected": {
            "sources": [
                {"clusterTrustBundle": {"signerName": SIGNER, "labelSelector": {}, "path": "ca.crt"}},
                {"podCertificate": {"signerName": SIGNER, "keyType": "RSA3072", "credentialBundlePath": "own.pem"}},
            ]
        },
    }
    script = (
        "stat -c '%a %u' /v/..data/own.pem; grep -c BEGIN /v/own.pem; echo ready; "
        "until [ $(grep -c BEGIN /v/ca.crt) = 2 ]; do sleep 0.05; done; echo both"
    )

    async def body(w: RealWorld) -> None:
        client, now = w.api.client, float(int(w.clock.now()))
        await client.create(SERVICEACCOUNTS, {"metadata": {"name": "default"}}, "default")
        mounts = [{"name": "v", "mountPath": "/v"}]
        user = {"runAsUser": 1234, "runAsGroup": 1234}
        one = sh(script, volumeMounts=mounts, securityContext=user)
        await w.create(pod("web", one, volumes=[volume], restartPolicy="Never"))

        async def asked() -> list[Any]:
            return (await client.list(POD_CERTIFICATE_REQUESTS, "default"))["items"]

        async def publish(n: int) -> None:
            spec = {"signerName": SIGNER, "trustBundle": authority(f"root {n}", now)}
            name = f"{SIGNER.replace('/', ':')}:{n}"
            await client.create(CLUSTER_TRUST_BUNDLES, {"metadata": {"name": name}, "spec": spec})

        await publish(1)
        await w.until(asked)
        (request,) = await asked()
        assert (await w.status()).get("phase", "Pending") == "Pending"
        await issue(client, request, now, refresh=3600)
        await w.until_phase("Running")
        await w.until(lambda: "ready" in w.log("web"))
        await publish(2)
        await w.until_phase("Succeeded")
        assert w.log("web").split("\n") == ["600 1234", "2", "ready", "both"]

    tell(tmp_path, body)
