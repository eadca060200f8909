"""The pod network of one node: every pod has an eth0 with a /32 and the node routes to it; there is no bridge.

Comes in: pinned network namespaces of sandboxes. Goes out: addresses. A pod sees one gateway, 169.254.1.1, whose MAC
address is fixed and entered as a permanent neighbour, so neither side ever asks by ARP. On the node a /32 route leads
to the pod's veth. One nftables table holds what belongs to pods: masquerading of traffic that leaves the cluster, and
host ports. The kernel keeps the truth (a link's alias names its pod), a small file the rest (host ports, where the
round robin stands); a new agent continues after a kill -9. Services are in nft_proxy.py, simulated nodes in nodes.py.

The agent may run in the machine's own network namespace or in a simulated node's: it only ever looks at its own.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from jota.aio import files
from jota.net import firewall, names, netlink, sys
from jota.net.ipam import Allocator
from jota.net.protocol import HostPort
from jota.net.routes import plan_ranges

T = TypeVar("T")
log = logging.getLogger(__name__)

GATEWAY = "169.254.1.1"
HOST_MAC = bytes.fromhex("eeeeeeeeeeee")


def table_text(instance: str, pod_cidr: str, cluster: Sequence[str]) -> str:
    """The table of the pod network, whole: replaces one that stands, in one transaction. Pure."""
    name = names.table(instance)
    pods = f"{names.link_prefix(instance)}p*"
    return f"""\
