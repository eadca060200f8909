"""The vectorised decision agrees with the naive one, singly and in batches; refusals are explained in upstream's words."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.scheduler.naive import NaiveCluster, NaiveNode

from jota.scheduler.cycle import Cycle
from jota.scheduler.pod import Container, Pod, Port, Requests, Shape, Spec, Toleration, shape_of
from jota.scheduler.profile import default_profile
from jota.scheduler.snapshot import Node, NodeMeta, NodeSpec, NodeStatus, Snapshot, Taint
from jota.scheduler.terms import Group

taints = st.sampled_from(
    [
        [],
        [Taint("a", "1", "NoSchedule")],
        [Taint("a", "2", "NoExecute")],
        [Taint("b", "", "NoSchedule"), Taint("a", "1", "NoSchedule")],
        [Taint("b", "", "PreferNoSchedule")],
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


@st.composite
def node(draw: st.DrawFn, n: int) -> Node:
    return Node(
        NodeMeta(
            f"n{n}",
            draw(st.dictionaries(st.sampled_from("xyz"), st.sampled_from("12"), max_size=3))
            | {"kubernetes.io/hostname": f"n{n}"},
        ),
        NodeSpec(draw(st.booleans()) and draw(st.booleans()), draw(taints)),
        NodeStatus(
            {
                "cpu": draw(st.sampled_from(["500m", "1", "2", "4"])),
                "memory": draw(st.sampled_from(["512Mi", "1Gi", "4Gi"])),
                "pods": draw(st.sampled_from(["2", "10"])),
            }
        ),
    )


KEYS = st.sampled_from(["x", "y", "kubernetes.io/hostname"])
NAMESPACES = {"one": {"team": "a"}, "two": {"team": "b"}, "three": {}}
selectors = st.sampled_from(
    [
        None,
        {},
        {"matchLabels": {"app": "1"}},
        {"matchExpressions": [{"key": "app", "operator": "In", "values": ["1", "2"]}]},
        {"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]},
    ]
)


@st.composite
def term(draw: st.DrawFn) -> dict[str, object]:
    made: dict[str, object] = {"topologyKey": draw(KEYS), "labelSelector": draw(selectors)}
    where = draw(st.sampled_from(["own", "own", "names", "all", "selected"]))
    if where == "names":
        made["namespaces"] = ["one", "two"]
    elif where == "all":
        made["namespaceSelector"] = {}
    elif where == "selected":
        made["namespaceSelector"] = {"matchLabels": {"team": "b"}}
    if draw(st.booleans()):
        made["matchLabelKeys"] = ["tier"]
    return made


@st.composite
def pod_affinity(draw: st.DrawFn) -> dict[str, object]:
    weighted = st.builds(lambda t, w: {"podAffinityTerm": t, "weight": w}, term(), st.integers(1, 100))
    return {
        "requiredDuringSchedulingIgnoredDuringExecution": draw(st.lists(term(), max_size=1)),
        "preferredDuringSchedulingIgnoredDuringExecution": draw(st.lists(weighted, max_size=2)),
    }


constraints = st.fixed_dictionaries(
    {
        "topologyKey": KEYS,
        "maxSkew": st.integers(1, 2),
        "whenUnsatisfiable": st.sampled_from(["DoNotSchedule", "ScheduleAnyway"]),
        "labelSelector": selectors,
        "nodeAffinityPolicy": st.sampled_from(["Honor", "Ignore"]),
        "nodeTaintsPolicy": st.sampled_from(["Honor", "Ignore"]),
    },
    optional={"minDomains": st.integers(1, 3), "matchLabelKeys": st.just(["app"])},
)


@st.composite
def shape(draw: st.DrawFn) -> Shape:
    requests = draw(
        st.dictionaries(st.sampled_from(["cpu", "memory"]), st.sampled_from(["100m", "300M", "1"]), max_size=2)
    )
    ports = [Port(hostPort=draw(st.sampled_from([80, 81])), hostIP=draw(st.sampled_from(["", "10.0.0.1"])))]
    affinity = {}
    if draw(st.booleans()):
        affinity["podAffinity"] = draw(pod_affinity())
    if draw(st.booleans()):
        affinity["podAntiAffinity"] = draw(pod_affinity())
    labels = draw(st.dictionaries(st.sampled_from(["app", "tier"]), st.sampled_from("12"), max_size=2))
    return shape_of(
        Spec(
            containers=[Container(Requests(dict(requests)), ports if draw(st.integers(0, 4)) == 0 else None)],
            nodeSelector=draw(st.dictionaries(st.just("x"), st.sampled_from("12"), max_size=1)),
            tolerations=draw(tolerations),
            affinity=affinity,
            topologySpreadConstraints=draw(st.lists(constraints, max_size=2)),
        ),
        Group(draw(st.sampled_from(list(NAMESPACES))), labels, draw(st.integers(0, 9)) == 0),
    )


clusters = st.integers(1, 8).flatmap(lambda n: st.tuples(*(node(i) for i in range(n))))


@given(clusters, st.lists(st.tuples(shape(), st.integers(1, 5)), max_size=7), st.data())
@settings(max_examples=250, deadline=None)
def test_every_placement_is_feasible_and_best_by_the_naive_definition(
    nodes: tuple[Node, ...], work: list[tuple[Shape, int]], data: st.DataObject
) -> None:
    snapshot, naive = Snapshot(), {n.metadata.name: NaiveNode(n) for n in nodes}
    for name, labels in NAMESPACES.items():
        snapshot.pods.set_namespace(name, labels)
    for n in nodes:
        snapshot.put_node(n)
    cluster = NaiveCluster(list(naive.values()), NAMESPACES)
    cycle = Cycle(default_profile(), snapshot, 1)
    for wanted, count in work:
        slots = cycle.place(wanted, count)
        for slot in slots:
            chosen = naive[snapshot.names[slot]]
            assert cluster.refusals(wanted, chosen) == []
            scores = cluster.scores(wanted)
            assert scores[chosen.name] >= max(scores.values()) - 0.01, scores
            chosen.pods.append(wanted)
        if len(slots) < count:
            assert all(cluster.refusals(wanted, n) for n in naive.values())
            assert cycle.explain(wanted).startswith(f"0/{len(nodes)} nodes are available: ")
        full = [n for n in naive.values() if n.pods]
        if full and data.draw(st.booleans(), label="a pod ends"):
            ending = data.draw(st.sampled_from(full))
            snapshot.remove_pod(ending.name, ending.pods.pop())


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
            "1 node(s) had untolerated taint {k: v}, 1 node(s) were unschedulable.",
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
