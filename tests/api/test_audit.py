"""The audit log: levels by rule, stages, who acted, and never a secret."""

from __future__ import annotations

import asyncio
import base64
import gc
import re
import stat
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jota.aio.clock import rfc3339_micro
from jota.api import auditline
from jota.api.audit import Audit, AuditFile, Trail
from jota.api.auditline import About, Lines, Outcome, Status
from jota.api.auditpolicy import EVERYTHING, BadPolicy, Policy, read_policy
from jota.api.filters.attributes import COMPONENT, User
from jota.api.path import parse
from jota.api.security import secure, write_roles
from jota.meta.resource import CONFIGMAPS, SECRETS, SERVICEACCOUNTS
from jota.pki.jwt import TokenSigner
from jota.testing.cluster import ApiServer
from jota.wire.message import Request, Response

Object = dict[str, Any]
ALL = {"rules": [{"level": "RequestResponse"}]}
EVE = User("eve", groups=("system:authenticated",))


class Kept:
    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def write(self, found: list[bytes]) -> None:
        self.lines += found

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
    assert received["objectRef"] == {"resource": "configmaps", "namespace": "default", "apiVersion": "v1"}
    assert made["objectRef"] == {"resource": "configmaps", "namespace": "default", "name": "c", "apiVersion": "v1"}
    assert made["responseStatus"]["code"] == 201
    assert made["annotations"]["authorization.k8s.io/decision"] == "allow"
    assert (denied["verb"], denied["user"]["username"], denied["userAgent"]) == ("list", "eve", "kubectl/1")
    assert (denied["responseStatus"]["code"], denied["annotations"]["authorization.k8s.io/decision"]) == (403, "forbid")


def test_an_event_tells_of_the_object_that_was_sent() -> None:
    """At every level: what the path does not tell is in the body (upstream's LogRequestObject)."""

    async def story(server: ApiServer) -> None:
        place = "/api/v1/namespaces/default/configmaps"
        text = b"metadata: {name: y}\ndata: {a: b}\n"
        await server.request("POST", place, text, content_type="application/yaml")
        await server.request("POST", place, {"metadata": {"name": "j"}}, content_type="application/json")
        await server.request("POST", place, {"metadata": {"name": "j"}}, content_type="application/json")
        await server.request("POST", place, {"metadata": {"generateName": "g"}}, content_type="application/json")
        await server.request("POST", place, b"{", content_type="application/json")
        await server.request("PUT", f"{place}/j", b'{"metadata":5}', content_type="application/json")
        found = await server.client.get(CONFIGMAPS, "j", "default")
        await server.client.update(CONFIGMAPS, {**found, "data": {"a": "c"}})
        await server.client.patch(CONFIGMAPS, "j", "default", {"data": {"a": "d"}})
        nonlocal uid, version
        uid, version = found["metadata"]["uid"], found["metadata"]["resourceVersion"]

    uid = version = ""
    events = [e for e in audited(EVERYTHING, story).events if e["verb"] != "get"]
    told = [(e["objectRef"].get("name"), e["responseStatus"]["code"], e["objectRef"].get("uid")) for e in events]
    assert told == [
        ("y", 201, None),
        ("j", 201, None),
        ("j", 409, None),
        (None, 201, None),
        (None, 400, None),
        ("j", 400, None),
        ("j", 200, uid),
        ("j", 200, None),
    ]
    assert events[-2]["objectRef"]["resourceVersion"] == version


@pytest.mark.parametrize("level", ["Metadata", "Request", "RequestResponse"])
@pytest.mark.parametrize("user", [COMPONENT, EVE])
def test_no_request_hides_behind_the_depth_of_its_body(level: str, user: User) -> None:
    """What is nested deeper than anybody reads is refused, but that it was asked is noted."""

    async def story(server: ApiServer) -> None:
        for depth in (900, 1010, 1020, 5000):
            deep = b'{"a":' * depth + b"1" + b"}" * depth
            body = b'{"metadata":{"name":"c"},"data":%b}' % deep
            where = f"/api/v1/namespaces/default/configmaps?depth={depth}"
            assert (await server.request("POST", where, body, user=user)).status in (400, 403, 415)

    kept = audited({"omitStages": ["RequestReceived"], "rules": [{"level": level}]}, story)
    assert [event["requestURI"].rpartition("=")[2] for event in kept.events] == ["900", "1010", "1020", "5000"]


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

    for n in range(30):
        file.write([b"%040d\n" % n] * 2)
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


@pytest.mark.parametrize(
    "condition",
    [
        {"users": ["eve"]},
        {"userGroups": ["g"]},
        {"verbs": ["get"]},
        {"namespaces": ["ns"]},
        {"resources": [{}]},
        {"nonResourceURLs": ["*"]},
    ],
)
def test_a_first_rule_without_conditions_is_the_verdict_about_everything(condition: Object) -> None:
    asked = [parse(*one, {}) for one in (("GET", "/version"), ("PUT", "/api/v1/nodes/n"))]
    for nothing in ({}, {name: [] for name in condition}):
        policy = Policy({"rules": [{"level": "Request", **nothing}, {"level": "None"}]})
        assert [policy.verdict(EVE, target).level for target in asked] == ["Request"] * 2
    policy = Policy({"rules": [{"level": "Request", **condition}, {"level": "None"}]})
    assert "None" in {policy.verdict(User("bob"), target).level for target in asked}


