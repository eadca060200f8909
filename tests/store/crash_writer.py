"""Write until killed; print each acknowledged (key, revision). Run by test_sqlite with kill -9."""

from __future__ import annotations

import asyncio
import sys

from jota.store.drivers.sqlite import SqliteStore


async def main(path: str, round_: str) -> None:
    store = SqliteStore(path)

    async def writer(n: int) -> None:
        i = 0
        while True:
            i += 1
            entry = await store.put(f"/core/pods/{round_}/{n}-{i % 50}", b"%d" % i + b"x" * 500)
            sys.stdout.write(f"{entry.key} {entry.revision}\n")
            sys.stdout.flush()
            if i % 97 == 0:
                await store.compact(store.revision - 100)

    await asyncio.gather(*(writer(n) for n in range(8)))


asyncio.run(main(sys.argv[1], sys.argv[2]))
