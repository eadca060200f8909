"""Machines of the group `local`: nodes of this host, each in a network namespace, as `jota up --nodes` makes them.

The instance's own file is the list: a node is written there before anything is made of it and taken out after everything is
gone, so that whoever dies in between leaves nothing that `jota down`, or the next pass, would not find. Every change holds the
instance's lock, as `jota up` and `jota down` do. An agent that has died is started again.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from jota.autoscaler.provider import Machine, ProviderFault, Template
from jota.client.client import Client
from jota.meta.errors import ApiError
from jota.meta.resource import SECRETS
from jota.node.machine import Machine as Host
from jota.run import kubeconfig, processes, tokens
from jota.run.instance import Instance, NodePlan, Refused, Registry
from jota.run.up import make_namespace, start_agent, tell, wait_ready

T = TypeVar("T")
log = logging.getLogger("jota.autoscaler")

MAX_PODS = 110
TOKEN_LIFE = 600.0
AGAIN = 30.0
"""Seconds between two attempts to start an agent that has died."""
_LOCK_PATIENCE, _LOCK_PAUSE = 60.0, 0.05
_GRACE = 5.0


class LocalProvider:
    """Blocking work runs in threads; `stop` ends their waiting."""

    def __init__(self, registry: Registry, name: str, client: Client, now: Callable[[], float]) -> None:
        self._registry, self._name, self._client, self._now = registry, name, client, now
        self.prefix = f"{name}-"
        self._stopping = threading.Event()
        self._tried: dict[str, float] = {}
        self._busy: set[str] = set()
        self._revivals: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        self._stopping.set()

    async def close(self) -> None:
        """Stop, and wait for what is under way."""
        self.stop()
        await asyncio.gather(*self._revivals, return_exceptions=True)

    async def first(self) -> int:
        return 1

    async def template(self) -> Template:
        instance = await self._do(self._instance)
        machine = Host(instance.data_dir)
        labels = {"kubernetes.io/os": "linux", "kubernetes.io/arch": machine.info()["architecture"]}
        return Template(machine.capacity(MAX_PODS), labels)

    async def machines(self) -> list[Machine]:
        instance = await self._do(self._instance)
        live = {p.node for p in processes.running(instance) if p.role == "agent"}
        for node in instance.nodes:
            if node.ip and not node.leaving and node.name not in live and node.name not in self._busy:
                self._revive_soon(node.name)
        return [Machine(n.name, _state(n), created=n.created) for n in instance.nodes if n.ip]

    async def create(self, name: str) -> None:
        self._busy.add(name)
        try:
            token = await self._token()
            await self._do(lambda: self._create(name, token))
        finally:
            self._busy.discard(name)

    async def delete(self, name: str) -> None:
        self._busy.add(name)
        try:
            await self._do(lambda: self._delete(name))
        finally:
            self._busy.discard(name)

    # -- in a thread

    def _instance(self) -> Instance:
        return self._registry.get(self._name)

    def _create(self, name: str, token: bytes) -> None:
        with self._locked():
            instance = self._instance()
            node = next((n for n in instance.nodes if n.name == name), None)
            if node is not None and node.leaving:
                raise Refused(f"node {name} is being removed")
            if node is None:
                node = NodePlan(name, instance.free_address(), created=self._now())
                instance.nodes.append(node)
                instance.save()
            make_namespace(instance, node)
            if any(p.role == "agent" and p.node == name for p in processes.running(instance)):
                return
            agent = start_agent(self._registry, instance, node)
            tell(agent, token)
        wait_ready(agent)

    def _delete(self, name: str) -> None:
        from jota.net.nodes import remove_node_namespace
        from jota.run.down import unmount_below
        from jota.runtime import trees
        from jota.runtime.embedded.cleanup import cleanup

        with self._locked():
            instance = self._instance()
            node = next((n for n in instance.nodes if n.name == name and n.ip), None)
            if node is None:
                return
            node.leaving = True
            instance.save()
            processes.end([p for p in processes.running(instance) if p.role == "agent" and p.node == name], _GRACE)
            directory = instance.node_dir(name)
            cleanup(str(directory / "runtime"), f"{instance.name}-{name}")
            remove_node_namespace(instance.name, instance.place(node))
            unmount_below(directory)
            with suppress(OSError):
                trees.remove(str(directory))
            instance.log_file("agent", name).unlink(missing_ok=True)
            instance.nodes.remove(node)
            instance.save()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """The instance's lock, waited for only while we are wanted: `jota down` holds it when it ends us."""
        deadline = time.monotonic() + _LOCK_PATIENCE
        with open(self._registry.lock_file(self._name), "w") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if self._stopping.wait(_LOCK_PAUSE) or time.monotonic() > deadline:
                        raise Refused("another command is at work on this cluster") from None
            yield

    # -- around it

    async def _do(self, work: Callable[[], T]) -> T:
        from jota.net.sys import NetworkFault, NftError
        from jota.runtime.protocol import RuntimeFault

        try:
            return await asyncio.to_thread(work)
        except (Refused, OSError, NetworkFault, NftError, RuntimeFault) as error:
            raise ProviderFault(str(error)) from error

    def _revive_soon(self, name: str) -> None:
        """In the background: one agent that does not start must not hide the machines of all others."""
        now = self._now()
        if now - self._tried.get(name, float("-inf")) < AGAIN:
            return
        self._tried[name] = now
        revival = asyncio.get_running_loop().create_task(self._revive(name), name=f"agent of {name}")
        self._revivals.add(revival)
        revival.add_done_callback(self._revivals.discard)

    async def _revive(self, name: str) -> None:
        try:
            await self.create(name)
        except ProviderFault as fault:
            log.warning("node %s: its agent has died and does not start again: %s", name, fault)

    async def _token(self) -> bytes:
        """A join token of its own for each machine: the one of `jota up` has long run out."""
        from jota.pki.ca import fingerprint

        who = await self._do(lambda: kubeconfig.read(self._instance().admin_kubeconfig))
        token = tokens.create(fingerprint(who.ca))
        try:
            await self._client.create(
                SECRETS, tokens.secret(token, now=self._now(), lifetime=TOKEN_LIFE), "kube-system"
            )
        except (ApiError, ConnectionError, TimeoutError) as error:
            raise ProviderFault(f"no join token could be made: {error or 'timed out'}") from error
        return str(token).encode()


def _state(node: NodePlan) -> str:
    return "deleting" if node.leaving else "running"
