"""Routes to other nodes' pods (host-gw: the gateway is the other node's address on a shared link).

Comes in: destination -> gateway, all that should stand. Goes out: the kernel's main table has exactly these of ours.
Ours are told apart by rtm_protocol and by a metric derived from the instance's name, so other routes, and other
instances' routes, are never touched.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping

from jota.net import names, netlink, sys
from jota.net.netlink import Request, Route


def plan(wanted: Mapping[str, str], standing: list[Route], priority: int) -> list[Request]:
    """Requests that turn `standing` into `wanted` (CIDR -> gateway). Pure."""
    ours = {r.destination: r for r in standing if r.protocol == netlink.PROTOCOL and r.priority == priority}
    requests = [
        netlink.delete_route(destination, errno.ESRCH, link=route.link, priority=priority)
        for destination, route in ours.items()
        if destination not in wanted
    ]
    requests += [
        netlink.replace_route(destination, gateway=gateway, priority=priority)
        for destination, gateway in wanted.items()
        if destination not in ours or ours[destination].gateway != gateway
    ]
    return requests


def plan_ranges(
    wanted: Iterable[str], standing: list[Route], link: int, priority: int, source: str = ""
) -> list[Request]:
    """Requests after which of ours exactly these destinations lead over `link`, from the address `source`. Pure."""
    want = list(dict.fromkeys(wanted))
    ours = {r.destination for r in standing if (r.protocol, r.priority, r.link) == (netlink.PROTOCOL, priority, link)}
    gone = [netlink.delete_route(d, errno.ESRCH, link=link, priority=priority) for d in sorted(ours - {*want})]
    return gone + [netlink.replace_route(d, link=link, source=source, priority=priority) for d in want if d not in ours]


def sync_routes(instance: str, wanted: Mapping[str, str]) -> int:
    """Make the routes of this namespace those; returns how many changed. Blocks for well under a millisecond.

    Raises sys.NetworkFault when a gateway is not on a link of this node (ENETUNREACH); the other routes are made.
    """
    with sys.Netlink() as route:
        requests = plan(wanted, route.routes(), names.route_priority(instance))
        route.run(requests)
        return len(requests)
