"""A runtime and a network in memory, with the contract's behaviour and a journal of calls. Containers do what a test tells them.

State lives outside the agent, as the real runtime's does: a second agent on the same double finds what the first one made.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any

from jota.aio.clock import Clock
from jota.net.protocol import HostPort
from jota.runtime.protocol import (
    Container,
    ContainerSpec,
    Image,
    Resources,
    RuntimeFault,
    Sandbox,
    SandboxSpec,
    Stats,
)


class FakeImages:
    def __init__(self, *present: str) -> None:
        self.local = {name: image(name) for name in present}
        self.remote = dict(self.local)
        self.pulls: list[tuple[str, tuple[str, str] | None]] = []
        self.gate: asyncio.Event | None = None
        """When set, pulls wait for it."""

    async def pull(self, reference: str, *, auth: tuple[str, str] | None = None) -> Image:
        self.pulls.append((reference, auth))
        if self.gate is not None:
            await self.gate.wait()
        if reference not in self.remote:
            raise RuntimeFault("ErrImagePull", f"{reference}: manifest unknown")
        self.local[reference] = self.remote[reference]
        return self.local[reference]

    async def load(self, path: str) -> Any:
        raise RuntimeFault("ErrImagePull", "the double loads nothing")

    async def get(self, reference: str) -> Image | None:
        return self.local.get(reference)

    async def list(self) -> Any:
        return list(self.local.values())

    async def remove(self, reference: str) -> None:
        self.local.pop(reference, None)


def image(name: str, **fields: Any) -> Image:
    return Image(f"sha256:{name}", [name], [f"{name}@sha256:0"], 1000, **fields)


class FakeRuntime:
    """`journal` lists what was done; `faults[step]` raises before a step is carried out."""

    def __init__(self, clock: Clock, *images: str) -> None:
        self.clock = clock
        self.images: Any = FakeImages(*(images or ("app:1", "app:2", "init:1")))
        self.boxes: dict[str, Sandbox] = {}
        self.made: dict[str, Container] = {}
        self.specs: dict[str, ContainerSpec] = {}
        self.journal: list[str] = []
        self.faults: dict[str, list[Exception]] = {}
        self.stops: dict[str, Callable[[Container], int | None]] = {}
        """Container name -> exit code on the stop signal, None: it ignores the signal."""
        self.exec_result: Callable[[str, list[str]], tuple[int, bytes, bytes]] = lambda name, command: (0, b"", b"")
        self.execs: list[tuple[str, list[str]]] = []
        self._count = 0
        self._listeners: list[asyncio.Queue[str]] = []
        self._dead: dict[str, asyncio.Event] = {}

    # -- what tests do

    def exit(self, name: str, code: int = 0, *, reason: str = "") -> Container:
        """The running container `name` ends."""
        c = self.running(name)
        self._end(c, code, reason)
        return c

    def running(self, name: str) -> Container:
        return next(c for c in self.made.values() if c.name == name and c.state == "running")

    def is_running(self, name: str) -> bool:
        return any(c.name == name and c.state == "running" for c in self.made.values())

    def attempts(self, name: str) -> list[int]:
        return sorted(c.attempt for c in self.made.values() if c.name == name)

    def lose_sandboxes(self) -> None:
        """As after a reboot: nothing runs, the records are there."""
        for c in self.made.values():
            if c.state == "running":
                c.state = "unknown"
        for box in self.boxes.values():
            box.state = "notready"
            self.tell(box.spec.pod_uid)

    def tell(self, uid: str) -> None:
        for queue in self._listeners:
            queue.put_nowait(uid)

    def _end(self, c: Container, code: int, reason: str = "") -> None:
        c.state, c.exit_code, c.finished_at = "exited", code, self.clock.now()
        c.reason = reason or ("Completed" if code == 0 else "Error")
        self._dead[c.id].set()
        self.tell(c.pod_uid)

    async def _step(self, name: str, what: str) -> None:
        await asyncio.sleep(0)
        if faults := self.faults.get(name):
            raise faults.pop(0)
        self.journal.append(f"{name} {what}")

    # -- the contract

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def shutdown(self) -> None: ...

    async def run_sandbox(self, spec: SandboxSpec) -> Sandbox:
        await self._step("run_sandbox", spec.name)
        self._count += 1
        sid = f"box{self._count}"
        netns = "" if spec.host_network else f"/run/netns/{sid}"
        self.boxes[sid] = Sandbox(sid, spec, "ready", self.clock.now(), netns)
        await asyncio.sleep(0)
        return replace(self.boxes[sid])

    async def stop_sandbox(self, sandbox_id: str) -> None:
        await self._step("stop_sandbox", sandbox_id)
        if sandbox_id in self.boxes:
            for c in self.made.values():
                if c.sandbox_id == sandbox_id and c.state == "running":
                    self._end(c, 137)
            self.boxes[sandbox_id].state = "notready"

    async def remove_sandbox(self, sandbox_id: str) -> None:
        await self._step("remove_sandbox", sandbox_id)
        self.boxes.pop(sandbox_id, None)

    async def sandboxes(self) -> list[Sandbox]:
        await asyncio.sleep(0)
        return [replace(b) for b in self.boxes.values()]

    async def create_container(self, sandbox_id: str, spec: ContainerSpec) -> str:
        await self._step("create_container", f"{spec.name}/{spec.attempt}")
        if self.boxes[sandbox_id].state != "ready":
            raise RuntimeFault("CreateContainerError", "sandbox is not ready")
        self._count += 1
        cid = f"c{self._count}"
        uid = self.boxes[sandbox_id].spec.pod_uid
        ref = spec.image.removeprefix("sha256:") + "@sha256:0"
        now = self.clock.now()
        self.made[cid] = Container(
            cid, sandbox_id, uid, spec.name, spec.attempt, spec.image, ref, "created", now, labels=dict(spec.labels)
        )
        self.specs[cid] = spec
        self._dead[cid] = asyncio.Event()
        await asyncio.sleep(0)
        return cid

    async def start_container(self, container_id: str) -> None:
        c = self.made[container_id]
        await self._step("start_container", f"{c.name}/{c.attempt}")
        c.state, c.started_at, c.pid = "running", self.clock.now(), 1000 + self._count
        self.tell(c.pod_uid)
        await asyncio.sleep(0)

    async def stop_container(self, container_id: str, grace: float) -> None:
        c = self.made.get(container_id)
        if c is None:
            return
        await self._step("stop_container", f"{c.name}/{c.attempt} {grace:.0f}")
        if c.state != "running":
            return
        code = self.stops.get(c.name, _obeys)(c)
        if code is not None:
            self._end(c, code)
            return
        end = self.clock.monotonic() + grace
        sleeping = asyncio.ensure_future(self.clock.sleep(max(0.0, end - self.clock.monotonic())))
        dead = asyncio.ensure_future(self._dead[container_id].wait())
        try:
            await asyncio.wait((sleeping, dead), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            dead.cancel()
        if c.state == "running":
            self._end(c, 137)

    async def remove_container(self, container_id: str) -> None:
        c = self.made.get(container_id)
        await self._step("remove_container", f"{c.name}/{c.attempt}" if c else container_id)
        self.made.pop(container_id, None)

    async def containers(self) -> list[Container]:
        await asyncio.sleep(0)
        if faults := self.faults.get("containers"):
            raise faults.pop(0)
        return [replace(c) for c in self.made.values()]

    async def container(self, container_id: str) -> Container | None:
        return self.made.get(container_id)

    async def events(self) -> AsyncIterator[str]:
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._listeners.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.remove(queue)

    async def exec_sync(self, container_id: str, command: list[str], timeout: float) -> tuple[int, bytes, bytes]:
        name = self.made[container_id].name
        self.execs.append((name, command))
        await asyncio.sleep(0)
        return self.exec_result(name, command)

    async def exec(self, container_id: str, command: list[str], *, tty: bool, stdin: bool) -> Any:
        raise RuntimeFault("Exec", "not in the double")

    async def attach(self, container_id: str, *, stdin: bool) -> Any:
        raise RuntimeFault("Attach", "not in the double")

    async def port_forward(self, sandbox_id: str, port: int) -> Any:
        raise ConnectionError("not in the double")

    async def update_resources(
        self, container_id: str, resources: Resources, labels: Mapping[str, str] | None = None
    ) -> None:
        c = self.made[container_id]
        await self._step("update_resources", c.name)
        self.specs[container_id].resources = resources
        c.labels = {**c.labels, **(labels or {})}

    async def update_sandbox(
        self, sandbox_id: str, resources: Resources, labels: Mapping[str, str] | None = None
    ) -> None:
        await self._step("update_sandbox", sandbox_id)
        box = self.boxes[sandbox_id]
        box.spec = replace(box.spec, resources=resources, labels={**box.spec.labels, **(labels or {})})

    async def stats(self) -> list[Stats]:
        return [Stats(c.id, self.clock.now(), 0, 1 << 20, 1 << 20) for c in self.made.values() if c.state == "running"]


class FakeNetwork:
    def __init__(self) -> None:
        self.held: dict[str, str] = {}
        self.ports: dict[str, list[HostPort]] = {}
        self.faults: list[Exception] = []
        self._count = 0

    async def start(self) -> None: ...

    async def attach(self, pod_uid: str, netns: str, host_ports: list[HostPort] | None = None) -> str:
        await asyncio.sleep(0)
        if self.faults:
            raise self.faults.pop(0)
        if pod_uid not in self.held:
            self._count += 1
            self.held[pod_uid] = f"10.42.0.{self._count}"
        self.ports[pod_uid] = host_ports or []
        return self.held[pod_uid]

    async def detach(self, pod_uid: str) -> None:
        await asyncio.sleep(0)
        self.held.pop(pod_uid, None)

    def addresses(self) -> dict[str, str]:
        return dict(self.held)

    async def close(self) -> None: ...

    async def shutdown(self) -> None: ...


def _obeys(_: Container) -> int | None:
    """A process that ends on SIGTERM."""
    return 143
