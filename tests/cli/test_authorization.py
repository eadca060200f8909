"""The flags about who decides what users may do: as kube-apiserver's, checked before anything starts, handed on by `jota up`."""

from __future__ import annotations

from pathlib import Path

import pytest

from jota.api.authz.config import Webhook
from jota.cli import server, up
from jota.cli.authorization import authorization, passed_on
from jota.run.authorization import configured
from jota.run.instance import Refused

from .flags import parsed

KUBECONFIG = """
current-context: c
contexts: [{name: c, context: {cluster: w}}]
clusters: [{name: w, cluster: {server: "https://127.0.0.1:1/review"}}]
"""
CONFIG = """
apiVersion: apiserver.config.k8s.io/v1
kind: AuthorizationConfiguration
authorizers:
- {type: RBAC, name: rbac}
"""


def test_up_hands_on_what_its_server_understands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hook").write_text(KUBECONFIG)
    (tmp_path / "config").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    on = passed_on(
        parsed(
            up,
            "--authorization-mode=Node,Webhook,RBAC",
            "--authorization-webhook-config-file=hook",
            "--authorization-webhook-version=v1",
            "--authorization-webhook-cache-authorized-ttl=1m",
            "--authorization-webhook-cache-unauthorized-ttl=0s",
        )
    )
    assert f"--authorization-webhook-config-file={tmp_path}/hook" in on
    (node, webhook, rbac), file = configured(authorization(parsed(server, *on)))
    assert (node, rbac, file) == ("Node", "RBAC", None)
    assert isinstance(webhook, Webhook)
    assert (webhook.version, webhook.authorized_ttl, webhook.unauthorized_ttl) == ("v1", 60.0, 0.0)
    on = passed_on(parsed(up, "--authorization-config=config"))
    assert on == [f"--authorization-config={tmp_path}/config"]
    chain, file = configured(authorization(parsed(server, *on)))
    assert chain == ("RBAC",)
    assert file is not None
    assert passed_on(parsed(up)) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--authorization-policy-file=x"], "ABAC is not supported"),
        (["--authorization-mode=ABAC"], "ABAC is not supported"),
        (["--authorization-mode="], "at least one"),
        (["--authorization-mode=Webhook"], "need each other"),
        (["--authorization-webhook-config-file=x"], "need each other"),
        (["--authorization-mode=Webhook", "--authorization-webhook-config-file=/none"], "/none"),
        (["--authorization-webhook-version=v3"], "v1 or v1beta1"),
        (["--authorization-webhook-cache-authorized-ttl=soon"], "duration"),
        (["--authorization-webhook-cache-unauthorized-ttl=-1s"], "negative"),
        (["--authorization-config=/none"], "No such file"),
        (["--authorization-config=/none", "--authorization-mode=RBAC"], "can not be specified"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(arguments: list[str], words: str) -> None:
    with pytest.raises(Refused) as refused:
        passed_on(parsed(up, *arguments))
    assert words in str(refused.value)
