"""What `jota hollow` says of a cluster without simulated nodes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from jota.run import hollow
from jota.run.instance import Instance, Refused
from jota.testing.cluster import ApiServer


def test_without_simulated_nodes_it_says_how_to_make_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Instance("lab", str(tmp_path), 0, 6443, "10.64.0.0/16", "10.128.0.0/16", "10.192.0.0/24")

    async def story() -> None:
        async with ApiServer() as api:
            monkeypatch.setattr(hollow, "connect", lambda _: api.client)
            with pytest.raises(Refused, match="there are no simulated nodes yet: jota hollow scale N --name lab"):
                await hollow.settings_of(one)

    asyncio.run(story())
