"""The audit log: who did what, as audit.k8s.io/v1 Events, one JSON line each. What is noted, a policy decides by its rules.

In: requests on their way through chain.py (`begin`, `Trail.finish`). Out: lines to a sink. The first rule of the policy that
matches gives the level: None, Metadata, Request (with the request's object), RequestResponse (and the answer's). Bodies of
Secrets, token requests and token reviews are never noted, whatever the level: a log is no place for credentials.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import orjson

from jota.aio.clock import Clock, rfc3339_micro
from jota.api.configfile import BadConfiguration, Fields
from jota.api.filters.attributes import User
from jota.api.path import Target
from jota.kinds.kind import Object
from jota.kinds.shape import part, parts, text, texts
from jota.wire.message import Request, Response, Writer

log = logging.getLogger("jota.audit")
LEVELS = ("None", "Metadata", "Request", "RequestResponse")
STAGES = ("RequestReceived", "ResponseStarted", "ResponseComplete", "Panic")
EVERYTHING: Object = {"rules": [{"level": "Metadata"}], "omitStages": ["RequestReceived"]}
"""The policy of a server that was given a log and no policy."""
LARGEST, BACKUPS = 100 << 20, 5
"""Bytes of one log file, and how many older ones are kept."""
_LONGEST_BODY = 1 << 20
_CONFIDENTIAL = {
    ("", "secrets", ""),
    ("", "serviceaccounts", "token"),
    ("authentication.k8s.io", "tokenreviews", ""),
}


class BadPolicy(ValueError):
    """The policy cannot be used; the text names the place."""


class Sink(Protocol):
    def write(self, line: bytes) -> None:
        """One event. Must not raise."""
        ...


class AuditFile:
    """Lines appended to a file that only its owner may read; a full file is renamed to <name>.1 and so on."""

    def __init__(self, path: Path, largest: int = LARGEST) -> None:
        """Raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._largest = path, largest
        self._file = self._open()

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, line: bytes) -> None:
        try:
            os.write(self._file, line)
            if os.fstat(self._file).st_size > self._largest:
                self._rotate()
        except OSError as error:
            log.warning("an audit event is lost: %s: %s", self._path, error)

    def _rotate(self) -> None:
        for n in range(BACKUPS, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{n - 1}") if n > 1 else self._path
            if older.exists():
                os.replace(older, self._path.with_name(f"{self._path.name}.{n}"))
        os.close(self._file)
        self._file = self._open()


def read_policy(content: str) -> Object:
    """A Policy from YAML or JSON. Raises BadPolicy."""
    import yaml

    try:
        policy = yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise BadPolicy(f"not YAML: {error}") from None
    if not isinstance(policy, dict) or policy.get("kind") != "Policy":
        raise BadPolicy("not a Policy of audit.k8s.io/v1")
    if policy.get("apiVersion") != "audit.k8s.io/v1":
        raise BadPolicy(f"apiVersion {policy.get('apiVersion')!r} is not audit.k8s.io/v1")
    try:
        _check(Fields(policy, ""))
    except BadConfiguration as error:
        raise BadPolicy(str(error)) from None
    return policy


def _check(policy: Fields) -> None:
    """Raises BadConfiguration: a rule whose conditions cannot be read would hold for everything."""
    for name in ("kind", "apiVersion"):
        policy.text(name)
    policy.object("metadata")
    _check_common(policy)
    rules = policy.objects("rules")
    if not rules:
        raise policy.fail("rules", "at least one is needed, or nothing is logged")
    for rule in rules:
        level = rule.text("level", "")
        if level not in LEVELS:
            raise rule.fail("level", f"{level!r} is none of {', '.join(LEVELS)}")
        _check_common(rule)
        for name in ("users", "userGroups", "verbs", "namespaces"):
            rule.texts(name, empty=True)
        resources, urls = rule.objects("resources"), rule.texts("nonResourceURLs")
        if resources and urls:
            raise rule.fail("resources", "resources and nonResourceURLs exclude each other")
        for resource in resources:
            resource.text("group", "")
            named = resource.texts("resourceNames")
            if not resource.texts("resources") and named:
                raise resource.fail("resourceNames", "need resources to be named")
            resource.done()
        rule.done()
    policy.done()


def _check_common(given: Fields) -> None:
    given.flag("omitManagedFields", False)
    for stage in given.texts("omitStages"):
        if stage not in STAGES:
            raise given.fail("omitStages", f"{stage!r} is none of {', '.join(STAGES)}")


def rule_matches(rule: Object, user: User, target: Target) -> bool:
    users, groups, verbs = texts(rule, "users"), texts(rule, "userGroups"), texts(rule, "verbs")
    if (users and user.name not in users) or (verbs and target.verb not in verbs):
        return False
    if groups and not set(groups).intersection(user.groups):
        return False
    namespaces, resources, urls = texts(rule, "namespaces"), parts(rule, "resources"), texts(rule, "nonResourceURLs")
    if not target.resource:
        listed = any(u in ("*", target.path) or (u[-1:] == "*" and target.path.startswith(u[:-1])) for u in urls)
        return listed if urls else not (namespaces or resources)
    if urls or (namespaces and target.namespace not in namespaces):
        return False
    return not resources or any(_covers(r, target) for r in resources)


def _covers(wanted: Object, target: Target) -> bool:
    names, resources = texts(wanted, "resourceNames"), texts(wanted, "resources")
    if text(wanted, "group") != target.group or (names and target.name not in names):
        return False
    full = f"{target.resource}/{target.subresource}" if target.subresource else target.resource
    fitting = {full, "*", f"*/{target.subresource}", f"{target.resource}/*"}
    return not resources or bool(fitting.intersection(resources))


class Audit:
    def __init__(self, policy: Object, sink: Sink, clock: Clock) -> None:
        self._policy, self.sink, self.clock = policy, sink, clock

    def begin(self, request: Request, target: Target, audit_id: str) -> Trail:
        return Trail(self, request, target, audit_id)

    def level(self, user: User, target: Target) -> tuple[str, set[str], bool]:
        """(level, stages that are left out, whether managedFields are)."""
        policy = self._policy
        for rule in parts(policy, "rules"):
            if rule_matches(rule, user, target):
                bare = rule.get("omitManagedFields")
                omit = policy.get("omitManagedFields") if bare is None else bare
                return text(rule, "level"), {*texts(policy, "omitStages"), *texts(rule, "omitStages")}, omit is True
        return "None", set(), False


class Trail:
    """What is known of one request so far."""

    def __init__(self, audit: Audit, request: Request, target: Target, audit_id: str) -> None:
        self._audit, self._request, self._target, self._id = audit, request, target, audit_id
        self._received = audit.clock.now()
        self._user: User | None = None
        self._acting: User | None = None
        self._level, self._omitted, self._bare = "None", set[str](), False
        self.annotations: dict[str, str] = {}

    def known(self, user: User, acting: User) -> None:
        """Who asks, and as whom. The policy judges the former, as upstream."""
        self._user, self._acting = user, acting if acting is not user else None
        self._level, self._omitted, self._bare = self._audit.level(user, self._target)
        self._note("RequestReceived", {})

    def decided(self, allowed: bool) -> None:
        self.annotations["authorization.k8s.io/decision"] = "allow" if allowed else "forbid"

    def finish(self, response: Response) -> Response:
        """The same response; a streaming one notes its end when it comes."""
        if self._user is None:  # nobody was let in: who it was is not known
            self.known(User("system:unauthenticated"), User("system:unauthenticated"))
            self._acting = None
        if self._level == "None":
            return response
        status = {"responseStatus": {"metadata": {}, "code": response.status}}
        if response.stream is None and response.upgrade is None:
            self._note("ResponseComplete", {**status, **self._bodies(response)})
            return response
        self._note("ResponseStarted", status)
        return self._followed(response, status)

    def _followed(self, response: Response, status: Object) -> Response:
        done = self._done(status)
        stream, upgrade = response.stream, response.upgrade
        if stream is not None:

            async def watched(writer: Writer) -> None:
                try:
                    await stream(writer)
                finally:
                    done()

            response.stream = watched
        if upgrade is not None:

            async def owned(duplex: Any) -> None:
                try:
                    await upgrade(duplex)
                finally:
                    done()

            response.upgrade = owned
        return response

    def _done(self, status: Object) -> Callable[[], None]:
        def done() -> None:
            self._note("ResponseComplete", status)

        return done

    def _bodies(self, response: Response) -> Object:
        target = self._target
        confidential = (target.group, target.resource, target.subresource) in _CONFIDENTIAL
        if confidential or self._level not in ("Request", "RequestResponse") or not target.resource:
            return {}
        found: Object = {}
        if self._request.body:
            self._body(found, "requestObject", self._request.body)
        if self._level == "RequestResponse":
            body = response.body if isinstance(response.body, bytes) else b"".join(response.body)
            self._body(found, "responseObject", body)
        return found

    def _body(self, found: Object, name: str, content: bytes) -> None:
        """Left out when it is too long or no JSON (protobuf, YAML, compressed)."""
        if len(content) > _LONGEST_BODY:
            return
        try:
            value = orjson.loads(content)
        except orjson.JSONDecodeError:
            return
        if isinstance(value, dict) and self._bare:
            for obj in (value, *parts(value, "items")):
                part(obj, "metadata").pop("managedFields", None)
        found[name] = value

    def _note(self, stage: str, more: Object) -> None:
        if self._level == "None" or stage in self._omitted:
            return
        request, target, now = self._request, self._target, self._audit.clock.now()
        event: Object = {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": self._level,
            "auditID": self._id,
            "stage": stage,
            "requestURI": request.path + (f"?{request.query}" if request.query else ""),
            "verb": target.verb,
            "user": _user(self._user or User("")),
            "sourceIPs": [request.peer.address] if request.peer.address else [],
            "userAgent": request.headers.get("user-agent", "")[:1024],
            **({"impersonatedUser": _user(self._acting)} if self._acting is not None else {}),
            **({"objectRef": _reference(target)} if target.resource else {}),
            **more,
            "requestReceivedTimestamp": rfc3339_micro(self._received),
            "stageTimestamp": rfc3339_micro(now),
        }
        if self.annotations:
            event["annotations"] = dict(self.annotations)
        self._audit.sink.write(orjson.dumps(event) + b"\n")


def _user(user: User) -> Object:
    info: Object = {"username": user.name, "groups": list(user.groups)}
    if user.uid:
        info["uid"] = user.uid
    if user.extra:
        info["extra"] = user.extra
    return info


def _reference(target: Target) -> Object:
    named = {
        "resource": target.resource,
        "namespace": target.namespace,
        "name": target.name,
        "apiGroup": target.group,
        "apiVersion": target.version,
        "subresource": target.subresource,
    }
    return {key: value for key, value in named.items() if value}
