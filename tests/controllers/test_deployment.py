"""Deployment's planner, as tables and as a simulated rollout with readiness at random."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jota.controllers.revisions import DESIRED, MAXIMUM, REVISION, REVISION_HISTORY, max_surge, max_unavailable
from jota.controllers.rollout import plan, proportions
from jota.controllers.rollout_status import status_of

from .builders import NOW, deployment, replica_set

Object = dict[str, Any]


class World:
    """Deployment and sets as the API would hold them; sets reach their size at once, pods become ready at random."""

    def __init__(self, d: Object, random: Random) -> None:
        self.deployment, self.random, self.sets = d, random, list[Object]()
        self.now = NOW
        self.steps = 0

    def step(self) -> bool:
        """One reconcile; True when it changed something."""
        self.now += 1
        decided = plan(self.deployment, self.sets, False)
        for change in decided.changes:
            one = next(s for s in self.sets if s["metadata"]["name"] == change.set["metadata"]["name"])
            one["spec"]["replicas"] = change.size
            one["metadata"]["annotations"] = change.notes
        if decided.create:
            self.steps += 1
            meta = {**decided.create["metadata"], "uid": f"u{self.steps}", "generation": 1}
            meta["creationTimestamp"] = f"2027-01-01T00:{self.steps // 60:02}:{self.steps % 60:02}Z"
            self.sets.append({**decided.create, "metadata": meta, "status": {}})
        self.sets = [s for s in self.sets if s not in decided.delete]
        new = decided.new or next((s for s in self.sets if decided.create and s is self.sets[-1]), None)
        old = [s for s in self.sets if s is not new]
        status, _ = status_of(self.deployment, new, old, self.now, bool(decided.create))
        changed = bool(decided.changes or decided.create or decided.delete or status != self.deployment["status"])
        self.deployment["status"] = status
        return changed

    def kubelets(self, all_ready: bool = False) -> bool:
        changed = False
        for one in self.sets:
            want, status = one["spec"]["replicas"], one["status"]
            ready = min(want, status.get("availableReplicas", 0))
            ready += want - ready if all_ready else self.random.randint(0, want - ready)
            fresh = {"replicas": want, "readyReplicas": ready, "availableReplicas": ready, "observedGeneration": 1}
            changed = changed or fresh != status
            one["status"] = fresh
        return changed

    def settle(self) -> None:
        for _ in range(200):
            if not self.step() and not self.kubelets(all_ready=True):
                return
        raise AssertionError("the rollout does not come to rest")

    def available(self) -> int:
        return sum(min(s["spec"]["replicas"], s["status"].get("availableReplicas", 0)) for s in self.sets)

    def size(self) -> int:
        return sum(s["spec"]["replicas"] for s in self.sets)


def condition(status: Object, type_: str) -> Object:
    return next(c for c in status["conditions"] if c["type"] == type_)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 12),
    st.sampled_from([0, 1, 3, "25%", "50%", "100%"]),
    st.sampled_from([0, 1, 2, "25%", "50%"]),
    st.integers(0, 2**32),
)
def test_a_rollout_keeps_its_bounds_and_ends(size: int, surge: Any, unavailable: Any, seed: int) -> None:
    if surge == 0 and unavailable == 0:
        return
    world = World(deployment(size, surge=surge, unavailable=unavailable), Random(seed))
    world.settle()
    for version in ("v2", "v3"):
        world.deployment["spec"]["template"]["spec"]["containers"][0]["image"] = version
        world.deployment["metadata"]["generation"] += 1
        for _ in range(world.random.randint(1, 6)):  # v3 may roll over an unfinished v2
            world.step()
            assert world.size() <= size + max_surge(world.deployment)
            assert world.available() >= size - max_unavailable(world.deployment)
            world.kubelets()
    world.settle()
    status = world.deployment["status"]
    assert status.get("updatedReplicas", 0) == status.get("availableReplicas", 0) == world.size() == size
    assert condition(status, "Progressing")["reason"] == "NewReplicaSetAvailable"
    assert condition(status, "Available")["status"] == "True"


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 10), st.integers(0, 20), st.integers(0, 2**32))
def test_scaling_in_the_middle_of_a_rollout_ends_at_the_new_size(size: int, other: int, seed: int) -> None:
    world = World(deployment(size), Random(seed))
    world.settle()
    world.deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "v2"
    for _ in range(3):
        world.step()
        world.kubelets()
    world.deployment["spec"]["replicas"] = other
    world.step()
    assert world.size() <= max(other + max_surge(world.deployment), 0)
    world.settle()
    assert world.size() == other == world.deployment["status"].get("updatedReplicas", 0)


def test_proportional_scaling_shares_by_size() -> None:
    d = deployment(20, surge=0, unavailable=1)
    notes = {DESIRED: "10", MAXIMUM: "10"}
    sets = [replica_set("a", 8, age=9, annotations=notes), replica_set("b", 2, age=1, annotations=notes)]
    sizes = {s["metadata"]["name"]: n for s, n in proportions(d, sets)}
    assert sizes == {"a": 16, "b": 4}


def test_recreate_stops_everything_before_it_starts_anything() -> None:
    world = World(deployment(3, recreate=True), Random(1))
    world.settle()
    world.deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "v2"
    first = plan(world.deployment, world.sets, old_pods_running=True)
    assert [c.size for c in first.changes] == [0]
    assert first.create is None
    world.sets[0]["spec"]["replicas"] = 0
    assert plan(world.deployment, world.sets, old_pods_running=True).create is None
    made = plan(world.deployment, world.sets, old_pods_running=False).create
    assert made is not None
    assert made["spec"]["replicas"] == 3


def test_a_rollback_reuses_the_old_set_with_a_new_number() -> None:
    world = World(deployment(2), Random(1))
    world.settle()
    container = world.deployment["spec"]["template"]["spec"]["containers"][0]
    for image in ("v2", "v1"):
        container["image"] = image
        world.settle()
    notes = {s["spec"]["template"]["spec"]["containers"][0]["image"]: s["metadata"]["annotations"] for s in world.sets}
    assert len(world.sets) == 2
    assert (notes["v1"][REVISION], notes["v2"][REVISION]) == ("3", "2")
    assert notes["v1"][REVISION_HISTORY] == "1"


def test_history_is_cut_to_its_limit() -> None:
    world = World(deployment(1, history=1), Random(1))
    for image in ("v1", "v2", "v3", "v4"):
        world.deployment["spec"]["template"]["spec"]["containers"][0]["image"] = image
        world.settle()
    images = sorted(s["spec"]["template"]["spec"]["containers"][0]["image"] for s in world.sets)
    assert images == ["v3", "v4"]


def test_a_paused_deployment_scales_but_does_not_roll() -> None:
    world = World(deployment(2), Random(1))
    world.settle()
    world.deployment["spec"]["paused"] = True
    world.deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "v2"
    world.deployment["spec"]["replicas"] = 5
    world.settle()
    assert [s["spec"]["replicas"] for s in world.sets] == [5]
    assert condition(world.deployment["status"], "Progressing")["reason"] == "DeploymentPaused"


def test_the_progress_deadline() -> None:
    world = World(deployment(1), Random(1))
    world.step()
    world.kubelets()
    status, again = status_of(world.deployment, world.sets[0], [], NOW + 10)
    assert again is not None
    world.sets[0]["status"] = {"replicas": 1}
    world.deployment["status"] = {**status, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}
    late, again = status_of(world.deployment, world.sets[0], [], NOW + 700)
    assert condition(late, "Progressing")["reason"] == "ProgressDeadlineExceeded"
    assert again is None


def test_names_and_labels_carry_the_hash() -> None:
    made = plan(deployment(3), [], False).create
    assert made is not None
    hash_ = made["metadata"]["labels"]["pod-template-hash"]
    assert made["metadata"]["name"] == f"web-{hash_}"
    assert made["spec"]["selector"]["matchLabels"]["pod-template-hash"] == hash_
    assert made["spec"]["template"]["metadata"]["labels"] == {"app": "web", "pod-template-hash": hash_}
    assert made["metadata"]["annotations"] == {REVISION: "1", DESIRED: "3", MAXIMUM: "4"}
