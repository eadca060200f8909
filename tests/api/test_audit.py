"""The audit log: levels by rule, stages, who acted, and never a secret."""

from __future__ import annotations

import asyncio
import base64
import re
import stat
from pathlib import Path
from typing import Any

import orjson
import pytest

from jota.api.audit import Audit, AuditFile
from jota.api.auditpolicy import EVERYTHING, BadPolicy, Policy, read_policy
from jota.api.filters.attributes import User
from jota.api.path import parse
from jota.api.security import secure, write_roles
from jota.meta.resource import CONFIGMAPS, SECRETS, SERVICEACCOUNTS
from jota.pki.jwt import TokenSigner
from jota.testing.cluster import ApiServer
from jota.wire.message import Response

Object = dict[str, Any]
ALL = {"rules": [{"level": "RequestResponse"}]}
EVE = User("eve", groups=("system:authenticated",))


class Kept:
    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def write(self, line: bytes) -> None:
        self.lines.append(line)

    @property
    def events(self) -> list[Object]:
        return [orjson.loads(line) for line in self.lines]


def audited(policy: Object, story: Any) -> Kept:
    kept = Kept()

    async def run() -> None:
        server = ApiServer()
        secure(server.api, TokenSigner(TokenSigner.create_key()), "https://issuer")
        async with server:
            await write_roles(server.api)
            server.api.audit = Audit(policy, kept, server.clock)
            await story(server)

    asyncio.run(run())
    return kept


def test_an_event_tells_who_did_what_and_how_it_ended() -> None:
    async def story(server: ApiServer) -> None:
        await server.client.create(CONFIGMAPS, {"metadata": {"name": "c"}, "data": {"a": "b"}}, "default")
        await server.request("GET", "/api/v1/secrets", user=EVE, user_agent="kubectl/1")

    received, made, _, denied = audited(ALL, story).events
    assert (received["stage"], made["stage"]) == ("RequestReceived", "ResponseComplete")
    assert received["auditID"] == made["auditID"]
    assert made["requestObject"]["data"] == {"a": "b"}
    assert made["responseObject"]["metadata"]["uid"]
    assert made["objectRef"] == {"resource": "configmaps", "namespace": "default", "apiVersion": "v1"}
    assert made["responseStatus"]["code"] == 201
    assert made["annotations"]["authorization.k8s.io/decision"] == "allow"
    assert (denied["verb"], denied["user"]["username"], denied["userAgent"]) == ("list", "eve", "kubectl/1")
    assert (denied["responseStatus"]["code"], denied["annotations"]["authorization.k8s.io/decision"]) == (403, "forbid")


def test_secrets_and_tokens_are_never_noted() -> None:
    hidden = b"very-hidden-value"

    async def story(server: ApiServer) -> None:
        body = {"metadata": {"name": "s"}, "stringData": {"password": hidden.decode()}}
        await server.client.create(SECRETS, body, "default")
        await server.client.get(SECRETS, "s", "default")
        await server.client.list(SECRETS, "default")
        await server.client.patch(SECRETS, "s", "default", {"data": {"x": base64.b64encode(hidden).decode()}})
        await server.client.create(SERVICEACCOUNTS, {"metadata": {"name": "robot"}}, "default")
        answer = await server.client.create(SERVICEACCOUNTS, {"spec": {}}, "default", "token", "robot")
        tokens.append(answer["status"]["token"].encode())
        review = {"spec": {"token": answer["status"]["token"]}}
        await server.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)
        await server.request("GET", "/api/v1/nodes", user=None, authorization="Bearer " + answer["status"]["token"])

    tokens: list[bytes] = []
    log = b"".join(audited(ALL, story).lines)
    assert b'"resource":"secrets"' in log
    assert b'"subresource":"token"' in log
    assert hidden not in log
    assert base64.b64encode(hidden) not in log
    assert tokens[0] not in log


def test_the_first_matching_rule_gives_the_level() -> None:
    policy = {
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "users": ["eve"], "verbs": ["get"]},
            {"level": "None", "nonResourceURLs": ["/health*"]},
            {"level": "Request", "resources": [{"group": "", "resources": ["configmaps"]}], "namespaces": ["default"]},
            {"level": "Metadata"},
        ],
    }

    async def story(server: ApiServer) -> None:
        await server.request("GET", "/api/v1/namespaces/default/configmaps/x", user=EVE)
        await server.request("GET", "/healthz")
        await server.client.create(CONFIGMAPS, {"metadata": {"name": "c"}}, "default")
        await server.client.create(CONFIGMAPS, {"metadata": {"name": "c"}}, "kube-system")
        await server.request("GET", "/version")

    events = audited(policy, story).events
    assert [(e["level"], e["requestURI"]) for e in events] == [
        ("Request", "/api/v1/namespaces/default/configmaps"),
        ("Metadata", "/api/v1/namespaces/kube-system/configmaps"),
        ("Metadata", "/version"),
    ]
    assert "requestObject" in events[0]
    assert "responseObject" not in events[0]


