"""Other firewalls on the machine that drop forwarded packets, of which Docker's is the usual one.

An accept in our own tables cannot overrule a drop in another's, so where iptables' FORWARD chain has policy "drop" two
rules are put into it that let our own links through (as the cluster networks of other distributions do); they carry the
instance's name as a comment, by which `close_up` finds them. Any other table that drops is only reported: it is somebody's
own, written on purpose.
"""

from __future__ import annotations

from typing import Any

from jota.net import names
from jota.net.sys import Nft, NftError


def droppers(objects: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """(family, table, chain) of base chains that drop what they do not know, from nft's JSON. Pure."""
    chains = [entry["chain"] for entry in objects if "chain" in entry]
    return [
        (c["family"], c["table"], c["name"])
        for c in chains
        if c.get("hook") == "forward" and c.get("policy") == "drop" and c["family"] in ("ip", "inet")
    ]


def openings(instance: str) -> str:
    """nft commands that let the instance's links through iptables' FORWARD chain. Pure."""
    links, comment = f"{names.link_prefix(instance)}*", names.table(instance)
    return "\n".join(
        f'insert rule ip filter FORWARD {side} "{links}" counter accept comment "{comment}"'
        for side in ("iifname", "oifname")
    )


def open_up(nft: Nft, instance: str) -> list[str]:
    """Let pods' traffic pass; returns what was done, or what stands in the way, in words. Idempotent."""
    try:
        found = droppers(nft.read("list chains"))
        notes = [
            f"nftables chain {family} {table} {chain} drops forwarded packets: let interfaces "
            f"{names.link_prefix(instance)}* through it, or pods reach nothing beyond their node"
            for family, table, chain in found
            if (family, table, chain) != ("ip", "filter", "FORWARD")
        ]
        if ("ip", "filter", "FORWARD") in found and not _handles(nft, instance):
            nft.run(openings(instance))
            notes.append("iptables' FORWARD chain drops by default: added rules that accept our own links")
        return notes
    except NftError as error:
        return [f"other firewalls could not be looked at: {error}"]


def close_up(nft: Nft, instance: str) -> int:
    """Take our rules out again; returns how many there were. Idempotent."""
    handles = _handles(nft, instance)
    if handles:
        nft.run("\n".join(f"delete rule ip filter FORWARD handle {handle}" for handle in handles))
    return len(handles)


def _handles(nft: Nft, instance: str) -> list[int]:
    if "filter" not in nft.tables("ip"):
        return []
    rules = [entry["rule"] for entry in nft.read("list table ip filter") if "rule" in entry]
    ours = names.table(instance)
    return [r["handle"] for r in rules if r["chain"] == "FORWARD" and r.get("comment") == ours]
