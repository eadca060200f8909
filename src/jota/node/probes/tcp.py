"""TCP probe: can a connection be opened?"""

from __future__ import annotations

import asyncio

from jota.node.probes.target import why


async def connect(host: str, port: int, timeout: float) -> str:
    """ "" when the connection opened within `timeout` seconds, else why not."""
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return f"dial tcp {host}:{port}: i/o timeout"
    except OSError as e:
        return f"dial tcp {host}:{port}: connect: {why(e)}"
    writer.close()
    return ""
