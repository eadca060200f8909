"""What places a pod (client/pods.py): its Shape, which many pods share.

Two pods of one shape have the same answer from every plugin, so everything costly is computed per shape and memoised by
the encoded bytes of those fields. Next: snapshot.py, the nodes' side.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from msgspec.structs import replace as replaced

from jota.client.podparts import DEFAULT_SCHEDULER as DEFAULT_SCHEDULER
from jota.client.podparts import ClaimName as ClaimName
from jota.client.podparts import ClaimSource as ClaimSource
from jota.client.podparts import Container as Container
from jota.client.podparts import ObjectMeta, OwnerReference, PodSpec
from jota.client.podparts import Port as Port
from jota.client.podparts import Requests as Requests
from jota.client.podparts import Toleration as Toleration
from jota.client.podparts import Volume as Volume
from jota.client.pods import Pod as Pod
from jota.meta.quantity import milli, value
from jota.scheduler.terms import NO_TERMS, Group, PodTerms, terms_of

Meta = ObjectMeta
Owner = OwnerReference
Spec = PodSpec
_WHOLE = ("cpu", "memory")
"""What a pod may ask for as a whole."""
_NONZERO_CPU, _NONZERO_MEMORY = 100.0, 200.0 * 1024 * 1024
"""What a container without requests counts as in scores, so that such pods spread too (upstream: GetNonzeroRequests)."""


@dataclass(slots=True, frozen=True, eq=False)
class Placement:
    """What a node object alone decides: the part of a shape that many shapes share."""

    selector: tuple[tuple[str, str], ...] = ()
    affinity: dict[str, Any] = field(default_factory=dict)
    """spec.affinity.nodeAffinity"""
    tolerations: tuple[Toleration, ...] = ()
    node: str = ""
    """The only node that the pod may go to, when it names one (as daemons do)."""


@dataclass(slots=True, frozen=True, eq=False)
class Volumes:
    """What a pod mounts, as far as it binds the pod to nodes."""

    claims: tuple[str, ...] = ()
    """PersistentVolumeClaims of the pod's namespace; those of ephemeral volumes are named <pod>-<volume>."""
    exclusive: frozenset[tuple[str, ...]] = frozenset()
    """Disks that one node at a time may write: (type, identity, "ro" or "rw")."""

    @property
    def any(self) -> bool:
        return bool(self.claims or self.exclusive)


_NO_VOLUMES = Volumes()


@dataclass(slots=True, frozen=True, eq=False)
class Shape:
    """What places a pod. Amounts: cpu in milli-units, everything else in whole units."""

    requests: dict[str, float]
    """Resource name -> amount; "pods" is always 1."""
    score_cpu: float
    score_memory: float
    placement: Placement = Placement()
    host_ports: frozenset[tuple[str, str, int]] = frozenset()
    """(protocol, host IP, port)"""
    group: Group = field(default_factory=lambda: Group(""))
    terms: PodTerms = NO_TERMS
    images: tuple[str, ...] = ()
    """Of all containers, with a tag."""
    volumes: Volumes = _NO_VOLUMES
    owner: tuple[str, str] = ("", "")
    """(kind, name) of the controller, whose selector the cluster's default spread constraints take."""
    devices: tuple[tuple[str, str], ...] = ()
    """Its resource claims: (entry in the pod, name of the ResourceClaim or "" while that does not exist)."""
    own: object = field(default_factory=object)
    """The same for shapes with equal placement, requests, ports and images: a node's own accounts treat them alike."""
    kin: object = field(default_factory=object)
    """The same for shapes that differ in nothing but volumes."""

    @property
    def reserves(self) -> bool:
        """Whether something is kept for the pod between the decision and its binding: volumes, devices."""
        return bool(self.volumes.claims or self.devices)

    @property
    def selector(self) -> tuple[tuple[str, str], ...]:
        return self.placement.selector

    @property
    def affinity(self) -> dict[str, Any]:
        return self.placement.affinity

    @property
    def tolerations(self) -> tuple[Toleration, ...]:
        return self.placement.tolerations