table ip {name} {{ }}
delete table ip {name}
table ip {name} {{
  set cluster {{ type ipv4_addr; flags interval; auto-merge; elements = {{ {", ".join(cluster)} }}; }}
  set hairpin {{ type ipv4_addr . ipv4_addr; }}
  map hostports {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
  map hostports-on {{ type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service; }}
  chain hostport {{
    dnat to meta l4proto . ip daddr . th dport map @hostports-on
    fib daddr type local dnat to meta l4proto . th dport map @hostports
  }}
  chain prerouting {{ type nat hook prerouting priority -100; policy accept; jump hostport; }}
  chain output {{ type nat hook output priority -100; policy accept; jump hostport; }}
  chain postrouting {{
    type nat hook postrouting priority 100; policy accept;
    ct status dnat ip saddr 127.0.0.0/8 oifname "{pods}" masquerade
    ct status dnat ip saddr . ip daddr @hairpin masquerade
    ip saddr {pod_cidr} ip daddr != @cluster ip daddr != 224.0.0.0/4 masquerade fully-random
  }}
}}
"""


def host_port_commands(verb: str, instance: str, address: str, ports: Sequence[HostPort]) -> str:
    """nft commands that add or delete ("add" | "delete") the elements of one pod's host ports. Pure."""
    name = names.table(instance)
    lines = [f"{verb} element ip {name} hairpin {{ {address} . {address} }}"] if ports else []
    for port in ports:
        target = f"{address} . {port.container_port}"
        protocol = port.protocol.lower()
        if port.host_ip in ("", "0.0.0.0"):
            lines.append(f"{verb} element ip {name} hostports {{ {protocol} . {port.host_port} : {target} }}")
        else:
            key = f"{protocol} . {port.host_ip} . {port.host_port}"
            lines.append(f"{verb} element ip {name} hostports-on {{ {key} : {target} }}")
    return "\n".join(lines)


class RoutedPodNetwork:
    """PodNetwork on routed veths. See protocol.PodNetwork for the meaning of each method."""

    def __init__(
        self,
        *,
        instance: str,
        node: str,
        pod_cidr: str,
        state_dir: str,
        node_ip: str,
        cluster_cidr: str = "",
        service_cidr: str = "",
        local_addresses: Sequence[str] = (),
    ) -> None:
        """`cluster_cidr`: all nodes' pods; traffic to it and to `service_cidr` keeps its source address.
        `local_addresses`: service addresses that this node answers itself (cluster DNS), put on the service link."""
        self._instance, self._node, self._pod_cidr, self._node_ip = instance, node, pod_cidr, node_ip
        self._service_cidr = service_cidr
        self._local_addresses = tuple(local_addresses)
        self._cluster = tuple(dict.fromkeys(c for c in (pod_cidr, cluster_cidr, service_cidr) if c))
        self._state = Path(state_dir) / "network.json"
        self._allocator = Allocator(pod_cidr)
        self._ports: dict[str, list[HostPort]] = {}
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="jota-net")
        self._kernel: _Kernel | None = None
        self._started = False
        self.notes: list[str] = []
        """What was changed on the machine, or is doubtful there, in words: for events and `jota doctor`."""

    async def start(self) -> None:
        saved = _load(self._state)
        self._allocator = Allocator(self._pod_cidr, saved.get("cursor", 0))
        standing = await self._do(self._prepare)
        for note in self.notes:
            log.warning("network: %s", note)
        leases = {uid: lease["ip"] for uid, lease in saved.get("leases", {}).items()}
        for uid, address in {**leases, **standing}.items():
            if not self._allocator.restore(uid, address):
                log.warning("pod %s: address %s does not fit into %s any more", uid, address, self._pod_cidr)
        for uid, lease in saved.get("leases", {}).items():
            if self._allocator.address(uid) and lease.get("ports"):
                self._ports[uid] = [HostPort(**port) for port in lease["ports"]]
        await self._do(self._load_table)
        self._started = True

    async def attach(self, pod_uid: str, netns: str, host_ports: list[HostPort] | None = None) -> str:
        """Raises sys.NetworkFault, sys.NftError, ipam.Exhausted."""
        fresh = self._allocator.address(pod_uid) is None
        address = self._allocator.take(pod_uid)
        try:
            await self._do(lambda: self._plumb(pod_uid, netns, address))
            await self._set_ports(pod_uid, address, list(host_ports or ()), netns)
        except BaseException:
            if fresh:
                # the next pod may get this address: nobody's host ports may lead to it
                await self._set_ports(pod_uid, address, [], "")
                self._allocator.release(pod_uid)
            raise
        await self._save()
        return address

    async def detach(self, pod_uid: str) -> None:
        address = self._allocator.address(pod_uid)
        if address is None:
            return
        await self._set_ports(pod_uid, address, [], "")
        self._allocator.release(pod_uid)
        await self._do(lambda: self._open().route.run([netlink.delete_route(f"{address}/32", errno.ESRCH)]))
        await self._save()

    async def route_services(self, cidrs: Sequence[str]) -> int:
        """Let these ranges of service addresses lead over the service link, beside the first one, and no others; returns
        how many routes changed. Raises sys.NetworkFault."""
        return await self._do(lambda: self._route_services(cidrs))

    def addresses(self) -> dict[str, str]:
        return self._allocator.leases

    async def close(self) -> None:
        kernel, self._kernel = self._kernel, None
        if kernel is not None:
            await self._do(kernel.close)
        self._worker.shutdown(wait=True)

    async def shutdown(self) -> None:
        await self._do(lambda: remove_node_parts(self._instance))
        self._state.unlink(missing_ok=True)
        await self.close()

    # --- on the worker thread

    async def _do(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, function)

    def _open(self) -> _Kernel:
        if self._kernel is None:
            self._kernel = _Kernel()
        return self._kernel

    def _prepare(self) -> dict[str, str]:
        """Forwarding, the service link; returns the leases that standing links prove (pod uid -> address)."""
        if sys.ensure_sysctl("net/ipv4/ip_forward", "1"):
            self.notes.append("net.ipv4.ip_forward was 0 and is 1 now (pods need it; it is left on)")
        kernel = self._open()
        self.notes += firewall.open_up(kernel.nft, self._instance)
        kernel.mtu = _uplink_mtu(kernel.route, self._node_ip)
        if self._service_cidr or self._local_addresses:
            self._make_service_link(kernel)
        return _standing_leases(kernel.route, self._instance)

    def _load_table(self) -> None:
        text = table_text(self._instance, self._pod_cidr, self._cluster)
        for uid, ports in self._ports.items():
            text += host_port_commands("add", self._instance, self._allocator.leases[uid], ports) + "\n"
        self._open().nft.run(text)

    def _make_service_link(self, kernel: _Kernel) -> None:
        """A link of no peer that carries service addresses; "dummy" where the kernel has it, else an empty bridge.

        The route over it covers the service CIDR: without one the node could not even begin to connect to a service
        (routing comes before the output hook), and a pod's packet to an unused address would leave by the uplink.
        """
        name = names.service_link(self._instance)
        link = kernel.route.link(name)
        if link is None:
            try:
                kernel.route.run([netlink.simple_link(name, "dummy")])
            except sys.NetworkFault as fault:
                if fault.errno != errno.EOPNOTSUPP:
                    raise
                kernel.route.run([netlink.simple_link(name, "bridge")])
            link = kernel.route.link(name)
            assert link is not None
        stale = [a for a in kernel.route.addresses() if a.link == link.index and a.address not in self._local_addresses]
        batch = [netlink.delete_address(a.link, a.address, a.prefix, errno.EADDRNOTAVAIL) for a in stale]
        alias = names.alias(self._instance, "services")
        batch.append(netlink.link_up(link.index, alias=alias, group=names.link_group(self._instance)))
        # Scope "host": masquerading never picks such an address as a source.
        batch += [netlink.add_address(link.index, a, 32, scope=netlink.SCOPE_HOST) for a in self._local_addresses]
        if self._service_cidr:
            batch.append(netlink.replace_route(self._service_cidr, link=link.index, source=self._node_ip))
        kernel.route.run(batch)

    def _route_services(self, cidrs: Sequence[str]) -> int:
        route, name = self._open().route, names.service_link(self._instance)
        link = route.link(name)
        if link is None:
            raise sys.NetworkFault(errno.ENODEV, f"find {name}, the link of service addresses")
        priority = names.range_priority(self._instance)
        requests = plan_ranges(cidrs, route.routes(), link.index, priority, self._node_ip)
        route.run(requests)
        return len(requests)

    def _plumb(self, pod_uid: str, netns: str, address: str) -> None:
        kernel = self._open()
        name = names.pod_link(self._instance, pod_uid, sys.namespace_id(netns))
        alias = names.alias(self._instance, f"pod {pod_uid}")
        link = kernel.route.link(name)
        if link is not None:
            if link.alias == alias:
                return
            # Its alias is the last thing a link gets: this one is left from an attach that was cut short.
            kernel.route.run([netlink.delete_link(link.index, errno.ENODEV)])
        mac = b"\x0a\x58" + bytes(int(part) for part in address.split("."))
        sys.in_namespace(netns, lambda: _configure_pod(name, address, mac, kernel.namespace, kernel.mtu))
        link = kernel.route.link(name)
        if link is None:
            raise sys.NetworkFault(errno.ENODEV, f"find {name}, the host side of the pod's veth")
        kernel.route.run(
            [
                netlink.link_up(link.index),
                netlink.permanent_neighbour(link.index, address, mac),
                netlink.replace_route(f"{address}/32", link=link.index, source=self._node_ip),
                netlink.link_up(link.index, alias=alias, group=names.link_group(self._instance)),
            ]
        )

    async def _set_ports(self, pod_uid: str, address: str, ports: list[HostPort], netns: str) -> None:
        standing = self._ports.get(pod_uid, [])
        if ports == standing:
            return
        commands = [
            host_port_commands("delete", self._instance, address, standing),
            host_port_commands("add", self._instance, address, ports),
        ]
        await self._do(lambda: self._open().nft.run("\n".join(commands)))
        if ports:
            self._ports[pod_uid] = ports
            name = names.pod_link(self._instance, pod_uid, sys.namespace_id(netns))
            # Lets 127.0.0.1:<hostPort> on the node reach the pod: the packet leaves with a loopback source.
            await self._do(lambda: sys.ensure_sysctl(f"net/ipv4/conf/{name}/route_localnet", "1"))
        else:
            self._ports.pop(pod_uid, None)

    async def _save(self) -> None:
        leases = {
            uid: {"ip": address, "ports": [asdict(port) for port in self._ports.get(uid, ())]}
            for uid, address in self._allocator.leases.items()
        }
        state = {"cursor": self._allocator.cursor, "leases": leases}
        await self._do(lambda: _store(self._state, state))


