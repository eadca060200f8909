"""Several nodes on one host: each a network namespace with an own address on a bridge that the host is on as well.

Comes in: instance, index, a subnet. Goes out: a pinned namespace under /run/netns (so `ip netns list` shows it) in
which an agent is started; to it, it looks like a machine with one network card. The host masquerades what leaves the
subnet. All blocking calls, of a few milliseconds; `links.cleanup` removes everything here by the instance's name.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass

from jota.net import firewall, names, netlink, sys
from jota.net.routes import sync_routes

log = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class NodeNamespace:
    """A simulated node, as seen from the host."""

    path: str
    """Pin of the network namespace; `setns` to it before starting the agent."""
    ip: str
    """The node's address (its InternalIP)."""
    gateway: str
    """The host's address on the bridge, where the server is reached."""
    link: str
    """Host side of the node's uplink."""


def node_address(subnet: str, index: int) -> str:
    """Address of node `index` (from 0). Raises ValueError when the subnet is too small. Pure."""
    network = ipaddress.IPv4Network(subnet)
    if index < 0 or index + 2 >= network.num_addresses - 1:
        raise ValueError(f"subnet {subnet} has no address for node {index}")
    return str(network[index + 2])


def host_address(subnet: str) -> str:
    """The host's own address on the bridge: the subnet's first. Pure."""
    return str(ipaddress.IPv4Network(subnet)[1])


def make_node_namespace(
    instance: str, index: int, *, subnet: str, cluster_cidrs: tuple[str, ...] = (), mtu: int = 1500
) -> NodeNamespace:
    """Make (or find) node `index` of the instance, and the bridge. Idempotent. Raises sys.NetworkFault, sys.NftError.

    `subnet`: the nodes' own, e.g. "10.89.3.0/24", not used by anything else on the host (see `networks_in_use`).
    `cluster_cidrs`: pods and services; traffic from nodes to these is not masqueraded by the host.
    """
    node = NodeNamespace(
        path=os.path.join(sys.NAMESPACES, names.node_pin(instance, index)),
        ip=node_address(subnet, index),
        gateway=host_address(subnet),
        link=names.uplink(instance, index),
    )
    alias = names.alias(instance, f"node {index} {node.ip}")
    with sys.Netlink() as route:
        master = _ensure_bridge(route, instance, subnet, cluster_cidrs, mtu)
        standing = route.link(node.link)
        if standing is not None and standing.alias == alias and os.path.exists(node.path):
            return node
        _discard(route, node, standing)
        sys.share_namespace_directory()
        sys.make_namespace(node.path)
        host = sys.open_namespace()
        try:
            prefix = ipaddress.IPv4Network(subnet).prefixlen
            sys.in_namespace(node.path, lambda: _configure_node(node, host, prefix, mtu))
        finally:
            os.close(host)
        made = route.link(node.link)
        if made is None:
            raise sys.NetworkFault(errno.ENODEV, f"find {node.link}, the uplink of node {index}")
        # The alias comes last: a link without it was left by a run that was cut short.
        route.run([netlink.link_up(made.index, master=master, group=names.link_group(instance))])
        route.run([netlink.link_up(made.index, alias=alias)])
    return node


def remove_node_namespace(instance: str, index: int) -> None:
    """Remove one node's link and pin; the bridge stays. Idempotent."""
    with sys.Netlink() as route:
        link = route.link(names.uplink(instance, index))
        if link is not None:
            route.run([netlink.delete_link(link.index, errno.ENODEV)])
    sys.remove_namespace(os.path.join(sys.NAMESPACES, names.node_pin(instance, index)))


def host_routes(instance: str, routes: Mapping[str, str]) -> int:
    """Keep exactly these routes of the instance in the host's namespace: pod CIDR -> node address, and the service CIDR
    -> one node's, so that pods and services answer from the host too. Returns how many changed."""
    return sync_routes(instance, routes)


def networks_in_use() -> list[str]:
    """CIDRs that this namespace has a route to (without the default route): a new subnet must not overlap them."""
    with sys.Netlink() as route:
        found = {r.destination for r in route.routes() if r.table == netlink.RT_TABLE_MAIN}
    return sorted(found - {"0.0.0.0/0"})


def _ensure_bridge(route: sys.Netlink, instance: str, subnet: str, cluster_cidrs: tuple[str, ...], mtu: int) -> int:
    """Bridge, the host's address on it, forwarding and masquerading; returns the bridge's index."""
    name, alias = names.bridge(instance), names.alias(instance, f"nodes {subnet}")
    link = route.link(name)
    if link is not None and link.alias == alias:
        return link.index
    address = host_address(subnet)
    if link is None:
        # A fixed MAC address: a bridge would otherwise take over its ports', and neighbours' ARP entries go stale.
        mac = b"\x0a\x58" + ipaddress.IPv4Address(address).packed
        route.run([netlink.simple_link(name, "bridge", mac=mac, mtu=mtu)])
        link = route.link(name)
        assert link is not None
    sys.ensure_sysctl("net/ipv4/ip_forward", "1")
    nft = sys.Nft()
    try:
        nft.run(table_text(instance, subnet, cluster_cidrs))
        for note in firewall.open_up(nft, instance):
            log.warning("network: %s", note)
    finally:
        nft.close()
    stale = [a for a in route.addresses() if a.link == link.index and a.address != address]
    route.run(
        [
            *(netlink.delete_address(a.link, a.address, a.prefix, errno.EADDRNOTAVAIL) for a in stale),
            netlink.add_address(link.index, address, ipaddress.IPv4Network(subnet).prefixlen),
            netlink.link_up(link.index, group=names.link_group(instance)),
        ]
    )
    route.run([netlink.link_up(link.index, alias=alias)])
    return link.index


def table_text(instance: str, subnet: str, cluster_cidrs: tuple[str, ...]) -> str:
    """The host's table for simulated nodes: what leaves the cluster gets the host's address. Pure."""
    name = names.table(instance, "nodes")
    return f"""\
table ip {name} {{ }}
delete table ip {name}
table ip {name} {{
  set cluster {{ type ipv4_addr; flags interval; auto-merge; elements = {{ {", ".join((subnet, *cluster_cidrs))} }}; }}
  chain postrouting {{
    type nat hook postrouting priority 100; policy accept;
    ip saddr {subnet} ip daddr != @cluster ip daddr != 224.0.0.0/4 masquerade fully-random
  }}
}}
"""


def _discard(route: sys.Netlink, node: NodeNamespace, standing: netlink.Link | None) -> None:
    if standing is not None:
        route.run([netlink.delete_link(standing.index, errno.ENODEV)])
    sys.remove_namespace(node.path)


def _configure_node(node: NodeNamespace, host_namespace: int, prefix: int, mtu: int) -> None:
    """Everything on the node's side. Runs inside its namespace."""
    with sys.Netlink() as route:
        loopback = route.link("lo")
        veth = netlink.veth("eth0", node.link, peer_namespace=host_namespace, mtu=mtu)
        route.run([netlink.link_up(loopback.index if loopback else 1), veth])
        link = route.link("eth0")
        if link is None:
            raise sys.NetworkFault(errno.ENODEV, "find eth0 in the node")
        route.run(
            [
                netlink.add_address(link.index, node.ip, prefix),
                netlink.link_up(link.index),
                netlink.replace_route("0.0.0.0/0", link=link.index, gateway=node.gateway),
            ]
        )
