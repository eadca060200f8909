"""The vectorised decision agrees with the naive one for every plugin and shape, singly and in batches, whatever happens between.

Clusters of up to eight nodes; pods with any mix of constraints; between placements pods end, nodes are changed, go and come
back, namespaces change their labels. What is kept from decision to decision must follow all of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.scheduler.naive import HOSTNAME, ZONE, NaiveClaim, NaiveCluster, NaiveNode, NaivePod

from jota.aio.clock import SystemClock
from jota.scheduler.cycle import Cycle
from jota.scheduler.plugins.node_volume_limits import NodeVolumeLimits
from jota.scheduler.pod import (
    ClaimSource,
    Container,
    Meta,
    Pod,
    Port,
    Requests,
    Shapes,
    Spec,
    Toleration,
    Volume,
    shape_of,
)
from jota.scheduler.preemption import Asked, Budget, Placed, find, find_alike
from jota.scheduler.profile import default_profile
from jota.scheduler.queue import Waiting
from jota.scheduler.snapshot import Node, NodeImage, NodeMeta, NodeSpec, NodeStatus, Snapshot, Taint
from jota.scheduler.storage import Claim
from jota.scheduler.storage import Volume as PersistentVolume
from jota.scheduler.terms import Group
from jota.scheduler.volumebinder import VolumeBinder
from jota.scheduler.workloads import Selecting

GPU, DRIVER = "example.com/gpu", "disks.example.com"
MEGA = 1024 * 1024

# -- what there is

taints = st.sampled_from(
    [
        [],
        [],
        [Taint("a", "1", "NoSchedule")],
        [Taint("a", "2", "NoExecute")],
        [Taint("b", "", "NoSchedule"), Taint("a", "1", "NoSchedule")],
        [Taint("b", "", "PreferNoSchedule")],
        [Taint("b", "", "PreferNoSchedule"), Taint("a", "3", "PreferNoSchedule")],
    ]
)
tolerations = st.lists(
    st.builds(
        Toleration,
        key=st.sampled_from(["", "a", "b", "node.kubernetes.io/unschedulable"]),
        operator=st.sampled_from(["Exists", "Equal"]),
        value=st.sampled_from(["", "1"]),
        effect=st.sampled_from(["", "NoSchedule", "NoExecute"]),
    ),
    max_size=2,
)
images = st.lists(
    st.builds(
        NodeImage,
        names=st.just(["big:latest"]) | st.just(["small:1"]),
        sizeBytes=st.sampled_from([500 * MEGA, 90 * MEGA]),
    ),
    max_size=1,
)
KEYS = st.sampled_from(["x", "y", HOSTNAME, ZONE])


@st.composite
def node(draw: st.DrawFn, n: int) -> Node:
    labels = draw(st.dictionaries(st.sampled_from(["x", "y", "z", ZONE]), st.sampled_from("12"), max_size=4))
    room: dict[str, str | int | float] = {
        "cpu": draw(st.sampled_from(["500m", "1", "2", "4"])),
        "memory": draw(st.sampled_from(["512Mi", "1Gi", "4Gi"])),
        "pods": draw(st.sampled_from(["2", "10"])),
    }
    if draw(st.booleans()):
        room[GPU] = draw(st.sampled_from(["1", "4"]))
    named = {} if draw(st.integers(0, 5)) == 0 else {HOSTNAME: f"n{n}"}
    cordoned = draw(st.integers(0, 3)) == 0
    return Node(NodeMeta(f"n{n}", labels | named), NodeSpec(cordoned, draw(taints)), NodeStatus(room, draw(images)))


NAMESPACES = {"one": {"team": "a"}, "two": {"team": "b"}, "three": {}}
CLAIMS = {
    "csi-0": NaiveClaim(driver=DRIVER),
    "csi-1": NaiveClaim(driver=DRIVER),
    "csi-2": NaiveClaim(driver=DRIVER),
    "csi-3": NaiveClaim(driver=DRIVER),
    "csi-4": NaiveClaim(driver=DRIVER),
    "local": NaiveClaim(only_on=("n0", "n1", "n3")),
    "single": NaiveClaim(single=True),
    "zonal": NaiveClaim(zone="1"),
    **{f"own-{n}": NaiveClaim(driver=DRIVER) for n in range(5)},
    **{f"free-{n}": NaiveClaim() for n in range(5)},
}
"""In namespace "one"; pods elsewhere look in vain."""


def add_volumes(snapshot: Snapshot) -> None:
    for name, c in CLAIMS.items():
        spec: dict[str, Any] = {"capacity": {"storage": "1Gi"}}
        if c.driver:
            spec["csi"] = {"driver": c.driver}
        if c.only_on:
            expression = {"key": HOSTNAME, "operator": "In", "values": list(c.only_on)}
            spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}
        labels = {ZONE: c.zone} if c.zone else {}
        snapshot.storage.volumes[name] = convert(
            {"metadata": {"name": name, "labels": labels}, "spec": spec}, PersistentVolume
        )
        claim = {
            "metadata": {"name": name, "namespace": "one"},
            "spec": {"volumeName": name, "accessModes": ["ReadWriteOncePod" if c.single else "ReadWriteMany"]},
            "status": {"phase": "Bound"},
        }
        snapshot.storage.claims["one", name] = convert(claim, Claim)


def convert(given: Any, kind: Any) -> Any:
    return msgspec.convert(given, kind)


# -- what pods want

selectors = st.sampled_from(
    [
        None,
        {},
        {"matchLabels": {"app": "1"}},
        {"matchExpressions": [{"key": "app", "operator": "In", "values": ["1", "2"]}]},
        {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["1"]}]},
        {"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]},
        {"matchLabels": {"app": "2"}, "matchExpressions": [{"key": "tier", "operator": "Exists"}]},
    ]
)


@st.composite
def pod_term(draw: st.DrawFn) -> dict[str, Any]:
    made: dict[str, Any] = {"topologyKey": draw(KEYS), "labelSelector": draw(selectors)}
    where = draw(st.sampled_from(["own", "own", "names", "all", "selected", "both"]))
    if where in ("names", "both"):
        made["namespaces"] = ["one", "two"]
    if where == "all":
        made["namespaceSelector"] = {}
    elif where in ("selected", "both"):
        made["namespaceSelector"] = {"matchLabels": {"team": "b"}}
    keys = draw(st.sampled_from(["", "", "matchLabelKeys", "mismatchLabelKeys"]))
    if keys:
        made[keys] = ["tier"]
    return made


@st.composite
def pod_affinity(draw: st.DrawFn) -> dict[str, Any]:
    weighted = st.builds(lambda t, w: {"podAffinityTerm": t, "weight": w}, pod_term(), st.integers(1, 100))
    return {
        "requiredDuringSchedulingIgnoredDuringExecution": draw(st.lists(pod_term(), max_size=2)),
        "preferredDuringSchedulingIgnoredDuringExecution": draw(st.lists(weighted, max_size=2)),
    }


node_terms = st.sampled_from(
    [
        {},
        {"matchExpressions": [{"key": "x", "operator": "In", "values": ["1"]}]},
        {"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["1", "3", "4", "5", "6", "7"]}]},
        {"matchExpressions": [{"key": "y", "operator": "Exists"}, {"key": "z", "operator": "DoesNotExist"}]},
        {"matchExpressions": [{"key": "x", "operator": "Gt", "values": ["1"]}]},
        {"matchExpressions": [{"key": "y", "operator": "Lt", "values": ["2"]}]},
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n0"]}]},
        {"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n1"]}]},
        {
            "matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}],
            "matchExpressions": [{"key": "x", "operator": "Exists"}],
        },
    ]
)


@st.composite
def node_affinity(draw: st.DrawFn) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if draw(st.booleans()):
        terms = draw(st.lists(node_terms, min_size=1, max_size=2))
        made["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": terms}
    weighted = st.builds(lambda t, w: {"preference": t, "weight": w}, node_terms, st.integers(1, 100))
    made["preferredDuringSchedulingIgnoredDuringExecution"] = draw(st.lists(weighted, max_size=2))
    return made


constraints = st.fixed_dictionaries(
    {
        "topologyKey": KEYS,
        "maxSkew": st.integers(1, 2),
        "whenUnsatisfiable": st.sampled_from(["DoNotSchedule", "ScheduleAnyway"]),
        "labelSelector": selectors,
    },
    optional={
        "minDomains": st.integers(1, 3),
        "matchLabelKeys": st.just(["tier"]),
        "nodeAffinityPolicy": st.sampled_from(["Honor", "Ignore"]),
        "nodeTaintsPolicy": st.sampled_from(["Honor", "Ignore"]),
    },
)
services = st.lists(
    st.tuples(st.sampled_from(["one", "two"]), st.just({"app": "1"}) | st.just({"tier": "2"})), max_size=2
)


@st.composite
def spec(draw: st.DrawFn, theme: tuple[str, ...]) -> Spec:
    amounts = {"cpu": ["100m", "1"], "memory": ["300M", "1G"], GPU: ["1", "2"]}
    chosen = draw(st.lists(st.sampled_from(list(amounts)), max_size=3, unique=True))
    requests = {name: draw(st.sampled_from(amounts[name])) for name in chosen}
    ports = [Port(hostPort=draw(st.sampled_from([80, 81])), hostIP=draw(st.sampled_from(["", "10.0.0.1"])))]
    image = draw(st.sampled_from(["", "big", "small:1"]))
    made = Spec(
        containers=[Container(Requests(dict(requests)), ports if draw(st.integers(0, 5)) == 0 else None, "", image)],
        nodeSelector=draw(st.dictionaries(st.just("x"), st.sampled_from("12"), max_size=1)) or None,
        tolerations=draw(tolerations),
        priority=draw(st.sampled_from([0, 0, 5, 10])),
    )
    kinds = draw(st.lists(st.sampled_from(theme), max_size=2, unique=True))
    affinity = {}
    if "node" in kinds:
        affinity["nodeAffinity"] = draw(node_affinity())
    if "with" in kinds:
        affinity["podAffinity"] = draw(pod_affinity())
    if "against" in kinds:
        affinity["podAntiAffinity"] = draw(pod_affinity())
    made.affinity = affinity or None
    if "spread" in kinds:
        made.topologySpreadConstraints = draw(st.lists(constraints, min_size=1, max_size=2))
    if "disk" in kinds:
        made.volumes = [Volume("d", gcePersistentDisk={"pdName": "d", "readOnly": draw(st.booleans())})]
    if "claim" in kinds:
        names = draw(st.lists(st.sampled_from(list(CLAIMS)), min_size=1, max_size=2, unique=True))
        made.volumes = [Volume(n, persistentVolumeClaim=ClaimSource(n)) for n in names]
    return made


class World:
    """Both schedulers over the same cluster."""

    def __init__(self, nodes: tuple[Node, ...], limits: list[int], services: list[tuple[str, dict[str, str]]]) -> None:
        self.snapshot, self.shapes = Snapshot(), Shapes()
        self.cycle = Cycle(default_profile(), self.snapshot, 1)
        add_volumes(self.snapshot)
        for name, labels in NAMESPACES.items():
            self.snapshot.pods.set_namespace(name, labels)
        claims = {("one", n): c for n, c in CLAIMS.items()}
        self.naive = NaiveCluster([], dict(NAMESPACES), claims, services)
        for n, (namespace, selector) in enumerate(services):
            service = {"metadata": {"name": f"s{n}", "namespace": namespace}, "spec": {"selector": selector}}
            self.snapshot.workloads.put("Service", convert(service, Selecting))
        for n, made in enumerate(nodes):
            self.add_node(made, limits[n % len(limits)])
        self.serial = 0
        self.on_node: dict[str, dict[str, Placed]] = {}

    def add_node(self, made: Node, limit: int) -> None:
        limits = {DRIVER: limit} if limit else {}
        self.snapshot.storage.set_limits(made.metadata.name, limits)
        self.snapshot.put_node(made)
        self.naive.nodes.append(NaiveNode(made, limits))

    def change_node(self, old: NaiveNode, made: Node) -> None:
        new = NaiveNode(made, old.limits)
        new.pods = old.pods
        self.naive.nodes[self.naive.nodes.index(old)] = new
        self.snapshot.put_node(made)

    def remove_node(self, old: NaiveNode) -> None:
        self.naive.nodes.remove(old)
        self.snapshot.storage.set_limits(old.name, {})
        self.snapshot.remove_node(old.name)
        self.on_node.pop(old.name, None)

    def pod(self, wanted: Spec, namespace: str, labels: dict[str, str], terminating: bool) -> NaivePod:
        stamp = "2026-01-01T00:00:00Z" if terminating else None
        shape = self.shapes.of(Pod(Meta("p", namespace, labels=dict(labels), deletionTimestamp=stamp), wanted))
        claims = tuple(v.persistentVolumeClaim.claimName for v in wanted.volumes or () if v.persistentVolumeClaim)
        return NaivePod(wanted, shape, namespace, labels, terminating, claims, wanted.priority)

    def hold(self, pod: NaivePod, node: NaiveNode, started: str = "") -> None:
        """The snapshot counts it already."""
        self.serial += 1
        placed = replace(pod, uid=f"u{self.serial}", started=started)
        node.pods.append(placed)
        self.on_node.setdefault(node.name, {})[placed.uid] = Placed(
            node.name, pod.shape, placed.uid, pod.namespace, placed.uid, pod.priority, started
        )

    def end(self, node: NaiveNode, n: int) -> None:
        gone = node.pods.pop(n)
        self.snapshot.remove_pod(node.name, gone.shape)
        del self.on_node[node.name][gone.uid]

    def named(self, slot: int) -> NaiveNode:
        return next(n for n in self.naive.nodes if n.name == self.snapshot.names[slot])

    def schedule_each(self, pods: list[NaivePod]) -> list[int]:
        """Pods of one kin, in the parts of which one decision serves each; how many are in each. Whoever is placed must be where
        it is feasible and best then, and whoever is not must fit nowhere then."""
        waiting = [Waiting(Pod(Meta(str(n), pod.namespace)), pod.shape, (0, 0.0, n)) for n, pod in enumerate(pods)]
        assert all(one.alike(waiting[0]) for one in waiting)
        parts, left, limits = [], list(pods), NodeVolumeLimits()
        for pod in pods:
            if (mask := limits.mask(self.snapshot, pod.shape)) is not None:
                found = [limits.room_at(self.snapshot, pod.shape, slot) for slot in range(self.snapshot.size)]
                assert found == mask.tolist()
        for part in VolumeBinder(Mock(), self.snapshot, SystemClock()).alike(waiting):
            slots = self.cycle.place_each([one.shape for one in part])
            parts.append(len(part))
            for n in range(len(part)):
                pod = left.pop(0)
                assert pod.shape is part[n].shape
                if n < len(slots):
                    chosen, scores = self.named(slots[n]), self.naive.scores(pod)
                    assert self.naive.refusals(pod, chosen) == []
                    assert scores[chosen.name] >= max(scores.values()) - 0.01, scores
                    self.hold(pod, chosen)
                else:
                    assert all(self.naive.refusals(pod, node) for node in self.naive.nodes)
        return parts

    def schedule(self, pod: NaivePod, count: int) -> int:
        """How many found a place; each must be feasible and best."""
        slots = self.cycle.place(pod.shape, count)
        for slot in slots:
            chosen = self.named(slot)
            assert self.naive.refusals(pod, chosen) == []
            scores = self.naive.scores(pod)
            assert scores[chosen.name] >= max(scores.values()) - 0.01, scores
            self.hold(pod, chosen)
        if len(slots) < count:
            assert all(self.naive.refusals(pod, n) for n in self.naive.nodes)
            assert self.cycle.explain(pod.shape).startswith(f"0/{len(self.naive.nodes)} nodes are available: ")
        feasible = self.cycle.feasible(pod.shape)
        for n in self.naive.nodes:
            fits = not self.naive.refusals(pod, n)
            slot = self.snapshot.slots[n.name]
            assert (bool(feasible[slot]), self.cycle.fits(pod.shape, slot)) == (fits, fits)
        return len(slots)


clusters = st.integers(1, 8).flatmap(lambda n: st.tuples(*(node(i) for i in range(n))))
limits = st.lists(st.sampled_from([0, 1, 2]), min_size=1, max_size=3)
labels = st.dictionaries(st.sampled_from(["app", "tier"]), st.sampled_from("12"), max_size=2)
themes = st.sampled_from(
    [
        ("node", "with", "against", "spread", "disk", "claim"),
        ("claim",),
        ("claim", "disk"),
        ("spread",),
        ("spread", "node"),
        ("with", "against"),
        ("against",),
        ("node",),
    ]
)
"""What the pods of one story are about: a few constraints at a time, as pods with all of them fit nowhere and show nothing."""


@st.composite
def works(draw: st.DrawFn) -> list[tuple[Spec, str, dict[str, str], bool]]:
    theme = draw(themes)
    where = st.just("one") if theme[0] == "claim" else st.sampled_from(list(NAMESPACES))
    one = st.tuples(spec(theme), where, labels, st.integers(0, 9).map(lambda n: n == 0))
    return draw(st.lists(one, min_size=1, max_size=4))


work = works()


@st.composite
def naive_pod(draw: st.DrawFn, theme: tuple[str, ...] = ("node", "with", "against", "spread", "disk")) -> NaivePod:
    """One pod of its own, for other tests."""
    wanted, namespace, has = draw(spec(theme)), draw(st.sampled_from(list(NAMESPACES))), draw(labels)
    terminating = draw(st.integers(0, 9)) == 0
    return NaivePod(wanted, shape_of(wanted, Group(namespace, has, terminating)), namespace, has, terminating)


@given(clusters, limits, services, work, st.data())
@settings(max_examples=150, deadline=None)
def test_every_placement_is_feasible_and_best_by_the_naive_definition(
    nodes: tuple[Node, ...],
    limits: list[int],
    services: list[tuple[str, dict[str, str]]],
    work: list[tuple[Spec, str, dict[str, str], bool]],
    data: st.DataObject,
) -> None:
    world = World(nodes, limits, services)
    pods = [world.pod(*w) for w in work]
    for _ in range(data.draw(st.integers(2, 7), label="steps")):
        world.schedule(data.draw(st.sampled_from(pods), label="pod"), data.draw(st.integers(1, 7), label="count"))
        _something_happens(world, data)


@given(clusters, limits, services, spec(("node", "with", "against", "spread")), labels, st.data())
@settings(max_examples=150, deadline=None)
def test_pods_that_differ_in_their_volumes_are_placed_as_one_by_one(
    nodes: tuple[Node, ...],
    limits: list[int],
    services: list[tuple[str, dict[str, str]]],
    wanted: Spec,
    labels: dict[str, str],
    data: st.DataObject,
) -> None:
    world = World(nodes, limits, services)
    world.cycle.few = data.draw(st.sampled_from([0, 24]), label="few")
    claims = st.lists(st.sampled_from([*CLAIMS, "missing"]), max_size=2, unique=True)
    alone = st.sampled_from([name for name in CLAIMS if "-" in name]).map(lambda name: [name])
    for _ in range(data.draw(st.integers(1, 4), label="steps")):
        pods = []
        for names in data.draw(st.lists(alone | alone | alone | claims, min_size=1, max_size=8), label="claims"):
            volumes = [Volume(n, persistentVolumeClaim=ClaimSource(n)) for n in names]
            pods.append(world.pod(msgspec.structs.replace(wanted, volumes=volumes), "one", labels, False))
        world.schedule_each(pods)
        _something_happens(world, data)


def test_of_pods_that_differ_in_their_volumes_those_that_can_are_placed_by_one_decision() -> None:
    room: dict[str, str | int | float] = {"cpu": "4", "memory": "4Gi", "pods": "10"}
    nodes = tuple(Node(NodeMeta(f"n{n}", {HOSTNAME: f"n{n}"}), NodeSpec(), NodeStatus(room)) for n in range(3))
    world = World(nodes, [2], [])

    def pods(*claims: str) -> list[NaivePod]:
        made = [[Volume(n, persistentVolumeClaim=ClaimSource(n))] for n in claims]
        return [world.pod(Spec(containers=[Container()], volumes=volumes), "one", {}, False) for volumes in made]

    assert world.schedule_each(pods("own-0", "own-1", "free-0", "free-1", "own-2")) == [2, 2, 1]
    assert world.schedule_each(pods("own-3", "local", "own-4", "missing", "zonal", "single")) == [1] * 6
    assert world.schedule_each(pods("own-0", "own-1")) == [1, 1], "they are in use already"
    assert world.schedule_each(pods("free-2", "free-2", "free-3")) == [2, 1], "they share one"
    assert world.schedule_each(pods("csi-0", "csi-1", "csi-2")) == [3], "one more than there is room for"


@st.composite
def roomy(draw: st.DrawFn, n: int) -> Node:
    room: dict[str, str | int | float] = {
        "cpu": draw(st.sampled_from(["1", "2", "8"])),
        "memory": draw(st.sampled_from(["1Gi", "2Gi", "8Gi"])),
        "pods": draw(st.sampled_from(["3", "10"])),
    }
    zone = draw(st.sampled_from([{ZONE: "1"}, {ZONE: "1"}, {ZONE: "2"}, {}]))
    return Node(NodeMeta(f"n{n}", {HOSTNAME: f"n{n}", **zone}), NodeSpec(), NodeStatus(room, draw(images)))


def _wish(key: str, weight: int) -> dict[str, Any]:
    term = {"topologyKey": key, "labelSelector": {"matchLabels": {"app": "1"}}}
    preferred = [{"podAffinityTerm": term, "weight": abs(weight)}]
    return {
        "podAffinity" if weight > 0 else "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": preferred
        }
    }


def _evenly(key: str) -> dict[str, Any]:
    selector = {"matchLabels": {"app": "1"}}
    return {"topologyKey": key, "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": selector}


small = st.builds(
    lambda requests, image, wish, spread: Spec(
        containers=[Container(Requests(requests), None, "", image)], affinity=wish, topologySpreadConstraints=spread
    ),
    st.sampled_from([{}, {"cpu": "100m"}, {"memory": "400M"}, {"cpu": "400m", "memory": "100M"}]),
    st.sampled_from(["", "big"]),
    st.sampled_from([None, None, *(_wish(key, weight) for key in (HOSTNAME, ZONE) for weight in (1, -1))]),
    st.sampled_from([None, None, [_evenly(HOSTNAME)], [_evenly(ZONE)], [_evenly(HOSTNAME), _evenly(ZONE)]]),
)


@given(
    st.integers(1, 8).flatmap(lambda n: st.tuples(*(roomy(i) for i in range(n)))),
    st.lists(small, min_size=1, max_size=3),
    st.data(),
)
@settings(max_examples=100, deadline=None)
def test_pods_that_are_placed_together_are_where_one_by_one_would_have_put_them(
    nodes: tuple[Node, ...], work: list[Spec], data: st.DataObject
) -> None:
    world = World(nodes, [0], [])
    world.cycle.few = 0
    pods = [world.pod(wanted, "one", {"app": "1"}, False) for wanted in work]
    for _ in range(data.draw(st.integers(1, 4), label="steps")):
        world.schedule(data.draw(st.sampled_from(pods), label="pod"), data.draw(st.integers(2, 16), label="count"))


def _something_happens(world: World, data: st.DataObject) -> None:
    happening = data.draw(st.sampled_from(["nothing", "end", "end", "change", "leave", "namespace"]), label="happening")
    nodes = world.naive.nodes
    if happening == "end" and (full := [n for n in nodes if n.pods]):
        world.end(data.draw(st.sampled_from(full)), 0)
    elif happening == "change" and nodes:
        old = data.draw(st.sampled_from(nodes))
        world.change_node(old, data.draw(node(int(old.name[1:]))))
    elif happening == "leave" and len(nodes) > 1:
        old = data.draw(st.sampled_from(nodes))
        world.remove_node(old)
        if data.draw(st.booleans(), label="returns"):
            world.add_node(old.node, 0)
    elif happening == "namespace":
        name, labels = (
            data.draw(st.sampled_from(["one", "two", "three"])),
            data.draw(st.just({}) | st.just({"team": "b"})),
        )
        world.naive.namespaces[name] = labels
        world.snapshot.pods.set_namespace(name, labels)


budgets = st.lists(
    st.tuples(st.sampled_from(["one", "two"]), st.just({"app": "1"}) | st.just({"tier": "2"}), st.integers(0, 2)),
    max_size=2,
)


@given(clusters, limits, work, work, budgets, st.data())
@settings(max_examples=120, deadline=None)
def test_preemption_finds_the_cheapest_victims_of_all_nodes(
    nodes: tuple[Node, ...],
    limits: list[int],
    there: list[tuple[Spec, str, dict[str, str], bool]],
    coming: list[tuple[Spec, str, dict[str, str], bool]],
    budgets: list[tuple[str, dict[str, str], int]],
    data: st.DataObject,
) -> None:
    world = World(nodes, limits, [])
    pods = [world.pod(*w) for w in there]
    newcomers = [world.pod(*w) for w in coming]
    guards = [
        convert(
            {
                "metadata": {"name": f"b{n}", "namespace": namespace},
                "spec": {"selector": {"matchLabels": selector}},
                "status": {"disruptionsAllowed": allowed},
            },
            Budget,
        )
        for n, (namespace, selector, allowed) in enumerate(budgets)
    ]
    for _ in range(data.draw(st.integers(1, 3), label="rounds")):
        for _ in range(data.draw(st.integers(1, 8), label="pods")):
            pod = data.draw(st.sampled_from(pods))
            for slot in world.cycle.place(pod.shape, 1):
                world.hold(
                    pod,
                    world.named(slot),
                    data.draw(st.sampled_from(["", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"])),
                )
        pod = data.draw(st.sampled_from(newcomers), label="newcomer")
        if any(not world.naive.refusals(pod, n) for n in world.naive.nodes):
            continue
        start = data.draw(st.integers(0, 7))
        found, _ = find(Asked(world.cycle, world.snapshot, pod.shape, pod.priority, world.on_node, guards, start))
        _several_are_chosen_as_one_by_one(world, pod, guards, start)
        options = {n.name: v for n in world.naive.nodes if (v := world.naive.victims(pod, n, budgets)) is not None}
        assert (found is None) == (not options)
        if found is None:
            continue
        gone, broken = options[found.node]
        assert [v.uid for v in found.victims] == [p.uid for p in gone]
        assert found.violations == broken
        assert _cost(gone, broken) == min(_cost(*v) for v in options.values())
        node_of = next(n for n in world.naive.nodes if n.name == found.node)
        for uid in [p.uid for p in gone]:
            world.end(node_of, [p.uid for p in node_of.pods].index(uid))


def _several_are_chosen_as_one_by_one(world: World, pod: NaivePod, guards: list[Budget], start: int) -> None:
    """Each when room is kept for those before it; and who is told at a glance that it may move in there fits indeed."""
    cycle, nodes, kept = world.cycle, world.snapshot, list[str]()
    for each in find_alike(Asked(cycle, nodes, pod.shape, pod.priority, world.on_node, guards, start), 4):
        alone, _ = find(Asked(cycle, nodes, pod.shape, pod.priority, world.on_node, guards, start))
        assert alone is not None
        assert (alone.node, alone.victims, alone.violations) == (each.node, each.victims, each.violations)
        nodes.add_pod(each.node, pod.shape)
        kept.append(each.node)
    for node in world.naive.nodes:
        slot = nodes.slots[node.name]
        if node.name not in kept:
            nodes.add_pod(node.name, pod.shape)
            kept.append(node.name)
        stays = cycle.may_stay(pod.shape, slot)
        nodes.remove_pod(node.name, pod.shape)
        assert stays == cycle.fits(pod.shape, slot) or not cycle.minds_only_room(pod.shape)
        nodes.add_pod(node.name, pod.shape)
    for name in kept:
        nodes.remove_pod(name, pod.shape)


def _cost(gone: list[NaivePod], broken: int) -> tuple[Any, ...]:
    """Upstream's order of candidates; lower is better."""
    highest = max(p.priority for p in gone)
    first = min(p.started or "~" for p in gone if p.priority == highest)
    return broken, highest, sum(p.priority + 2**31 for p in gone), len(gone), [-ord(c) for c in first]
