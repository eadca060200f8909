"""Carries one workload out: an API server on a durable store with a scheduler, in this process, with the loop and the
switches between threads of `jota server`; a watch counts bindings.

Out: a Result. The clock runs from the first creation of the measured pods until a client that watches has seen the last of
them bound; at the end a list confirms that each has a node. As upstream's harness does it: pods are posted one by one, many at
a time, and are named by the server (`generateName`). `alike`: as a ReplicaSet makes them instead.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any, Protocol, TypeVar

import msgspec
import orjson
import uvloop

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
from jota.client.informer import split_key
from jota.client.inprocess import InProcess
from jota.client.pods import Pod
from jota.client.reader import Reader
from jota.meta.resource import PODS
from jota.pki.jwt import TokenSigner
from jota.run.server import SWITCH
from jota.scheduler.scheduler import Scheduler
from jota.store.drivers.sqlite import SqliteStore

_WORKERS = 256
"""Creations at a time."""
_TOGETHER = 4
"""The same, when each is of `alike` pods."""
_PATIENCE = 120.0
_JSON = "application/json"
_NAME = "THE-NAME"
"""Stands in templates for that of an object."""
T = TypeVar("T")


@dataclass(slots=True)
class Result:
    pods: int
    seconds: float
    cpu: float
    """Seconds of processor time of the whole process meanwhile."""

    @property
    def rate(self) -> float:
        return self.pods / self.seconds


class Probe(Protocol):
    """What sees the measured part, such as a cProfile.Profile."""

    def enable(self) -> None: ...
    def disable(self) -> None: ...


@dataclass(slots=True)
class _Run:
    client: Client
    tasks: asyncio.TaskGroup
    probe: Probe | None
    alike: int
    seen: _Bound
    result: Result | None = None
    serial: int = 0
    background: list[asyncio.Task[None]] = field(default_factory=list)


def run(workload: Workload, probe: Probe | None = None, alike: int = 1) -> Result:
    """`alike`: how many pods of one template are asked for at a time (`Client.create_alike`); 1: each by a request of its own.

    Raises RuntimeError when a request fails or pods are not bound in time."""
    sys.setswitchinterval(SWITCH)
    return uvloop.run(_main(workload, probe, alike))


def run_alone(workload: Workload, alike: int = 1) -> Result:
    """The same in a process of its own: what earlier workloads left behind is not measured."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(run, workload, None, alike).result()


async def _main(workload: Workload, probe: Probe | None, alike: int) -> Result:
    async with AsyncExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="jota-bench-"))
        client = await _server(Path(place), stack)
        async with asyncio.TaskGroup() as tasks:
            scheduler = tasks.create_task(Scheduler(client, clock=SystemClock(), random=Random(7)).run())
            seen = _Bound(client)
            run = _Run(client, tasks, probe, alike, seen)
            watching = tasks.create_task(seen.run())
            await _made(run, "/apis/scheduling.k8s.io/v1/priorityclasses", [templates.high_priority()])
            await _namespaces(run, ["default"])
            try:
                for step in workload.steps:
                    await _carry_out(run, step)
            finally:
                for task in (*run.background, watching, scheduler):
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
    return Client(InProcess(api.reply, COMPONENT))


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
    await run.seen.watches.wait()
    awaited = {where: run.seen.placed[where] + step.count for where in wheres}
    if step.measured:
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        if run.probe is not None:
            run.probe.enable()
    begin, cpu = time.monotonic(), time.process_time()
    for where in wheres:
        await (_with_volumes if step.volumes else _alike)(run, step, where)
    if step.wait:
        await run.seen.reached(awaited, _PATIENCE - (time.monotonic() - begin))
    if step.measured:
        if run.probe is not None:
            run.probe.disable()
        run.result = Result(step.count * len(wheres), time.monotonic() - begin, time.process_time() - cpu)
        gc.unfreeze()
        await _confirm(run, wheres[0], step.count)


async def _alike(run: _Run, step: Pods, where: str) -> None:
    """The step's pods of one namespace, by the same bytes each."""
    pod = templates.pod(step.template)
    if step.finalizer:
        pod["metadata"]["finalizers"] = ["bench.jota/test"]
    body = orjson.dumps(pod)
    if run.alike == 1:
        await _post(run, [(_pods_of(where), body)] * step.count)
        return
    left = step.count

    async def work() -> None:
        nonlocal left
        while left:
            wanted = min(run.alike, left)
            left -= wanted
            made = await run.client.create_alike(PODS, body, where, wanted, type=msgspec.Raw)
            left += wanted - len(made)

    async with asyncio.TaskGroup() as workers:
        for _ in range(_TOGETHER):
            workers.create_task(work())


async def _confirm(run: _Run, namespace: str, count: int) -> None:
    pods = await _list(run, namespace)
    placed = sum(1 for p in pods if p["spec"].get("nodeName"))
    if placed < count or placed < len(pods):
        raise RuntimeError(f"{placed} of {len(pods)} pods have a node; {count} were measured")


