"""Times as texts."""

from __future__ import annotations

from jota.aio.clock import rfc3339_micro


def test_a_micro_time_has_six_digits_and_carries_over() -> None:
    assert rfc3339_micro(0.5) == "1970-01-01T00:00:00.500000Z"
    assert rfc3339_micro(1.9999999) == "1970-01-01T00:00:02.000000Z"
    assert rfc3339_micro(1_700_000_000.000001) == "2023-11-14T22:13:20.000001Z"
