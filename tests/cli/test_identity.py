"""The flags about users from elsewhere: as kube-apiserver's, checked before anything starts, handed on by `jota up`."""

from __future__ import annotations

from pathlib import Path

import pytest

from jota.cli import server, up
from jota.cli.identity import identity, passed_on
from jota.cli.main import main
from jota.run.instance import Refused

from .flags import parsed

KUBECONFIG = """
current-context: c
contexts: [{name: c, context: {cluster: w}}]
clusters: [{name: w, cluster: {server: "https://127.0.0.1:1/review"}}]
"""


def test_up_hands_on_what_its_server_understands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hook").write_text(KUBECONFIG)
    monkeypatch.chdir(tmp_path)
    given = ["--oidc-issuer-url=https://x", "--oidc-client-id=jota", "--oidc-username-prefix=-"]
    given += ["--oidc-required-claim=a=b", "--oidc-required-claim=c=d"]
    given += ["--authentication-token-webhook-config-file=hook", "--authentication-token-webhook-cache-ttl=30s"]
    on = passed_on(parsed(up, *given))
    assert f"--authentication-token-webhook-config-file={tmp_path}/hook" in on
    assert identity(parsed(server, *on)).token_webhook_ttl == 30.0
    assert identity(parsed(server, *on)).oidc == identity(parsed(up, *given)).oidc
    assert identity(parsed(server, *on)).oidc["required_claim"] == ("a=b", "c=d")
    assert passed_on(parsed(up)) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--authentication-token-webhook-version=v1beta1"], "only v1"),
        (["--authentication-token-webhook-cache-ttl=2m"], "needs"),
        (["--authentication-token-webhook-config-file=x", "--authentication-token-webhook-cache-ttl=soon"], "duration"),
        (["--authentication-token-webhook-config-file=x", "--authentication-token-webhook-cache-ttl=-1s"], "negative"),
        (["--authentication-token-webhook-config-file=/none"], "/none"),
        (["--authentication-config=/none"], "/none"),
        (["--oidc-client-id=x"], "specified together"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(arguments: list[str], words: str) -> None:
    with pytest.raises(Refused) as refused:
        passed_on(parsed(up, *arguments))
    assert words in str(refused.value)


def test_a_delay_that_is_no_duration_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("soon", "-1s"):
        assert main(["server", "--name", "delay-test", f"--shutdown-delay-duration={text}"]) == 1
        assert "--shutdown-delay-duration" in capsys.readouterr().err
