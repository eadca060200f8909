"""What targets share: cutting an input into parts, a loop, a scripted connection, a transport that only remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import orjson

from jota.meta.errors import ApiError

_LOOP: list[asyncio.AbstractEventLoop] = []


def loop() -> asyncio.AbstractEventLoop:
    """One loop for all inputs."""
    if not _LOOP:
        _LOOP.append(asyncio.new_event_loop())
    return _LOOP[0]


def close_loop() -> None:
    while _LOOP:
        _LOOP.pop().close()


def run(main: Coroutine[Any, Any, Any], seconds: float = 3.0) -> Any:
    """The coroutine's result; TimeoutError when it hangs, AssertionError when it leaves tasks behind."""

    async def bounded() -> Any:
        async with asyncio.timeout(seconds):
            result = await main
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        assert not left, f"left behind: {left}"
        return result

    return loop().run_until_complete(bounded())


def pieces(data: bytes) -> Iterator[bytes]:
    """What follows the first byte, in reads as long as that byte says (0: all at once)."""
    size = data[0] if data else 0
    rest = data[1:]
    yield from ([rest] if not size else (rest[at : at + size] for at in range(0, len(rest), size)))


MARK, _EDIT = b"\xfe\xfe", b"\xfd"
"""Between texts; a text that begins with the second is the one before it, changed."""


def edit(at: int, length: int, new: bytes) -> bytes:
    """The text before, but for `length` bytes from `at` on."""
    return MARK + _EDIT + bytes((at & 0xFF, at >> 8, length)) + new


def edited(data: bytes) -> list[bytes]:
    """Texts with MARK between them, edits carried out: what differs little is hard to come by for a fuzzer."""
    texts: list[bytes] = []
    for given in data.split(MARK):
        if given[:1] == _EDIT and len(given) > 3 and texts:
            at, before = given[1] | given[2] << 8, texts[-1]
            texts.append(before[:at] + given[4:] + before[at + given[3] :])
        else:
            texts.append(given)
    return texts


def text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def refused(error: ApiError) -> None:
    """An ApiError that blames the sender and can be sent."""
    assert 400 <= error.code < 500, error
    orjson.dumps(error.status())


def taken_or_refused(work: Callable[[], Any]) -> Any:
    """The result, which must be JSON; None when it was refused."""
    try:
        result = work()
    except ApiError as error:
        refused(error)
        return None
    orjson.dumps(result)
    return result


class Script:
    """A Duplex whose peer sends the given pieces and then hangs up."""

    def __init__(self, given: Sequence[bytes]) -> None:
        self._given, self.sent, self.closed = list(given), 0, False

    async def read(self, limit: int = 65536) -> bytes:
        await asyncio.sleep(0)
        while self._given and not self._given[0]:
            self._given.pop(0)
        if not self._given or self.closed:
            return b""
        data = self._given.pop(0)
        if len(data) > limit:
            self._given.insert(0, data[limit:])
        return data[:limit]

    def write(self, data: bytes) -> None:
        self.sent += len(data)

    async def drain(self) -> None:
        await asyncio.sleep(0)

    def write_eof(self) -> None: ...

    def close(self) -> None:
        self.closed = True


class Wire(asyncio.Transport):
    """A transport that remembers what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closing = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else default

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def writelines(self, parts: Any) -> None:
        self.written += map(bytes, parts)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True
