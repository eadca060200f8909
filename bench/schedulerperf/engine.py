"""Carries one workload out: an API server on a durable store with a scheduler, in this process; a watch that counts bindings.

Out: a Result. The clock runs from the first creation of the measured pods until a client that watches has seen the last of
them bound; at the end a list confirms that each has a node.
"""

from __future__ import annotations

import asyncio
import gc
import re
import tempfile
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack, suppress
from cProfile import Profile
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import orjson

from bench.schedulerperf import templates
from bench.schedulerperf.workloads import Churn, Delete, Namespaces, Nodes, Pods, Service, Step, Workload
from jota.aio.clock import SystemClock
from jota.api.admission.node_taint import TaintNodesByCondition
from jota.api.admission.table import plugins
from jota.api.config import ApiConfig
from jota.api.filters.attributes import COMPONENT
from jota.api.security import secure, write_roles
from jota.api.server import Api
from jota.client.client import Client
from jota.client.inprocess import InProcess
from jota.pki.jwt import TokenSigner
from jota.scheduler.scheduler import Scheduler
from jota.store.drivers.sqlite import SqliteStore

_WORKERS = 64
"""Creations at a time."""
_PATIENCE = 120.0
_NAME = re.compile(rb'"name":"([^"]+)"')


@dataclass(slots=True)
class Result:
    pods: int
    seconds: float
    cpu: float
    """Seconds of processor time of the whole process meanwhile."""

    @property
    def rate(self) -> float:
        return self.pods / self.seconds


@dataclass(slots=True)
class _Run:
    client: Client
    tasks: asyncio.TaskGroup
    profile: Profile | None
    result: Result | None = None
    serial: int = 0
    pods: dict[str, list[str]] = field(default_factory=dict)
    """Namespace -> names."""
    background: list[asyncio.Task[None]] = field(default_factory=list)


def run(workload: Workload, profile: Profile | None = None) -> Result:
    """Raises RuntimeError when a request fails or pods are not bound in time. `profile` sees the measured part."""
    return asyncio.run(_main(workload, profile))


async def _main(workload: Workload, profile: Profile | None) -> Result:
    async with AsyncExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="jota-bench-"))
        client = await _server(Path(place), stack)
        async with asyncio.TaskGroup() as tasks:
            scheduler = tasks.create_task(Scheduler(client, clock=SystemClock(), random=Random(7)).run())
            run = _Run(client, tasks, profile)
            await _made(run, "/apis/scheduling.k8s.io/v1/priorityclasses", [templates.high_priority()])
            await _namespaces(run, ["default"])
            try:
                for step in workload.steps:
                    await _carry_out(run, step)
            finally:
                for task in (*run.background, scheduler):
                    task.cancel()
        if run.result is None:
            raise RuntimeError(f"{workload.name}: nothing was measured")
        return run.result


async def _server(place: Path, stack: AsyncExitStack) -> Client:
    """As `jota server` puts it together, but for the controllers: nothing runs here that would untaint new nodes."""
    clock = SystemClock()
    store = SqliteStore(str(place / "store.db"))
    stack.push_async_callback(store.close)
    config = ApiConfig()
    chosen = [p for p in plugins(config) if not isinstance(p, TaintNodesByCondition)]
    api = Api(store, clock=clock, random=Random(7), config=config, plugins=chosen)
    secure(api, TokenSigner(TokenSigner.create_key()), "https://bench")
    await api.start()
    stack.push_async_callback(api.close)
    await write_roles(api)
    return Client(InProcess(api.handle, COMPONENT))


async def _carry_out(run: _Run, step: Step) -> None:
    match step:
        case Nodes():
            await _nodes(run, step)
        case Namespaces():
            await _namespaces(run, [f"{step.prefix}-{n}" for n in range(step.count)], step.labelled)
        case Service():
            await _made(run, f"/api/v1/namespaces/{step.namespace}/services", [templates.service("service")])
        case Pods():
            await _pods(run, step)
        case Delete():
            run.background.append(run.tasks.create_task(_delete(run, step)))
        case Churn():
            namespace = await _own_namespace(run)
            run.background.append(run.tasks.create_task(_churn(run, step, namespace)))


# -- steps


async def _nodes(run: _Run, step: Nodes) -> None:
    if step.form == "named":
        await _made(run, "/api/v1/nodes", [templates.named_node()])
        return
    names = [f"node-{run.serial + n}" for n in range(step.count)]
    run.serial += step.count
    made = []
    for n, name in enumerate(names):
        labels = {templates.ZONE: step.zones[n % len(step.zones)]} if step.zones else None
        if step.form == "tainted":
            made.append(templates.tainted_node(name))
        else:
            more = {"example.com/gpu": "1"} if step.form == "extended" else None
            made.append(templates.node(name, labels, more=more))
    await _made(run, "/api/v1/nodes", made)
    if step.csi_limit:
        csi = [templates.csi_node(name, "u", step.csi_limit) for name in names]
        await _made(run, "/apis/storage.k8s.io/v1/csinodes", csi)


async def _namespaces(run: _Run, names: list[str], labelled: bool = False) -> None:
    """With the default account, which a controller would make."""
    labels = {"team": "devops"} if labelled else {}
    made = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": n, "labels": labels}}
        for n in names
        if n != "default"
    ]
    await _made(run, "/api/v1/namespaces", made)
    for name in names:
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        await _made(run, f"/api/v1/namespaces/{name}/serviceaccounts", [account])


async def _own_namespace(run: _Run) -> str:
    run.serial += 1
    name = f"namespace-{run.serial}"
    await _namespaces(run, [name])
    return name


