"""The audit log: who did what, as audit.k8s.io/v1 Events, one JSON line each. What is noted, a policy decides (auditpolicy.py).

In: requests on their way through chain.py (`begin`, `Trail.finish`). Out: lines to a sink. Levels: None, Metadata, Request (with
the request's object), RequestResponse (and the answer's). Bodies of Secrets, token requests and token reviews are never noted,
whatever the level: a log is no place for credentials.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import orjson
from msgspec import Struct

from jota.aio.clock import Clock, rfc3339_micro
from jota.api.auditpolicy import Policy, Verdict
from jota.api.filters.attributes import User
from jota.api.path import Target
from jota.kinds.kind import Object
from jota.kinds.shape import part, parts
from jota.wire.message import Request, Response, Writer

log = logging.getLogger("jota.audit")
LARGEST, BACKUPS = 100 << 20, 5
"""Bytes of one log file, and how many older ones are kept."""
_LONGEST_BODY = 1 << 20
_CONFIDENTIAL = {
    ("", "secrets", ""),
    ("", "serviceaccounts", "token"),
    ("authentication.k8s.io", "tokenreviews", ""),
}


class Sink(Protocol):
    def write(self, line: bytes) -> None:
        """One event. Must not raise."""
        ...


class AuditFile:
    """Lines appended to a file that only its owner may read; a full file is renamed to <name>.1 and so on.

    The lines of one turn of the loop are written together, before the loop waits for anything: a line for each answer that was
    sent in that turn costs one call of the kernel, not one each."""

    def __init__(self, path: Path, largest: int = LARGEST) -> None:
        """Raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._largest = path, largest
        self._lines: list[bytes] = []
        self._file = self._open()

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, line: bytes) -> None:
        if not self._lines:
            asyncio.get_running_loop().call_soon(self._flush)
        self._lines.append(line)

    def _flush(self) -> None:
        left = memoryview(b"".join(self._lines))
        self._lines = []
        try:
            while left:
                left = left[os.write(self._file, left) :]
            if os.fstat(self._file).st_size > self._largest:
                self._rotate()
        except OSError as error:
            log.warning("audit events are lost: %s: %s", self._path, error)

    def _rotate(self) -> None:
        for n in range(BACKUPS, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{n - 1}") if n > 1 else self._path
            if older.exists():
                os.replace(older, self._path.with_name(f"{self._path.name}.{n}"))
        os.close(self._file)
        self._file = self._open()


class UserInfo(Struct, omit_defaults=True):
    username: str
    uid: str = ""
    groups: Sequence[str] = ()
    extra: dict[str, list[str]] | None = None


class Reference(Struct, omit_defaults=True):
    resource: str
    namespace: str = ""
    name: str = ""
    apiGroup: str = ""
    apiVersion: str = ""
    subresource: str = ""


class Status(Struct):
    code: int
    metadata: Object = {}


class Event(Struct, omit_defaults=True, tag_field="kind"):
    """audit.k8s.io/v1."""

    apiVersion: str
    level: str
    auditID: str
    stage: str
    requestURI: str
    verb: str
    user: UserInfo
    requestReceivedTimestamp: str
    stageTimestamp: str
    impersonatedUser: UserInfo | None = None
    sourceIPs: Sequence[str] = ()
    userAgent: str = ""
    objectRef: Reference | None = None
    responseStatus: Status | None = None
    requestObject: Any = None
    responseObject: Any = None
    annotations: dict[str, str] | None = None


_encode = msgspec.json.Encoder().encode


class Audit:
    def __init__(self, policy: Object, sink: Sink, clock: Clock) -> None:
        self.policy, self.sink, self.clock = Policy(policy), sink, clock

    def begin(self, request: Request, target: Target, audit_id: str) -> Trail:
        return Trail(self, request, target, audit_id)


class Trail:
    """What is known of one request so far."""

    __slots__ = ("_acting", "_audit", "_id", "_received", "_request", "_target", "_user", "_verdict", "annotations")

    def __init__(self, audit: Audit, request: Request, target: Target, audit_id: str) -> None:
        self._audit, self._request, self._target, self._id = audit, request, target, audit_id
        self._received = audit.clock.now()
        self._user: User | None = None
        self._acting: User | None = None
        self._verdict = Verdict("None")
        self.annotations: dict[str, str] = {}

    def known(self, user: User, acting: User) -> None:
        """Who asks, and as whom. The policy judges the former, as upstream."""
        self._user, self._acting = user, acting if acting is not user else None
        self._verdict = self._audit.policy.verdict(user, self._target)
        self._note("RequestReceived")

    def decided(self, allowed: bool) -> None:
        self.annotations["authorization.k8s.io/decision"] = "allow" if allowed else "forbid"

    def finish(self, response: Response) -> Response:
        """The same response; a streaming one notes its end when it comes."""
        if self._user is None:  # nobody was let in: who it was is not known
            self.known(User("system:unauthenticated"), User("system:unauthenticated"))
            self._acting = None
        if self._verdict.level == "None":
            return response
        if response.stream is None and response.upgrade is None:
            self._note("ResponseComplete", response.status, *self._bodies(response))
            return response
        self._note("ResponseStarted", response.status)
        return self._followed(response)

    def _followed(self, response: Response) -> Response:
        done = self._done(response.status)
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

    def _done(self, code: int) -> Callable[[], None]:
        def done() -> None:
            self._note("ResponseComplete", code)

        return done

    def _bodies(self, response: Response) -> tuple[Any, Any]:
        """What was asked and what was answered, as far as they are noted."""
        target, level = self._target, self._verdict.level
        if level == "Metadata" or not target.resource:
            return None, None
        if (target.group, target.resource, target.subresource) in _CONFIDENTIAL:
            return None, None
        asked = self._body(self._request.body) if self._request.body else None
        if level != "RequestResponse":
            return asked, None
        return asked, self._body(response.body if isinstance(response.body, bytes) else b"".join(response.body))

    def _body(self, content: bytes) -> Any:
        """Left out when it is too long or no JSON (protobuf, YAML, compressed)."""
        if len(content) > _LONGEST_BODY:
            return None
        try:
            value = orjson.loads(content)
        except orjson.JSONDecodeError:
            return None
        if isinstance(value, dict) and self._verdict.bare:
            for obj in (value, *parts(value, "items")):
                part(obj, "metadata").pop("managedFields", None)
        return value

    def _note(self, stage: str, code: int = 0, asked: Any = None, answered: Any = None) -> None:
        verdict = self._verdict
        if verdict.level == "None" or stage in verdict.omitted:
            return
        request, target, address = self._request, self._target, self._request.peer.address
        reference = None
        if target.resource:
            reference = Reference(
                target.resource, target.namespace, target.name, target.group, target.version, target.subresource
            )
        event = Event(
            "audit.k8s.io/v1",
            verdict.level,
            self._id,
            stage,
            f"{request.path}?{request.query}" if request.query else request.path,
            target.verb,
            _user(self._user or User("")),
            rfc3339_micro(self._received),
            rfc3339_micro(self._audit.clock.now()),
            _user(self._acting) if self._acting is not None else None,
            (address,) if address else (),
            request.headers.get("user-agent", "")[:1024],
            reference,
            Status(code) if code else None,
            asked,
            answered,
            self.annotations or None,
        )
        self._audit.sink.write(_encode(event) + b"\n")


def _user(user: User) -> UserInfo:
    return UserInfo(user.name, user.uid, user.groups, user.extra or None)
