"""AuthorizationConfiguration: match conditions; what cannot be followed; the flags; a file that changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from jota.api.authz.config import Flags, Webhook, from_flags, parse
from jota.api.configfile import BadConfiguration
from jota.api.filters.attributes import User
from jota.api.security import secure, write_roles
from jota.client.client import Client
from jota.meta.resource import PODS
from jota.pki.jwt import TokenSigner
from jota.run.authorization import AuthorizationFile, AuthorizationFlags, configured
from jota.run.instance import Refused
from jota.testing.cluster import ApiServer
from jota.testing.virtual import VirtualClock

from .elsewhere import ADA, Service, cluster, document, loaded, may, refusal, story

# -- match conditions


@story
async def test_conditions_keep_questions_from_the_webhook(service: Service, folder: Path) -> None:
    service.judge = may()
    given = document(
        folder,
        "has(request.resourceAttributes)",
        "request.resourceAttributes.namespace == 'default'",
        "!('system:serviceaccounts' in request.groups) && request.user != 'eve'",
    )
    async with cluster(parse(given, loaded(folder))) as server:
        await server.client_for(ADA).list(PODS, "default")
        assert len(service.asked) == 1
        for user, path in (
            (ADA, "/api/v1/namespaces/other/pods"),
            (ADA, "/metrics"),
            (User("eve", groups=("x",)), "/api/v1/namespaces/default/pods"),
            (User("a", groups=("system:serviceaccounts",)), "/api/v1/namespaces/default/pods"),
        ):
            assert (await server.request("GET", path, user=user)).status == 403
        assert len(service.asked) == 1


@story
async def test_a_condition_that_fails_counts_by_the_failure_policy(service: Service, folder: Path) -> None:
    service.judge = may()
    broken = "request.extra['none'][0] == 'x'"
    for policy, conditions, status in (
        ("NoOpinion", (broken,), 500),
        ("Deny", (broken,), 500),
        ("Deny", (broken, "request.user == 'bob'"), 403),  # one that is false settles it
    ):
        given = document(folder, *conditions, failurePolicy=policy)
        async with cluster(parse(given, loaded(folder))) as server:
            response = await server.request("GET", "/api/v1/namespaces/default/pods", user=ADA)
            assert response.status == status
    assert service.asked == []


# -- the file and the flags


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(apiVersion="v1"), "apiVersion: must be one of"),
        (lambda d: d.update(kind="X"), "kind: must be AuthorizationConfiguration"),
        (lambda d: d.update(more=1), "more: unknown field"),
        (lambda d: d.update(authorizers=[]), "authorizers: at least one"),
        (lambda d: d["authorizers"][0].update(type="ABAC"), 'authorizers[0].type: Unsupported value: "ABAC"'),
        (lambda d: d["authorizers"][0].update(type="RBAC"), 'authorizers[1].type: Duplicate value: "RBAC"'),
        (lambda d: d["authorizers"][0].pop("name"), "authorizers[0].name"),
        (lambda d: d["authorizers"][0].update(name="rbac"), 'authorizers[1].name: Duplicate value: "rbac"'),
        (lambda d: d["authorizers"][0].update(name="No_Name"), "authorizers[0].name: authorizer name is invalid"),
        (lambda d: d["authorizers"][0].update(webhook={}), "may only be specified when type=Webhook"),
        (lambda d: d["authorizers"][2].pop("webhook"), "required when type=Webhook"),
    ],
)
def test_a_file_that_cannot_be_followed_is_refused_with_the_field(
    tmp_path: Path, change: Callable[[Any], Any], words: str
) -> None:
    given = document(tmp_path)
    change(given)
    with pytest.raises(BadConfiguration) as refused:
        parse(given, lambda _: None)  # type: ignore[arg-type, return-value]
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"timeout": "31s"}, "webhook.timeout: must be > 0s and <= 30s"),
        ({"timeout": "0s"}, "webhook.timeout"),
        ({"timeout": None}, "webhook.timeout: a duration is required"),
        ({"authorizedTTL": "-1s"}, "webhook.authorizedTTL"),
        ({"unauthorizedTTL": 3}, "webhook.unauthorizedTTL"),
        ({"subjectAccessReviewVersion": "v2"}, "subjectAccessReviewVersion: must be v1 or v1beta1"),
        ({"failurePolicy": "Allow"}, "failurePolicy: must be NoOpinion or Deny"),
        ({"failurePolicy": None}, "failurePolicy"),
        ({"connectionInfo": {"type": "InClusterConfig"}}, "InClusterConfig is not supported"),
        ({"connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": "hook"}}, "must be an absolute path"),
        ({"connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": "/none"}}, "/none"),
        ({"matchConditions": [{"expression": "true"}]}, "required with matchConditions"),
        ({"matchConditions": [{"expression": "true"}] * 2}, "Duplicate value"),
        ({"matchConditions": [{"expression": "1"}]}, "must evaluate to bool"),
        ({"matchConditions": [{"expression": "request.usr == 'a'"}]}, "undefined field 'usr'"),
        ({"matchConditions": [{"expression": "request.user =="}]}, "Syntax error"),
        ({"matchConditions": [{"expression": f"request.user != '{n}'"} for n in range(65)]}, "at most 64"),
        ({"surprise": 1}, "surprise: unknown field"),
    ],
)
def test_a_webhook_that_cannot_be_followed_is_refused_with_the_field(
    tmp_path: Path, more: dict[str, Any], words: str
) -> None:
    (tmp_path / "hook.yaml").write_text(yaml.safe_dump(KUBECONFIG))
    if "matchConditions" in more and "required" not in words:
        more = {**more, "matchConditionSubjectAccessReviewVersion": "v1"}
    with pytest.raises(BadConfiguration) as refused:
        parse(document(tmp_path, **more), loaded(tmp_path))
    assert words in str(refused.value)


KUBECONFIG = {
    "current-context": "c",
    "contexts": [{"name": "c", "context": {"cluster": "w"}}],
    "clusters": [{"name": "w", "cluster": {"server": "https://127.0.0.1:1/"}}],
}


def test_defaults_and_what_is_kept_out_of_the_cache(tmp_path: Path) -> None:
    (tmp_path / "hook.yaml").write_text(yaml.safe_dump(KUBECONFIG))
    webhook = parse(document(tmp_path), loaded(tmp_path))[2]
    assert isinstance(webhook, Webhook)
    assert (webhook.name, webhook.timeout, webhook.deny_on_error) == ("hook.example.com", 3.0, False)
    assert (webhook.authorized_ttl, webhook.unauthorized_ttl) == (300.0, 30.0)
    given = document(tmp_path, cacheAuthorizedRequests=False, unauthorizedTTL="5s", failurePolicy="Deny")
    webhook = parse(given, loaded(tmp_path))[2]
    assert isinstance(webhook, Webhook)
    assert (webhook.authorized_ttl, webhook.unauthorized_ttl, webhook.deny_on_error) == (0.0, 5.0, True)


def test_flags_as_kube_apiserver_has_them(tmp_path: Path) -> None:
    hook = tmp_path / "hook.yaml"
    hook.write_text(yaml.safe_dump(KUBECONFIG))
    chain = from_flags(Flags(("Node", "Webhook", "RBAC"), str(hook), authorized_ttl=60.0), loaded(tmp_path))
    assert [chain[0], chain[2]] == ["Node", "RBAC"]
    webhook = chain[1]
    assert isinstance(webhook, Webhook)
    assert (webhook.version, webhook.authorized_ttl, webhook.deny_on_error) == ("v1beta1", 60.0, False)
    for flags, words in (
        (Flags(("ABAC",)), "ABAC is not supported"),
        (Flags(("Rbac",)), "not a valid mode"),
        (Flags(("RBAC", "RBAC")), "more than once"),
        (Flags(()), "at least one"),
        (Flags(("Webhook",)), "need each other"),
        (Flags(webhook=str(hook)), "need each other"),
        (Flags(("Webhook",), "/none"), "/none"),
        (Flags(("Webhook",), str(hook), "v2"), "v1 or v1beta1"),
    ):
        with pytest.raises(BadConfiguration) as refused:
            from_flags(flags, loaded(tmp_path))
        assert words in str(refused.value)
    with pytest.raises(Refused, match="can not be specified when other"):
        configured(AuthorizationFlags(str(hook), Flags()))
    assert configured(AuthorizationFlags()) == (("Node", "RBAC"), None)


@story
async def test_a_changed_file_is_followed_and_a_broken_one_is_not(service: Service, folder: Path) -> None:
    name = folder / "authorization.yaml"
    name.write_text(yaml.safe_dump(document(folder)))
    chain, file = configured(AuthorizationFlags(str(name)))
    assert file is not None
    clock, server = VirtualClock(), ApiServer()
    reconfigure = secure(server.api, TokenSigner(TokenSigner.create_key()), "https://x", authorizers=chain)
    following = asyncio.ensure_future(file.follow(clock, reconfigure))
    async with server:
        await write_roles(server.api)
        ada: Client = server.client_for(ADA)

        async def code() -> int:
            return (await server.request("GET", "/api/v1/namespaces/default/pods", user=ADA)).status

        assert await code() == 403
        assert len(service.asked) == 1
        for broken in ("{", "kind: X", yaml.safe_dump(document(folder, failurePolicy="Maybe"))):
            name.write_text(broken)
            await clock.advance(11)
            assert await code() == 403
        name.unlink()
        await clock.advance(11)
        assert await code() == 403
        assert len(service.asked) == 1, "what was in force stays, with what it remembers"
        open_ = document(folder)
        open_["authorizers"] = [{"type": "AlwaysAllow", "name": "all"}]
        name.write_text(yaml.safe_dump(open_))
        await clock.advance(11)
        assert await code() == 200
        name.write_text(yaml.safe_dump(document(folder)))
        await clock.advance(11)
        assert (await refusal(ada.list(PODS, "default"))).code == 403
        assert len(service.asked) == 2
    following.cancel()


def test_a_file_that_is_wrong_at_start_is_refused(tmp_path: Path) -> None:
    name = tmp_path / "a.yaml"
    for content, words in (
        (None, "No such file"),
        ("{", "a.yaml"),
        ("kind: X", "apiVersion"),
        ("[]", "must be an object"),
    ):
        if content is not None:
            name.write_text(content)
        with pytest.raises(Refused) as refused:
            AuthorizationFile(str(name)).read()
        assert words in str(refused.value)