def test_a_rule_says_for_itself_whether_managed_fields_are_left_out() -> None:
    policy = {
        "omitStages": ["RequestReceived"],
        "omitManagedFields": True,
        "rules": [
            {"level": "RequestResponse", "namespaces": ["kube-system"], "omitManagedFields": False},
            {"level": "RequestResponse"},
        ],
    }

    async def story(server: ApiServer) -> None:
        for namespace in ("default", "kube-system"):
            path = f"/api/v1/namespaces/{namespace}/configmaps"
            await server.request("POST", path, {"metadata": {"name": "c"}, "data": {"a": "b"}}, user_agent="kubectl/1")

    bare, whole = (e["responseObject"]["metadata"] for e in audited(policy, story).events)
    assert "managedFields" not in bare
    assert "managedFields" in whole


def test_impersonation_and_failed_logins_are_seen() -> None:
    async def story(server: ApiServer) -> None:
        await server.request("GET", "/api/v1/nodes", impersonate_user="bob")
        answer = await server.request("GET", "/api/v1/nodes", user=None, authorization="Bearer wrong", audit_id="mine")
        assert b"Audit-Id: mine\r\n" in answer.own

    first, second = audited(EVERYTHING, story).events
    assert (first["user"]["username"], first["impersonatedUser"]["username"]) == ("system:apiserver", "bob")
    assert (second["responseStatus"]["code"], second["auditID"]) == (401, "mine")


def _audit_id(answer: Response) -> str:
    (found,) = re.findall(r"^Audit-Id: ([0-9a-f-]{36})\r\n", answer.own.decode(), re.MULTILINE)
    return str(found)


def test_every_answer_on_the_wire_bears_an_id() -> None:
    async def story(server: ApiServer) -> None:
        server.api.audit = None
        ids = {_audit_id(await server.request("GET", "/healthz", user=None)) for _ in range(3)}
        assert len(ids) == 3

    audited(ALL, story)


def policy(rule: str) -> str:
    return f"kind: Policy\napiVersion: audit.k8s.io/v1\nrules: [{rule}]"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not YAML"),
        ("kind: Pod", "not a Policy"),
        ("{kind: Policy, apiVersion: audit.k8s.io/v1beta1}", "is not audit.k8s.io/v1"),
        ("{kind: Policy, apiVersion: audit.k8s.io/v1}", "at least one is needed"),
        ("{kind: Policy, apiVersion: audit.k8s.io/v1, rules: [{level: All}]}", r"rules\[0\].level"),
        (policy("{level: None, users: bob}"), r"rules\[0\].users: must be a list of texts"),
        (policy("{level: None, user: [bob]}"), r"rules\[0\].user: unknown field"),
        (policy("{level: None, verbs: [1]}"), r"rules\[0\].verbs"),
        (policy("{level: None, resources: [{resource: pods}]}"), r"rules\[0\].resources\[0\].resource: unknown field"),
        (policy("{level: None, resources: [{resourceNames: [a]}]}"), "need resources to be named"),
        (policy("{level: None, resources: [{}], nonResourceURLs: [/x]}"), "exclude each other"),
        (policy("{level: None, omitStages: [Never]}"), "'Never' is none of"),
        (policy("{level: None, omitManagedFields: 1}"), "must be true or false"),
        (policy("{level: None}") + "\nomitStage: []", "omitStage: unknown field"),
    ],
)
def test_a_policy_that_cannot_be_used_says_where(content: str, words: str) -> None:
    with pytest.raises(BadPolicy, match=words):
        read_policy(content)


def test_the_file_is_private_and_turns_over(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    file = AuditFile(path, largest=100)

    async def story() -> None:
        for n in range(30):
            file.write(b"%040d\n" % n)
            file.write(b"%040d\n" % n)
            await asyncio.sleep(0)

    asyncio.run(story())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["audit.log", *(f"audit.log.{n}" for n in range(1, 6))]


def test_a_verdict_that_is_remembered_is_that_of_the_first_rule_that_matches() -> None:
    """Each part of the question counts, names too if a rule has some."""
    policy = Policy(
        {
            "rules": [
                {"level": "Request", "resources": [{"resources": ["pods"], "resourceNames": ["p"]}]},
                {"level": "None", "users": ["eve"], "verbs": ["get"]},
                {"level": "RequestResponse", "userGroups": ["admins"], "namespaces": ["ns"]},
                {"level": "None", "nonResourceURLs": ["/healthz*"]},
                {"level": "Metadata"},
            ]
        }
    )

    def level(path: str, verb: str = "get", user: User = EVE) -> str:
        return policy.verdict(user, parse("GET" if verb == "get" else "PUT", path, {})).level

    admin = User("ann", groups=("admins",))
    for _ in range(2):
        assert level("/api/v1/namespaces/ns/pods/p") == "Request"
        assert level("/api/v1/namespaces/ns/pods/q") == "None"
        assert level("/api/v1/namespaces/ns/pods/q", "update") == "Metadata"
        assert level("/api/v1/namespaces/ns/pods/q", user=admin) == "RequestResponse"
        assert level("/api/v1/namespaces/other/pods/q", user=admin) == "Metadata"
        assert level("/healthz/ping", user=admin) == "None"
        assert level("/version", user=admin) == "Metadata"
