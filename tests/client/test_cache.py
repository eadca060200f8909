"""Who is told of which change: all of what comes and goes, and of the rest what a reader looks at."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jota.client.cache import COMES, GOES, Cache
from jota.client.podparts import ObjectMeta
from jota.client.pods import (
    ADDRESSES,
    CLAIM_NAMES,
    CONDITIONS,
    DELETION,
    ENDED,
    FINISHED,
    LABELS,
    OWNERS,
    PLACED,
    TEMPLATE,
    Pod,
)

SIZE, COLOUR = 8, 16


class Thing(msgspec.Struct):
    metadata: ObjectMeta
    size: int = 0
    colour: str = ""

    @staticmethod
    def changes(old: Thing, new: Thing) -> int:
        return (SIZE if old.size != new.size else 0) | (COLOUR if old.colour != new.colour else 0)


def thing(version: int, size: int = 0, colour: str = "", uid: str = "u") -> Thing:
    return Thing(ObjectMeta("a", "ns", uid, str(version)), size, colour)


def put(cache: Cache[Any], obj: Any) -> None:
    cache.put(obj.metadata.key, obj, obj.metadata.uid, obj.metadata.resourceVersion)


def test_a_handler_hears_what_it_looks_at_and_whatever_comes_or_goes() -> None:
    cache: Cache[Thing] = Cache("things", Thing)
    told: dict[str, list[tuple[int | None, int | None]]] = {"all": [], "size": [], "none": []}

    def version(obj: Thing | None) -> int | None:
        return None if obj is None else int(obj.metadata.resourceVersion)

    for name, on in (("all", -1), ("size", SIZE), ("none", 0)):
        cache.add_handler(lambda old, new, name=name: told[name].append((version(old), version(new))), on)  # type: ignore[misc]
    cache.add_index("size", lambda t: [str(t.size)], on=SIZE)
    put(cache, thing(1))
    put(cache, thing(2, colour="red"))
    put(cache, thing(3, colour="red"))  # nothing that the bits name
    put(cache, thing(4, size=5, colour="red"))
    put(cache, thing(4, size=5, colour="red"))  # known
    assert [t.metadata.resourceVersion for t in cache.by_index("size", "5")] == ["4"]
    assert list(cache.index_values("size")) == ["5"]
    put(cache, thing(5, size=5, colour="red", uid="other"))
    cache.remove("ns/a")
    assert told["all"] == [(None, 1), (1, 2), (2, 3), (3, 4), (4, None), (None, 5), (5, None)]
    assert told["size"] == [(None, 1), (3, 4), (4, None), (None, 5), (5, None)]
    assert told["none"] == [(None, 1), (4, None), (None, 5), (5, None)]
    assert not list(cache.index_values("size"))


def test_who_names_coming_or_going_hears_of_no_other() -> None:
    cache: Cache[Thing] = Cache("things", Thing)
    told: list[tuple[str, bool, bool]] = []
    for name, on in (("comes", COMES), ("goes", GOES), ("red or gone", COLOUR | GOES)):
        cache.add_handler(lambda old, new, name=name: told.append((name, old is None, new is None)), on)  # type: ignore[misc]
    put(cache, thing(1))
    put(cache, thing(2, size=1))
    put(cache, thing(3, size=1, colour="red"))
    cache.remove("ns/a")
    assert told == [
        ("comes", True, False),
        ("red or gone", False, False),
        ("goes", False, True),
        ("red or gone", False, True),
    ]


def test_an_index_that_fails_for_one_object_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    cache: Cache[Thing] = Cache("things", Thing)
    cache.add_index("share", lambda t: [str(100 // t.size)])
    put(cache, thing(1, size=0))
    assert cache.get("ns/a") is not None
    assert "index share failed" in caplog.text
    put(cache, thing(2, size=50))
    assert len(list(cache.by_index("share", "2"))) == 1
    put(cache, thing(3, size=0))
    assert not list(cache.by_index("share", "2"))


def test_a_namespace_that_is_asked_for_late_is_whole_and_stays_so() -> None:
    cache: Cache[Thing] = Cache("things", Thing)
    for namespace, name in (("x", "a"), ("y", "a"), ("x", "b")):
        put(cache, Thing(ObjectMeta(name, namespace, name, "1")))
    assert [t.metadata.name for t in cache.list("x")] == ["a", "b"]
    put(cache, Thing(ObjectMeta("c", "x", "c", "2")))
    cache.remove("x/a")
    cache.remove("y/a")
    assert [t.metadata.name for t in cache.list("x")] == ["b", "c"]
    assert cache.list("y") == []


TEXT = st.sampled_from([None, "a", "b"])
PODS = st.builds(
    lambda labels, node, image, ready, ip, going, owner, reason, claim, phase: {
        "metadata": {
            "name": "p",
            "labels": {"l": labels} if labels else None,
            "deletionTimestamp": going,
            "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "n", "uid": owner}] if owner else None,
        },
        "spec": {"containers": [{"name": "c", "image": image or ""}], **({"nodeName": node} if node else {})},
        "status": {
            "phase": phase or "",
            "reason": reason or "",
            "conditions": [{"type": "Ready", "status": ready}] if ready else None,
            "podIP": ip,
            "podIPs": [{"ip": ip}] if ip else None,
            "resourceClaimStatuses": [{"name": "c", "resourceClaimName": claim}] if claim else None,
        },
    },
    *[TEXT] * 9,
    st.sampled_from([None, "Pending", "Running", *ENDED]),
)


@given(PODS, PODS)
def test_the_bits_of_a_pod_never_say_too_little(before: dict[str, Any], after: dict[str, Any]) -> None:
    old, new = (Pod.from_json(msgspec.json.encode(p)) for p in (before, after))
    bits = Pod.changes(old, new)

    def differ(*path: str) -> bool:
        was, now = before, after
        for step in path:
            was, now = was.get(step) or {}, now.get(step) or {}
        return was != now

    looked_at = {
        PLACED: ("spec", "nodeName"),
        TEMPLATE: ("spec", "containers"),
        LABELS: ("metadata", "labels"),
        OWNERS: ("metadata", "ownerReferences"),
        DELETION: ("metadata", "deletionTimestamp"),
        CONDITIONS: ("status", "conditions"),
        ADDRESSES: ("status", "podIPs"),
        CLAIM_NAMES: ("status", "resourceClaimStatuses"),
    }
    assert {bit for bit in looked_at if bits & bit} == {bit for bit, path in looked_at.items() if differ(*path)}
    assert bool(bits & FINISHED) == (old.finished != new.finished)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.one_of(st.none(), PODS)), max_size=12))
def test_of_pods_that_are_akin_a_reader_is_asked_once_and_hears_the_same(writes: list[tuple[str, Any]]) -> None:
    cache: Cache[Pod] = Cache("pods", Pod)
    wanted, told, asked = [], [], []

    def labelled(pod: Pod) -> bool:
        asked.append(Pod.kin(pod))
        kept.append(pod)
        return bool(pod.metadata.labels) and pod.metadata.ownerReferences is None

    def everything(old: Pod | None, new: Pod | None) -> None:
        if any(pod is not None and pod.metadata.labels and not pod.metadata.ownerReferences for pod in (old, new)):
            wanted.append((old, new))

    kept: list[Pod] = []  # so that identities stay what they were
    cache.add_handler(everything)
    cache.add_handler(lambda old, new: told.append((old, new)), of=labelled)
    changed = 0
    for version, (name, body) in enumerate(writes, 1):
        if body is None:
            cache.remove(f"ns/{name}")
            continue
        meta = {**body["metadata"], "name": name, "namespace": "ns", "uid": name, "resourceVersion": str(version)}
        pod = Pod.from_json(msgspec.json.encode({**body, "metadata": meta}))
        held = cache.get(pod.key)
        changed += held is not None and bool(Pod.changes(held, pod) & Pod.KIN)
        put(cache, pod)
    assert told == wanted
    # of one that left its kin both states are asked about each time; of all others each kin by each combination of bits
    assert len(asked) <= 2 * changed + len(set(asked)) * 16


def test_what_changed_beside_the_objects_is_looked_at_again() -> None:
    cache: Cache[Pod] = Cache("pods", Pod)
    wanted: set[str] = set()
    told: list[str] = []
    cache.add_handler(
        lambda old, new: told.append(new.metadata.name if new else ""), of=lambda p: p.metadata.namespace in wanted
    )

    def add(name: str) -> None:
        meta = {"name": name, "namespace": "ns", "uid": name, "resourceVersion": "1"}
        put(cache, Pod.from_json(msgspec.json.encode({"metadata": meta, "spec": {"containers": []}})))

    add("a")
    wanted.add("ns")
    cache.reconsider()
    add("b")
    assert told == ["b"]


def test_a_reader_that_cannot_say_whom_it_wants_is_told(caplog: pytest.LogCaptureFixture) -> None:
    cache: Cache[Pod] = Cache("pods", Pod)
    told: list[Any] = []
    cache.add_handler(lambda old, new: told.append(new), of=lambda pod: 1 // 0)
    put(cache, Pod(ObjectMeta("a", "ns", "u", "1")))
    assert len(told) == 1
    assert "cannot say which objects concern it" in caplog.text


def test_who_tells_no_kin_has_no_readers_of_some() -> None:
    with pytest.raises(AssertionError, match="things"):
        Cache("things", Thing).add_handler(lambda old, new: None, of=lambda thing: True)
