"""PodGroups as the scheduler reads them: which group a pod is of, and what that group asks for.

Two conventions: scheduling.k8s.io/v1beta1 with spec.schedulingGroup.podGroupName, and the custom resource of
scheduling.x-k8s.io/v1alpha1 with a label. Neither is read before a pod names a group, so clusters without groups pay
nothing; a server that does not serve the resource is asked again every few seconds. Next: gang.py, which places them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec

from jota.aio.clock import Clock
from jota.client.client import Client
from jota.client.informer import Informer
from jota.meta.errors import ApiError
from jota.meta.resource import PODGROUPS, Resource
from jota.scheduler.pod import Pod

COSCHEDULING = Resource("scheduling.x-k8s.io", "v1alpha1", "podgroups", "PodGroup")
LABEL = "scheduling.x-k8s.io/pod-group"
RESOURCES = {r.group: r for r in (PODGROUPS, COSCHEDULING)}
_ASK_AGAIN = 10.0
"""Seconds between looks whether the server serves the resource by now."""


class _Meta(msgspec.Struct, gc=False):
    name: str
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""


class _Gang(msgspec.Struct, gc=False):
    minCount: int = 0


class _Policy(msgspec.Struct, gc=False):
    gang: _Gang | None = None


class _Topology(msgspec.Struct, gc=False):
    key: str = ""


class _Constraints(msgspec.Struct, gc=False):
    topology: list[_Topology] | None = None


class _Spec(msgspec.Struct, gc=False):
    schedulingPolicy: _Policy | None = None
    schedulingConstraints: _Constraints | None = None
    disruptionMode: dict[str, Any] | None = None
    priority: int | None = None
    preemptionPolicy: str = ""
    minMember: int = 0
    """Of the custom resource."""


class _Condition(msgspec.Struct, gc=False):
    type: str = ""
    status: str = ""
    message: str = ""
    lastTransitionTime: str = ""


class _Status(msgspec.Struct, gc=False):
    conditions: list[_Condition] | None = None


class PodGroup(msgspec.Struct):
    metadata: _Meta
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


@dataclass(slots=True, frozen=True)
class Policy:
    """What a group asks for."""

    least: int = 0
    """Pods that are placed together or not at all; 0: each pod for itself."""
    priority: int | None = None
    """The whole group's; None: that of its pods."""
    preempts: bool = True
    topology: str = ""
    """A node label whose value all pods of the group must share; "" for no such wish."""
    whole: bool = False
    """Whether it is disrupted as a whole (disruptionMode all): when one pod must go for others, all go."""


def group_of(pod: Pod) -> str:
    """The key of the pod's group, "<api group>:<namespace>/<name>"; "" for a pod by itself."""
    if pod.spec.schedulingGroup is not None:
        return f"{PODGROUPS.group}:{pod.metadata.namespace}/{pod.spec.schedulingGroup.podGroupName}"
    labels = pod.metadata.labels
    if labels and labels.get(LABEL):
        return f"{COSCHEDULING.group}:{pod.metadata.namespace}/{labels[LABEL]}"
    return ""


class PodGroups:
    """The caches. `changed(key)` is called when a group came, went or changed, or became known not to exist."""

    def __init__(self, client: Client, clock: Clock, random: Random, changed: Callable[[str], None]) -> None:
        self._client, self._clock, self._random, self._changed = client, clock, random, changed
        self._informers: dict[str, Informer[PodGroup]] = {}
        self._unserved: set[str] = set()
        self._named: dict[str, set[str]] = {}
        """API group -> keys that pods named."""
        self._asked = asyncio.Event()

    def need(self, key: str) -> None:
        """A pod names this group: it is read from now on."""
        group = key.partition(":")[0]
        if group not in self._named:
            self._named[group] = set()
            self._asked.set()
        self._named[group].add(key)

    def drop(self, key: str) -> None:
        """No pod names it any more."""
        self._named.get(key.partition(":")[0], set()).discard(key)

    def get(self, key: str) -> PodGroup | None:
        group, _, where = key.partition(":")
        informer = self._informers.get(group)
        return informer.get(where) if informer is not None else None

    def policy(self, key: str) -> Policy | None:
        """None while it is not known. A label whose custom resource does not exist here means nothing."""
        found = self.get(key)
        if found is not None:
            return policy_of(key, found)
        return Policy() if key.partition(":")[0] in self._unserved & {COSCHEDULING.group} else None

    def absence(self, key: str) -> str:
        """Why there is no policy, in words."""
        group, _, where = key.partition(":")
        text = f'waiting for PodGroup "{where.partition("/")[2]}" to be created'
        if group in self._unserved:
            version = RESOURCES[group].api_version
            text += f"; {version} is not served: start the server with --runtime-config={version}=true"
        return text

    async def run(self) -> None:
        """Until cancelled."""
        started: set[str] = set()
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._asked.wait()
                self._asked.clear()
                for group in self._named.keys() - started:
                    started.add(group)
                    tasks.create_task(self._read(group))

    async def _read(self, group: str) -> None:
        while not await self._served(group):
            await self._clock.sleep(_ASK_AGAIN)
        informer: Informer[PodGroup] = Informer(
            self._client, RESOURCES[group], type=PodGroup, clock=self._clock, random=self._random
        )
        self._informers[group] = informer
        informer.add_handler(lambda old, new: self._moved(group, old, new))
        await informer.run()

    async def _served(self, group: str) -> bool:
        try:
            await self._client.list(RESOURCES[group], limit=1)
        except ApiError as error:
            if error.code == 404 and group not in self._unserved:
                self._unserved.add(group)
                for key in list(self._named[group]):
                    self._changed(key)
            return False
        except (ConnectionError, TimeoutError):
            return False
        self._unserved.discard(group)
        return True

    def _moved(self, group: str, old: PodGroup | None, new: PodGroup | None) -> None:
        seen = new or old
        assert seen is not None
        if old is None or new is None or old.spec != new.spec:
            self._changed(f"{group}:{seen.metadata.namespace}/{seen.metadata.name}")


def policy_of(key: str, group: PodGroup) -> Policy:
    """What the group with this key asks for."""
    spec = group.spec
    if key.startswith(f"{COSCHEDULING.group}:"):
        return Policy(least=max(1, spec.minMember))
    gang = spec.schedulingPolicy.gang if spec.schedulingPolicy is not None else None
    topology = (spec.schedulingConstraints.topology if spec.schedulingConstraints is not None else None) or []
    return Policy(
        # A group with a topology goes through the same door even when each pod may be placed for itself.
        least=gang.minCount if gang is not None else int(bool(topology)),
        priority=spec.priority,
        preempts=spec.preemptionPolicy != "Never",
        topology=topology[0].key if topology else "",
        whole=(spec.disruptionMode or {}).get("all") is not None,
    )
