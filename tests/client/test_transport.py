"""Watch events cut out of a stream: lines that cross chunks."""

from __future__ import annotations

import pytest

from jota.client.transport import EventBatch, EventLines

ADDED = b'{"type":"ADDED","object":{"a":"}\\n","type":"x","object":{"b":1}}}\n'
MARK = b'{"type":"BOOKMARK","object":{"metadata":{}}}\n'


def events(batch: EventBatch) -> list[tuple[str, bytes]]:
    return [(event.type, event.body) for event in batch]


def test_a_line_is_an_event_with_its_object_as_it_came() -> None:
    assert events(EventLines().feed(ADDED + MARK)) == [
        ("ADDED", b'{"a":"}\\n","type":"x","object":{"b":1}}'),
        ("BOOKMARK", b'{"metadata":{}}'),
    ]


def test_lines_cross_chunks() -> None:
    lines = EventLines()
    assert lines.feed(ADDED[:20]) == []
    assert events(lines.feed(ADDED[20:] + MARK)) == events(EventLines().feed(ADDED + MARK))


def test_bytes_that_are_no_event_break_the_stream() -> None:
    with pytest.raises(ConnectionError):
        EventLines().feed(b"nonsense\n")
