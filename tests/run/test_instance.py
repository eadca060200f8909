"""Ports, ranges and the registry: many clusters side by side, and files that are damaged or belong to others."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from jota.run import instance as module
from jota.run.instance import Refused, Registry, free_port, load, write_file
from jota.run.reservation import Reservations


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "home")


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Reservations]:
    """Of a scope of its own: other clusters may be made on this host meanwhile."""
    with Reservations(str(tmp_path)[-40:]) as found:
        yield found


def test_instances_share_no_port_and_no_range(registry: Registry, held: Reservations) -> None:
    made = [registry.create(f"c{n}", None, n % 3, held) for n in range(6)]
    assert len({i.index for i in made}) == 6
    ports = [i.api_port for i in made] + [n.kubelet_port for i in made for n in i.nodes if not n.ip]
    assert len(set(ports)) == len(ports)
    ranges = [IPv4Network(r) for i in made for r in (i.pod_cidr, i.service_cidr, i.node_cidr)]
    assert not any(a.overlaps(b) for k, a in enumerate(ranges) for b in ranges[k + 1 :])


def test_what_is_saved_is_loaded(registry: Registry, held: Reservations) -> None:
    made = registry.create("c", None, 2, held)
    assert load(made.root) == made
    assert registry.find("c") == made
    assert registry.create("c", None, 5, held) == made, "an existing instance keeps its plan"


def test_a_freed_index_is_taken_again(registry: Registry, held: Reservations, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_host_networks", list)  # other clusters of this host may hold index 0
    registry.create("a", None, 0, held)
    registry.create("b", None, 0, held)
    registry.forget("a")
    assert registry.create("c", None, 0, held).index == 0


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a" * 33, "a/b", "..", "a.b"])
def test_names_that_are_refused(registry: Registry, held: Reservations, name: str) -> None:
    with pytest.raises(Refused, match="not a cluster name"):
        registry.create(name, None, 0, held)
    assert registry.names() == []


def test_a_directory_of_another_cluster_is_refused(registry: Registry, held: Reservations, tmp_path: Path) -> None:
    registry.create("a", str(tmp_path / "d"), 0, held)
    with pytest.raises(Refused, match='belongs to the cluster "a"'):
        registry.create("b", str(tmp_path / "d"), 0, held)


def test_an_unknown_name_lists_the_known(registry: Registry, held: Reservations) -> None:
    registry.create("here", None, 0, held)
    with pytest.raises(Refused, match="known: here"):
        registry.get("gone")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"nodes": 1}', '{"nodes": [{"color": 1}]}'])
def test_a_damaged_file_is_named(registry: Registry, held: Reservations, text: str) -> None:
    made = registry.create("a", None, 0, held)
    (made.root / "instance.json").write_text(text)
    with pytest.raises(Refused, match=r"instance\.json is damaged"):
        registry.find("a")
    assert registry.create("b", None, 0, held).name == "b", "one damaged instance does not keep others from being made"


def test_an_abandoned_entry_can_be_forgotten(registry: Registry, held: Reservations) -> None:
    made = registry.create("a", None, 0, held)
    (made.root / "instance.json").unlink()
    assert registry.abandoned("a")
    assert not registry.abandoned("nobody")


def test_routes_of_the_host_are_left_alone(
    registry: Registry, held: Reservations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_host_networks", lambda: [IPv4Network("10.64.0.0/15"), IPv4Network("10.130.7.0/24")])
    made = registry.create("a", None, 0, held)
    assert made.index == 3


def test_a_port_that_is_taken_is_passed_over(held: Reservations) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port, set(), held) > port
        assert free_port(port, {port + 1}, held) > port + 1


def test_users_who_choose_at_one_moment_choose_different_ports(tmp_path: Path) -> None:
    """Each has a registry of his own, and none listens before all have chosen."""
    users, chosen = 8, threading.Barrier(8)
    made: list[tuple[int, int, int]] = []

    def user(n: int) -> None:
        with Reservations(str(tmp_path)[-40:]) as mine:
            instance = Registry(tmp_path / f"home{n}").create("c", None, 1, mine)
            made.append((instance.api_port, instance.nodes[0].kubelet_port, instance.index))
            chosen.wait(60)

    threads = [threading.Thread(target=user, args=(n,)) for n in range(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == users
    for column in zip(*made, strict=True):
        assert len(set(column)) == users, column


def test_what_was_reserved_in_vain_is_free_again(tmp_path: Path) -> None:
    scope = str(tmp_path)[-40:]
    with Reservations(scope) as first, Reservations(scope) as second:
        assert first.take("port 1")
        assert first.take("port 1"), "one's own is no obstacle"
        assert not second.take("port 1")
        assert second.take("port 2")
        first.leave("port 1")
        assert second.take("port 1")
    with Reservations(scope) as third:
        assert third.take("port 1")


def test_files_are_private_from_their_first_moment_and_replaced_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "sub" / "file"
    write_file(file, b"old", 0o600)
    assert file.stat().st_mode & 0o777 == 0o600

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="space"):
        write_file(file, b"new", 0o600)
    assert file.read_bytes() == b"old"
    assert [p.name for p in file.parent.iterdir()] == ["file"]


def test_unknown_fields_of_a_newer_version_are_ignored(registry: Registry, held: Reservations) -> None:
    made = registry.create("a", None, 1, held)
    raw = json.loads((made.root / "instance.json").read_text())
    (made.root / "instance.json").write_text(json.dumps({**raw, "color": "blue"}))
    assert load(made.root) == made
