"""All extenders in turn: what one filters out, the next does not see; their scores are added up; the first that binds, binds.

One that fails is passed over when it is ignorable, or fails the pod's try. In: a pod and names of nodes that the plugins let
pass. Out: Verdict. Next: consult.py, who acts on it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from jota.aio.clock import Clock
from jota.client.client import Client
from jota.client.informer import Informer
from jota.meta.resource import NODES, PODS
from jota.scheduler.extender import Extender, ExtenderFailed, Object
from jota.scheduler.extenderconfig import ExtenderConfig
from jota.scheduler.framework import BEST
from jota.scheduler.pod import Pod, Shape
from jota.scheduler.preemption import Candidate, Placed

log = logging.getLogger("jota.scheduler")
_SCALE = BEST / 10.0
"""Extenders score from 0 to 10, plugins from 0 to 100."""


@dataclass(slots=True)
class Verdict:
    passed: list[str]
    failed: dict[str, str] = field(default_factory=dict)
    """Node -> why an extender filtered it out."""
    unresolvable: set[str] = field(default_factory=set)
    scores: dict[str, float] = field(default_factory=dict)
    """Node -> what is added to the plugins' score."""


class Extenders:
    def __init__(self, configs: Sequence[ExtenderConfig], client: Client, *, clock: Clock, random: Random) -> None:
        self._all = [Extender(config) for config in configs]
        self._client = client
        # whole nodes are kept for those extenders alone that want to be told of whole nodes
        wanted = any(not c.node_cache and (c.filter_verb or c.prioritize_verb) for c in configs)
        self._nodes: Informer[Any] | None = Informer(client, NODES, clock=clock, random=random) if wanted else None
        wanted = any(not c.node_cache and c.preempt_verb for c in configs)
        self._pods: Informer[Any] | None = Informer(client, PODS, clock=clock, random=random) if wanted else None

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for informer in (self._nodes, self._pods):
                if informer is not None:
                    tasks.create_task(informer.run())

    async def synced(self) -> None:
        for informer in (self._nodes, self._pods):
            if informer is not None:
                await informer.synced()

    def interested(self, shape: Shape) -> bool:
        """Whether any extender wants to be asked about such pods before they are placed."""
        return any(e.interested(shape) for e in self._all)

    def mind_preemption(self, shape: Shape) -> bool:
        return any(e.config.preempt_verb and e.interested(shape) for e in self._all)

    async def judge(self, pod: Object, shape: Shape, names: list[str]) -> Verdict:
        """Raises ExtenderFailed."""
        verdict = Verdict(names)
        for extender in self._all:
            if not verdict.passed:
                break
            if not extender.interested(shape):
                continue
            try:
                found = await extender.filter(pod, verdict.passed, self._whole_nodes)
            except ExtenderFailed as error:
                if not extender.config.ignorable:
                    raise
                log.warning("the extender %s failed and is passed over: %s", extender.config.url, error)
                continue
            kept = set(found.passed)
            for name in verdict.passed:
                if name not in kept:
                    why = found.unresolvable.get(name) or found.failed.get(name)
                    verdict.failed[name] = why or f"node(s) were filtered out by the extender {extender.config.url}"
            verdict.unresolvable |= found.unresolvable.keys() - kept
            verdict.passed = found.passed
        if len(verdict.passed) > 1:
            verdict.scores = await self._scores(pod, shape, verdict.passed)
        return verdict

    async def _scores(self, pod: Object, shape: Shape, names: list[str]) -> dict[str, float]:
        """Added up; one that fails has no say."""
        asked = [e for e in self._all if e.config.prioritize_verb and e.interested(shape)]
        answers = await asyncio.gather(
            *(e.prioritize(pod, names, self._whole_nodes) for e in asked), return_exceptions=True
        )
        total: dict[str, float] = {}
        for extender, answer in zip(asked, answers, strict=True):
            if isinstance(answer, ExtenderFailed):
                log.warning("the extender %s has no say in scores: %s", extender.config.url, answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                for name, score in answer.items():
                    total[name] = total.get(name, 0.0) + score * _SCALE
        return total

    async def preempt(self, pod: Object, shape: Shape, candidates: list[Candidate]) -> list[Candidate]:
        """Those that all extenders agree to. Raises ExtenderFailed."""
        for extender in self._all:
            if not candidates:
                break
            if not extender.config.preempt_verb or not extender.interested(shape):
                continue
            try:
                candidates = await extender.preempt(pod, candidates, self._whole_pods)
            except ExtenderFailed as error:
                if not extender.config.ignorable:
                    raise
                log.warning("the extender %s failed and is passed over: %s", extender.config.url, error)
        return [c for c in candidates if c.victims]

    async def bind(self, pod: Pod, shape: Shape, node: str) -> bool:
        """Whether an extender has bound the pod. Raises ExtenderFailed."""
        meta = pod.metadata
        for extender in self._all:
            if not extender.config.bind_verb or not extender.interested(shape):
                continue
            try:
                await extender.bind(meta.name, meta.namespace, meta.uid, node)
            except ExtenderFailed as error:
                if not extender.config.ignorable:
                    raise
                log.warning("the extender %s failed and is passed over: %s", extender.config.url, error)
            else:
                return True
        return False

    def _whole_nodes(self, names: list[str]) -> list[Object]:
        assert self._nodes is not None
        return [node for name in names if (node := self._nodes.get(name)) is not None]

    def _whole_pods(self, pods: Sequence[Placed]) -> list[Object]:
        assert self._pods is not None
        return [pod for p in pods if (pod := self._pods.get(f"{p.namespace}/{p.name}")) is not None]
