"""The flags about the control plane's own parts: checked before anything starts, handed on and kept by `jota up`."""

from __future__ import annotations

from pathlib import Path

import pytest

from jota.cli import server, up
from jota.cli.controlplane import control_plane, passed_on
from jota.run.instance import Refused

from .flags import parsed

POLICY = "{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: Metadata}]}"
SCHEDULER = """
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles: [{schedulerName: default-scheduler}, {schedulerName: packed}]
"""


def test_up_hands_on_what_its_server_understands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "policy").write_text(POLICY)
    (tmp_path / "profiles").write_text(SCHEDULER)
    monkeypatch.chdir(tmp_path)
    on = passed_on(
        parsed(
            up,
            "--audit-policy=policy",
            "--audit-log=noted",
            "--scheduler-config=profiles",
            "--shutdown-delay-duration=2s",
        )
    )
    assert on[:3] == [
        f"--audit-policy={tmp_path}/policy",
        f"--audit-log={tmp_path}/noted",
        f"--scheduler-config={tmp_path}/profiles",
    ]
    found = control_plane(parsed(server, *on))
    assert (found.audit.policy, found.audit.log) == (f"{tmp_path}/policy", f"{tmp_path}/noted")
    assert found.shutdown_delay == 2.0
    assert found.scheduling is not None
    assert [profile.name for profile in found.scheduling.profiles] == ["default-scheduler", "packed"]
    assert passed_on(parsed(up)) == []
    assert not (tmp_path / "noted").exists(), "the log is the server's to open"


@pytest.mark.parametrize(
    ("flag", "content", "words"),
    [
        ("audit-policy", None, "No such file"),
        ("audit-policy", "kind: Pod", "not a Policy"),
        ("audit-policy", POLICY.replace("Metadata", "Everything"), "none of None, Metadata"),
        ("scheduler-config", None, "No such file"),
        ("scheduler-config", "kind: [", "not YAML"),
        ("scheduler-config", SCHEDULER.replace("packed", "default-scheduler"), "profiles"),
        ("scheduler-config", "just words", "not a KubeSchedulerConfiguration"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_before_anything_starts(
    tmp_path: Path, flag: str, content: str | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "given").write_text(content)
    with pytest.raises(Refused) as refused:
        passed_on(parsed(up, f"--{flag}={tmp_path}/given"))
    assert f"--{flag} {tmp_path}/given" in str(refused.value)
    assert words in str(refused.value)


@pytest.mark.parametrize("text", ["soon", "-1s"])
def test_a_delay_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="--shutdown-delay-duration"):
        passed_on(parsed(up, f"--shutdown-delay-duration={text}"))
