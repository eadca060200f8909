"""EndpointSlices: the addresses behind every service that has a selector. In: services, pods, nodes. Out: slices.

`plan` keeps endpoints where they are, so that one pod's change rewrites one slice; slices hold at most 100 endpoints of
one address family with one set of ports. Slices of others (another managed-by) are never touched. Hints about zones and
nodes are topologyhints.py's. Next: net/services.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from jota.controllers import backends, topologyhints
from jota.controllers.controller import Context, Controller, own
from jota.controllers.topologyhints import Draft, zone_of
from jota.controllers.views import Pod, alike
from jota.meta.errors import ApiError
from jota.meta.resource import ENDPOINTSLICES, NODES, PODS, SERVICES

Object = dict[str, Any]

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
HEADLESS = "service.kubernetes.io/headless"
LIMIT = 100


@dataclass(slots=True)
class Plan:
    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    hints: dict[str, str] = field(default_factory=dict)
    """Address family -> "" when hints in proportion to the zones' CPU were given, or why not; empty when nobody asked."""


@dataclass(slots=True)
class _Filled:
    """A slice that stands, or with `old` None one to create, and what it shall hold."""

    key: Key
    old: Object | None
    draft: Draft


def plan(
    service: Object,
    pods: Iterable[Pod],
    zones: dict[str, str],
    slices: list[Object],
    spread: Mapping[str, float] | None = None,
) -> Plan:
    """`pods` are those the service selects; `zones` maps node names to zones; `slices` are ours of this service; `spread`
    is topologyhints.ratios of all nodes."""
    out = Plan()
    families = [] if service["spec"].get("type") == "ExternalName" else families_of(service)
    wanted = _wanted(service, pods, zones, families)
    left: dict[Key, list[Object]] = {}
    for one in slices:
        left.setdefault((one["addressType"], _frozen(one.get("ports") or [])), []).append(one)
    for family in families:
        groups = {k: v for k, v in wanted.items() if k[0] == family}
        if not groups:  # a service without endpoints has one empty slice, so that readers know that it was looked at
            groups = {(family, ()): {}}
        filled = [f for k, endpoints in groups.items() for f in _fill(service, k, endpoints, left.pop(k, []), out)]
        _hint(service, family, [f.draft for f in filled], spread, out)
        for each in filled:
            _write(service, each, out)
    for rest in left.values():
        out.delete += rest
    return out


def families_of(service: Object) -> list[str]:
    return list(service["spec"].get("ipFamilies") or ["IPv4"])


Key = tuple[str, tuple[Any, ...]]


def _wanted(
    service: Object, pods: Iterable[Pod], zones: dict[str, str], families: list[str]
) -> dict[Key, dict[str, Object]]:
    """(family, ports) -> pod uid -> endpoint."""
    wanted: dict[Key, dict[str, Object]] = {}
    for pod in pods:
        if pod.finished:
            continue
        ports = _frozen(backends.ports_of(service, pod))
        for family in families:
            address = next((a for a in pod.ips if (":" in a) == (family == "IPv6")), None)
            if address is not None:
                wanted.setdefault((family, ports), {})[pod.metadata.uid] = endpoint(service, pod, address, zones)
    return wanted


