"""When Python's collector looks at everything: in quiet moments, and not never."""

from __future__ import annotations

import pytest

from jota.run.garbage import AT_LAST, OFTEN, QUIET, WORTH, due


@pytest.mark.parametrize(
    ("since", "rate", "looks", "expected"),
    [
        (OFTEN, 0.0, WORTH, True),
        (OFTEN - 1, 0.0, WORTH, False),
        (OFTEN, QUIET + 1, WORTH, False),
        (OFTEN, 0.0, WORTH - 1, False),
        (AT_LAST - 1, QUIET + 1, 10**6, False),
        (AT_LAST, 1e5, 1, True),
        (AT_LAST, 0.0, 0, False),
    ],
)
def test_a_whole_look_waits_for_a_quiet_moment(since: float, rate: float, looks: int, expected: bool) -> None:
    assert due(since, rate, looks) is expected
