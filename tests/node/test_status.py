"""What the API shows of a pod, by tables: observed containers and memory -> phase, states, conditions, patch."""

from __future__ import annotations

from typing import Any

import pytest

from jota.node.model import Facts, Resizing, Stop, Verdict
from jota.node.plan import Plan, plan
from jota.node.status import build, difference

from .shapes import CURVE, NOW, box, facts, failure, made, pod, seen, sidecar


def shown(
    obj: Any, observed: Any, known: Facts | None = None, steps: Plan | None = None, now: float = NOW
) -> dict[str, Any]:
    known = known or facts()
    return build(obj, observed, known, steps or plan(obj, observed, known, now, CURVE), host_ip="10.0.0.1", now=now)


def policy(name: str, *names: str, **more: Any) -> dict[str, Any]:
    return pod(*names, restartPolicy=name, **more)


def own(of_pod: str, of_container: str) -> dict[str, Any]:
    """A pod whose container has a restart policy of its own."""
    return pod("c", restartPolicy=of_pod, containers=[{"name": "c", "image": "c:1", "restartPolicy": of_container}])


PHASES = [
    ("nothing", pod(), seen(ip=""), "Pending"),
    ("created", pod(), seen(box(), made(state="created")), "Pending"),
    ("running", pod(), seen(box(), made()), "Running"),
    ("one of two", pod("a", "b"), seen(box(), made("a")), "Pending"),
    ("one ended, one runs", policy("Never", "a", "b"), seen(box(), made("a", "exited"), made("b")), "Running"),
    ("crash loop", pod(), seen(box(), made("c", "exited", 5, exit=1, ago=0)), "Running"),
    ("OnFailure, about to restart", policy("OnFailure"), seen(box(), made("c", "exited", exit=1)), "Running"),
    ("succeeded", policy("Never"), seen(box(), made("c", "exited")), "Succeeded"),
    ("failed", policy("Never"), seen(box(), made("c", "exited", exit=1)), "Failed"),
    ("one of two failed", policy("Never", "a", "b"), seen(box(), made("a", "exited"), made("b", "exited", exit=1)), "Failed"),
    ("its own policy restarts it", own("Never", "Always"), seen(box(), made("c", "exited", exit=1)), "Running"),
    ("its own policy does not", own("Always", "Never"), seen(box(), made("c", "exited", exit=1)), "Failed"),
    ("its own policy, succeeded", own("Always", "OnFailure"), seen(box(), made("c", "exited")), "Succeeded"),
    ("init runs", pod(inits=("i",)), seen(box(), made("i")), "Pending"),
    ("init failed, tries again", pod(inits=("i",)), seen(box(), made("i", "exited", exit=1)), "Pending"),
    ("init failed for good", policy("Never", inits=("i",)), seen(box(), made("i", "exited", exit=1)), "Failed"),
    ("init done", pod(inits=("i",)), seen(box(), made("i", "exited"), made()), "Running"),
    ("sidecar runs", pod(inits=(sidecar("s"),)), seen(box(), made("s")), "Pending"),
    ("sidecar and app run", pod(inits=(sidecar("s"),)), seen(box(), made("s"), made()), "Running"),
    ("app done, sidecar runs", policy("Never", inits=(sidecar("s"),)), seen(box(), made("s"), made("c", "exited")), "Running"),
    ("both done", policy("Never", inits=(sidecar("s"),)), seen(box(), made("s", "exited"), made("c", "exited")), "Succeeded"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "obj", "observed", "expected"), PHASES, ids=[c[0] for c in PHASES])
def test_phase(name: str, obj: Any, observed: Any, expected: str) -> None:
    assert shown(obj, observed)["phase"] == expected


def test_a_terminal_phase_stays() -> None:
    obj = pod() | {"status": {"phase": "Failed", "reason": "Evicted", "message": "low"}}
    status = shown(obj, seen(ip=""))
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "Evicted", "low")


def waiting(status: dict[str, Any], section: str = "containerStatuses") -> tuple[str, str]:
    state = status[section][0]["state"]["waiting"]
    return state["reason"], state.get("message", "")


def test_waiting_reasons() -> None:
    assert waiting(shown(pod(), seen(ip=""))) == ("ContainerCreating", "")
    assert waiting(shown(pod(inits=("i",)), seen(box(), made("i"))))[0] == "PodInitializing"
    assert waiting(shown(pod(inits=("i", "j")), seen(ip="")), "initContainerStatuses")[0] == "PodInitializing"
    known = facts(volumes_failure=failure("FailedMount"))
    assert waiting(shown(pod(), seen(ip=""), known)) == ("ContainerCreating", "it broke")
    known = facts("c", starts={"c": failure("CreateContainerConfigError")})
    assert waiting(shown(pod(), seen(box()), known)) == ("CreateContainerConfigError", "it broke")