async def _list(run: _Run, namespace: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await run.client.list(PODS, namespace))["items"]
    return found


async def _with_volumes(run: _Run, step: Pods, where: str) -> None:
    """The step's pods of one namespace with a claim and a volume each, bound to one another as a binder would leave them.

    As upstream's CreatePodWithPersistentVolume, one request after the other: the claim, its status, the volume, its status,
    the pod; many pods at a time. A status is written by the very object that was posted (it names no resourceVersion), and
    the pod is named by the server."""
    names = [f"{step.template}-{run.serial + n}" for n in range(step.count)]
    run.serial += step.count

    objects = (
        (_claims_of(where), _filled_in(templates.claim(_NAME))),
        ("/api/v1/persistentvolumes", _filled_in(templates.volume(_NAME, where, step.volumes))),
    )
    pod = _filled_in(templates.pod(step.template, claim=_NAME))

    async def make(name: str) -> None:
        for path, sent in objects:
            body = sent(name)
            await _request(run, "POST", path, body, _JSON)
            await _request(run, "PUT", f"{path}/{name}/status", body, _JSON)
        await _request(run, "POST", _pods_of(where), pod(name), _JSON)

    await _each(names, make)


def _filled_in(template: dict[str, Any]) -> Callable[[str], bytes]:
    """The bodies of objects that have a name in its place."""
    pieces = orjson.dumps(template).split(_NAME.encode())
    return lambda name: name.encode().join(pieces)


async def _delete(run: _Run, step: Delete) -> None:
    for pod in await _list(run, step.namespace):
        path = f"{_pods_of(step.namespace)}/{pod['metadata']['name']}"
        await _request(run, "DELETE", path, b"", _JSON)
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
                path, made = _pods_of(namespace), templates.pod(template, name)
            await _made(run, path, [made])
            await asyncio.sleep(step.interval)
            if step.recreate:
                await _request(run, "DELETE", f"{path}/{name}", b"", _JSON)


# -- requests


def _pods_of(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


def _claims_of(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"


async def _made(run: _Run, path: str, objects: Iterable[dict[str, Any]]) -> None:
    await _post(run, [(path, orjson.dumps(o)) for o in objects])


async def _post(run: _Run, jobs: list[tuple[str, bytes]]) -> None:
    async def post(job: tuple[str, bytes]) -> None:
        await _request(run, "POST", *job, _JSON)

    await _each(jobs, post)


async def _each(jobs: list[T], do: Callable[[T], Awaitable[None]]) -> None:
    """All of them, many at a time."""
    left = iter(jobs)

    async def work() -> None:
        for job in left:
            await do(job)

    async with asyncio.TaskGroup() as workers:
        for _ in range(min(_WORKERS, len(jobs))):
            workers.create_task(work())


async def _request(run: _Run, method: str, path: str, body: bytes, content: str) -> None:
    headers = {"accept": "application/json", "content-type": content}
    reply = await run.client.transport.request(method, path, "", body, headers)
    if reply.status >= 300:
        raise RuntimeError(f"{method} {path}: {reply.status} {reply.body!r:.600}")


class _Bound:
    """How many pods a watching client has seen get a node."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.watches = asyncio.Event()
        self.placed: Counter[str] = Counter()
        """By namespace."""
        self._seen: set[str] = set()
        self._held: dict[str, Pod] = {}
        """As an informer does: of what is held a change is enough (meta/change.py)."""
        self._awaited: dict[str, int] = {}
        self._done = asyncio.Event()

    async def run(self) -> None:
        """Raises RuntimeError when the watch ends."""
        version = (await self._client.list(PODS, limit=1))["metadata"]["resourceVersion"]
        self.watches.set()
        reader = Reader(Pod)
        async for batch in self._client.watch_batches(PODS, resource_version=version, bookmarks=False):
            for event in batch:
                if event.type not in ("ADDED", "MODIFIED"):
                    continue
                key, pod, uid, _ = reader.read(event, self._held.get(event.key))
                self._held[key] = pod
                if pod.spec.nodeName and uid not in self._seen:
                    self._seen.add(uid)
                    self._count(split_key(key)[0])
        raise RuntimeError("the watch that counts bindings has ended")

    def _count(self, namespace: str) -> None:
        self.placed[namespace] += 1
        if self.placed[namespace] == self._awaited.get(namespace):
            del self._awaited[namespace]
            if not self._awaited:
                self._done.set()

    async def reached(self, awaited: dict[str, int], patience: float) -> None:
        """`awaited`: how many, by namespace. Raises RuntimeError when it takes longer than `patience` seconds."""
        self._done.clear()
        self._awaited = {where: count for where, count in awaited.items() if self.placed[where] < count}
        if not self._awaited:
            return
        try:
            async with asyncio.timeout(patience):
                await self._done.wait()
        except TimeoutError:
            left = sum(count - self.placed[where] for where, count in self._awaited.items())
            raise RuntimeError(f"{left} pods were not bound within {_PATIENCE:.0f} s") from None
