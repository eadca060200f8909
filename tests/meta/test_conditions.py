"""Conditions: transition times move with the status only; a change that is none gives the same list."""

from __future__ import annotations

from jota.meta import conditions


def test_a_condition_appears_changes_and_keeps_its_time() -> None:
    one = conditions.set(None, "Ready", "False", now="T1", reason="Starting")
    assert one == [{"type": "Ready", "status": "False", "reason": "Starting", "lastTransitionTime": "T1"}]
    two = conditions.set(one, "Ready", "False", now="T2", reason="Waiting", message="m")
    assert two[0]["lastTransitionTime"] == "T1"
    assert two[0]["reason"] == "Waiting"
    three = conditions.set(two, "Ready", "True", now="T3")
    assert three == [{"type": "Ready", "status": "True", "lastTransitionTime": "T3"}]
    assert one[0]["status"] == "False"


def test_no_change_is_the_same_list() -> None:
    one = conditions.set(None, "Ready", "True", now="T1", observed_generation=3)
    assert conditions.set(one, "Ready", "True", now="T2", observed_generation=3) is one
    assert conditions.set(one, "Ready", "True", now="T2", observed_generation=4) is not one


def test_further_fields_and_order() -> None:
    start = [{"type": "A", "status": "True"}, {"type": "B", "status": "True", "lastTransitionTime": "T0"}]
    got = conditions.set(start, "B", "True", now="T1", lastUpdateTime="T1")
    assert got[1] == {"type": "B", "status": "True", "lastTransitionTime": "T0", "lastUpdateTime": "T1"}
    assert [c["type"] for c in got] == ["A", "B"]


def test_finding_and_removing() -> None:
    found = [{"type": "A", "status": "True"}, {"type": "B", "status": "False"}]
    assert conditions.is_true(found, "A")
    assert not conditions.is_true(found, "B")
    assert conditions.find(None, "A") is None
    assert conditions.remove(found, "A") == found[1:]
    assert conditions.remove(found, "C") is found
    assert conditions.remove(None, "C") == []
