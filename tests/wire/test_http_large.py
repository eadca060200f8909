"""Large answers go out piece by piece: whole and in order to readers of any speed, and not for ever to one that stalls."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from itertools import pairwise

import pytest
from wirekit import LOOPS, certificates, run, serving

from jota.wire.answer import PIECE, TURN, pieces
from jota.wire.connection import Connection
from jota.wire.limits import Limits
from jota.wire.message import Made, Part, Request, Response

VIEW = memoryview(b"a view of what is kept elsewhere")[2:]
PARTS = [b"small", b"x" * (3 * PIECE + 17), VIEW, *[b"item-%d" % n * 500 for n in range(3000)]]
WHOLE = b"".join(PARTS)


class Large(Made):
    """Pieces of any size, made each time anew."""

    size = len(WHOLE)

    def __iter__(self) -> Iterator[Part]:
        return (bytearray(part) for part in PARTS)


async def handler(request: Request) -> Response:
    return Response(200, body={"/large": PARTS, "/made": Large()}.get(request.path, b"after"))


async def connect(server, context, **options):
    return await asyncio.open_connection(
        "127.0.0.1", server.port, ssl=context, server_hostname="localhost" if context else None, **options
    )


async def body(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    return await reader.readexactly(length)


@pytest.mark.parametrize("body", [PARTS, Large()])
def test_pieces_are_the_same_bytes_in_the_same_order(body):
    first, *others = pieces(b"head", body)
    assert b"".join((first, *others)) == b"head" + WHOLE
    assert len(first) <= len(b"head") + PIECE
    assert all(0 < len(piece) <= PIECE for piece in others)


def test_small_parts_fill_their_pieces():
    pieces_, size = list(pieces(b"", [b"x" * 1000] * 1000)), PIECE // 1000 * 1000
    assert [len(piece) for piece in pieces_[:-1]] == [size] * (1_000_000 // size)
    assert [*pieces(b"head", [])] == [*pieces(b"head", [b""])] == [b"head"]


class Fast(asyncio.Transport):
    """To a peer that takes everything at once."""

    taken = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.taken += len(data)

    def is_closing(self) -> bool:
        return False


def test_one_that_takes_everything_at_once_leaves_turns_to_others():
    part = b"x" * (PIECE // 2)

    def answer(request: Request) -> Response:
        return Response(200, body=[part] * (5 * TURN // len(part)) if request.path == "/large" else b"after")

    async def main():
        async with serving(answer) as server:
            peer, conn, turns = Fast(), Connection(server), [0]
            conn.connection_made(peer)
            conn.data_received(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n")
            while peer.taken > turns[-1]:
                turns.append(peer.taken)
                await asyncio.sleep(0)
            conn.connection_lost(None)
            return turns

    *large, after = [after - before for before, after in pairwise(run(main()))]
    assert len(large) == 5
    assert max(large) <= TURN + PIECE
    assert sum(large) > 5 * TURN - PIECE
    assert 0 < after < 1000


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("path", ["/large", "/made"])
def test_a_slow_reader_gets_it_whole_and_then_the_answer_to_its_next_request(loop, tls, path, tmp_path):
    server_context, client_context, _ = certificates(tmp_path)

    async def main():
        async with serving(handler, tls=server_context if tls else None) as server:
            reader, writer = await connect(server, client_context(False) if tls else None, limit=10_000)
            writer.write(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
            await asyncio.sleep(0.2)
            first, second = await body(reader), await body(reader)
            writer.close()
            return first, second

    first, second = run(main(), loop)
    assert hashlib.sha256(first).digest() == hashlib.sha256(WHOLE).digest()
    assert second == b"after"


@pytest.mark.parametrize("loop", LOOPS)
def test_a_reader_that_stalls_is_cut_off_after_the_time_to_write(loop):
    huge = [b"x" * PIECE] * 100

    async def answer(request: Request) -> Response:
        return Response(200, body=huge)

    async def main():
        limits = Limits(write_time=20.0)  # of a clock that runs a hundred times as fast
        async with serving(answer, limits=limits, fast=True) as server:
            reader, writer = await connect(server, None, limit=1000)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            async with asyncio.timeout(5):
                while server.connections:  # noqa: ASYNC110 - the server has no reason to tell anybody
                    await asyncio.sleep(0.01)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(100 * PIECE)
            writer.close()

    run(main(), loop)
