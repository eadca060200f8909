"""Living with other firewalls: Docker's FORWARD policy is opened for our links alone, and closed again."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from jota.net import firewall, names, sys
from jota.net.links import RoutedPodNetwork, remove_node_parts

DOCKER = """
table ip filter {
  chain FORWARD {
    type filter hook forward priority 0; policy drop;
    counter drop comment "someone's"
  }
}
"""


def chain(**changes: str) -> dict[str, dict[str, str]]:
    base = {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}
    return {"chain": {**base, **changes}}


def test_only_base_chains_that_drop_what_is_forwarded_count() -> None:
    objects: list[dict[str, dict[str, str]]] = [
        {"metainfo": {}},
        chain(),
        chain(policy="accept"),
        chain(hook="input"),
        chain(family="ip6"),
        chain(family="inet", table="fw", name="fwd"),
        {"chain": {"family": "ip", "table": "filter", "name": "plain"}},
    ]
    assert firewall.droppers(objects) == [("ip", "filter", "FORWARD"), ("inet", "fw", "fwd")]


@pytest.mark.kernel
def test_pods_reach_each_other_past_a_dropping_forward_chain(lab, tmp_path: Path) -> None:
    node, one, two = lab.node(), lab.namespace("one"), lab.namespace("two")
    lab.serve(one, 80, "one")
    sys.in_namespace(node, lambda: sys.Nft().run(DOCKER))

    async def story() -> tuple[str, str]:
        for _ in range(2):
            net = RoutedPodNetwork(
                instance="jtest", node="n", pod_cidr="10.244.1.0/24", state_dir=str(tmp_path), node_ip="10.99.0.1"
            )
            await net.start()
            addresses = await net.attach("u1", one), await net.attach("u2", two)
            await net.close()
        return addresses

    first, second = lab.run(node, story)
    assert lab.ask(two, first, 80) == f"one {second}"

    def rules() -> str:
        return subprocess.run(
            ["nft", "list", "table", "ip", "filter"], capture_output=True, text=True, check=True
        ).stdout

    assert sys.in_namespace(node, rules).count(names.table("jtest")) == 2
    sys.in_namespace(node, lambda: remove_node_parts("jtest"))
    left = sys.in_namespace(node, rules)
    assert names.table("jtest") not in left
    assert "someone's" in left


@pytest.mark.kernel
def test_a_dropping_chain_of_another_table_is_reported_and_left_alone(lab) -> None:
    node = lab.node()

    def look() -> tuple[list[str], str]:
        nft = sys.Nft()
        nft.run("table inet fw {\n chain guard {\n type filter hook forward priority 0; policy drop\n}\n}")
        before = nft.run("list ruleset")
        notes = firewall.open_up(nft, "jtest")
        assert nft.run("list ruleset") == before
        return notes, before

    notes, _ = sys.in_namespace(node, look)
    assert len(notes) == 1
    assert "inet fw guard" in notes[0]
