"""Where a probe or hook connects to, and how a failed connection is told."""

from __future__ import annotations

import os

from jota.node.model import Object


def why(error: OSError) -> str:
    """The kernel's word for it ("connection refused"); asyncio's own texts repeat the address instead."""
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error).lower()


def port_number(container: Object, port: object) -> int:
    """A number, or the containerPort of that name. Raises ValueError."""
    if isinstance(port, int):
        number = port
    elif str(port).isdigit():
        number = int(str(port))
    else:
        found = [p["containerPort"] for p in container.get("ports") or [] if p.get("name") == port]
        if not found:
            raise ValueError(f"couldn't find port: {port!r} in container {container['name']}")
        number = int(found[0])
    if not 0 < number < 65536:
        raise ValueError(f"invalid port number: {number}")
    return number