class Shapes:
    """The memo: encoded fields -> Shape. Bounded; a shape that falls out is simply computed again.

    Groups and placements are memoised apart, so that pods that differ in name-like labels alone share the costly parts.
    """

    _MOST = 20_000

    def __init__(self) -> None:
        self._bare: OrderedDict[bytes, Shape] = OrderedDict()
        """Without volumes."""
        self._known: OrderedDict[tuple[int, tuple[str, ...], frozenset[tuple[str, ...]]], Shape] = OrderedDict()
        """Identity of the kin (which the shape keeps alive) and volumes -> the shape with these."""
        self._placements: OrderedDict[bytes, Placement] = OrderedDict()
        self._groups: OrderedDict[bytes, Group] = OrderedDict()
        self._owns: OrderedDict[tuple[Any, ...], object] = OrderedDict()
        self._encode = msgspec.msgpack.Encoder().encode
        self._alike: dict[tuple[int, ...], tuple[Pod, Shape]] = {}
        """Identities of shared parts -> a pod that has them, and its shape."""

    def of(self, pod: Pod) -> Shape:
        """The shape of a pod; of one that shares its parts with another, without a look at them."""
        spec, meta = pod.spec, pod.metadata
        if spec.resourceClaims or pod.status.resized is not None:
            return self._of(pod)
        parts = (id(spec.containers), id(meta.labels), id(meta.ownerReferences), meta.deletionTimestamp is not None)
        found = self._alike.get(parts)
        if found is not None and found[0].metadata.namespace == meta.namespace:
            other, shape = found
            if other.spec.volumes is spec.volumes:
                return shape
            return self._with(shape, volumes_of(spec, _claims(pod)))  # the claims are its own
        shape = self._of(pod)
        if not any(v.ephemeral for v in spec.volumes or ()):  # their claims are named after the pod
            if len(self._alike) >= self._MOST:
                self._alike.clear()
            self._alike[parts] = pod, shape  # the pod keeps its parts alive, and so their identities its own
        return shape

    def _of(self, pod: Pod) -> Shape:
        spec, meta = pod.spec, pod.metadata
        owner = next(((o.kind, o.name) for o in meta.ownerReferences or () if o.controller), ("", ""))
        devices = _devices(pod) if spec.resourceClaims else ()
        group_key = (meta.namespace, meta.labels, meta.deletionTimestamp is not None)
        bare_key = self._encode(
            (
                spec.containers,
                spec.initContainers,
                spec.resources,
                pod.status.resized,
                infeasible(pod),
                spec.overhead,
                spec.nodeSelector,
                spec.affinity,
                spec.tolerations,
                spec.topologySpreadConstraints,
                devices,
                group_key,
                owner,
            )
        )
        bare = self._bare.get(bare_key)
        if bare is None:
            group, there = self._group(group_key), self._placement(spec)
            bare = self._with_own(shape_of(spec, group, there, (), owner, devices, counted(pod)))
            bare = self._bare[bare_key] = replace(bare, volumes=_NO_VOLUMES)
            if len(self._bare) > self._MOST:
                self._bare.popitem(last=False)
        return self._with(bare, volumes_of(spec, _claims(pod)))

    def _with(self, shape: Shape, volumes: Volumes) -> Shape:
        """The shape with these volumes."""
        if volumes is shape.volumes:
            return shape
        key = id(shape.kin), volumes.claims, volumes.exclusive
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = replace(shape, volumes=volumes)
            if len(self._known) > self._MOST:
                self._known.popitem(last=False)
        return found

    def _with_own(self, shape: Shape) -> Shape:
        key = (
            shape.placement,
            tuple(sorted(shape.requests.items())),
            shape.score_cpu,
            shape.score_memory,
            shape.host_ports,
            shape.images,
        )
        own = self._owns.get(key)
        if own is None:
            self._owns[key] = shape.own
            if len(self._owns) > self._MOST:
                self._owns.popitem(last=False)
            return shape
        return replace(shape, own=own)

    def _group(self, key: tuple[str, dict[str, str] | None, bool]) -> Group:
        encoded = self._encode((key[0], sorted((key[1] or {}).items()), key[2]))
        group = self._groups.get(encoded)
        if group is None:
            group = self._groups[encoded] = Group(*key)
            if len(self._groups) > self._MOST:
                self._groups.popitem(last=False)
        return group

    def _placement(self, spec: Spec) -> Placement:
        encoded = self._encode((spec.nodeSelector, (spec.affinity or {}).get("nodeAffinity"), spec.tolerations))
        placement = self._placements.get(encoded)
        if placement is None:
            placement = self._placements[encoded] = placement_of(spec)
            if len(self._placements) > self._MOST:
                self._placements.popitem(last=False)
        return placement