def test_a_crash_loop_shows_the_last_line_and_the_last_state() -> None:
    dead = made("c", "exited", 5, exit=3, ago=0, reason="Error")
    known = facts("c/6", last_lines={dead.id: "no such table"}, termination={dead.id: "bad"})
    status = shown(pod(), seen(box(), dead), known)
    reason, message = waiting(status)
    assert reason == "CrashLoopBackOff"
    assert message.startswith("back-off 16s restarting failed container=c")
    assert message.endswith("last log line: no such table")
    ended = status["containerStatuses"][0]["lastState"]["terminated"]
    assert (ended["exitCode"], ended["message"], ended["containerID"]) == (3, "bad", "jota://c-5")
    assert status["containerStatuses"][0]["restartCount"] == 5


def test_ready_started_and_conditions() -> None:
    obj = pod()
    obj["spec"]["containers"][0] |= {"readinessProbe": {"exec": {}}, "startupProbe": {"exec": {}}}
    c = seen(box(), made())

    def view(**probes: bool) -> tuple[bool, bool, str]:
        status = shown(obj, c, facts(probes={("c-0", k): v for k, v in probes.items()}))
        ready = next(x for x in status["conditions"] if x["type"] == "Ready")
        one = status["containerStatuses"][0]
        return one["started"], one["ready"], ready["status"]

    assert view() == (False, False, "False")
    assert view(startup=True) == (True, False, "False")
    assert view(startup=True, readiness=True) == (True, True, "True")
    assert view(startup=True, readiness=False) == (True, False, "False")


def test_condition_texts_and_transition_times() -> None:
    status = shown(pod("a", "b"), seen(box(), made("a")))
    by_type = {c["type"]: c for c in status["conditions"]}
    assert by_type["Ready"]["message"] == "containers with unready status: [b]"
    assert by_type["Ready"]["reason"] == "ContainersNotReady"
    assert by_type["PodScheduled"]["status"] == "True"
    later = shown(pod("a", "b") | {"status": status}, seen(box(), made("a"), made("b")), now=NOW + 100)
    after = {c["type"]: c for c in later["conditions"]}
    assert after["Ready"]["status"] == "True"
    assert after["Ready"]["lastTransitionTime"] > by_type["Ready"]["lastTransitionTime"]
    assert after["Initialized"]["lastTransitionTime"] == by_type["Initialized"]["lastTransitionTime"]


def test_foreign_conditions_are_kept_and_gates_counted() -> None:
    obj = pod(readinessGates=[{"conditionType": "x/y"}]) | {"status": {"conditions": []}}
    ready = {c["type"]: c for c in shown(obj, seen(box(), made()))["conditions"]}["Ready"]
    assert ready["reason"] == "ReadinessGatesNotReady"
    assert 'readiness gate "x/y" does not exist' in ready["message"]
    obj["status"]["conditions"] = [{"type": "x/y", "status": "True"}]
    status = shown(obj, seen(box(), made()))
    assert {c["type"]: c["status"] for c in status["conditions"]}["Ready"] == "True"
    assert {"type": "x/y", "status": "True"} in status["conditions"]


def test_a_condemned_pod_has_not_failed_while_a_container_runs() -> None:
    """Who is told that it failed takes what it had: its node's room, its volume, its place in a set."""
    known = Facts(start_time=NOW - 90, verdict=Verdict("Evicted", "too much"))
    status = shown(pod("a", "b"), seen(box(), made("a", "exited", exit=143), made("b")), known)
    assert status["phase"] == "Running"
    assert not {"reason", "message"} & set(status)
    conditions = {c["type"]: (c["status"], c.get("reason")) for c in status["conditions"]}
    assert conditions["Ready"] == conditions["ContainersReady"] == ("False", "PodFailed")
    gone = shown(pod("a", "b"), seen(box(), made("a", "exited", exit=143), made("b", "exited", exit=137)), known)
    assert (gone["phase"], gone["reason"], gone["message"]) == ("Failed", "Evicted", "too much")
    # what was told before is not taken back
    said = {**pod("a"), "status": {"phase": "Failed", "reason": "Evicted"}}
    assert shown(said, seen(box(), made("a")), known)["phase"] == "Failed"


def test_a_rejected_pod_has_no_containers() -> None:
    status = shown(pod(), seen(ip=""), Facts(start_time=NOW, verdict=Verdict("OutOfcpu", "too much")))
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "OutOfcpu", "too much")
    assert "containerStatuses" not in status
    assert "podIP" not in status


def test_a_deleted_pod_that_was_torn_down() -> None:
    obj = pod()
    obj["metadata"]["deletionTimestamp"] = "2027-01-15T08:00:30Z"
    known = facts(stop=Stop(NOW), torn_down=True)
    assert shown(obj, seen(box(0, "notready"), made("c", "exited")), known)["phase"] == "Succeeded"
    assert shown(obj, seen(box(0, "notready"), made("c", "exited", exit=143)), known)["phase"] == "Failed"


