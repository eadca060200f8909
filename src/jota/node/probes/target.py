"""Where a probe or hook connects to: named ports resolved against the container's list."""

from __future__ import annotations

from jota.node.model import Object


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
