"""What the EndpointSlices of a service shall be. Pure. In: the service, its pods, its slices. Out: slices to create, to
update and to delete.

`plan` keeps endpoints where they are, so that one pod's change rewrites one slice; slices hold at most 100 endpoints of
one address family with one set of ports. `partial` gives what `plan` gives of all, from the pods that changed and the slices
that these have to do with: of ten thousand pods behind a service most are of no interest when one changes. Worked example,
slices a (full) and b (97 endpoints): when a pod of a changes, `plan` is shown a and the pods in it; when two pods are new, b
and the pods in it.

Hints about zones and nodes are topologyhints.py's. Next: endpointslice.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from jota.controllers import backends, topologyhints
from jota.controllers.topologyhints import Draft
from jota.controllers.views import Pod

Object = dict[str, Any]

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
HEADLESS = "service.kubernetes.io/headless"
LIMIT = 100
"""Endpoints in a slice, at most (upstream's --max-endpoints-per-slice)."""
Zones = Callable[[str], str]
"""Name of a node -> its zone, "" when that is not known."""


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
    zones: Zones,
    slices: Iterable[Object],
    spread: Mapping[str, float] | None = None,
) -> Plan:
    """`pods` are those the service selects; `slices` are ours of this service; `spread` is topologyhints.ratios of all nodes."""
    return _decide(service, _wanted(service, pods, zones), slices, spread, ())


def _decide(
    service: Object,
    wanted: Wanted,
    slices: Iterable[Object],
    spread: Mapping[str, float] | None,
    elsewhere: Collection[str],
) -> Plan:
    """`elsewhere`: the address families of which slices that are not shown hold endpoints."""
    out = Plan()
    left: dict[Key, list[Object]] = {}
    for one in slices:
        left.setdefault(_key(one), []).append(one)
    for family in families_of(service):
        groups = {k: v for k, v in wanted.items() if k[0] == family}
        if not groups and family in elsewhere:
            continue
        if not groups:  # a service without endpoints has one empty slice, so that readers know that it was looked at
            groups = {(family, ()): {}}
        filled = [f for k, endpoints in groups.items() for f in _fill(service, k, endpoints, left.pop(k, []), out)]
        _hint(service, family, [f.draft for f in filled], spread, out)
        for each in filled:
            _write(service, each, out)
    for rest in left.values():
        out.delete += rest
    return out


def partial(
    service: Object,
    changed: Set[str],
    pod_named: Callable[[str], Pod | None],
    zones: Zones,
    slices: Mapping[str, Object],
    holding: Mapping[str, frozenset[str]],
) -> Plan:
    """The plan for all, if nothing but the pods `changed` (by name) is other than at the last look, and all that it decided was
    done. `pod_named` gives those the service selects; `slices` are all that are ours, by name; `holding`: the names of the
    pods in each. Not for services with topologyhints.automatic: their hints depend on all endpoints."""
    shown = {name: one for name, one in slices.items() if not holding[name] or not holding[name].isdisjoint(changed)}
    wanted = _wanted(service, _named(changed, pod_named), zones)
    placed: dict[Key, set[str]] = {}
    for one in shown.values():
        placed.setdefault(_key(one), set()).update(_uids(one))
    for key, endpoints in wanted.items():
        new = len(endpoints.keys() - placed.get(key, set()))
        room = (
            [n for n, one in slices.items() if n not in shown and _size(one) < LIMIT and _key(one) == key]
            if new
            else ()
        )
        for name in sorted(room, key=lambda n: (-_size(slices[n]), n)):
            shown[name] = slices[name]
            new -= LIMIT - _size(slices[name])
            if new <= 0:
                break
    for name, one in shown.items():  # who stays in these: an address of the other family stays where it is, too
        key, there = _key(one), set(_uids(one))
        found = _wanted(service, _named(holding[name] - changed, pod_named), zones).get(key, {})
        wanted.setdefault(key, {}).update({uid: e for uid, e in found.items() if uid in there})
    wanted = {key: endpoints for key, endpoints in wanted.items() if endpoints}
    elsewhere = {one["addressType"] for name, one in slices.items() if name not in shown}
    return _decide(service, wanted, shown.values(), None, elsewhere)


def _named(names: Iterable[str], pod_named: Callable[[str], Pod | None]) -> Iterator[Pod]:
    return (pod for name in names if (pod := pod_named(name)) is not None)


def families_of(service: Object) -> list[str]:
    """Address families that the service has slices of."""
    if service["spec"].get("type") == "ExternalName":
        return []
    return list(service["spec"].get("ipFamilies") or ["IPv4"])


Key = tuple[str, tuple[Any, ...]]
"""Address family and ports: what the endpoints of a slice have in common."""
Wanted = dict[Key, dict[str, Object]]
"""Endpoints by their pods' uids."""


def _key(one: Object) -> Key:
    return one["addressType"], _frozen(one.get("ports") or [])


def _uids(one: Object) -> list[str]:
    """Of the pods in a slice, in its order; "" for what others wrote into it."""
    return [(e.get("targetRef") or {}).get("uid", "") for e in one.get("endpoints") or ()]


def _size(one: Object) -> int:
    return len(one.get("endpoints") or ())


def _wanted(service: Object, pods: Iterable[Pod], zones: Zones) -> Wanted:
    families, wanted = families_of(service), Wanted()
    known: dict[tuple[int, int], tuple[Any, ...]] = {}
    """Ports, by the identity of the containers: the pods of a template share these."""
    for pod in pods:
        addresses = pod.ips
        if not addresses or pod.finished:
            continue
        containers = id(pod.spec.containers), id(pod.spec.initContainers)
        ports = known.get(containers)
        if ports is None:
            ports = known[containers] = _frozen(backends.ports_of(service, pod))
        for family in families:
            address = backends.address_of(addresses, family)
            if address is not None:
                wanted.setdefault((family, ports), {})[pod.metadata.uid] = endpoint(service, pod, address, zones)
    return wanted


def endpoint(service: Object, pod: Pod, address: str, zones: Zones) -> Object:
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
        if zone := zones(pod.spec.nodeName):
            out["zone"] = zone
    if hostname := backends.hostname_of(service, pod):
        out["hostname"] = hostname
    return out


def _fill(service: Object, key: Key, endpoints: dict[str, Object], slices: list[Object], out: Plan) -> list[_Filled]:
    """Keep what stands, drop what went, put what is new where there is room, open new slices for the rest."""
    pending = dict(endpoints)
    filled: list[tuple[Object, list[Object]]] = []
    for one in sorted(slices, key=lambda s: str(s["metadata"]["name"])):
        filled.append((one, [pending.pop(uid) for uid in _uids(one) if uid in pending]))
    rest = sorted(pending.values(), key=lambda e: str(e["targetRef"]["name"]))
    for _, content in sorted(filled, key=lambda f: -len(f[1])):  # the fullest first: few slices, few writes
        room = LIMIT - len(content)
        content += rest[:room]
        rest = rest[room:]
    spare = None if endpoints else filled[0][0] if filled else None
    hints, kept = topologyhints.automatic(service), []
    for one, content in filled:
        if not content and one is not spare:
            out.delete.append(one)
        else:
            kept.append(_Filled(key, one, Draft(content, _standing(service, one, content) if hints else None)))
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
