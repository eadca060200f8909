"""What `jota up` refuses to change about a server that runs, and what it remembers for the next one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from jota.run import processes
from jota.run import up as module
from jota.run.instance import Instance, Refused, load


def made(path: Path) -> Instance:
    instance = Instance("t", str(path), 0, 6443, "10.64.0.0/16", "10.128.0.0/16", "10.192.0.0/24")
    instance.save()
    return instance


def test_what_is_served_is_kept_for_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live: list[SimpleNamespace] = []
    monkeypatch.setattr(processes, "running", lambda _: live)
    instance = made(tmp_path)
    module._check_new(instance, "api/beta=true")
    instance.save()
    again = load(tmp_path)
    assert again is not None
    assert again.runtime_config == "api/beta=true"
    live.append(SimpleNamespace(role="server"))
    module._check_new(again, None)
    module._check_new(again, "api/beta=true")
    with pytest.raises(Refused, match="runs already; for another --runtime-config: jota down --name t, then"):
        module._check_new(again, "")
    assert again.runtime_config == "api/beta=true"
    live.clear()
    module._check_new(again, "")
    assert again.runtime_config == ""


def test_an_instance_of_an_older_release_has_none(tmp_path: Path) -> None:
    made(tmp_path)
    file = tmp_path / "instance.json"
    file.write_text(file.read_text().replace('"runtime_config": ""', '"other": ""'))
    found = load(tmp_path)
    assert found is not None
    assert found.runtime_config == ""
