"""The fixed part of the service table: maps, hooks and the order in which they look. Pure text; data is in services.py.

Numbers that others on the machine may care about:
- connection mark bit 14 (0x4000): "give this connection the node's address when it leaves" (node ports, external
  addresses, hosts outside the cluster that use a service address). Set on new connections only. Several instances on
  one host share the bit without harm: it means the same to each.
- packet marks 0x4a6f0000-0x4a6fffff: from the nat hooks to the next chain, on the first packet of a connection to a
  service, never longer (that packet loses a mark it had).
- what leads over the service link (links.py: routes to all ranges of service addresses, also added ones) and was not
  translated is an address without a service: it is refused, and who comes from outside to one with a service is marked.
- nat hooks at priority -100 and 100, filter hooks at -99 and 0, all with policy accept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

VIP = "meta l4proto . ip daddr . th dport"
PORT = "meta l4proto . th dport"
NODE_PORT = "fib daddr type local ip daddr != 127.0.0.0/8"


def table_body(pod_cidrs: Sequence[str], service_cidr: str, link: str) -> str:
    """Maps and chains. `pod_cidrs`: where sources count as pods; `service_cidr`: addresses nobody else may answer; `link`:
    the service link, over which added ranges lead."""
    pods = "{ " + ", ".join(pod_cidrs) + " }"
    return f"""\
  map services {{ type inet_proto . ipv4_addr . inet_service : verdict; }}
  map services-inside {{ type inet_proto . ipv4_addr . inet_service : verdict; }}
  map node-ports {{ type inet_proto . inet_service : verdict; }}
  map node-ports-inside {{ type inet_proto . inet_service : verdict; }}
  map endpoints {{ type inet_proto . ipv4_addr . inet_service . mark : ipv4_addr . inet_service; }}
  map port-endpoints {{ type inet_proto . inet_service . mark : ipv4_addr . inet_service; }}
  map ids {{ type inet_proto . ipv4_addr . inet_service . mark : mark; }}
  map port-ids {{ type inet_proto . inet_service . mark : mark; }}
  map sticky {{ type inet_proto . ipv4_addr . inet_service . mark : ipv4_addr . inet_service; }}
  map port-sticky {{ type inet_proto . inet_service . mark : ipv4_addr . inet_service; }}
  map affinity {{ type ipv4_addr . inet_proto . ipv4_addr . inet_service : mark; flags dynamic,timeout; size 262144; }}
  map port-affinity {{ type ipv4_addr . inet_proto . inet_service : mark; flags dynamic,timeout; size 262144; }}
  map refuse {{ type inet_proto . ipv4_addr . inet_service : verdict; }}
  map refuse-ports {{ type inet_proto . inet_service : verdict; }}
  set hairpin {{ type ipv4_addr . ipv4_addr; }}
  chain reject-it {{
    meta l4proto tcp reject with tcp reset
    reject
  }}
  chain from-pod {{
    {VIP} vmap @services-inside
    {NODE_PORT} {PORT} vmap @node-ports-inside
  }}
  chain from-node {{
    ct mark set ct mark or 0x4000
    {VIP} vmap @services-inside
    {NODE_PORT} {PORT} vmap @node-ports-inside
    ct mark set ct mark and 0xffffbfff
  }}
  chain find {{
    ip saddr {pods} jump from-pod
    fib saddr type local jump from-node
    {VIP} vmap @services
    {NODE_PORT} {PORT} vmap @node-ports
  }}
  chain prerouting {{
    type nat hook prerouting priority -100; policy accept;
    ip daddr {service_cidr} ip saddr != {pods} ct mark set ct mark or 0x4000
    ip saddr != {pods} fib daddr oifname "{link}" ct mark set ct mark or 0x4000
    jump find
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    jump find
  }}
  chain postrouting {{
    type nat hook postrouting priority 100; policy accept;
    oifname "lo" return
    ct status dnat ct mark and 0x4000 == 0x4000 masquerade fully-random
    ct status dnat ip saddr . ip daddr @hairpin masquerade
  }}
  chain unmark-in {{
    type filter hook prerouting priority -99; policy accept;
    meta mark and 0xffff0000 == 0x4a6f0000 meta mark set 0
  }}
  chain unmark-out {{
    type filter hook output priority -99; policy accept;
    meta mark and 0xffff0000 == 0x4a6f0000 meta mark set 0
  }}
  chain refuse-node-port {{
    {NODE_PORT} {PORT} vmap @refuse-ports
  }}
  chain refuse-address {{
    fib daddr type local return comment "this node answers it itself, as cluster DNS"
    {VIP} vmap @refuse
    ip daddr {service_cidr} goto reject-it
    ct status dnat return comment "in output, oifname is still that of before"
    oifname "{link}" goto reject-it
  }}
  chain filter-input {{
    type filter hook input priority 0; policy accept;
    ct state new jump refuse-node-port
  }}
  chain filter-forward {{
    type filter hook forward priority 0; policy accept;
    ct state invalid ip saddr {pods} drop comment "it would leave untranslated, and the peer would reset the connection"
    ct state new jump refuse-address
  }}
  chain filter-output {{
    type filter hook output priority 0; policy accept;
    ct state new jump refuse-node-port
    ct state new jump refuse-address
  }}
"""


def schema_chain(body: str) -> str:
    """Name of an empty chain that says which fixed part a standing table has."""
    return "schema-" + hashlib.sha256(body.encode()).hexdigest()[:12]


def create_commands(table: str, body: str) -> str:
    """Make the table anew, in the same transaction as whatever follows."""
    return f"table ip {table} {{ }}\ndelete table ip {table}\ntable ip {table} {{\n  chain {schema_chain(body)} {{ }}\n{body}}}"
