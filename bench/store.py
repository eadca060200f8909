"""The store: durable creates per second beside etcd

Values of 3,000 bytes, each created under the condition that its key is new, acknowledged after the fsync, by 1, 16 and 64
writers at once, in five rounds of 1 s in turn; the embedded SQLite driver against one member of etcd on the same disk. The
driver is called in its own process, as the server does. etcd is called over gRPC (grpc.aio, 4 channels, no decoding of
messages), as every client of etcd must; what the Python client costs is in its figure, a client in Go would see more of
etcd's own speed.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import uvloop

from bench import etcd
from bench.figure import Figure, Skipped, median, percentile
from jota.store.drivers.sqlite import SqliteStore

SECONDS, ROUNDS = 1.0, 5
WRITERS = (1, 16, 64)
Times = dict[int, list[list[float]]]
"""Writers at once -> per round: seconds that each create took."""
_VALUE = b'{"v":"' + b"x" * 2992 + b'"}'


def run() -> list[Figure]:
    ours: Times = {n: [] for n in WRITERS}
    theirs: Times = {n: [] for n in WRITERS}
    with tempfile.TemporaryDirectory(prefix="jota-bench-", dir="/var/tmp") as place:
        missing = _rounds(Path(place), ours, theirs)
    figures = []
    for n in WRITERS:
        who = f"{n} writer{'s' * (n > 1)}"
        peer = "not measured: " + missing if missing else "etcd"
        figures.append(
            Figure(
                name=f"{who}, rate",
                value=median([len(times) / SECONDS for times in ours[n]]),
                unit="creates/s",
                better="more",
                peer=peer,
                peer_value=None if missing else median([len(times) / SECONDS for times in theirs[n]]),
            )
        )
        for percent in (50, 99):
            figures.append(
                Figure(
                    name=f"{who}, p{percent}",
                    value=_delay(ours[n], percent),
                    unit="ms",
                    peer="" if missing else peer,
                    peer_value=None if missing else _delay(theirs[n], percent),
                )
            )
    return figures


def _delay(rounds: list[list[float]], percent: float) -> float:
    return 1000 * median([percentile(times, percent) for times in rounds])


def _rounds(place: Path, ours: Times, theirs: Times) -> str:
    """Both in turn, so that what else the machine does falls on both. Returns why there is no peer, or nothing."""
    missing = ""
    with ExitStack() as stack:
        try:
            address = stack.enter_context(etcd.running(place))
        except Skipped as skipped:
            missing = str(skipped)
        for turn, n in itertools.product(range(ROUNDS), WRITERS):
            ours[n].append(uvloop.run(_sqlite(place / f"{turn}-{n}.db", n)))
            if not missing:
                theirs[n].append(asyncio.run(etcd.write(address, f"{turn}-{n}", n, SECONDS, _VALUE)))
    return missing


async def _sqlite(path: Path, writers: int) -> list[float]:
    store = SqliteStore(str(path))
    times: list[float] = []
    end = time.perf_counter() + SECONDS

    async def one(number: int) -> None:
        count = 0
        while time.perf_counter() < end:
            begin = time.perf_counter()
            await store.put(f"/core/pods/ns-{number}/{count}", _VALUE, expect=0)
            times.append(time.perf_counter() - begin)
            count += 1

    await asyncio.gather(*(one(n) for n in range(writers)))
    await store.close()
    return times
