"""Merging credentials: ours in and out again, everything else stays as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from jota.run import kubeconfig
from jota.run.instance import Refused
from jota.run.kubeconfig import Credentials

WHO = Credentials("https://127.0.0.1:6443", b"ca", b"cert", b"key")
FOREIGN = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "theirs", "cluster": {"server": "https://theirs", "x-own": 1}}],
    "users": [{"name": "theirs", "user": {"exec": {"command": "login"}}}],
    "contexts": [{"name": "theirs", "context": {"cluster": "theirs", "user": "theirs", "namespace": "n"}}],
    "current-context": "theirs",
    "extensions": [{"name": "kept"}],
}


def test_merge_and_remove_leave_foreign_entries_alone(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(yaml.safe_dump(FOREIGN))
    for _ in range(2):
        kubeconfig.merge_into(file, "jota", WHO)
    merged = yaml.safe_load(file.read_text())
    assert [c["name"] for c in merged["contexts"]] == ["theirs", "jota"]
    assert merged["current-context"] == "jota"
    assert merged["clusters"][0] == FOREIGN["clusters"][0]
    assert merged["extensions"] == FOREIGN["extensions"]
    assert file.stat().st_mode & 0o777 == 0o600
    kubeconfig.remove_from(file, "jota")
    left = yaml.safe_load(file.read_text())
    assert {k: left[k] for k in FOREIGN} == FOREIGN


def test_what_a_link_leads_to_is_written_and_removed(tmp_path: Path) -> None:
    """Some keep their settings elsewhere: they must not end up with a file where their link was."""
    kept, link = tmp_path / "settings" / "config", tmp_path / "config"
    kept.parent.mkdir()
    kept.write_text(yaml.safe_dump(FOREIGN))
    link.symlink_to("settings/config")
    kubeconfig.merge_into(link, "jota", WHO)
    assert link.is_symlink()
    assert [c["name"] for c in yaml.safe_load(kept.read_text())["contexts"]] == ["theirs", "jota"]
    kept.write_text("")
    kubeconfig.merge_into(link, "jota", WHO)
    kubeconfig.remove_from(link, "jota")
    assert not kept.exists(), "no credentials are left behind"
    kubeconfig.merge_into(link, "jota", WHO)
    assert link.is_symlink()
    assert kubeconfig.read(kept) == WHO


def test_a_file_that_held_nothing_else_goes(tmp_path: Path) -> None:
    file = tmp_path / "new" / "config"
    kubeconfig.merge_into(file, "jota", WHO)
    assert kubeconfig.read(file) == WHO
    kubeconfig.remove_from(file, "jota")
    assert not file.exists()
    kubeconfig.remove_from(file, "jota")


@pytest.mark.parametrize("text", ["{{", "- list", "clusters: 5", "users: [5]", "contexts: {a: b}", "\0"])
def test_what_is_no_kubeconfig_is_refused_and_kept(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    with pytest.raises(Refused, match="--kubeconfig"):
        kubeconfig.merge_into(file, "jota", WHO)
    with pytest.raises(Refused):
        kubeconfig.remove_from(file, "jota")
    assert file.read_text() == text


@pytest.mark.parametrize("text", ["", "clusters: []", "clusters: [{name: a}]"])
def test_no_credentials(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(Refused, match="no credentials"):
        kubeconfig.read(tmp_path / "config")


def test_which_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert kubeconfig.target(None) == tmp_path / ".kube/config"
    monkeypatch.setenv("KUBECONFIG", f":{tmp_path}/a:{tmp_path}/b")
    assert kubeconfig.target(None) == tmp_path / "a"
    assert kubeconfig.target("/x/y") == Path("/x/y")


def test_under_sudo_the_file_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Invoker:
        pw_dir, pw_uid, pw_gid = str(tmp_path), 4321, 1234

    given: list[tuple[str, int, int]] = []
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setattr(kubeconfig, "_invoker", Invoker)
    monkeypatch.setattr(kubeconfig.os, "chown", lambda path, uid, gid: given.append((Path(path).name, uid, gid)))
    target = kubeconfig.target(None)
    assert target == tmp_path / ".kube/config"
    kubeconfig.merge_into(target, "jota", WHO)
    assert given == [(".kube", 4321, 1234), ("config", 4321, 1234)]