# -- lines whose common parts are encoded once

_TEXTS = st.text(max_size=8).filter(lambda text: text.isprintable()) | st.sampled_from(
    ["%b", "%", '"', "\\", "\0", "é"]
)
_USERS = st.builds(
    User,
    _TEXTS,
    st.sampled_from(["", "u1", "u2"]),
    st.sampled_from([(), ("system:authenticated",), ("a", "b%b")]),
    st.sampled_from([{}, {"k": ["v", '"']}]),
)
_PATHS = st.sampled_from(
    [
        "/version",
        "/api/v1/nodes",
        "/api/v1/nodes/n",
        "/api/v1/namespaces/ns/pods",
        "/api/v1/namespaces/ns/pods/p%20x",
        '/api/v1/namespaces/ns/pods/"',
        "/api/v1/namespaces/ns/pods/p/log",
        "/apis/apps/v1/namespaces/ns/deployments/d/status",
        "/apis/apps/v1/namespaces/ns/deployments/%25b",
    ]
)
_OUTCOMES = (
    st.builds(
        Outcome,
        st.builds(Status, st.sampled_from([200, 404])),
        st.sampled_from([None, {"a": [1]}]),
        st.sampled_from([None, {}]),
        st.sampled_from([None, {"authorization.k8s.io/decision": "allow"}, {"%b": "%"}]),
    )
    | st.none()
)
_EVENTS = st.tuples(
    st.sampled_from(["Metadata", "Request"]),
    st.sampled_from(["RequestReceived", "ResponseComplete"]),
    _USERS,
    st.none() | _USERS,
    st.sampled_from(["GET", "POST"]),
    _PATHS,
    st.sampled_from(["", "10.0.0.1"]),
    _TEXTS,
    st.floats(0, 4e9),
    _OUTCOMES,
    st.builds(About, st.just(""), _TEXTS, _TEXTS) | st.builds(About, _TEXTS, st.just(""), _TEXTS),
)


def user_info(user: User) -> Object:
    found = {"username": user.name, "uid": user.uid, "groups": list(user.groups), "extra": user.extra}
    return {key: value for key, value in found.items() if value or key == "username"}


@given(st.lists(_EVENTS, min_size=1, max_size=6))
def test_a_line_says_what_the_whole_event_would_whatever_lines_were_made_before(events: list[Any]) -> None:
    lines = Lines()
    for level, stage, user, acting, method, path, address, agent, time, outcome, about in events * 2:
        target = parse(method, path, {})
        if not target.resource:
            about = About()
        form = lines.form(level, stage, user, acting, target, about, address, agent)
        line = lines.fill(form, "an-id", path, about, time, time + 0.25, outcome)
        reference = {
            "resource": target.resource,
            "namespace": target.namespace,
            "name": about.name,
            "uid": about.uid,
            "apiGroup": target.group,
            "apiVersion": target.version,
            "resourceVersion": about.version,
            "subresource": target.subresource,
        }
        whole = {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": level,
            "auditID": "an-id",
            "stage": stage,
            "requestURI": path,
            "verb": target.verb,
            "user": user_info(user),
            "requestReceivedTimestamp": rfc3339_micro(time),
            "stageTimestamp": rfc3339_micro(time + 0.25),
            "impersonatedUser": user_info(acting) if acting is not None else None,
            "sourceIPs": [address] if address else None,
            "userAgent": agent or None,
            "objectRef": {k: v for k, v in reference.items() if v} if target.resource else None,
        }
        if outcome is not None:
            whole["responseStatus"] = {"code": outcome.responseStatus.code, "metadata": {}}
            whole["requestObject"], whole["responseObject"] = outcome.requestObject, outcome.responseObject
            whole["annotations"] = outcome.annotations
        assert line == orjson.dumps({k: v for k, v in whole.items() if v is not None}) + b"\n"


def test_what_is_remembered_of_lines_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditline, "_REMEMBERED", 10)
    lines, target = Lines(), parse("GET", "/api/v1/nodes/n", {})
    for n in range(100):
        lines.form("Metadata", "ResponseComplete", EVE, None, target, About("n"), f"10.0.0.{n}", "")
    assert len(lines._forms) <= 10


def test_an_event_that_cannot_be_written_does_not_take_others_with_it(caplog: pytest.LogCaptureFixture) -> None:
    async def story(server: ApiServer) -> None:
        await server.request("GET", "/healthz/\ud800")
        await server.request("GET", "/version")

    assert [event["requestURI"] for event in audited(EVERYTHING, story).events] == ["/version"]
    assert "an audit event is lost" in caplog.text


def test_a_request_and_its_trail_do_not_hold_each_other() -> None:
    """Or each would stay until the collector looks, which is seldom under load."""

    async def story(server: ApiServer) -> None:
        await server.request("GET", "/api/v1/nodes", user=EVE)
        await asyncio.sleep(0)
        gc.collect()
        for path in ("/api/v1/nodes", "/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=1"):
            await server.request("GET", path)
        await asyncio.sleep(0)
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            gc.collect()
            found = [type(each) for each in gc.garbage]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
        assert not {Request, Trail} & set(found)

    audited(ALL, story)