class _Kernel:
    """What the worker thread holds open: sockets and a handle of the node's own network namespace."""

    def __init__(self) -> None:
        self.route = sys.Netlink()
        self.nft = sys.Nft()
        self.namespace = sys.open_namespace()
        self.mtu = 1500

    def close(self) -> None:
        self.route.close()
        self.nft.close()
        os.close(self.namespace)


def _configure_pod(host_name: str, address: str, mac: bytes, host_namespace: int, mtu: int) -> None:
    """Everything on the pod's side. Runs inside its namespace."""
    with sys.Netlink() as route:
        loopback = route.link("lo")
        veth = netlink.veth("eth0", host_name, peer_namespace=host_namespace, mac=mac, peer_mac=HOST_MAC, mtu=mtu)
        route.run([netlink.link_up(loopback.index if loopback else 1), veth])
        link = route.link("eth0")
        if link is None:
            raise sys.NetworkFault(errno.ENODEV, "find eth0 in the pod")
        route.run(
            [
                netlink.add_address(link.index, address, 32),
                netlink.link_up(link.index),
                netlink.permanent_neighbour(link.index, GATEWAY, HOST_MAC),
                netlink.replace_route(f"{GATEWAY}/32", link=link.index),
                netlink.replace_route("0.0.0.0/0", link=link.index, gateway=GATEWAY, source=address),
            ]
        )


