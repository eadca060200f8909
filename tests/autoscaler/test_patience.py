"""When removals of machines are tried again, and that what is remembered of them does not grow for ever."""

from __future__ import annotations

from jota.autoscaler.patience import FORGOTTEN, GOING, LONGEST, Patience

A = ("g", "a")


def test_failures_are_tried_again_later_and_later() -> None:
    patience, now, waited = Patience(), 0.0, list[float]()
    assert patience.over(A, now)
    for _ in range(9):
        patience.failed(A, now)
        began = now
        while not patience.over(A, now):
            now += 1.0
        waited.append(now - began)
    assert waited == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, LONGEST, LONGEST, LONGEST]
    patience.asked(A, now)
    assert not patience.over(A, now + GOING - 1)
    assert patience.over(A, now + GOING)
    patience.failed(A, now)
    assert patience.over(A, now + 5.0), "a success begins anew"


def test_machines_that_are_gone_are_forgotten() -> None:
    patience = Patience()
    for n in range(100_000):
        machine = ("g", f"m{n}")
        (patience.failed if n % 2 else patience.asked)(machine, float(n))
    assert len(patience) <= FORGOTTEN + LONGEST + 1
    assert len(patience._failures._failures) <= len(patience)
