"""One scheduler extender: an HTTP service that is asked where a pod may go, where it had better go, who must go for it, and that
may bind it (upstream: pkg/scheduler/extender.go; types of k8s.io/kube-scheduler/extender/v1).

Bodies are JSON with Go's field names ("Pod", "NodeNames"); of answers the case of names does not count, as in Go. Next:
extenders.py, which asks all of them in turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import orjson

from jota.aio.told import told
from jota.scheduler.extenderconfig import ExtenderConfig
from jota.scheduler.pod import Shape
from jota.scheduler.preemption import Candidate, Placed
from jota.wire.dial import forward, whole
from jota.wire.message import Request

LARGEST = 64 << 20
"""Bytes of an answer: some thousands of whole nodes."""
Object = dict[str, Any]


class ExtenderFailed(ConnectionError):
    """No usable answer; the text is the cause."""


@dataclass(slots=True)
class Filtered:
    passed: list[str]
    failed: dict[str, str] = field(default_factory=dict)
    """Node -> why."""
    unresolvable: dict[str, str] = field(default_factory=dict)
    """The same, where the going of other pods would not help."""


class Extender:
    def __init__(self, config: ExtenderConfig) -> None:
        self.config = config

    def interested(self, shape: Shape) -> bool:
        managed = self.config.managed
        return not managed or not managed.isdisjoint(shape.requests)

    async def filter(self, pod: Object, names: list[str], whole_nodes: Callable[[list[str]], list[Object]]) -> Filtered:
        """Raises ExtenderFailed."""
        config = self.config
        if not config.filter_verb:
            return Filtered(names)
        answer = await self._send(config.filter_verb, self._args(pod, names, whole_nodes))
        if error := _field(answer, "Error"):
            raise ExtenderFailed(str(error))
        told, nodes = _field(answer, "NodeNames"), _field(answer, "Nodes")
        if config.node_cache and isinstance(told, list):
            passed = told
        else:
            items = _field(nodes, "Items") if isinstance(nodes, dict) else None
            passed = [_name(item) for item in items or ()]
        known = set(names)
        for name in passed:
            if name not in known:
                text = (
                    f'extender "{config.url}" claims a filtered node "{name}" which is not found in the input node list'
                )
                raise ExtenderFailed(text)
        failed, hopeless = (_reasons(_field(answer, f)) for f in ("FailedNodes", "FailedAndUnresolvableNodes"))
        return Filtered(list(dict.fromkeys(passed)), failed, hopeless)

    async def prioritize(
        self, pod: Object, names: list[str], whole_nodes: Callable[[list[str]], list[Object]]
    ) -> dict[str, float]:
        """Node -> weighted score. Raises ExtenderFailed."""
        config = self.config
        answer = await self._send(config.prioritize_verb, self._args(pod, names, whole_nodes))
        if answer is not None and not isinstance(answer, list):
            raise ExtenderFailed(f"extender {config.url}: priorities must be a list")
        scores: dict[str, float] = {}
        for entry in answer or ():
            host, score = (_field(entry, name) for name in ("Host", "Score")) if isinstance(entry, dict) else ("", None)
            if not isinstance(host, str) or type(score) not in (int, type(None)):
                raise ExtenderFailed(f"extender {config.url}: a priority must be a host and a whole number")
            scores[host] = float((score or 0) * config.weight)
        return scores

    async def preempt(
        self, pod: Object, candidates: Sequence[Candidate], whole_pods: Callable[[Sequence[Placed]], list[Object]]
    ) -> list[Candidate]:
        """Those of the candidates that it agrees to, with the victims that it wants. Raises ExtenderFailed."""
        args: Object = {"Pod": pod, "NodeNameToVictims": None, "NodeNameToMetaVictims": None}
        if self.config.node_cache:
            args["NodeNameToMetaVictims"] = {
                c.node: {"Pods": [{"UID": v.uid} for v in c.victims], "NumPDBViolations": c.violations}
                for c in candidates
            }
        else:
            args["NodeNameToVictims"] = {
                c.node: {"Pods": whole_pods(c.victims), "NumPDBViolations": c.violations} for c in candidates
            }
        answer = await self._send(self.config.preempt_verb, args)
        chosen = _field(answer, "NodeNameToMetaVictims")
        known = {c.node: c for c in candidates}
        found = []
        for node, victims in (chosen if isinstance(chosen, dict) else {}).items():
            if node not in known:
                raise ExtenderFailed(f'extender {self.config.url} names the node "{node}" which is no candidate')
            found.append(self._candidate(known[node], victims))
        return found

    def _candidate(self, given: Candidate, answer: Any) -> Candidate:
        """It may take victims away, but not choose others: those it names must be known to have to go."""
        listed = _field(answer, "Pods") or ()
        uids = {_field(entry, "UID") for entry in listed if isinstance(entry, dict)}
        victims = [v for v in given.victims if v.uid in uids]
        if len(victims) != len(uids):
            text = (
                f"extender: {self.config.url} claims to preempt a pod on node: {given.node}, but the pod is not found"
            )
            raise ExtenderFailed(f"{text} on that node")
        violations = _field(answer, "NumPDBViolations")
        return Candidate(given.node, victims, violations if type(violations) is int else given.violations)

    async def bind(self, pod: str, namespace: str, uid: str, node: str) -> None:
        """Raises ExtenderFailed."""
        args = {"PodName": pod, "PodNamespace": namespace, "PodUID": uid, "Node": node}
        answer = await self._send(self.config.bind_verb, args)
        if error := _field(answer, "Error"):
            raise ExtenderFailed(str(error))

    def _args(self, pod: Object, names: list[str], whole_nodes: Callable[[list[str]], list[Object]]) -> Object:
        if self.config.node_cache:
            return {"Pod": pod, "Nodes": None, "NodeNames": names}
        items = whole_nodes(names)
        return {"Pod": pod, "Nodes": {"metadata": {}, "items": items}, "NodeNames": None}

    async def _send(self, verb: str, args: Object) -> Any:
        """The decoded answer. Raises ExtenderFailed."""
        config = self.config
        url = f"{config.url.rstrip('/')}/{verb}"
        parsed = urlsplit(url)
        secure = parsed.scheme == "https"
        headers = [("Host", parsed.netloc.rpartition("@")[2]), ("Content-Type", "application/json")]
        try:
            async with asyncio.timeout(config.timeout):
                response = await forward(
                    Request("POST", parsed.path, body=orjson.dumps(args)),
                    host=parsed.hostname or "",
                    port=parsed.port or (443 if secure else 80),
                    path=parsed.path + (f"?{parsed.query}" if parsed.query else ""),
                    ssl=config.tls if secure else None,
                    headers=headers,
                    server_hostname=config.server_name or None,
                )
                content = await whole(response, LARGEST)
        except TimeoutError:
            raise ExtenderFailed(f'Post "{url}": no answer within {config.timeout:g} s') from None
        except (OSError, ValueError) as error:
            raise ExtenderFailed(f'Post "{url}": {told(error)}') from None
        if response.status != 200:
            raise ExtenderFailed(f"failed {verb} with extender at URL {url}, code {response.status}")
        try:
            return orjson.loads(content) if content.strip() else None
        except orjson.JSONDecodeError as error:
            raise ExtenderFailed(f"extender at URL {url}: the answer is no JSON: {error}") from None


def _field(answer: Any, name: str) -> Any:
    if not isinstance(answer, dict):
        return None
    if name in answer:
        return answer[name]
    return next((value for key, value in answer.items() if key.lower() == name.lower()), None)


def _name(item: Any) -> str:
    meta = _field(item, "metadata")
    return str(_field(meta, "name") or "")


def _reasons(given: Any) -> dict[str, str]:
    return {str(node): str(why) for node, why in given.items()} if isinstance(given, dict) else {}
