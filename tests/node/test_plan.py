"""The planner by tables: what is there, what is known -> what is done next."""

# ruff: noqa: E501 (tables)
from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jota.node.config import Curve
from jota.node.model import Facts, ImageFact, Stop, Verdict
from jota.node.plan import plan, stop_of
from jota.runtime.protocol import Container, Resources

from .shapes import CURVE, NOW, box, facts, failure, made, pod, seen, sidecar, steps, words

PROBED = {"startupProbe": {"exec": {"command": ["x"]}}}
HOOKED = {"lifecycle": {"postStart": {"exec": {"command": ["x"]}}}}


def one(**fields: Any) -> dict[str, Any]:
    """A pod of one container "c" with extra fields."""
    return pod("c", containers=[{"name": "c", "image": "c:1", **fields}])


START = [
    ("nothing exists", pod(), seen(ip=""), Facts(), ["MountVolumes", "MakeSandbox 0", "EnsureImage c 0"]),
    ("all is under way", pod(), seen(ip=""), Facts(busy={"volumes": 0, "sandbox": 0, "image:c": 0}), []),
    ("sandbox without address", pod(), seen(box(), ip=""), facts("c"), ["AttachNetwork"]),
    ("host network needs none", pod(hostNetwork=True), seen(box(), ip=""), facts("c"), ["StartContainer c 0 0"]),
    ("image missing", pod(), seen(box()), facts(), ["EnsureImage c 0"]),
    ("volumes missing", pod(), seen(box()), Facts(images=facts("c").images), ["MountVolumes"]),
    ("all there", pod(), seen(box()), facts("c"), ["StartContainer c 0 0"]),
    ("one after the other", pod("a", "b"), seen(box()), facts("a", "b"), ["StartContainer a 0 0"]),
    ("first is starting", pod("a", "b"), seen(box()), facts("a", "b", busy={"start:a": 0}), []),
    ("first runs", pod("a", "b"), seen(box(), made("a")), facts("a", "b"), ["StartContainer b 0 0"]),
    ("first pulls", pod("a", "b"), seen(box()), facts("b", busy={"image:a": 0}), []),
    ("all run", pod("a", "b"), seen(box(), made("a"), made("b")), facts(), []),
    ("image of another name", pod(), seen(box()), Facts(volumes_ready=True, images={"c": ImageFact(0, "c:0", "x")}), ["EnsureImage c 0"]),
    ("died between create and start", pod(), seen(box(), made(state="created")), facts("c"), ["RemoveContainer c c-0"]),
    ("two sandboxes from a crash", pod(), seen(box(0), box(1), made(sandbox="box1")), facts(), ["StopSandbox box0"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "obj", "observed", "known", "expected"), START, ids=[c[0] for c in START])
def test_start(name: str, obj: Any, observed: Any, known: Any, expected: list[str]) -> None:
    assert words(steps(obj, observed, known)) == expected


INIT = [
    ("first init", pod(inits=("i", "j")), seen(box()), facts("i", "j", "c"), ["StartContainer i 0 0"]),
    ("init runs", pod(inits=("i", "j")), seen(box(), made("i")), facts("i", "j", "c"), []),
    ("second init", pod(inits=("i", "j")), seen(box(), made("i", "exited")), facts("j", "c"), ["StartContainer j 0 0"]),
    ("inits done", pod(inits=("i",)), seen(box(), made("i", "exited")), facts("c"), ["StartContainer c 0 0"]),
    ("init failed", pod(inits=("i",)), seen(box(), made("i", "exited", exit=1)), facts("i/1"), ["StartContainer i 1 1"]),
    ("init failed for good", pod(inits=("i",), restartPolicy="Never"), seen(box(), made("i", "exited", exit=1)), facts("c"), ["TearDown"]),
    ("app died, inits forgotten", pod(inits=("i",)), seen(box(), made("c", "exited", 1)), facts("c/2"), ["StartContainer c 2 2"]),
    ("new sandbox, inits again", pod(inits=("i",)), seen(box(0, "notready"), box(1), made("i", "exited"), made("c", "exited", exit=1)), facts("i/1"), ["StartContainer i 1 1"]),
    ("sidecar first", pod(inits=(sidecar("s"),)), seen(box()), facts("s", "c"), ["StartContainer s 0 0"]),
    ("sidecar runs", pod(inits=(sidecar("s"),)), seen(box(), made("s")), facts("s", "c"), ["StartContainer c 0 0"]),
    ("sidecar not started", pod(inits=(sidecar("s", **PROBED),)), seen(box(), made("s")), facts("s", "c"), []),
    ("sidecar started", pod(inits=(sidecar("s", **PROBED),)), seen(box(), made("s")), facts("s", "c", probes={("s-0", "startup"): True}), ["StartContainer c 0 0"]),
    ("sidecar then init", pod(inits=(sidecar("s"), "i")), seen(box(), made("s")), facts("i", "c"), ["StartContainer i 0 0"]),
    ("sidecar died while init runs", pod(inits=(sidecar("s"), "i")), seen(box(), made("s", "exited"), made("i")), facts("s/1"), ["StartContainer s 1 1"]),
    ("sidecar died beside the app", pod(inits=(sidecar("s"),)), seen(box(), made("s", "exited", exit=0), made("c")), facts("s/1"), ["StartContainer s 1 1"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "obj", "observed", "known", "expected"), INIT, ids=[c[0] for c in INIT])
def test_init(name: str, obj: Any, observed: Any, known: Any, expected: list[str]) -> None:
    assert words(steps(obj, observed, known)) == expected


def policy(name: str, **more: Any) -> dict[str, Any]:
    return pod(restartPolicy=name, **more)


RULE = {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}
RESTART = [
    ("Always, success", policy("Always"), made("c", "exited", ago=100), ["StartContainer c 1 1"]),
    ("Always, failure", policy("Always"), made("c", "exited", exit=1, ago=100), ["StartContainer c 1 1"]),
    ("OnFailure, success", policy("OnFailure"), made("c", "exited"), ["TearDown"]),
    ("OnFailure, failure", policy("OnFailure"), made("c", "exited", exit=1, ago=100), ["StartContainer c 1 1"]),
    ("Never, failure", policy("Never"), made("c", "exited", exit=1), ["TearDown"]),
    ("container's own policy", policy("Never", containers=[{"name": "c", "image": "c:1", "restartPolicy": "Always"}]), made("c", "exited"), ["StartContainer c 1 1"]),
    ("a rule fits", policy("Never", containers=[{"name": "c", "image": "c:1", "restartPolicy": "Never", "restartPolicyRules": [RULE]}]), made("c", "exited", exit=42), ["StartContainer c 1 1"]),
    ("no rule fits", policy("Never", containers=[{"name": "c", "image": "c:1", "restartPolicy": "Never", "restartPolicyRules": [RULE]}]), made("c", "exited", exit=41), ["TearDown"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "obj", "container", "expected"), RESTART, ids=[c[0] for c in RESTART])
def test_restart_policy(name: str, obj: Any, container: Any, expected: list[str]) -> None:
    assert words(steps(obj, seen(box(), container), facts("c/1"))) == expected


BETWEEN = [
    ("just ended", made("c", "exited", image="c:0", ago=0.5), facts("c/1"), True),
    ("its successor is made", made("c", "exited", image="c:0", ago=0.5), facts("c/1", busy={"start:c": 0}), True),
    ("a while ago", made("c", "exited", image="c:0", ago=1.0), facts("c/1"), False),
    ("not replaced", made("c", "exited", ago=0.5), facts("c/1"), False),
    ("the start failed", made("c", "exited", image="c:0", ago=0.5), facts("c/1", starts={"c": failure()}), False),
    ("no image", made("c", "exited", image="c:0", ago=0.5), facts(images={"c": ImageFact(1, "c:1", "", failure())}), False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "container", "known", "expected"), BETWEEN, ids=[c[0] for c in BETWEEN])
def test_nothing_is_told_between_a_container_and_its_successor(
    name: str, container: Any, known: Any, expected: bool
) -> None:
    result = steps(pod(), seen(box(), container), known)
    assert result.between == expected
    if expected:
        assert result.wake == container.finished_at + 1.0
    both = steps(pod(), seen(box(), made("c", attempt=1), container), known)
    assert not both.between, "the successor runs"


BACKOFF = [(0, 0.0), (1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0), (50, 60.0)]


@pytest.mark.parametrize(("step", "delay"), BACKOFF)
def test_crash_loop(step: int, delay: float) -> None:
    """The first restart is immediate; then 1 s doubling to 60 s, read off the container's own label."""
    dead = made("c", "exited", 9, exit=1, ago=0.0, step=step)
    known = facts("c/10", last_lines={dead.id: "boom"})
    result = steps(pod(), seen(box(), dead), known)
    if not delay:
        assert words(result) == ["StartContainer c 10 1"]
        return
    assert result.actions == []
    assert result.wake == NOW + delay
    reason, message = result.waiting["c"]
    assert reason == "CrashLoopBackOff"
    assert "back-off" in message
    assert message.endswith("pod=web_default(u1); last log line: boom")
    later = plan(pod(), seen(box(), dead), known, NOW + delay, CURVE)
    assert words(later) == [f"StartContainer c 10 {step + 1}"]


def test_a_long_run_ends_the_crash_loop() -> None:
    dead = made("c", "exited", 9, exit=1, ago=0.0, step=9, ran=600.0)
    assert words(steps(pod(), seen(box(), dead), facts("c/10"))) == ["StartContainer c 10 1"]


def test_the_curve_is_configurable() -> None:
    curve = Curve.from_environment({"JOTA_BACKOFF_BASE": "10", "JOTA_BACKOFF_CAP": "300"})
    assert [curve.delay(n) for n in (0, 1, 2, 3, 9)] == [0, 10, 20, 40, 300]


RUNNING = [
    ("image changed", one(image="c:2"), facts(), ["KillContainer c c-0 in 30"]),
    ("liveness failed", one(livenessProbe={}), facts(probes={("c-0", "liveness"): False}), ["KillContainer c c-0 in 30"]),
    ("liveness with its own grace", one(livenessProbe={"terminationGracePeriodSeconds": 3}), facts(probes={("c-0", "liveness"): False}), ["KillContainer c c-0 in 3"]),
    ("startup failed", one(**PROBED), facts(probes={("c-0", "startup"): False}), ["KillContainer c c-0 in 30"]),
    ("not ready is no reason", one(), facts(probes={("c-0", "readiness"): False}), []),
    ("postStart to do", one(**HOOKED), facts(), ["RunPostStart c c-0"]),
    ("postStart under way", one(**HOOKED), facts(busy={"hook:c": 0}), []),
    ("postStart done", one(**HOOKED), facts(hooked={"c-0": ""}), []),
    ("postStart failed", one(**HOOKED), facts(hooked={"c-0": "no"}), ["KillContainer c c-0 in 30"]),
    ("being killed", one(image="c:2"), facts(busy={"kill:c": NOW + 10}), []),
]  # fmt: skip


@pytest.mark.parametrize(("name", "obj", "known", "expected"), RUNNING, ids=[c[0] for c in RUNNING])
def test_a_running_container(name: str, obj: Any, known: Any, expected: list[str]) -> None:
    assert words(steps(obj, seen(box(), made()), known)) == expected


def test_postStart_holds_back_the_next_container() -> None:
    obj = pod("a", "b")
    obj["spec"]["containers"][0] |= HOOKED
    observed = seen(box(), made("a"))
    assert words(steps(obj, observed, facts("a", "b"))) == ["RunPostStart a a-0"]
    assert words(steps(obj, observed, facts("a", "b", busy={"hook:a": 0}))) == []
    assert words(steps(obj, observed, facts("a", "b", hooked={"a-0": ""}))) == ["StartContainer b 0 0"]


def test_a_changed_image_restarts_without_waiting() -> None:
    dead = made("c", "exited", 5, exit=143, ago=0.0, step=5)
    known = facts(images={"c": ImageFact(6, "c:2", "sha256:c")})
    assert words(steps(one(image="c:2"), seen(box(), dead), known)) == ["StartContainer c 6 6"]


PULL = [
    ("just failed", NOW, "ErrImagePull", []),
    ("waiting", NOW - 1, "ImagePullBackOff", []),
    ("due", NOW - 5, "ImagePullBackOff", ["EnsureImage c 0"]),
]


@pytest.mark.parametrize(("name", "at", "reason", "expected"), PULL, ids=[c[0] for c in PULL])
def test_a_failed_pull(name: str, at: float, reason: str, expected: list[str]) -> None:
    known = facts(images={"c": ImageFact(0, "c:1", "", failure("ErrImagePull", at=at))})
    result = steps(pod(), seen(box()), known)
    assert result.waiting["c"][0] == reason
    assert words(result) == expected
    if not expected:
        assert result.wake > NOW


def test_a_pull_in_backoff_does_not_hold_back_the_next_container() -> None:
    known = facts("b")
    known.images["a"] = ImageFact(0, "a:1", "", failure("ErrImagePull", at=NOW - 1))
    assert words(steps(pod("a", "b"), seen(box()), known)) == ["StartContainer b 0 0"]


def test_a_start_that_failed_waits_and_says_why() -> None:
    known = facts("c", starts={"c": failure("CreateContainerConfigError")})
    result = steps(pod(), seen(box()), known)
    assert result.actions == []
    assert result.waiting["c"] == ("CreateContainerConfigError", "it broke")
    assert result.wake == NOW + 4
    assert words(steps(pod(), seen(box()), known, NOW + 4)) == ["StartContainer c 0 0"]


LOST = [
    ("containers still run: kill", pod(), seen(box(0, "notready"), made()), ["KillContainer c c-0 in 1"]),
    ("then a new one", pod(), seen(box(0, "notready"), made("c", "exited", exit=137), ip=""), ["MakeSandbox 1", "EnsureImage c 1"]),
    ("restart in the new one", pod(), seen(box(0, "notready"), box(1), made("c", "exited", exit=137)), ["StartContainer c 1 1"]),
    ("the old one goes when it is not needed", pod(), seen(box(0, "notready"), box(1), made("c", "exited"), made("c", "running", 1, sandbox="box1")), ["StopSandbox box0"]),
    ("Never: it is over", policy("Never"), seen(box(0, "notready"), made("c", "exited", exit=137)), ["TearDown"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "obj", "observed", "expected"), LOST, ids=[c[0] for c in LOST])
def test_a_lost_sandbox(name: str, obj: Any, observed: Any, expected: list[str]) -> None:
    assert words(steps(obj, observed, facts("c/1"))) == expected or words(steps(obj, observed, facts())) == expected


def deleted(obj: dict[str, Any], grace: int = 30) -> dict[str, Any]:
    obj["metadata"] |= {"deletionTimestamp": "2027-01-15T08:00:30Z", "deletionGracePeriodSeconds": grace}
    return obj


STOP = Stop(NOW + 30)
END = [
    ("kill all at once", deleted(pod("a", "b")), seen(box(), made("a"), made("b")), facts(stop=STOP), ["KillContainer a a-0 in 30", "KillContainer b b-0 in 30"]),
    ("being killed", deleted(pod()), seen(box(), made()), facts(stop=STOP, busy={"kill:c": NOW + 30}), []),
    ("grace was shortened", deleted(pod()), seen(box(), made()), facts(stop=Stop(NOW + 1), busy={"kill:c": NOW + 30}), ["KillContainer c c-0 in 1"]),
    ("sidecars wait", deleted(pod(inits=(sidecar("s"), sidecar("t")))), seen(box(), made("s"), made("t"), made("c")), facts(stop=STOP), ["KillContainer c c-0 in 30"]),
    ("sidecars in reverse order", deleted(pod(inits=(sidecar("s"), sidecar("t")))), seen(box(), made("s"), made("t"), made("c", "exited")), facts(stop=STOP), ["KillContainer t t-0 in 30"]),
    ("nothing runs", deleted(pod()), seen(box(), made("c", "exited")), facts(stop=STOP), ["TearDown"]),
    ("a start is under way", deleted(pod()), seen(box()), facts(stop=STOP, busy={"start:c": 0}), []),
    ("torn down", deleted(pod()), seen(box(0, "notready")), facts(stop=STOP, torn_down=True), ["RemovePod"]),
    ("never started", deleted(pod()), seen(ip=""), Facts(stop=STOP), ["TearDown"]),
    ("an unknown container of the pod", deleted(pod()), seen(box(), made("gone")), facts(stop=STOP), ["KillContainer gone gone-0 in 30"]),
    ("over", deleted(pod()), seen(ip=""), facts(stop=STOP, removed=True), []),
]  # fmt: skip


@pytest.mark.parametrize(("name", "obj", "observed", "known", "expected"), END, ids=[c[0] for c in END])
def test_the_end(name: str, obj: Any, observed: Any, known: Any, expected: list[str]) -> None:
    assert words(steps(obj, observed, known)) == expected


def test_a_finished_pod_ends_its_sidecars_then_lets_go() -> None:
    obj = pod(inits=(sidecar("s"),), restartPolicy="Never")
    observed = seen(box(), made("s"), made("c", "exited"))
    assert words(steps(obj, observed, facts())) == ["KillContainer s s-0 in 30"]
    observed = seen(box(), made("s", "exited"), made("c", "exited"))
    assert words(steps(obj, observed, facts())) == ["TearDown"]
    assert words(steps(obj, observed, facts(torn_down=True))) == []


def test_a_terminal_phase_is_never_left() -> None:
    """The runtime may have forgotten everything, or someone may have written the phase by hand."""
    obj = pod() | {"status": {"phase": "Failed"}}
    assert words(steps(obj, seen(ip=""), Facts())) == ["TearDown"]
    assert words(steps(obj, seen(box(), made()), facts())) == ["KillContainer c c-0 in 30"]


def test_the_active_deadline() -> None:
    obj = pod(activeDeadlineSeconds=60) | {"status": {"startTime": "2027-01-15T08:00:00Z"}}
    early = plan(obj, seen(box(), made()), facts(), NOW + 59, CURVE)
    assert early.verdict is None
    assert early.wake == NOW + 60
    late = plan(obj, seen(box(), made()), facts(), NOW + 60, CURVE)
    assert late.verdict is not None
    assert late.verdict.reason == "DeadlineExceeded"


def test_a_verdict_stops_the_pod_but_does_not_remove_it() -> None:
    known = facts(verdict=Verdict("Evicted", "low"), stop=STOP)
    assert words(steps(pod(), seen(box(), made()), known)) == ["KillContainer c c-0 in 30"]
    known.torn_down = True
    assert words(steps(pod(), seen(box(), made("c", "exited")), known)) == []


def test_a_deletion_that_overtook_the_start_does_not_wait_for_the_whole_grace_period() -> None:
    def grace(pod: dict[str, Any], *containers: Container) -> float:
        stop = stop_of(deleted(pod, 30), facts("c"), NOW, seen(box(), *containers))
        assert stop is not None
        return stop.deadline - NOW

    waiting = {"status": {"containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "ContainerCreating"}}}]}}
    running = {"status": {"containerStatuses": [{"name": "c", "state": {"running": {}}}]}}
    fresh = made(ago=0.1)
    assert grace({**pod(), **waiting}, fresh) == 1
    assert grace(pod(), fresh) == 1
    assert grace({**pod(), **running}, fresh) == 30  # somebody may have seen it run
    assert grace({**pod(), **waiting}, made(ago=5)) == 30  # it has run for a while, only the news is late
    assert grace({**pod(), **waiting}) == 30
    hooked = pod()
    hooked["spec"]["containers"][0]["lifecycle"] = {"preStop": {"exec": {"command": ["drain"]}}}
    assert grace({**hooked, **waiting}, fresh) == 30


def test_the_stop_deadline_only_moves_forward() -> None:
    known = Facts()
    assert stop_of(pod(), known, NOW) is None
    known.stop = stop_of(deleted(pod(), 30), known, NOW)
    assert known.stop is not None
    assert known.stop.deadline == NOW + 30
    assert stop_of(deleted(pod(), 30), known, NOW + 10) is known.stop
    shorter = stop_of(deleted(pod(), 0), known, NOW + 10)
    assert shorter is not None
    assert shorter.deadline == NOW + 11


def test_ephemeral_containers_run_once() -> None:
    obj = pod(ephemeralContainers=[{"name": "e", "image": "e:1"}])
    assert words(steps(obj, seen(box(), made()), facts("e"))) == ["StartContainer e 0 0"]
    assert words(steps(obj, seen(box(), made(), made("e", "exited", exit=1)), facts("e/1"))) == []


def test_old_attempts_are_collected() -> None:
    attempts = [made("c", "exited", n, exit=1) for n in range(3)] + [made("c", "running", 3)]
    assert words(steps(pod(), seen(box(), *attempts), facts())) == ["RemoveContainer c c-1"]


def test_restart_count_goes_on_when_the_runtime_forgot() -> None:
    obj = pod() | {"status": {"containerStatuses": [{"name": "c", "restartCount": 4, "containerID": "jota://x"}]}}
    assert words(steps(obj, seen(box()), facts("c/5"))) == ["StartContainer c 5 0"]


STATES = st.sampled_from(["created", "running", "exited"])


@given(
    states=st.lists(st.tuples(st.sampled_from("icd"), STATES, st.integers(0, 3), st.integers(0, 1)), max_size=6),
    policy_name=st.sampled_from(["Always", "OnFailure", "Never"]),
    is_deleted=st.booleans(),
    has_box=st.booleans(),
    busy=st.sets(st.sampled_from(["start:c", "image:c", "kill:d", "sandbox", "volumes", "hook:i", "gc:c"])),
)
def test_no_operation_is_begun_twice_and_a_stopping_pod_starts_nothing(
    states: Any, policy_name: str, is_deleted: bool, has_box: bool, busy: set[str]
) -> None:
    from jota.node.operations import keys_of

    obj = pod("c", "d", inits=("i",), restartPolicy=policy_name)
    if is_deleted:
        deleted(obj)
    containers = {(n, a): made(n, s, a, exit=e) for n, s, a, e in states}.values()
    observed = seen(*([box()] if has_box else []), *containers, ip="10.0.0.1" if has_box else "")
    known = facts("c", "d", "i", busy=dict.fromkeys(busy, NOW), stop=STOP if is_deleted else None)
    result = steps(obj, observed, known)
    keys = [keys_of(a) for a in result.actions]
    kinds = {type(a).__name__ for a in result.actions}
    assert not {k for k in keys if not k.startswith("kill:")} & busy
    assert len([k for k in keys if not k.startswith("kill:")]) == len({k for k in keys if not k.startswith("kill:")})
    if is_deleted:
        assert not kinds & {"StartContainer", "MakeSandbox", "EnsureImage", "MountVolumes"}
    if "TearDown" in kinds:
        assert not observed.alive()
        assert not busy


def cpu(amount: str, **more: Any) -> dict[str, Any]:
    return {"requests": {"cpu": amount}, **more}


SMALL, LARGE = cpu("100m"), cpu("200m")
HARD = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
ELSEWHERE = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
RESIZE = [
    ("as allocated", one(resources=SMALL), seen(box(), made(has=SMALL)), facts(), []),
    ("more", one(resources=LARGE), seen(box(), made(has=SMALL)), facts(), ["Resize"]),
    ("a limit is new", one(resources=cpu("100m", limits={"cpu": "1"})), seen(box(), made(has=SMALL)), facts(), ["Resize"]),
    ("under way", one(resources=LARGE), seen(box(), made(has=SMALL)), facts(busy={"resize": 0}), []),
    ("failed, not due", one(resources=LARGE), seen(box(), made(has=SMALL)), facts(resize_failure=failure()), []),
    ("failed, due", one(resources=LARGE), seen(box(), made(has=SMALL)), facts(resize_failure=failure(at=NOW - 9)), ["Resize"]),
    ("made by one who kept no note", one(resources=LARGE), seen(box(), made()), facts(), []),
    ("does not run", one(resources=LARGE), seen(box(), made(state="exited", exit=1, has=SMALL)), facts("c/1"), ["StartContainer c 1 1"]),
    ("restart for cpu", one(resources=LARGE, resizePolicy=HARD), seen(box(), made(has=SMALL)), facts(), ["KillContainer c c-0 in 30"]),
    ("restart for memory alone", one(resources=LARGE, resizePolicy=ELSEWHERE), seen(box(), made(has=SMALL)), facts(), ["Resize"]),
    ("being killed for it", one(resources=LARGE, resizePolicy=HARD), seen(box(), made(has=SMALL)), facts(busy={"kill:c": NOW + 30}), []),
    ("its liveness probe failed", one(resources=LARGE, livenessProbe={"exec": {}}), seen(box(), made(has=SMALL)), facts(probes={("c-0", "liveness"): False}), ["KillContainer c c-0 in 30"]),
    ("a sidecar", pod(inits=(sidecar("s", resources=LARGE),)), seen(box(), made("s", has=SMALL), made()), facts(), ["Resize"]),
    ("an init container", pod(inits=({"name": "i", "image": "i:1", "resources": LARGE},)), seen(box(), made("i", has=SMALL)), facts(), ["Resize"]),
    ("the pod around them", pod(), seen(box(), made()), facts(bounds=Resources(cpu_shares=2)), ["Resize"]),
    ("the pod, while a container starts", pod("a", "b"), seen(box(), made("a")), facts("b", bounds=Resources(cpu_shares=2)), ["StartContainer b 0 0"]),
    ("the pod, while one is killed", pod("a", "b"), seen(box(), made("a"), made("b")), facts(bounds=Resources(cpu_shares=2), busy={"kill:a": NOW}), []),
]  # fmt: skip


@pytest.mark.parametrize(("name", "obj", "observed", "known", "expected"), RESIZE, ids=[c[0] for c in RESIZE])
def test_resize(name: str, obj: Any, observed: Any, known: Any, expected: list[str]) -> None:
    assert words(steps(obj, observed, known)) == expected