def _standing_leases(route: sys.Netlink, instance: str) -> dict[str, str]:
    prefix = names.alias(instance, "pod ")
    pods = {link.index: link.alias[len(prefix) :] for link in route.links() if link.alias.startswith(prefix)}
    found: dict[str, str] = {}
    for entry in route.routes():
        if entry.link in pods and entry.protocol == netlink.PROTOCOL and entry.destination.endswith("/32"):
            found[pods[entry.link]] = entry.destination.removesuffix("/32")
    return found


def _uplink_mtu(route: sys.Netlink, node_ip: str) -> int:
    """MTU of the link that has the node's address; 1500 when no link has it."""
    holders = [a.link for a in route.addresses() if a.address == node_ip]
    mtus = [link.mtu for link in route.links() if link.index in holders and link.name != "lo"]
    return min(mtus, default=1500)


def _load(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError:
        log.warning("%s is damaged; addresses are recovered from the links that stand", path)
        return {}
    return state


def _store(path: Path, state: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, json.dumps(state).encode())


def remove_node_parts(instance: str) -> list[str]:
    """Links, routes and tables of the instance in the calling thread's namespace; returns their names. Idempotent."""
    removed: list[str] = []
    with sys.Netlink() as route:
        prefix = names.link_prefix(instance)
        ours = [link for link in route.links() if link.name.startswith(prefix)]
        if ours:
            route.run([netlink.delete_group(names.link_group(instance), errno.ENODEV, errno.EOPNOTSUPP)])
            route.run(netlink.delete_link(link.index, errno.ENODEV) for link in ours)
        removed += [link.name for link in ours]
        priority = names.route_priority(instance)
        stale = [r for r in route.routes() if r.protocol == netlink.PROTOCOL and r.priority == priority]
        route.run(netlink.delete_route(r.destination, errno.ESRCH, link=r.link, priority=priority) for r in stale)
        removed += [r.destination for r in stale]
    nft = sys.Nft()
    try:
        tables = [name for name in nft.tables() if names.owns_table(instance, name)]
        if tables:
            nft.run("\n".join(f"delete table ip {name}" for name in tables))
        removed += tables
        if firewall.close_up(nft, instance):
            removed.append("rules in ip filter FORWARD")
    finally:
        nft.close()
    return removed


def cleanup(instance: str) -> list[str]:
    """Everything of an instance on this host, found by its name alone (`jota down` after a kill -9): simulated nodes'
    namespaces, links, routes, tables. Returns what was removed. Idempotent; needs no state."""
    removed: list[str] = []
    pins = Path(sys.NAMESPACES)
    for pin in sorted(pins.iterdir()) if pins.is_dir() else ():
        if names.owns_pin(instance, pin.name):
            sys.remove_namespace(str(pin))
            removed.append(str(pin))
    return removed + remove_node_parts(instance)
