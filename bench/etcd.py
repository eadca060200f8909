"""The peer of the store: one etcd member in a temporary directory, spoken to over gRPC without generated code.

A write is what kube-apiserver sends for a create: Txn(if the key has no revision, then put). Field numbers are those of
etcd's rpc.proto (v3).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import peers, protobuf
from bench.figure import Skipped

_CHANNELS = 4


@contextmanager
def running(directory: Path) -> Iterator[str]:
    """The address of a new etcd. Raises Skipped."""
    try:
        import grpc
    except ImportError:
        raise Skipped("no grpcio in this environment: pip install grpcio") from None
    program = peers.command("etcd", "etcd-server")
    client, peer = (f"127.0.0.1:{peers.free_port()}" for _ in range(2))
    words = [program, "--data-dir", str(directory / "etcd"), "--name", "bench"]
    words += ["--listen-client-urls", f"http://{client}", "--advertise-client-urls", f"http://{client}"]
    words += ["--listen-peer-urls", f"http://{peer}", "--initial-advertise-peer-urls", f"http://{peer}"]
    words += ["--initial-cluster", f"bench=http://{peer}", "--log-level", "error"]
    log = directory / "etcd.log"
    with peers.running(words, log) as process:

        def ask() -> None:
            with grpc.insecure_channel(client) as channel:
                channel.unary_unary("/etcdserverpb.KV/Range")(protobuf.encode({1: b"x"}), timeout=2)

        peers.until_answers(ask, process, program, log)
        yield client


async def write(address: str, label: str, writers: int, seconds: float, value: bytes) -> list[float]:
    """How long each create took, in seconds, with so many writers at once for so long; `label` makes keys new."""
    import grpc.aio

    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(min(_CHANNELS, writers))]
    calls = [channel.unary_unary("/etcdserverpb.KV/Txn") for channel in channels]
    times: list[float] = []
    end = time.perf_counter() + seconds

    async def one(number: int) -> None:
        call, count = calls[number % len(calls)], 0
        while time.perf_counter() < end:
            begin = time.perf_counter()
            answer = await call(_create(f"/registry/pods/{label}-{number}/{count}".encode(), value))
            times.append(time.perf_counter() - begin)
            count += 1
            if protobuf.decode(answer).get(2) != [1]:
                raise RuntimeError("etcd refused a create")

    await asyncio.gather(*(one(n) for n in range(writers)))
    for channel in channels:
        await channel.close()
    return times


def _create(key: bytes, value: bytes) -> bytes:
    """TxnRequest: compare(mod revision of key == 0), success: put."""
    compare = {1: 0, 2: 2, 3: key, 6: 0}
    put = {2: {1: key, 2: value}}
    return protobuf.encode({1: compare, 2: put})
