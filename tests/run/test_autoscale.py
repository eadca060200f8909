"""The autoscaler's place in an instance: its settings file, which instances it can scale, addresses of nodes that come and go."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from jota.autoscaler.provider import ProviderFault
from jota.autoscaler.settings import BadSettings
from jota.cli.common import scaling
from jota.client.client import Client
from jota.client.inprocess import InProcess
from jota.run.autoscale import SettingsFile
from jota.run.instance import Instance, NodePlan, Refused, Registry, load
from jota.run.localnodes import LocalProvider
from jota.run.reservation import Reservations
from jota.run.up import adopt_scaling
from jota.wire.message import Request, Response


def instance(tmp_path: Path, *ips: str, namespaced: bool = False) -> Instance:
    made = Instance(
        "a", str(tmp_path), 0, 6443, "10.64.0.0/16", "10.128.0.0/16", "10.192.0.0/24", namespaced=namespaced
    )
    made.nodes = [NodePlan(f"a-{n}", ip) for n, ip in enumerate(ips)]
    return made


def test_a_nodes_place_is_its_own_whoever_goes(tmp_path: Path) -> None:
    one = instance(tmp_path, "10.192.0.2", "10.192.0.3", "10.192.0.5")
    assert [one.place(n) for n in one.nodes] == [0, 1, 3]
    assert one.free_address() == "10.192.0.4"
    del one.nodes[0]
    assert [one.place(n) for n in one.nodes] == [1, 3]
    assert one.free_address() == "10.192.0.2"
    full = instance(tmp_path, *(f"10.192.0.{n}" for n in range(2, 255)))
    with pytest.raises(Refused, match="no address left"):
        full.free_address()


def test_an_instance_for_scaling_has_nodes_in_namespaces_even_when_there_is_one_or_none(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    for nodes in (0, 1):
        with Reservations(str(tmp_path)[-40:]) as held:
            made = registry.create(f"n{nodes}", None, nodes, held, namespaced=True)
        assert made.bridged
        assert all(n.ip for n in made.nodes)
        kept = load(made.root)
        assert kept is not None
        assert kept.bridged


def test_which_instances_can_be_scaled(tmp_path: Path) -> None:
    local, hollow = scaling(["local:1..3"]), scaling(["hollow:0..3"])
    with pytest.raises(Refused, match="lives in the host's own network"):
        adopt_scaling(instance(tmp_path, ""), local)
    with pytest.raises(Refused, match="no simulated nodes yet"):
        adopt_scaling(instance(tmp_path, ""), hollow)
    one = instance(tmp_path, "10.192.0.2")
    adopt_scaling(one, local)
    assert (one.autoscaled, one.namespaced) == (True, True)
    assert one.autoscaler_settings.stat().st_mode & 0o777 == 0o600, "it may name programs and their secrets"
    kept = load(tmp_path)
    assert kept is not None
    assert kept.autoscaled


def test_settings_are_words_or_a_file(tmp_path: Path) -> None:
    path = tmp_path / "scale.yaml"
    path.write_text("groups: [{provider: local, min: 2, max: 3}]\nscanInterval: 5s\n")
    assert scaling([str(path)]).local == 2
    assert scaling(["hollow:0..3"]).hollow
    for words, why in [
        (["nothing"], "give PROVIDER:MIN..MAX"),
        ([str(tmp_path / "gone.yaml")], "No such file"),
    ]:
        with pytest.raises(Refused, match=why):
            scaling(words)
    path.write_text("groups: [")
    with pytest.raises(Refused, match="is not YAML"):
        scaling([str(path)])
    path.write_text("- local")
    with pytest.raises(Refused, match="must be a mapping"):
        scaling([str(path)])


def test_the_settings_file_is_read_anew_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "autoscaler.yaml"
    read = SettingsFile(path)
    assert read() is None
    path.write_text("groups: [{provider: local, min: 1, max: 3}]")
    first = read()
    assert first is not None
    assert first.groups[0].max == 3
    assert read() is first
    new = tmp_path / "new"
    new.write_text("groups: nonsense")
    os.replace(new, path)
    with pytest.raises(BadSettings):
        read()
    assert read() is first, "the former ones go on"
    new.write_text("groups: [{provider: local, min: 1, max: 4}]")
    os.replace(new, path)
    second = read()
    assert second is not None
    assert second.groups[0].max == 4
    path.unlink()
    assert read() is None


def test_an_agent_that_does_not_start_again_hides_no_machine(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Else one broken node of this host would keep the group from being scaled, up and down."""
    registry = Registry(tmp_path)
    with Reservations(str(tmp_path)[-40:]) as held:
        registry.create("a", None, 2, held, namespaced=True)
    asked: list[str] = []

    class Provider(LocalProvider):
        async def create(self, name: str) -> None:
            asked.append(name)
            if name == "a-1":
                raise ProviderFault("the agent stopped: no space left on device")
            await asyncio.Event().wait()

    async def main() -> None:
        times = iter((0.0, 0.0, 1.0, 1.0))
        provider = Provider(registry, "a", Client(InProcess(handler, None)), lambda: next(times))
        for _ in range(2):
            async with asyncio.timeout(30):
                assert [m.name for m in await provider.machines()] == ["a-1", "a-2"]
        assert asked == ["a-1", "a-2"], "each is tried again only after a while"
        for revival in provider._revivals:
            revival.cancel()
        await provider.close()

    async def handler(_request: Request) -> Response:
        raise AssertionError("nothing is asked of the API")

    asyncio.run(main())
    assert "node a-1: its agent has died and does not start again: the agent stopped: no space left" in caplog.text