async def _pods(run: _Run, step: Pods) -> None:
    if step.spread_over:
        wheres = [f"{step.namespace}-{n}" for n in range(step.spread_over)]
    else:
        wheres = [step.namespace or await _own_namespace(run)]
    jobs, names = [], []
    for where in wheres:
        mine = [f"{step.template}-{run.serial + n}" for n in range(step.count)]
        run.serial += step.count
        run.pods.setdefault(where, []).extend(mine)
        if step.volumes:
            await _volumes(run, mine, where, step.volumes)
        path = f"/api/v1/namespaces/{where}/pods"
        for name in mine:
            pod = templates.pod(step.template, name, name if step.volumes else "")
            if step.finalizer:
                pod["metadata"]["finalizers"] = ["bench.jota/test"]
            jobs.append((path, orjson.dumps(pod)))
        names += mine
    if not step.wait:
        await _post(run, jobs)
        return
    seen = _Bound(names)
    watching = run.tasks.create_task(seen.watch(run.client, wheres[0] if len(wheres) == 1 else ""))
    await seen.ready.wait()
    if step.measured:
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
    if step.measured and run.profile is not None:
        run.profile.enable()
    begin, cpu = time.monotonic(), time.process_time()
    await _post(run, jobs)
    await seen.all(begin)
    if step.measured:
        if run.profile is not None:
            run.profile.disable()
        run.result = Result(len(names), time.monotonic() - begin, time.process_time() - cpu)
        gc.unfreeze()
        await _confirm(run, wheres[0], set(names))
    watching.cancel()


async def _confirm(run: _Run, namespace: str, names: set[str]) -> None:
    reply = await run.client.raw("GET", f"/api/v1/namespaces/{namespace}/pods")
    items = orjson.loads(reply.body if isinstance(reply.body, bytes) else b"".join(map(bytes, reply.body)))["items"]
    missing = names - {p["metadata"]["name"] for p in items if p["spec"].get("nodeName")}
    if missing:
        raise RuntimeError(f"{len(missing)} of {len(names)} measured pods have no node")


async def _volumes(run: _Run, names: list[str], namespace: str, form: str) -> None:
    """A volume and a claim each, bound to one another, as a binder would leave them."""
    await _made(run, "/api/v1/persistentvolumes", [templates.volume(n, namespace, form) for n in names])
    path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"
    await _made(run, path, [templates.claim(n) for n in names])
    bound = orjson.dumps(
        {"status": {"phase": "Bound", "accessModes": ["ReadOnlyMany"], "capacity": {"storage": "1Gi"}}}
    )
    jobs = [(f"{path}/{n}/status", bound) for n in names]
    await _post(run, jobs, "PATCH", "application/merge-patch+json")


async def _delete(run: _Run, step: Delete) -> None:
    path = f"/api/v1/namespaces/{step.namespace}/pods"
    for name in list(run.pods.get(step.namespace, ())):
        await _request(run, "DELETE", f"{path}/{name}", b"", "application/json")
        await asyncio.sleep(1 / step.per_second)


async def _churn(run: _Run, step: Churn, namespace: str) -> None:
    number = 0
    while True:
        number += 1
        for template in step.templates:
            name = f"churn-{template}-{number}"
            if template == "node":
                path, made = "/api/v1/nodes", templates.node(name)
            elif template == "service":
                path, made = f"/api/v1/namespaces/{namespace}/services", templates.service(name)
            else:
                path, made = f"/api/v1/namespaces/{namespace}/pods", templates.pod(template, name)
            await _made(run, path, [made])
            await asyncio.sleep(step.interval)
            if step.recreate:
                await _request(run, "DELETE", f"{path}/{name}", b"", "application/json")


# -- requests


async def _made(run: _Run, path: str, objects: Iterable[dict[str, Any]]) -> None:
    await _post(run, [(path, orjson.dumps(o)) for o in objects])


async def _post(
    run: _Run, jobs: list[tuple[str, bytes]], method: str = "POST", content: str = "application/json"
) -> None:
    """All of them, many at a time."""
    left = iter(jobs)

    async def work() -> None:
        for path, body in left:
            await _request(run, method, path, body, content)

    async with asyncio.TaskGroup() as workers:
        for _ in range(min(_WORKERS, len(jobs))):
            workers.create_task(work())


async def _request(run: _Run, method: str, path: str, body: bytes, content: str) -> None:
    reply = await run.client.raw(method, path, "", body, {"content-type": content})
    if reply.status >= 300:
        raise RuntimeError(f"{method} {path}: {reply.status} {reply.body!r:.300}")


class _Bound:
    """Which of the pods a watching client has seen with a node."""

    def __init__(self, names: list[str]) -> None:
        self._left = {n.encode() for n in names}
        self._done = asyncio.Event()
        self.ready = asyncio.Event()

    async def watch(self, client: Client, namespace: str) -> None:
        path = f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"
        listed = await client.raw("GET", path, "limit=1")
        body = listed.body if isinstance(listed.body, bytes) else b"".join(map(bytes, listed.body))
        version = orjson.loads(body)["metadata"]["resourceVersion"]
        self.ready.set()
        batches = client.transport.watch(path, f"watch=1&resourceVersion={version}", {"accept": "application/json"})
        async for batch in batches:
            for event in batch:
                raw = event.body
                if event.type == "MODIFIED" and b'"nodeName":' in raw and (found := _NAME.search(raw)):
                    self._left.discard(found[1])
            if not self._left:
                self._done.set()
                return

    async def all(self, begin: float) -> None:
        """Raises RuntimeError when it takes too long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE - (time.monotonic() - begin)):
                await self._done.wait()
                return
        raise RuntimeError(f"{len(self._left)} pods were not bound within {_PATIENCE:.0f} s")
