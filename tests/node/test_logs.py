"""Log files in CRI format, as `kubectl logs` sees them."""

from __future__ import annotations

import asyncio
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.aio.clock import SystemClock
from jota.node.logs import Entry, LogOptions, Selector, follow, parse, seconds, tail_offset


def line(n: int, text: str, stream: str = "stdout", tag: str = "F") -> bytes:
    return f"2026-01-02T03:04:{n:02d}.000000001Z {stream} {tag} {text}\n".encode()


FILE = (
    line(1, "one")
    + line(2, "error", "stderr")
    + b"torn li\n"
    + line(3, "long ", tag="P")
    + line(4, "err2", "stderr")
    + line(5, "end")
    + line(6, "")
    + line(7, "last")
)


def collect(path, options: LogOptions, **more) -> bytes:
    async def main() -> bytes:
        out = []
        async for batch in follow(str(path), options, clock=SystemClock(), **more):
            out += batch
        return b"".join(out)

    return asyncio.run(main())


T3 = b"2026-01-02T03:04:03.000000001Z "


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (LogOptions(), b"one\nerror\nlong err2\nend\n\nlast\n"),
        (LogOptions(stream="stdout"), b"one\nlong end\n\nlast\n"),
        (LogOptions(stream="stderr"), b"error\nerr2\n"),
        (LogOptions(tail=0), b""),
        (LogOptions(tail=1), b"last\n"),
        (LogOptions(tail=2), b"\nlast\n"),
        (LogOptions(tail=99), b"one\nerror\nlong err2\nend\n\nlast\n"),
        (LogOptions(tail=1, stream="stderr"), b"err2\nend\n\nlast\n".replace(b"end\n\nlast\n", b"")),
        (LogOptions(limit=6), b"one\ner"),
        (LogOptions(limit=6, tail=2), b"\nlast\n"),
        (LogOptions(since=1767323047.0), b"last\n"),
        (LogOptions(since=1767323047.5), b""),
        (LogOptions(stream="stdout", timestamps=True, since=1767323043.0, limit=44), T3 + b"long end\n" + b"2026"),
    ],
)
def test_what_is_asked_is_what_comes(tmp_path, options, text):
    path = tmp_path / "0.log"
    path.write_bytes(FILE)
    assert collect(path, options) == text


def test_parsing():
    assert parse(b"t stdout F a b") == Entry(b"t", b"stdout", False, b"a b")
    assert parse(b"t stderr P:x ") == Entry(b"t", b"stderr", True, b"")
    assert parse(b"t stdout F") == Entry(b"t", b"stdout", False, b"")
    assert [parse(bad) for bad in (b"", b"x", b"t stdin F a", b"t stdout G a")] == [None] * 4
    assert seconds(b"1970-01-01T00:00:01.5Z") == 1.5
    assert seconds(b"1970-01-01T01:00:01.250000000+01:00") == 1.25
    assert seconds(b"rubbish") == 0.0


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text("ab \u00e9", max_size=30), max_size=40), tail=st.integers(0, 50))
def test_the_tail_is_the_end_of_the_whole(tmp_path_factory, texts, tail):
    path = tmp_path_factory.mktemp("log") / "0.log"
    path.write_bytes(b"".join(line(n, t) for n, t in enumerate(texts)))
    whole = "".join(t + "\n" for t in texts[len(texts) - min(tail, len(texts)) :])
    assert collect(path, LogOptions(tail=tail)) == whole.encode()


def test_the_tail_of_a_large_file_over_block_borders(tmp_path):
    path = tmp_path / "0.log"
    path.write_bytes(b"".join(line(n % 60, f"{n} " + "x" * 200) for n in range(3000)))
    got = collect(path, LogOptions(tail=1500)).splitlines()
    assert len(got) == 1500
    assert got[0].startswith(b"1500 ")
    with open(path, "rb") as file:
        assert tail_offset(file, 3000) == 0


@given(data=st.binary(max_size=300))
def test_any_bytes_are_read_without_harm(data):
    selector = Selector(LogOptions(timestamps=True, limit=50))
    assert len(b"".join(selector.feed(part) for part in data.split(b"\n"))) <= 50


def test_following_over_growth_rotation_and_the_containers_end(tmp_path):
    path = tmp_path / "0.log"
    path.write_bytes(line(1, "first") + b"2026-01-02T03:04:02Z stdout F half")
    alive = True

    async def running() -> bool:
        return alive

    async def main() -> list[bytes]:
        nonlocal alive
        out: list[bytes] = []

        async def read() -> None:
            async for batch in follow(str(path), LogOptions(follow=True), clock=SystemClock(), running=running):
                out.extend(batch)

        async def until(text: bytes) -> None:
            while text not in out:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            group.create_task(read())
            await until(b"first\n")
            with open(path, "ab") as old:
                old.write(b" done\n")
                old.flush()
                await until(b"half done\n")
                old.write(line(3, "before the renaming"))
                old.flush()
                os.rename(path, tmp_path / "0.log.20260102-030405")
            path.write_bytes(line(4, "in the new file"))
            await until(b"in the new file\n")
            with open(path, "ab") as new:
                new.write(line(5, "last words"))
            alive = False
        return out

    expected = [b"first\n", b"half done\n", b"before the renaming\n", b"in the new file\n", b"last words\n"]
    assert asyncio.run(main()) == expected


def test_no_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        collect(tmp_path / "none.log", LogOptions())
