"""The accounts of nodes, refusals in upstream's words, operators, effective requests. Decisions: test_agreement.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jota.scheduler.cycle import Cycle
from jota.scheduler.pod import Container, Pod, Port, Requests, Shape, Shapes, Spec, shape_of
from jota.scheduler.profile import default_profile
from jota.scheduler.snapshot import Node, NodeMeta, NodeSpec, NodeStatus, Snapshot, Taint
from jota.scheduler.terms import Group


@given(st.lists(st.tuples(st.sampled_from(["put", "remove", "add", "drop"]), st.integers(0, 3)), max_size=40))
def test_the_accounts_are_right_after_any_history(steps: list[tuple[str, int]]) -> None:
    snapshot = Snapshot()
    one = shape_of(Spec(containers=[Container(Requests({"cpu": "100m"}))]))
    pods: list[int] = []
    for verb, n in steps:
        if verb == "put":
            snapshot.put_node(Node(NodeMeta(f"n{n}"), NodeSpec(), NodeStatus({"cpu": "1", "pods": "9"})))
        elif verb == "remove" and f"n{n}" in snapshot.slots:
            snapshot.remove_node(f"n{n}")
            for where in pods:
                if where == n:
                    snapshot.add_pod(f"n{n}", one)
        elif verb == "add":
            snapshot.add_pod(f"n{n}", one)
            pods.append(n)
        elif verb == "drop" and n in pods:
            snapshot.remove_pod(f"n{n}", one)
            pods.remove(n)
        for name, slot in snapshot.slots.items():
            assert snapshot.used("cpu")[slot] == 100 * pods.count(int(name[1:]))


@pytest.mark.parametrize("ports", [None, [Port(hostPort=80)]])
def test_pods_that_come_together_count_as_if_they_had_come_one_by_one(ports: list[Port] | None) -> None:
    one = shape_of(Spec(containers=[Container(Requests({"cpu": "100m", "memory": "1Mi"}), ports)]), Group("default"))
    together, apart = Snapshot(), Snapshot()
    for snapshot in (together, apart):
        for n in range(5):
            snapshot.put_node(make(name=f"n{n}"))
        snapshot.add_pod("n1", one)
    slots, mark = [together.slots[f"n{n}"] for n in (4, 1, 2)], together.mark()
    together.add_alike(slots, one)
    for n in (4, 1, 2):
        apart.add_pod(f"n{n}", one)
    for resource in ("cpu", "memory", "pods"):
        assert together.used(resource).tolist() == apart.used(resource).tolist()
    assert (together.used_cpu.tolist(), together.used_memory.tolist()) == (
        apart.used_cpu.tolist(),
        apart.used_memory.tolist(),
    )
    assert (together.ports, together.pods._groups) == (apart.ports, apart.pods._groups)
    assert together.versions.tolist() == apart.versions.tolist()
    assert together.changed_since(mark) == slots == apart.changed_since(mark)


def make(*, cpu: str = "1", memory: str = "1Gi", pods: str = "10", name: str = "a", **spec: object) -> Node:
    return Node(
        NodeMeta(name, {"zone": name}), NodeSpec(**spec), NodeStatus({"cpu": cpu, "memory": memory, "pods": pods})
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("nodes", "spec", "text"),
    [
        ([], Spec(), "no nodes available to schedule pods"),
        (
            [make()],
            Spec(containers=[Container(Requests({"cpu": "9999"}))]),
            "0/1 nodes are available: 1 Insufficient cpu.",
        ),
        (
            [make(), make(name="b", unschedulable=True), make(name="c", taints=[Taint("k", "v", "NoSchedule")])],
            Spec(containers=[Container(Requests({"cpu": "2", "memory": "2Gi"}))]),
            "0/3 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, "
            "1 node(s) had untolerated taint(s), 1 node(s) were unschedulable.",
        ),
        (
            [make(pods="0"), make(name="b")],
            Spec(nodeSelector={"zone": "a"}),
            "0/2 nodes are available: 1 Too many pods, 1 node(s) didn't match Pod's node affinity/selector.",
        ),
    ],
)
def test_refusals_are_explained(nodes: list[Node], spec: Spec, text: str) -> None:
    snapshot = Snapshot()
    for n in nodes:
        snapshot.put_node(n)
    cycle = Cycle(default_profile(), snapshot, 1)
    assert cycle.place(shape_of(spec), 1) == []
    assert cycle.explain(shape_of(spec)) == text


@pytest.mark.parametrize(
    ("operator", "values", "expected"),
    [
        ("In", ["a", "z"], {"a"}),
        ("NotIn", ["a"], {"b", "5"}),
        ("Exists", None, {"a", "b", "5"}),
        ("DoesNotExist", None, set()),
        ("Gt", ["4"], {"5"}),
        ("Lt", ["4"], set()),
        ("Gt", ["nonsense"], set()),
    ],
)
def test_node_affinity_operators(operator: str, values: list[str] | None, expected: set[str]) -> None:
    snapshot = Snapshot()
    for name in ("a", "b", "5"):
        snapshot.put_node(make(name=name))
    expression = {"key": "zone", "operator": operator, **({"values": values} if values else {})}
    term = {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    }
    mask = Cycle(default_profile(), snapshot, 1).feasible(shape_of(Spec(affinity={"nodeAffinity": term})))
    assert {snapshot.names[i] for i in range(3) if mask[i]} == expected


@pytest.mark.parametrize(("policy", "on_plain"), [("Ignore", 1), ("Honor", 3)])
def test_spread_counts_tainted_nodes_as_its_policy_says(policy: str, on_plain: int) -> None:
    """An untolerated node that counts is an empty domain which nobody can fill."""
    snapshot = Snapshot()
    snapshot.put_node(make(name="a"))
    snapshot.put_node(make(name="b", taints=[Taint("k", "v", "NoSchedule")]))
    constraint = {
        "maxSkew": 1,
        "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {},
        "nodeTaintsPolicy": policy,
    }
    wanted = shape_of(Spec(topologySpreadConstraints=[constraint]))
    assert len(Cycle(default_profile(), snapshot, 1).place(wanted, 3)) == on_plain


def test_effective_requests_follow_init_containers_and_sidecars() -> None:
    def container(cpu: str, policy: str = "") -> Container:
        return Container(Requests({"cpu": cpu}), None, policy)

    spec = Spec(
        containers=[container("1"), container("500m")],
        initContainers=[container("3"), container("200m", "Always"), container("2")],
    )
    assert shape_of(spec).requests["cpu"] == 3000
    spec.containers.append(container("2"))
    assert shape_of(spec).requests["cpu"] == 3700


def test_pods_decode_from_the_wire() -> None:
    import msgspec

    raw = b'{"metadata":{"name":"p","namespace":"d"},"spec":{"containers":[{"name":"c","image":"x"}],"priority":7},"status":{}}'
    pod = msgspec.json.decode(raw, type=Pod)
    assert pod.spec.priority == 7
    assert shape_of(pod.spec).requests == {"pods": 1.0}


def counted(spec: str, allocated: str, actual: str, *, reason: str = "", seen: int = 2, deleted: bool = False) -> float:
    """The cpu that a pod counts as, of generation 2, or 3 when its deletion was asked for."""
    shown = {"name": "c", "allocatedResources": {"cpu": allocated}, "resources": {"requests": {"cpu": actual}}}
    conditions = [{"type": "PodResizePending", "status": "True", "reason": reason}] if reason else []
    pod: dict[str, Any] = {
        "metadata": {"name": "p", "namespace": "d", "generation": 2 + deleted},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": spec}}}]},
        "status": {"observedGeneration": seen, "containerStatuses": [shown], "conditions": conditions},
    }
    if deleted:
        pod["metadata"]["deletionTimestamp"] = "2027-01-01T00:00:00Z"
    return Shapes().of(Pod.from_json(json.dumps(pod).encode())).requests["cpu"]


def test_a_pod_that_is_resized_counts_as_the_largest() -> None:
    assert counted("100m", "300m", "200m", seen=1) == 300  # its node has not seen the spec
    assert counted("400m", "300m", "200m", reason="Deferred") == 400
    assert counted("400m", "300m", "350m", reason="Infeasible") == 350
    assert counted("100m", "100m", "100m") == 100
    assert counted("100m", "300m", "200m", seen=1, deleted=True) == 300
    assert counted("100m", "300m", "200m", seen=2, deleted=True) == 100  # its node has seen all but the deletion


@pytest.mark.parametrize(
    "change",
    [
        {"deletionTimestamp": "2027-01-01T00:00:00Z"},
        {"labels": {"app": "other"}},
        {"cpu": "300m"},
        {"claim": "other"},
        {"port": 81},
    ],
)
@pytest.mark.parametrize("claim", ["", "data"])
def test_a_pod_that_changes_is_counted_as_if_it_had_come_so(change: dict[str, Any], claim: str) -> None:
    shapes = Shapes()

    def one(cpu: str = "100m", claim: str = claim, port: int = 80, **meta: Any) -> Shape:
        container = {"name": "c", "resources": {"requests": {"cpu": cpu}}, "ports": [{"hostPort": port}]}
        volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}] if claim else []
        metadata = {"name": "p", "namespace": "d", "labels": {"app": "web"}, **meta}
        pod = {"metadata": metadata, "spec": {"containers": [container], "volumes": volumes}}
        return shapes.of(Pod.from_json(json.dumps(pod).encode()))

    def accounts(*what: Callable[[Snapshot], None]) -> list[Any]:
        nodes = Snapshot()
        nodes.put_node(make(name="a"))
        for step in what:
            step(nodes)
        counts = nodes.pods
        used = {name: nodes.used_at(name, 0) for name in ("cpu", "pods")}
        kept = [(c.total, c.slots.tolist()) for c in counts._selected.values()]
        return [used, nodes.used_cpu[0], nodes.ports, nodes.claims, counts._groups, kept]

    was, now = one(), one(**change)
    changed = accounts(lambda n: n.add_pod("a", was), lambda n: n.change_pod("a", was, now))
    assert changed == accounts(lambda n: n.add_pod("a", now))


def test_what_a_pod_asks_for_as_a_whole_takes_the_place_of_the_sum() -> None:
    one = Container(Requests({"cpu": "100m", "memory": "1Mi", "example.com/x": "1"}))
    shape = shape_of(Spec(containers=[one, one], resources=Requests({"cpu": "1"}), overhead={"cpu": "50m"}))
    assert shape.requests == {"cpu": 1050, "memory": 2 << 20, "example.com/x": 2, "pods": 1}