def _claims(pod: Pod) -> tuple[str, ...]:
    """Names of those that it uses."""
    return tuple([name for v in pod.spec.volumes or () if (name := _claim(pod, v))])


def _claim(pod: Pod, volume: Volume) -> str:
    if volume.persistentVolumeClaim is not None:
        return volume.persistentVolumeClaim.claimName
    return f"{pod.metadata.name}-{volume.name}" if volume.ephemeral is not None else ""


def _devices(pod: Pod) -> tuple[tuple[str, str], ...]:
    """Those made from templates are named in the pod's status; one that is named null there is not needed."""
    made = {s.name: s.resourceClaimName for s in pod.status.resourceClaimStatuses or ()}
    named = ((c.name, c.resourceClaimName or made.get(c.name, "")) for c in pod.spec.resourceClaims or ())
    return tuple((entry, name) for entry, name in named if name is not None)


def placement_of(spec: Spec) -> Placement:
    affinity = (spec.affinity or {}).get("nodeAffinity") or {}
    selector = tuple(sorted((spec.nodeSelector or {}).items()))
    return Placement(selector, affinity, tuple(spec.tolerations or ()), _named(affinity))


def _named(affinity: dict[str, Any]) -> str:
    """metadata.name of the one node that every term of the required affinity asks for; "" when there is none."""
    terms = (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or ()
    names = {
        next(
            (e["values"][0] for e in t.get("matchFields") or () if e.get("operator") == "In" and len(e["values"]) == 1),
            "",
        )
        for t in terms
        if t.get("matchFields") or t.get("matchExpressions")
    }
    return names.pop() if len(names) == 1 else ""


def shape_of(
    spec: Spec,
    group: Group | None = None,
    placement: Placement | None = None,
    claims: tuple[str, ...] = (),
    owner: tuple[str, str] = ("", ""),
    devices: tuple[tuple[str, str], ...] = (),
    specs: tuple[Spec, ...] = (),
) -> Shape:
    """Effective requests (upstream PodRequests: app containers and sidecars together, or the largest init step); the largest of
    those of `specs`, where there are some."""
    requests: dict[str, float] = {}
    scored: dict[str, float] = {}
    for each in specs or (spec,):
        _raise(requests, _effective(each, nonzero=False))
        _raise(scored, _effective(each, nonzero=True))
    requests["pods"] = 1.0
    group = group or Group("")
    return Shape(
        requests={k: v for k, v in requests.items() if v > 0},
        score_cpu=scored.get("cpu", 0.0),
        score_memory=scored.get("memory", 0.0),
        placement=placement or placement_of(spec),
        host_ports=_host_ports(spec),
        group=group,
        terms=terms_of(group, spec.affinity or {}, spec.topologySpreadConstraints),
        images=tuple(tagged(c.image) for c in (*spec.containers, *(spec.initContainers or ())) if c.image),
        volumes=volumes_of(spec, claims),
        owner=owner,
        devices=devices,
    )


def volumes_of(spec: Spec, claims: tuple[str, ...]) -> Volumes:
    disks = _disks(spec)
    return Volumes(claims, disks) if claims or disks else _NO_VOLUMES


def infeasible(pod: Pod) -> bool:
    """Its node has refused for good what the spec asks for: that does not count."""
    return pod.status.resized is not None and any(
        c.type == "PodResizePending" and c.reason == "Infeasible" for c in pod.status.conditions or ()
    )


def counted(pod: Pod) -> tuple[Spec, ...]:
    """The specs of which a pod that is being resized counts as the largest: as it asks, as allocated, as it is. Empty for all
    others. (component-helpers' AggregateContainerRequests with UseStatusResources)"""
    found = pod.status.resized
    if found is None:
        return ()
    statuses = (*(found.containerStatuses or ()), *(found.initContainerStatuses or ()))
    allocated = {s.name: s.allocatedResources for s in statuses if s.allocatedResources is not None}
    actual = {s.name: s.resources.requests for s in statuses if s.resources is not None and s.resources.requests}
    refused = infeasible(pod)
    own = found.allocatedResources
    has = found.resources.requests if found.resources is not None else None
    out = (_with(pod.spec, allocated, own, refused), _with(pod.spec, {**allocated, **actual}, has or own, refused))
    return out if refused else (pod.spec, *out)


def _with(spec: Spec, requests: dict[str, Any], whole: dict[str, Any] | None, refused: bool) -> Spec:
    """The spec with these requests; a container of which nothing is known keeps its own, unless they were refused."""

    def given(containers: list[Container]) -> list[Container]:
        held = (
            requests.get(c.name, None if refused or c.resources is None else c.resources.requests) for c in containers
        )
        return [replaced(c, resources=Requests(r)) for c, r in zip(containers, held, strict=True)]

    inits = given(spec.initContainers) if spec.initContainers else None
    own = spec.resources and Requests(whole or spec.resources.requests)
    return replaced(spec, containers=given(spec.containers), initContainers=inits, resources=own)


def tagged(image: str) -> str:
    """An image's name with its tag, as nodes list it."""
    return image if ":" in image.rpartition("/")[2] or "@" in image else f"{image}:latest"


def _disks(spec: Spec) -> frozenset[tuple[str, ...]]:
    """Volumes that upstream's VolumeRestrictions looks at: types, what identifies the disk, whether it is read-only."""
    found = set()
    for v in spec.volumes or ():
        if v.gcePersistentDisk:
            found.add(("gce", str(v.gcePersistentDisk.get("pdName")), _mode(v.gcePersistentDisk)))
        if v.awsElasticBlockStore:
            found.add(("aws", str(v.awsElasticBlockStore.get("volumeID")), "rw"))
        if v.iscsi:
            found.add(("iscsi", str(v.iscsi.get("iqn")), _mode(v.iscsi)))
        if v.rbd:
            for monitor in v.rbd.get("monitors") or ():
                where = f"{monitor} {v.rbd.get('pool', 'rbd')} {v.rbd.get('image')}"
                found.add(("rbd", where, _mode(v.rbd)))
    return frozenset(found)


def _mode(source: dict[str, Any]) -> str:
    return "ro" if source.get("readOnly") else "rw"


def _effective(spec: Spec, *, nonzero: bool) -> dict[str, float]:
    running: dict[str, float] = {}
    for container in spec.containers:
        _add(running, _requests(container, nonzero))
    sidecars: dict[str, float] = {}
    peak: dict[str, float] = {}
    for container in spec.initContainers or ():
        wanted = _requests(container, nonzero)
        if container.restartPolicy == "Always":
            _add(sidecars, wanted)
            _raise(peak, sidecars)
        else:
            _add(wanted, sidecars)
            _raise(peak, wanted)
    _add(running, sidecars)
    _raise(running, peak)
    if spec.resources is not None:  # what the pod asks for as a whole takes the place of the sum
        running.update({k: _amount(k, v) for k, v in (spec.resources.requests or {}).items() if k in _WHOLE})
    _add(running, {k: _amount(k, v) for k, v in (spec.overhead or {}).items()})
    return running


def _requests(container: Container, nonzero: bool) -> dict[str, float]:
    given = (container.resources.requests if container.resources else None) or {}
    wanted = {k: _amount(k, v) for k, v in given.items()}
    if nonzero:
        wanted.setdefault("cpu", _NONZERO_CPU)
        wanted.setdefault("memory", _NONZERO_MEMORY)
    return wanted


def _amount(name: str, quantity: str | int | float) -> float:
    return float(milli(str(quantity)) if name == "cpu" else value(str(quantity)))


def _add(total: dict[str, float], more: dict[str, float]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0.0) + amount


def _raise(total: dict[str, float], floor: dict[str, float]) -> None:
    for name, amount in floor.items():
        total[name] = max(total.get(name, 0.0), amount)


def _host_ports(spec: Spec) -> frozenset[tuple[str, str, int]]:
    sidecars = [c for c in spec.initContainers or () if c.restartPolicy == "Always"]
    return frozenset(
        (p.protocol, p.hostIP or "0.0.0.0", p.hostPort)
        for c in [*spec.containers, *sidecars]
        for p in c.ports or ()
        if p.hostPort
    )
