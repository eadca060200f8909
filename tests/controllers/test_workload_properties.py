"""Properties of the workload planners under random kubelets and random edits: never more unavailable than allowed, in
order where order is promised, every path ends, and counts are exact.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jota.controllers import daemonset_plan, hpa_plan, statefulset_plan
from jota.controllers.history import HASH
from jota.controllers.hpa_metrics import Proposal
from jota.controllers.job import JobController
from jota.controllers.job_pods import JOBS
from jota.controllers.poddisruptionbudget import BUDGETS, PodDisruptionBudgetController
from jota.controllers.replicaset import ReplicaSetController
from jota.controllers.revisions import share
from jota.controllers.views import Pod
from jota.meta.errors import ApiError
from jota.meta.resource import PODS, REPLICASETS
from jota.testing.cluster import ApiServer

from .builders import NOW, pod
from .runner import Runner, index_of, job, reasons
from .stories import Kubelet, names, running, web
from .test_hpa import scaler
from .test_poddisruptionbudget import budget
from .test_topologyhints import node

Object = dict[str, Any]
SEEDS = st.integers(0, 2**32)
AMOUNTS = st.sampled_from([0, 1, 2, "25%", "50%", "100%"])


class State:
    """A pod in a world without an API."""

    def __init__(self, name: str, revision: str, on: str = "n1") -> None:
        self.name, self.revision, self.on, self.ready, self.leaving = name, revision, on, False, False

    def view(self, serial: int) -> Pod:
        ready = 5 if self.ready else False
        labels = {HASH: self.revision}
        return pod(
            self.name, uid=f"{self.name}.{serial}", labels=labels, ready=ready, terminating=self.leaving, node=self.on
        )

    @property
    def healthy(self) -> bool:
        return self.ready and not self.leaving


class World:
    """Pods, and a kubelet that makes some of them ready and lets some of them go."""

    def __init__(self, seed: int) -> None:
        self.random, self.pods, self.serial = Random(seed), list[State](), 0

    def views(self) -> dict[str, State]:
        self.by_uid = {f"{p.name}.{n}": p for n, p in enumerate(self.pods)}
        return self.by_uid

    def seen(self) -> list[Pod]:
        return [state.view(n) for n, state in enumerate(self.views().values())]

    def delete(self, pods: list[Pod]) -> None:
        for one in pods:
            self.by_uid[one.metadata.uid].leaving = True

    def kubelet(self, *, all_: bool = False) -> bool:
        changed = False
        for one in list(self.pods):
            if not all_ and self.random.random() < 0.5:
                continue
            if one.leaving:
                self.pods.remove(one)
                changed = True
            elif not one.ready:
                one.ready = changed = True
        return changed


# -- stateful sets


class Stateful(World):
    def __init__(self, seed: int, size: int, policy: str, unavailable: Any, partition: int, start: int) -> None:
        super().__init__(seed)
        rolling: Object = {"partition": partition} | ({} if unavailable is None else {"maxUnavailable": unavailable})
        strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
        spec = {
            "replicas": size,
            "podManagementPolicy": policy,
            "updateStrategy": strategy,
            "ordinals": {"start": start},
        }
        self.owner: Object = {"metadata": {"name": "web", "namespace": "ns", "uid": "u", "generation": 1}, "spec": spec}
        self.update = "r1"
        self.ordered, self.start = policy == "OrderedReady", start
        self.unavailable = 1 if unavailable is None else unavailable

    def health(self) -> dict[int, bool]:
        have = {int(p.name.rpartition("-")[2]): p.healthy for p in self.pods}
        return {n: have.get(n, False) for n in range(self.start, self.start + self.owner["spec"]["replicas"])}

    def step(self) -> bool:
        current = (self.owner.get("status") or {}).get("currentRevision") or self.update
        before = self.health()
        decided = statefulset_plan.plan(self.owner, self.seen(), current, self.update, NOW)
        for ordinal, old in decided.create:
            if self.ordered:
                assert all(ok for n, ok in before.items() if n < ordinal), (
                    "created before those below it were available"
                )
            self.pods.append(State(f"web-{ordinal}", current if old else self.update))
        self.delete([*decided.delete, *decided.failed])
        down = sum(not ok for ok in self.health().values())
        allowed = max(1, math.ceil(share(self.unavailable, self.owner["spec"]["replicas"])))
        assert down <= max(allowed, sum(not ok for ok in before.values()))
        if self.ordered:
            assert len(decided.create) <= 1
        changed = bool(decided.create or decided.delete or decided.failed) or decided.status != self.owner.get("status")
        self.owner["status"] = decided.status
        return changed

    def settle(self) -> None:
        for _ in range(300):
            if not self.step() and not self.kubelet(all_=True):
                return
        raise AssertionError("does not come to rest")


@settings(max_examples=150, deadline=None)
@given(
    SEEDS,
    st.integers(0, 6),
    st.integers(0, 6),
    st.sampled_from(["OrderedReady", "Parallel"]),
    st.one_of(st.none(), st.sampled_from([1, 2, "40%"])),
    st.integers(0, 4),
    st.integers(0, 3),
)
def test_stateful_sets_go_in_order_and_never_take_more_than_allowed(
    seed: int, size: int, other: int, policy: str, unavailable: Any, partition: int, start: int
) -> None:
    world = Stateful(seed, size, policy, unavailable, partition, start)
    world.settle()
    for revision, replicas in (("r2", size), ("r2", other), ("r3", other)):
        world.update, world.owner["spec"]["replicas"] = revision, replicas
        for _ in range(world.random.randint(0, 8)):
            world.step()
            world.kubelet()
    world.settle()
    end = {int(p.name.rpartition("-")[2]): p.revision for p in world.pods}
    assert sorted(end) == list(range(start, start + other))
    assert all(revision == "r3" for n, revision in end.items() if n >= start + partition)
    status = world.owner["status"]
    assert status["replicas"] == status["availableReplicas"] == other
    if partition == 0:
        assert status["currentRevision"] == status["updateRevision"] == "r3"


# -- daemon sets


class Daemons(World):
    def __init__(self, seed: int, count: int, surge: Any, unavailable: Any) -> None:
        super().__init__(seed)
        rolling = {"maxSurge": surge, "maxUnavailable": unavailable}
        spec = {"template": {"spec": {}}, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}
        self.owner: Object = {"metadata": {"name": "d", "namespace": "ns", "uid": "u", "generation": 1}, "spec": spec}
        self.nodes = [node(f"n{n}") for n in range(count)]
        self.hash = "r1"
        self.surge = math.ceil(share(surge, count))
        self.unavailable = max(math.ceil(share(unavailable, count)), 0 if self.surge else 1)

    def down(self) -> int:
        up = {p.on for p in self.pods if p.healthy}
        return sum(n["metadata"]["name"] not in up for n in self.nodes)

    def doubled(self) -> int:
        return sum(n > 1 for n in Counter(p.on for p in self.pods if not p.leaving).values())

    def step(self) -> bool:
        down, doubled = self.down(), self.doubled()
        decided = daemonset_plan.plan(self.owner, self.nodes, self.seen(), self.hash, NOW)
        for name in decided.create:
            self.serial += 1
            self.pods.append(State(f"d-{self.serial}", self.hash, name))
        self.delete([*decided.delete, *decided.failed])
        assert self.down() <= max(self.unavailable if not self.surge else 0, down)
        assert self.doubled() <= max(self.surge, doubled)
        changed = bool(decided.create or decided.delete or decided.failed) or decided.status != self.owner.get("status")
        self.owner["status"] = decided.status
        return changed

    def settle(self) -> None:
        for _ in range(200):
            if not self.step() and not self.kubelet(all_=True):
                return
        raise AssertionError("does not come to rest")


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.integers(1, 8), AMOUNTS, AMOUNTS)
def test_daemon_sets_roll_within_their_bounds(seed: int, count: int, surge: Any, unavailable: Any) -> None:
    if surge:
        unavailable = 0
    world = Daemons(seed, count, surge, unavailable)
    world.settle()
    for revision in ("r2", "r3"):
        world.hash = revision
        for _ in range(world.random.randint(1, 8)):
            world.step()
            world.kubelet()
    world.settle()
    assert Counter(p.on for p in world.pods) == {f"n{n}": 1 for n in range(count)}
    assert {p.revision for p in world.pods} == {"r3"}
    status = world.owner["status"]
    wanted = (
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "numberAvailable",
        "updatedNumberScheduled",
    )
    assert {status[k] for k in wanted} == {count}


# -- jobs


@settings(max_examples=20, deadline=None)
@given(
    SEEDS,
    st.integers(1, 4),
    st.integers(1, 3),
    st.booleans(),
    st.lists(st.sampled_from(["off", "on", "1", "3"]), max_size=4),
)
def test_jobs_count_exactly_whatever_fails_and_is_edited(
    seed: int, completions: int, parallelism: int, indexed: bool, edits: list[str]
) -> None:
    async def story() -> None:
        random, failed = Random(seed), [0]
        async with running(JobController) as api:
            runner = Runner(api)

            def outcome(_: Object) -> int | None:
                lot = random.random()
                if lot < 0.5:
                    return None
                code = int(lot < 0.65 and failed[0] < 3)
                failed[0] += code
                return code

            runner.outcome = outcome  # type: ignore[method-assign]
            mode = {"completionMode": "Indexed"} if indexed else {}
            await api.client.create(JOBS, job(completions=completions, parallelism=parallelism, backoffLimit=3, **mode))
            for edit in edits:
                await runner.rest(random.choice([0.5, 3, 12]))
                change = {"suspend": edit == "off"} if edit in ("off", "on") else {"parallelism": int(edit)}
                await api.client.patch(JOBS, "work", "ns", {"spec": change})
            await api.client.patch(JOBS, "work", "ns", {"spec": {"suspend": False}})
            await runner.rest(300)
            got = await api.client.get(JOBS, "work", "ns")
            status = got["status"]
            # its last pods may end while it is suspended: that condition stays, as upstream's
            told = {kind: reason for kind, reason in reasons(got).items() if kind != "Suspended"}
            assert told == {"SuccessCriteriaMet": "CompletionsReached", "Complete": "CompletionsReached"}
            pods = (await api.client.list(PODS, "ns"))["items"]
            assert status["succeeded"] == completions
            assert status.get("failed", 0) == failed[0]
            assert not status.get("active")
            assert not status.get("uncountedTerminatedPods")
            assert not any(p["metadata"].get("finalizers") for p in pods)
            done = [p for p in pods if p["status"]["phase"] == "Succeeded"]
            assert len(done) == completions
            if indexed:
                assert sorted(map(index_of, done)) == list(range(completions))

    asyncio.run(story())


# -- budgets


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.integers(1, 5), st.integers(0, 5))
def test_evictions_at_once_never_break_a_budget(seed: int, size: int, least: int) -> None:
    async def evict(api: ApiServer, name: str) -> bool:
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "ns"}}
        try:
            await api.client.create(PODS, body, "ns", subresource="eviction", name=name)
        except ApiError as e:
            assert e.code in (404, 409, 429)
            return False
        return True

    async def story() -> None:
        random = Random(seed)
        async with running(ReplicaSetController, PodDisruptionBudgetController) as api:
            kubelet = Kubelet(api)
            await api.client.create(REPLICASETS, web(size))
            await api.client.create(BUDGETS, budget(minAvailable=least))
            await kubelet.settle()
            granted = 0
            for _ in range(6):
                pods = await names(api, PODS)
                picked = [random.choice(pods) for _ in range(random.randint(1, 6))]
                granted += sum(await asyncio.gather(*(evict(api, name) for name in picked)))
                found = (await api.client.list(PODS, "ns"))["items"]
                healthy = [
                    p
                    for p in found
                    if "deletionTimestamp" not in p["metadata"]
                    and any(c["type"] == "Ready" and c["status"] == "True" for c in p["status"].get("conditions", ()))
                ]
                assert len(healthy) >= min(least, size)
                await api.advance(random.choice([0.1, 1]))
                if random.random() < 0.6:
                    await kubelet.tick()
            if least >= size:
                assert granted == 0
            if least == 0:
                assert granted > 0

    asyncio.run(story())


# -- autoscalers


@given(
    st.integers(1, 5),
    st.integers(5, 60),
    st.lists(st.integers(0, 100), min_size=1, max_size=30),
    st.sampled_from([None, {"scaleDown": {"stabilizationWindowSeconds": 30}}]),
)
def test_autoscalers_stay_within_their_bounds_and_rates(
    low: int, high: int, wishes: list[int], behavior: Object | None
) -> None:
    owner = scaler(low, high, **({"behavior": behavior} if behavior else {}))
    memory, size, now = hpa_plan.Memory(), low, NOW
    history = [(now - 1000, low)]
    for wish in wishes:
        now += 10
        decided = hpa_plan.plan(owner, size, [Proposal(wish, "cpu", {})], memory, now, now)
        start = [n for at, n in history if at <= now - 15][-1]
        assert low <= decided.replicas <= high
        few = start + 4 if behavior else 4
        assert decided.replicas <= max(2 * start, few, size), "at most doubled in fifteen seconds, but for small sizes"
        window = (behavior or {}).get("scaleDown", {}).get("stabilizationWindowSeconds", 300)
        recent = [n for at, n in memory.recommendations if at > now - window]
        assert decided.replicas >= min(size, max([wish, *recent])), "no lower than the highest wish of the window"
        memory.recommendations.append((now, wish))
        if decided.replicas != size:
            memory.changes.append((now, decided.replicas - size))
            history.append((now, decided.replicas))
        size = decided.replicas
        owner["status"] = decided.status
    for _ in range(60):
        now += 10
        decided = hpa_plan.plan(owner, size, [Proposal(wishes[-1], "cpu", {})], memory, now, now)
        memory.recommendations.append((now, wishes[-1]))
        memory.changes.append((now, decided.replicas - size))
        size = decided.replicas
    assert size == min(high, max(low, wishes[-1]))
