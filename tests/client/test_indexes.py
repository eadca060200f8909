"""An index that groups: what it says without looking at each object is what a look at each says."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from jota.client.cache import Cache
from jota.client.podparts import Condition, ObjectMeta, OwnerReference, PodSpec, PodStatus
from jota.client.pods import Pod
from jota.controllers import podclaim
from jota.controllers.views import grouped

LABELS = [None, {"app": "web"}, {"app": "db"}]
OWNERS = [None, *([OwnerReference("apps/v1", "ReplicaSet", name, name, controller=True)] for name in ("a", "b"))]
CONDITIONS = [None, [Condition("Ready", "False")], [Condition("Ready", "True")]]
STEPS = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.booleans(),
        st.sampled_from(LABELS),
        st.sampled_from(OWNERS),
        st.sampled_from(CONDITIONS),
        st.sampled_from(["Pending", "Running", "Failed"]),
        st.booleans(),
        st.sampled_from(["", "n1"]),
    ),
    max_size=40,
)


@given(STEPS)
def test_groups_follow_every_change(steps: list[tuple]) -> None:  # type: ignore[type-arg]
    cache: Cache[Pod] = Cache("pods", Pod)
    podclaim.index(cache)
    for version, (number, goes, labels, owners, conditions, phase, deleted, node) in enumerate(steps, 1):
        name = f"p{number}"
        if goes:
            cache.remove(f"ns/{name}")
        else:
            deletion = "2027-01-01T00:00:00Z" if deleted else None
            meta = ObjectMeta(name, "ns", f"{name}-{number}", str(version), 1, None, deletion, labels, None, owners)
            cache.put(
                f"ns/{name}",
                Pod(meta, PodSpec(nodeName=node), PodStatus(phase, conditions=conditions)),
                meta.uid,
                str(version),
            )
        for value in ("a", "b", "orphans of ns"):
            each = [p for p in cache.list() if podclaim.by_controller(p) == [value]]
            found = cache.groups("controller", value)
            assert sorted(p.key for p in cache.by_index("controller", value)) == sorted(p.key for p in each)
            assert {g.kind: {id(p) for p in g} for g in found} == {g.kind: {id(p) for p in g} for g in grouped(each)}
            assert sum(map(len, found)) == len(each)
            assert all(any(g.first is p for p in each) for g in found)
    assert set(cache.index_values("controller")) == {podclaim.by_controller(p)[0] for p in cache.list()}


def test_those_that_are_left_out_are_not_counted() -> None:
    pods = [msgspec.convert({"metadata": {"name": f"p{n}", "uid": f"u{n}"}}, Pod) for n in range(3)]
    (group,) = grouped(pods)
    less = group.without({"u0", "u2"})
    assert (len(group), len(less), list(less)) == (3, 1, [pods[1]])
    assert pods[1] in less
    assert pods[0] not in less
