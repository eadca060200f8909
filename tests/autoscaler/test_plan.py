"""The decision: tables for what is made and removed, and why not; then properties on a model that does what plans ask for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.autoscaler.actions import Adopt, Create, Evict, Forget, Mark, Memory, Remove, Unmark
from jota.autoscaler.movable import SAFE_TO_EVICT, SCALE_DOWN_DISABLED
from jota.autoscaler.plan import plan
from jota.autoscaler.provider import Machine
from jota.autoscaler.world import DaemonSet, Observed

from .builders import OPTIONS, START, Model, budget, group, node, observed, pod, volume_on


def told(seen: Observed, memory: Memory | None = None, now: float = START) -> dict[str, str]:
    return {t.reason: t.message for t in plan(seen, memory or Memory(), now).tells}


def creates(seen: Observed, memory: Memory | None = None) -> list[str]:
    return [c.name for c in plan(seen, memory or Memory(), START).of(Create)]


# -- up


def test_as_many_machines_as_the_pods_need() -> None:
    pods = [pod(f"p{n}") for n in range(10)]
    assert creates(observed([group()], pods=pods)) == ["g-0", "g-1", "g-2"]
    assert creates(observed([group(most=2)], pods=pods)) == ["g-0", "g-1"]
    assert creates(observed([group()], [node("other", "")], pods)) == ["g-0", "g-1"], "what is free is used first"


def test_machines_that_are_coming_count() -> None:
    pods = [pod(f"p{n}") for n in range(10)]
    coming = [Machine("g-0", "creating", created=START), Machine("g-1", created=START - 60)]
    young = node("g-1", ready=False, born=START - 5, since=START - 5)
    assert creates(observed([group(machines=coming)], [young], pods)) == ["g-2"]
    tainted = [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]
    fresh = node("g-1", born=START - 5, since=START, taints=tainted)
    assert creates(observed([group(machines=coming)], [fresh], pods)) == ["g-2"], "ready, but not yet believed"


def test_the_group_that_wastes_least_is_taken() -> None:
    small, big = group("small", cpu="2"), group("big", cpu="16")
    assert creates(observed([big, small], pods=[pod("p", "2")])) == ["small-0"]
    assert creates(observed([big, small], pods=[pod(f"p{n}", "4") for n in range(4)])) == ["big-0"]
    tainted = group("gpu", cpu="2", taints=[{"key": "gpu", "effect": "NoSchedule"}])
    assert creates(observed([tainted, big], pods=[pod("p", "2")])) == ["big-0"], "its taint keeps the pod out"
    mixed = [pod("a", "2"), pod("b", "14")]
    assert sorted(creates(observed([big, replace(small, settings=replace(small.settings, max=1))], pods=mixed))) in (
        ["big-0"],
        ["big-0", "small-0"],
    )


def test_pods_are_told_what_is_done_for_them() -> None:
    assert told(observed([group(machines=["g-0"])], [node("g-0", cpu="1")], [pod("a", "1", "g-0"), pod("b")])) == {
        "ScaledUpGroup": "Scale-up: setting group g size to 2 instead of 1 (max: 5)",
        "TriggeredScaleUp": "pod triggered scale-up: [{g 1->2 (max: 5)}]",
    }
    nothing = [
        (group(most=0), "1 max node group size reached"),
        (group(cpu="500m"), "1 Insufficient cpu"),
        (group(fault="down"), "1 not ready for scale-up"),
        (group(taints=[{"key": "a", "effect": "NoSchedule"}]), "1 node(s) had untolerated taint(s)"),
    ]
    for view, why in nothing:
        assert told(observed([view], pods=[pod("p")])) == {"NotTriggerScaleUp": f"pod didn't trigger scale-up: {why}"}


def test_a_pod_is_not_told_the_same_in_every_pass() -> None:
    seen, memory = observed([group(most=0)], pods=[pod("p")]), Memory()
    assert "NotTriggerScaleUp" in told(seen, memory)
    assert told(seen, memory, START + 10) == {}
    assert "NotTriggerScaleUp" in told(seen, memory, START + 400)


@pytest.mark.parametrize(
    "one",
    [
        pod("young", status={"conditions": []}),
        pod("gated", status={"conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
        pod("going", terminating=True),
        pod("expendable", priority=-11),
        pod("over", status={"phase": "Failed"}),
        pod("placed", on="elsewhere"),
        pod("daemon", owner="DaemonSet"),
    ],
    ids=lambda p: p.metadata.name,
)
def test_pods_for_which_nothing_is_made(one: Any) -> None:
    assert creates(observed([group()], pods=[one])) == []


def test_a_pod_that_waits_for_preemption_needs_no_machine() -> None:
    full = node("n", "", cpu="1")
    one = pod("p", priority=5, status={"nominatedNodeName": "n"})
    assert creates(observed([group()], [full], [pod("low", "1", "n"), one])) == []


def test_daemons_take_room_on_new_nodes() -> None:
    template = {"spec": {"containers": [{"resources": {"requests": {"cpu": "1"}}}]}, "metadata": {"labels": {"d": "d"}}}
    daemons = [make_daemon(template)]
    pods = [pod(f"p{n}", "2") for n in range(2)]
    assert creates(observed([group()], pods=pods)) == ["g-0"]
    assert creates(observed([group()], pods=pods, daemons=daemons)) == ["g-0", "g-1"]


def make_daemon(template: dict[str, Any]) -> DaemonSet:
    import msgspec

    return msgspec.convert(
        {"metadata": {"name": "d", "namespace": "default"}, "spec": {"template": template}}, DaemonSet
    )


def test_new_nodes_are_like_those_that_the_group_has() -> None:
    ready = node(
        "g-0",
        cpu="8",
        labels={"disk": "ssd"},
        taints=[{"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"}],
    )
    wants = [pod("p", "6", nodeSelector={"disk": "ssd"})]
    assert creates(observed([group(machines=["g-0"], cpu="1")], [ready], wants)) == ["g-1"]


def test_the_minimum_is_kept_and_numbers_are_used_again() -> None:
    assert creates(observed([group(least=2, machines=["g-1"])], [node("g-1")])) == ["g-0"]
    assert creates(observed([group(least=2, machines=["g-1"])], [node("g-1"), node("g-0", "")])) == ["g-2"]
    assert creates(observed([group(least=2, machines=["g-0", "g-1"])], [node("g-0"), node("g-1", ready=False)])) == []


def test_the_bound_for_the_whole_cluster() -> None:
    options = replace(OPTIONS, maxNodesTotal=3)
    pods = [pod(f"p{n}", "4") for n in range(5)]
    seen = observed([group()], [node("a", ""), node("b", "")], pods, options=options)
    assert creates(seen) == ["g-0"]
    assert "1 max cluster size reached" in told(seen)["NotTriggerScaleUp"]


# -- broken machines


def test_a_machine_that_never_registers_is_removed_and_its_group_left_alone() -> None:
    late = Machine("g-0", created=START - 901)
    memory = Memory()
    decided = plan(observed([group(machines=[late])], pods=[pod("p")]), memory, START)
    assert [(r.machine, r.node) for r in decided.of(Remove)] == [("g-0", None)]
    assert decided.of(Create) == []
    reasons = {t.reason: t.message for t in decided.tells}
    assert reasons["ScaleUpTimedOut"] == "Nodes added to group g failed to register within 900s"
    assert reasons["NotTriggerScaleUp"].endswith("1 in backoff after failed scale-up")
    calm = observed([group()], pods=[pod("p")])
    assert plan(calm, memory, START + 301).of(Create), "after five minutes it is tried again"
    again = observed([group(machines=[replace(late, created=START - 600)])], pods=[pod("p")])
    plan(again, memory, START + 302)
    assert memory.backoffs["g"].duration == 600, "twice as long the second time"


def test_a_failed_machine_goes_and_its_words_are_kept() -> None:
    memory = Memory()
    decided = plan(observed([group(machines=[Machine("g-0", "failed", message="no quota")])]), memory, START)
    assert [r.machine for r in decided.of(Remove)] == ["g-0"]
    assert memory.backoffs["g"].message == "no quota"


def test_a_machine_whose_age_nobody_knows_is_given_its_time_from_now() -> None:
    seen, memory = observed([group(machines=["g-0"])]), Memory()
    assert plan(seen, memory, START).of(Remove) == []
    assert plan(seen, memory, START + 899).of(Remove) == []
    assert [r.machine for r in plan(seen, memory, START + 901).of(Remove)] == ["g-0"]


def test_nodes_are_adopted_and_nodes_without_machines_forgotten() -> None:
    seen = observed([group(machines=["g-0"])], [node("g-0", "")])
    assert [a.node.name for a in plan(seen, Memory(), START).of(Adopt)] == ["g-0"]
    lost = observed([group()], [node("a"), node("b", ready=False, since=START - 61), node("c", marked=1)])
    assert [f.node.name for f in plan(lost, Memory(), START).of(Forget)] == ["b", "c"], "a live node is never forgotten"
    silent = observed([group(fault="down")], [node("b", ready=False, since=START - 61), node("c", marked=1)])
    assert plan(silent, Memory(), START).actions == [], "a provider that does not answer proves nothing"


def test_a_cluster_that_is_mostly_broken_is_left_alone() -> None:
    names = [f"g-{n}" for n in range(8)]
    nodes = [node(n, ready=i > 4, since=START - 100) for i, n in enumerate(names)]
    decided = plan(observed([group(most=20, machines=names)], nodes, [pod("p")]), Memory(), START)
    assert decided.unhealthy == "5 of 8 nodes are not ready"
    assert decided.of(Create) == []


# -- down


def marks(seen: Observed, after: float = 61) -> list[str]:
    """Who is marked once it has been unneeded for a minute."""
    memory = Memory()
    assert plan(seen, memory, START).of(Mark) == []
    return [m.node.name for m in plan(seen, memory, START + after).of(Mark)]


PAIR = [node("g-0"), node("g-1")]


def both(**more: Any) -> list[Any]:
    return [group(machines=["g-0", "g-1"], **more)]


def test_an_idle_node_goes_after_its_time() -> None:
    busy = pod("a", "3", "g-0")
    assert marks(observed(both(), PAIR, [busy])) == ["g-1"]
    assert marks(observed(both(), PAIR, [busy]), after=59) == []
    assert marks(observed(both(least=2), PAIR, [busy])) == [], "the minimum"
    assert marks(observed(both(), PAIR, [busy], options=replace(OPTIONS, scaleDownEnabled=False))) == []


def test_a_node_whose_pods_fit_elsewhere_goes_one_at_a_time() -> None:
    pods = [pod("a", "1", "g-0"), pod("b", "1", "g-1"), pod("c", "1", "g-2")]
    three = [group(machines=["g-0", "g-1", "g-2"])]
    assert len(marks(observed(three, [*PAIR, node("g-2")], pods))) == 1
    assert marks(observed(both(), PAIR, [pod("a", "1.5", "g-0"), pod("b", "3", "g-1")])) == [], "no room elsewhere"
    assert marks(observed(both(), PAIR, [pod("a", "2", "g-0"), pod("b", "2", "g-1")])) == [], "half used"


BLOCKED = {
    "no controller": pod("a", "1", "g-0", owner=""),
    "custom controller": pod("a", "1", "g-0", owner="Rocket"),
    "not safe": pod("a", "1", "g-0", notes={SAFE_TO_EVICT: "false"}),
    "emptyDir": pod("a", "1", "g-0", volumes=[{"name": "v", "emptyDir": {}}]),
    "hostPath": pod("a", "1", "g-0", volumes=[{"name": "v", "hostPath": {"path": "/x"}}]),
    "system": pod("a", "1", "g-0", namespace="kube-system"),
    "selector": pod("a", "1", "g-0", nodeSelector={"kubernetes.io/hostname": "g-0"}),
}
FREE = {
    "controller": pod("a", "1", "g-0"),
    "said to be safe": pod("a", "1", "g-0", owner="", notes={SAFE_TO_EVICT: "true"}),
    "memory": pod("a", "1", "g-0", volumes=[{"name": "v", "emptyDir": {"medium": "Memory"}}]),
    "safe volume": pod(
        "a",
        "1",
        "g-0",
        volumes=[{"name": "v", "emptyDir": {}}],
        notes={"cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes": "w, v"},
    ),
    "daemon": pod("a", "1", "g-0", owner="DaemonSet", volumes=[{"name": "v", "hostPath": {"path": "/x"}}]),
    "mirror": pod("a", "1", "g-0", owner="", notes={"kubernetes.io/config.mirror": "x"}),
    "finished": pod("a", "1", "g-0", owner="", status={"phase": "Succeeded"}),
}


@pytest.mark.parametrize("one", BLOCKED.values(), ids=BLOCKED)
def test_what_keeps_a_node(one: Any) -> None:
    assert marks(observed(both(), PAIR, [one, pod("b", "2.5", "g-1")])) == []


@pytest.mark.parametrize("one", FREE.values(), ids=FREE)
def test_what_does_not_keep_a_node(one: Any) -> None:
    assert marks(observed(both(), PAIR, [one, pod("b", "2.5", "g-1")])) == ["g-0"]


def test_it_is_told_why_a_node_stays() -> None:
    def kept(*pods: Any) -> dict[str, dict[str, str]]:
        return plan(observed(both(), PAIR, list(pods)), Memory(), START).kept

    assert kept(BLOCKED["no controller"], pod("b", "2.5", "g-1")) == {"g": {"g-0": "NotReplicated default/a"}}
    assert kept(pod("a", "1.5", "g-0"), pod("b", "3", "g-1")) == {"g": {"g-0": "its pods fit nowhere else"}}
    assert kept(pod("a", "3", "g-0"), pod("b", "3", "g-1")) == {}


def test_budgets_volumes_and_annotations_keep_a_node() -> None:
    pods = [pod("a", "1", "g-0"), pod("b", "2.5", "g-1")]
    assert marks(observed(both(), PAIR, pods, budgets=[budget(0)])) == []
    assert marks(observed(both(), PAIR, pods, budgets=[budget(1)])) == ["g-0"]
    assert marks(observed(both(), PAIR, pods, budgets=[budget(5), budget(5)])) == [], "two budgets cannot be asked"
    assert marks(observed(both(), PAIR, pods, volumes=[volume_on("g-0")])) == [], "data would go with the node"
    kept = node("g-0", notes={SCALE_DOWN_DISABLED: "true"})
    assert marks(observed(both(), [kept, PAIR[1]], pods)) == []


def test_nothing_goes_right_after_something_came_or_failed() -> None:
    options = replace(OPTIONS, scaleDownDelayAfterAdd=600, scaleDownDelayAfterFailure=180)
    seen, busy = observed(both(), PAIR, options=options), Memory(added=START - 100)
    plan(seen, busy, START)
    assert plan(seen, busy, START + 400).of(Mark) == []
    assert plan(seen, busy, START + 501).of(Mark)
    failed = Memory(failed=START)
    plan(seen, failed, START)
    assert plan(seen, failed, START + 100).of(Mark) == []


def test_nodes_to_which_pending_pods_will_go_stay() -> None:
    pending = [pod("p", "3"), pod("q", "3")]
    assert marks(observed(both(), PAIR, pending)) == []


def test_a_node_that_is_silent_for_long_goes() -> None:
    dead = node("g-0", ready=False, since=START - 1300)
    alive = [node("g-1"), node("g-2"), node("g-3")]
    seen = observed(
        [group(machines=["g-0", "g-1", "g-2", "g-3"])], [dead, *alive], [pod("a", "3", f"g-{n}") for n in (1, 2, 3)]
    )
    assert [m.node.name for m in plan(seen, Memory(), START).of(Mark)] == ["g-0"]


# -- a drain goes on from what the API shows


def step(*pods: Any, marked: int = int(START) - 10, ready: bool = True, **more: Any) -> Any:
    going = node("g-0", ready=ready, marked=marked, since=START - 5000)
    return plan(observed([group(machines=["g-0", "g-1"], **more)], [going, node("g-1")], list(pods)), Memory(), START)


def test_the_steps_of_a_drain() -> None:
    leaving = pod("a", "1", "g-0")
    assert [e.pod.metadata.name for e in step(leaving).of(Evict)] == ["a"]
    assert step(leaving).of(Remove) == []
    waiting = step(pod("a", "1", "g-0", terminating=True))
    assert waiting.actions == []
    assert [r.machine for r in step(pod("d", "1", "g-0", owner="DaemonSet")).of(Remove)] == ["g-0"]
    dead = step(pod("a", "1", "g-0", terminating=True), ready=False)
    assert [r.machine for r in dead.of(Remove)] == ["g-0"], "an agent that is dead ends no pod"


def test_a_drain_that_cannot_end_is_called_off() -> None:
    for decided, why in [
        (step(pod("a", "1", "g-0"), pod("b", "3.5", "g-1")), "its pods fit nowhere else"),
        (step(pod("a", "1", "g-0"), marked=int(START) - 601), "1 pods could not be evicted in 600 s"),
        (step(pod("a", "1", "g-0", owner="")), "NotReplicated default/a"),
        (step(pod("a", "1", "g-0"), least=2), "the group g is at its minimum"),
    ]:
        assert [u.reason for u in decided.of(Unmark)] == [why]
        assert decided.of(Remove) == []
        assert decided.of(Evict) == []
        assert decided.of(Create) == [], "the node itself makes up the minimum"


def test_a_node_that_is_being_drained_is_taken_back_rather_than_a_new_one_made() -> None:
    decided = step(pod("p", "3"), pod("b", "3.5", "g-1"))
    assert [(u.node.name, u.failed) for u in decided.of(Unmark)] == [("g-0", False)]
    assert decided.of(Create) == []


def test_what_a_group_left_behind_is_given_back() -> None:
    decided = plan(observed([], [node("g-0", marked=1)]), Memory(), START)
    assert [u.node.name for u in decided.of(Unmark)] == ["g-0"]


# -- properties


class Run:
    """A model under some load; after every pass what must always hold is checked."""

    def __init__(self, bounds: list[tuple[int, int, int]], load: list[int], boot: int) -> None:
        groups = [group(f"g{n}", low, low + more, cpu=str(cpu)) for n, (low, more, cpu) in enumerate(bounds)]
        self.model = Model(groups, boot=boot)
        for milli in load:
            self.model.add(f"{milli / 1000}")

    def turn(self, only: int | None = None) -> list[Any]:
        model = self.model
        decided = model.turn(only=only)
        for view in model.groups:
            assert len(model.machines.get(view.name, [])) <= view.settings.max, "more than the maximum"
        return decided.actions

    def settle(self, turns: int = 60) -> None:
        quiet = 0
        for _ in range(turns):
            quiet = 0 if self.turn() else quiet + 1
            if quiet >= 6:
                return
        raise AssertionError(f"no rest after {turns} passes: {self.sizes()} {self.model.pending()}")

    def sizes(self) -> dict[str, int]:
        return {v.name: len(self.model.machines.get(v.name, [])) for v in self.model.groups}

    def check_rest(self) -> None:
        """Nothing waits that a group could have helped, and the minimum is kept."""
        for view in self.model.groups:
            assert len(self.model.machines.get(view.name, [])) >= view.settings.min
            if len(self.model.machines.get(view.name, [])) < view.settings.max:
                cpu = float(view.template.allocatable["cpu"])
                stuck = [k for k in self.model.pending() if float(Model._cpu_of(self.model.pods[k])) <= cpu]
                assert stuck == []


BOUNDS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4), st.sampled_from([2, 4, 8])), min_size=1, max_size=2)
LOAD = st.lists(st.sampled_from([250, 500, 1000, 1500, 3000]), max_size=16)


@settings(max_examples=60, deadline=None)
@given(BOUNDS, LOAD, LOAD, st.integers(0, 2), st.data())
def test_it_comes_to_rest_and_never_breaks_its_bounds(
    bounds: list[tuple[int, int, int]], load: list[int], more: list[int], boot: int, data: Any
) -> None:
    """Load comes and goes; nothing is ever lost with a node (the model would raise), bounds hold in every pass."""
    run = Run(bounds, load, boot)
    run.settle()
    run.check_rest()
    for milli in more:
        run.model.add(f"{milli / 1000}")
    run.settle()
    run.check_rest()
    for key in data.draw(st.lists(st.sampled_from(sorted(run.model.pods)), unique=True)) if run.model.pods else []:
        del run.model.pods[key]
    run.settle(120)
    run.check_rest()


@settings(max_examples=30, deadline=None)
@given(BOUNDS, LOAD, st.lists(st.tuples(st.integers(0, 12), st.integers(0, 4)), min_size=1, max_size=4))
def test_deaths_between_any_two_actions_change_nothing_in_the_end(
    bounds: list[tuple[int, int, int]], load: list[int], deaths: list[tuple[int, int]]
) -> None:
    """The process dies in some passes after some action, and forgets everything."""
    plain, dying = Run(bounds, load, 1), Run(bounds, load, 1)
    at = dict(deaths)
    for turn in range(30):
        if turn == 14:
            for run in (plain, dying):
                keys = sorted(run.model.pods, key=lambda k: int(k.rpartition("p")[2]))
                for key in keys[: len(keys) // 2]:
                    del run.model.pods[key]
        plain.turn()
        dying.turn(only=at.get(turn % 13))
    plain.settle(120)
    dying.settle(120)
    dying.check_rest()
    plain.check_rest()
    assert len(dying.model.pending()) == len(plain.model.pending())