def endpoint(service: Object, pod: Pod, address: str, zones: dict[str, str]) -> Object:
    """ready: may get new connections; serving: answers; terminating: on its way out."""
    serving, terminating = pod.ready, pod.terminating
    always = bool(service["spec"].get("publishNotReadyAddresses"))
    meta = pod.metadata
    out: Object = {
        "addresses": [address],
        "conditions": {
            "ready": always or (serving and not terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "targetRef": {"kind": "Pod", "namespace": meta.namespace, "name": meta.name, "uid": meta.uid},
    }
    if pod.spec.nodeName:
        out["nodeName"] = pod.spec.nodeName
        if zone := zones.get(pod.spec.nodeName):
            out["zone"] = zone
    if hostname := backends.hostname_of(service, pod):
        out["hostname"] = hostname
    return out


def _fill(service: Object, key: Key, endpoints: dict[str, Object], slices: list[Object], out: Plan) -> list[_Filled]:
    """Keep what stands, drop what went, put what is new where there is room, open new slices for the rest."""
    pending = dict(endpoints)
    filled: list[tuple[Object, list[Object]]] = []
    for one in sorted(slices, key=lambda s: str(s["metadata"]["name"])):
        uids = [(e.get("targetRef") or {}).get("uid", "") for e in one.get("endpoints") or ()]
        filled.append((one, [pending.pop(uid) for uid in uids if uid in pending]))
    rest = list(pending.values())
    for _, content in sorted(filled, key=lambda f: -len(f[1])):  # the fullest first: few slices, few writes
        room = LIMIT - len(content)
        content += rest[:room]
        rest = rest[room:]
    spare = None if endpoints else filled[0][0] if filled else None
    kept = []
    for one, content in filled:
        if not content and one is not spare:
            out.delete.append(one)
        else:
            kept.append(_Filled(key, one, Draft(content, _standing(service, one, content))))
    while rest or (not endpoints and not filled):
        kept.append(_Filled(key, None, Draft(rest[:LIMIT])))
        rest = rest[LIMIT:]
        if not rest:
            break
    return kept


def _standing(service: Object, one: Object, content: list[Object]) -> dict[str, Object | None] | None:
    """The hints of a slice in which nothing else changes."""
    have = one.get("endpoints") or []
    bare = [{k: v for k, v in e.items() if k != "hints"} for e in have]
    if bare != content or _metadata(service, one["metadata"])["labels"] != one["metadata"].get("labels"):
        return None
    return {e["targetRef"]["uid"]: e.get("hints") for e in have}


def _hint(service: Object, family: str, drafts: list[Draft], spread: Mapping[str, float] | None, out: Plan) -> None:
    if topologyhints.automatic(service):
        out.hints[family] = topologyhints.proportional(drafts, spread)
    else:
        topologyhints.near(service["spec"].get("trafficDistribution") or "", drafts)


def _write(service: Object, one: _Filled, out: Plan) -> None:
    content, old = one.draft.endpoints, one.old
    if old is None:
        out.create.append(_slice(service, one.key, content))
        return
    meta = _metadata(service, old["metadata"])
    if content != (old.get("endpoints") or []) or meta["labels"] != old["metadata"].get("labels"):
        out.update.append({**old, "endpoints": content, "metadata": meta})


def _metadata(service: Object, meta: Object) -> Object:
    labels = dict(service["metadata"].get("labels") or {})
    labels |= {SERVICE_NAME: service["metadata"]["name"], MANAGED_BY: MANAGER}
    if backends.headless(service):
        labels[HEADLESS] = ""
    return {**meta, "labels": labels}


def _slice(service: Object, key: Key, endpoints: list[Object]) -> Object:
    meta = service["metadata"]
    reference = {
        "apiVersion": "v1",
        "kind": "Service",
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    base = {"generateName": f"{meta['name']}-", "namespace": meta["namespace"], "ownerReferences": [reference]}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": _metadata(service, base),
        "addressType": key[0],
        "endpoints": endpoints,
        "ports": [dict(port) for port in key[1]],
    }


def _frozen(ports: list[Object]) -> tuple[Any, ...]:
    return tuple(sorted(tuple(sorted((k, v) for k, v in p.items() if v is not None)) for p in ports))


class EndpointSliceController(Controller):
    name: ClassVar[str] = "endpointslice"
    cheap: ClassVar[float] = 0.02
    """A pod that ends must leave its services at once: clients are told of a finished rollout within milliseconds."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.services = self.watch(SERVICES, own)
        self.slices = self.watch(ENDPOINTSLICES, _service_key)
        self.slices.add_index("service", _service_key)
        self.pods = self.watch(
            PODS,
            backends.ServicesOf(self.services),
            when=backends.matters,
            on=backends.LOOKED_AT,
            alike=alike,
            type=Pod,
        )
        self.nodes = self.watch(NODES, lambda _: self.services.keys(), when=_zone_changed)
        self.nodes.add_handler(self._on_capacity)
        self.events = context.recorder("endpoint-slice-controller")
        self._announced = topologyhints.Announcements()

    def _on_capacity(self, old: Object | None, new: Object | None) -> None:
        """A zone's part of the CPU changed: of interest to services with hints in proportion to it."""
        if (topologyhints.cpu_of(old) if old else None) != (topologyhints.cpu_of(new) if new else None):
            for service in self.services.list():
                if topologyhints.automatic(service):
                    self.queue.add(own(service)[0])

    async def reconcile(self, key: str) -> float | None:
        service = self.services.get(key)
        if service is None or "deletionTimestamp" in service["metadata"]:
            self._announced.news(key, {})
            return None  # the garbage collector removes the slices of a service that is gone
        if not service["spec"].get("selector") and service["spec"].get("type") != "ExternalName":
            return None  # endpoints by hand
        pods = backends.pods_of(service, self.pods)
        spread = topologyhints.ratios(self.nodes.list()) if topologyhints.automatic(service) else None
        slices = list(self.slices.by_index("service", key))
        decided = plan(service, pods, self._zones(pods), slices, spread)
        for one in decided.create:
            self.wrote(key, self.slices, await self.client.create(ENDPOINTSLICES, one))
        for one in decided.update:
            self.wrote(key, self.slices, await self.client.update(ENDPOINTSLICES, one))
        for one in decided.delete:
            await self._delete(one)
        for type_, reason, message in self._announced.news(key, decided.hints):
            self.events.event(service, type_, reason, message)
        return None

    def _zones(self, pods: list[Pod]) -> dict[str, str]:
        zones = {}
        for name in {p.spec.nodeName for p in pods if p.spec.nodeName}:
            node = self.nodes.get(name)
            if node is not None and (zone := zone_of(node)):
                zones[name] = zone
        return zones

    async def _delete(self, one: Object) -> None:
        meta = one["metadata"]
        try:
            await self.client.delete(ENDPOINTSLICES, meta["name"], meta["namespace"], uid=meta["uid"])
        except ApiError as e:
            if e.code not in (404, 409):
                raise


def _service_key(one: Object) -> Iterable[str]:
    """Of slices that are ours."""
    labels = one["metadata"].get("labels") or {}
    if labels.get(MANAGED_BY) == MANAGER and SERVICE_NAME in labels:
        return (f"{one['metadata']['namespace']}/{labels[SERVICE_NAME]}",)
    return ()


def _zone_changed(old: Object | None, new: Object | None) -> bool:
    return (zone_of(old) if old else "") != (zone_of(new) if new else "")
