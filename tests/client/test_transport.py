"""Watch events cut out of a stream: lines that cross chunks, and the short way for whole lines of our own server."""

from __future__ import annotations

import pytest

from jota.client.transport import EventLines, whole_events

ADDED = b'{"type":"ADDED","object":{"a":"}\\n","type":"x","object":{"b":1}}}\n'
MARK = b'{"type":"BOOKMARK","object":{"metadata":{}}}\n'


def test_the_short_way_gives_what_the_long_way_gives() -> None:
    parts = [ADDED, MARK]
    assert whole_events(parts) == EventLines().feed(b"".join(parts))
    assert whole_events(parts) == [
        ("ADDED", b'{"a":"}\\n","type":"x","object":{"b":1}}'),
        ("BOOKMARK", b'{"metadata":{}}'),
    ]


@pytest.mark.parametrize(
    "part",
    [
        ADDED[:-1],
        ADDED[:-2],
        ADDED[1:],
        ADDED + MARK,
        b"",
        b"\n",
        b'{"type": "ADDED", "object": {}}\n',
        b'{"object":{},"type":"ADDED"}\n',
        b'{"type":"OTHER","object":{}}\n',
    ],
)
def test_the_short_way_is_left_for_anything_but_a_whole_line(part: bytes) -> None:
    assert whole_events([MARK, part]) is None


def test_lines_cross_chunks() -> None:
    lines = EventLines()
    assert lines.empty
    assert lines.feed(ADDED[:20]) == []
    assert not lines.empty
    assert lines.feed(ADDED[20:] + MARK) == EventLines().feed(ADDED + MARK)
    assert lines.empty


def test_bytes_that_are_no_event_break_the_stream() -> None:
    with pytest.raises(ConnectionError):
        EventLines().feed(b"nonsense\n")