def test_a_container_that_was_lost() -> None:
    running = {
        "name": "c",
        "restartCount": 2,
        "containerID": "jota://x",
        "state": {"running": {"startedAt": "2027-01-15T07:00:00Z"}},
    }
    obj = pod() | {"status": {"phase": "Running", "containerStatuses": [running]}}
    one = shown(obj, seen(ip=""))["containerStatuses"][0]
    assert one["restartCount"] == 2
    assert one["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"


def test_addresses() -> None:
    status = shown(pod(), seen(box(), made()))
    assert (status["podIP"], status["podIPs"], status["hostIP"]) == ("10.42.0.1", [{"ip": "10.42.0.1"}], "10.0.0.1")
    assert shown(pod(hostNetwork=True), seen(box(), made(), ip=""))["podIP"] == "10.0.0.1"


def test_the_same_state_gives_no_patch() -> None:
    obj = pod()
    first = shown(obj, seen(box(), made()))
    assert difference({}, first) is not None
    again = shown(obj | {"status": first}, seen(box(), made()), now=NOW + 500)
    assert difference(first, again) is None


def test_the_patch_tells_only_what_changed() -> None:
    old = {
        "phase": "Pending",
        "message": "x",
        "conditions": [{"type": "Ready", "status": "False"}, {"type": "mine/x", "status": "True"}],
    }
    new = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "mine/x", "status": "True"}],
    }
    assert difference(old, new) == {
        "message": None,
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    recovered = difference(
        {"conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "of [app]"}]},
        {"conditions": [{"type": "Ready", "status": "True"}]},
    )
    assert recovered == {"conditions": [{"type": "Ready", "status": "True", "reason": None, "message": None}]}
    moved = difference({"podIPs": [{"ip": "1.1.1.1"}]}, {"podIPs": [{"ip": "2.2.2.2"}]})
    assert moved == {"podIPs": [{"$patch": "replace"}, {"ip": "2.2.2.2"}]}


def test_a_reason_that_is_over_is_taken_away_by_name() -> None:
    """A strategic merge keeps what the patch does not name."""
    was = {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "m"}
    assert difference({"conditions": [was]}, {"conditions": [{"type": "Ready", "status": "True"}]}) == {
        "conditions": [{"type": "Ready", "status": "True", "reason": None, "message": None}]
    }


# -- resizes


def cpu(amount: str, **more: Any) -> dict[str, Any]:
    return {"requests": {"cpu": amount, **more}}


SIZES = [
    ("waits", seen(box()), "200m", None, None),
    ("runs as allocated", seen(box(), made(has=cpu("200m"))), "200m", "200m", cpu("200m")),
    ("is not there yet", seen(box(), made(has=cpu("100m"))), "200m", "200m", cpu("100m")),
    ("made by one who kept no note", seen(box(), made()), "200m", "200m", cpu("200m")),
    ("ended", seen(box(), made(state="exited", exit=1, has=cpu("100m"))), "200m", "200m", cpu("200m")),
]


@pytest.mark.parametrize(("name", "observed", "allocated", "shows", "has"), SIZES, ids=[c[0] for c in SIZES])
def test_what_is_allocated_and_what_there_is(name: str, observed: Any, allocated: str, shows: Any, has: Any) -> None:
    obj = pod("c", containers=[{"name": "c", "image": "c:1", "resources": cpu(allocated)}])
    (status,) = shown(obj, observed)["containerStatuses"]
    assert status.get("allocatedResources") == (shows and {"cpu": shows})
    assert status.get("resources") == has


def test_a_container_without_resources_has_none() -> None:
    (status,) = shown(pod(), seen(box(), made(has={})))["containerStatuses"]
    assert (status["resources"], "allocatedResources" in status) == ({}, False)


def test_other_resources_are_shown_as_allocated() -> None:
    wanted = cpu("200m", **{"example.com/x": "1"})
    obj = pod("c", containers=[{"name": "c", "image": "c:1", "resources": wanted}])
    (status,) = shown(obj, seen(box(), made(has=cpu("100m", **{"example.com/x": "1"}))))["containerStatuses"]
    assert status["resources"] == cpu("100m", **{"example.com/x": "1"})


def test_conditions_of_a_resize_come_and_go() -> None:
    obj, observed = pod(), seen(box(), made())
    before = shown(obj, observed)
    late = facts(pending=Resizing("Deferred", "no room", 2, NOW), progress=Resizing("", "", 1, NOW - 5))
    during = shown(obj | {"status": before}, observed, late)
    pending, progress = during["conditions"][-2:]
    assert pending["type"] == "PodResizePending"
    assert {k: pending[k] for k in ("status", "reason", "message", "observedGeneration")} == {
        "status": "True", "reason": "Deferred", "message": "no room", "observedGeneration": 2,
    }  # fmt: skip
    assert (progress["type"], progress["observedGeneration"], "reason" in progress) == ("PodResizeInProgress", 1, False)
    after = shown(obj | {"status": during}, observed)
    assert difference(during, after) == {
        "conditions": [
            {"$patch": "delete", "type": "PodResizeInProgress"},
            {"$patch": "delete", "type": "PodResizePending"},
        ]
    }
    ended = shown(policy("Never") | {"status": during}, seen(box(), made("c", "exited")), late)
    assert [c["type"] for c in ended["conditions"] if "Resize" in c["type"]] == []
