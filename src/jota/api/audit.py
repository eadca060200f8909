"""The audit log: who did what, as audit.k8s.io/v1 Events, one JSON line each. What is noted, a policy decides (auditpolicy.py).

In: requests on their way through chain.py (`begin`, `Trail.finish`). Out: lines to a sink. Levels: None, Metadata, Request (with
the request's object), RequestResponse (and the answer's). Bodies of Secrets, token requests and token reviews are never noted,
whatever the level: a log is no place for credentials.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
import orjson
from msgspec import Struct

from jota.aio.clock import Clock
from jota.api.auditline import About, Form, Lines, Outcome, Status
from jota.api.auditpolicy import NOTHING, Policy, Verdict
from jota.api.filters.attributes import User
from jota.api.path import Target
from jota.kinds.kind import Object
from jota.kinds.shape import part, parts
from jota.meta.depth import MAX_DEPTH, too_deep
from jota.wire.message import Body, Request, Response, Writer, joined

log = logging.getLogger("jota.audit")
LARGEST, BACKUPS = 100 << 20, 5
"""Bytes of one log file, and how many older ones are kept."""
_LONGEST_BODY = 1 << 20
NOBODY = About()
RECEIVED, COMPLETE = "RequestReceived", "ResponseComplete"
ALLOWED = {"authorization.k8s.io/decision": "allow"}
FORBIDDEN = {"authorization.k8s.io/decision": "forbid"}
_CONFIDENTIAL = {
    ("", "secrets", ""),
    ("", "serviceaccounts", "token"),
    ("authentication.k8s.io", "tokenreviews", ""),
}


class Sink(Protocol):
    def write(self, lines: list[bytes]) -> None:
        """Some events, a line each. Must not raise."""
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

    def write(self, lines: list[bytes]) -> None:
        left = memoryview(b"".join(lines))
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


class Noted(Struct):
    """A stage that a request came to."""

    trail: Trail
    stage: str
    time: float
    """Epoch seconds."""
    code: int = 0
    answer: Body | None = None
    """The whole answer, where that is its end."""

    @property
    def uri(self) -> str:
        return self.trail.request.path

    def line(self, lines: Lines) -> bytes:
        return self.trail.line(self, lines)


class NotedAtOnce(NamedTuple):
    """An answer of which only this is its own (straight.py)."""

    form: Form
    id: str
    uri: str
    name: str
    received: float
    """Epoch seconds."""
    took: float

    def line(self, lines: Lines) -> bytes:
        return lines.fill_whole(self.form, self.id, self.uri, self.name, self.received, self.received + self.took)


class Audit:
    """What is noted in one turn of the loop is written down together, before the loop waits for anything: by then the answers
    are sent, and one line after the other is the quickest way to make and to write them."""

    def __init__(self, policy: Object, sink: Sink, clock: Clock) -> None:
        self.policy, self.sink, self.clock = Policy(policy), sink, clock
        self.lines = Lines()
        self._noted: list[Noted | NotedAtOnce] = []

    def begin(self, request: Request, target: Target, audit_id: str) -> Trail:
        return Trail(self, request, target, audit_id, self.clock.now())

    def at_once(
        self,
        user: User,
        target: Target,
        request: Request,
        code: int = 200,
        annotations: Mapping[str, str] = ALLOWED,
    ) -> Form | None:
        """The line of a success without bodies, for all requests with these headers of this user about such targets; b"": none.
        None: they have other lines, more of them, or their names decide."""
        if self.policy.named:
            return None
        verdict = self.policy.verdict(user, target)
        if verdict.level == "None":
            return b""
        if verdict.level != "Metadata" or RECEIVED not in verdict.omitted:
            return None
        if COMPLETE in verdict.omitted:
            return b""
        address, agent = request.peer.address, _agent(request)
        return self.lines.whole(verdict.level, COMPLETE, user, target, address, agent, code, annotations)

    def note_at_once(self, form: Form, audit_id: str, uri: str, name: str, received: float, took: float) -> None:
        """`received`: epoch seconds; `took`: seconds."""
        self.note(NotedAtOnce(form, audit_id, uri, name, received, took))

    def note(self, noted: Noted | NotedAtOnce) -> None:
        if not self._noted:
            asyncio.get_running_loop().call_soon(self._write)
        self._noted.append(noted)

    def _write(self) -> None:
        noted, self._noted = self._noted, []
        lines: list[bytes] = []
        for one in noted:
            try:
                line = one.line(self.lines)
            except Exception:  # it shall not take the others with it
                log.exception("an audit event is lost: %s", one.uri)
                continue
            if line:
                lines.append(line)
        if lines:
            self.sink.write(lines)


class Trail(Struct, eq=False):
    """What is known of one request so far. The request must not lead to it: who holds whom goes one way."""

    audit: Audit
    request: Request
    target: Target
    id: str
    received: float
    """Epoch seconds."""
    annotations: dict[str, str] = {}
    user: User | None = None
    acting: User | None = None
    verdict: Verdict = NOTHING
    """The policy's, from when the user is known."""

    def known(self, user: User, acting: User) -> None:
        """Who asks, and as whom. The policy judges the former, as upstream."""
        self.user, self.acting = user, acting if acting is not user else None
        self.verdict = self.audit.policy.verdict(user, self.target)
        if self.audit.policy.receives:
            self._note(RECEIVED)

    def decided(self, allowed: bool) -> None:
        self.annotations |= ALLOWED if allowed else FORBIDDEN

    def finish(self, response: Response) -> None:
        """What the answer is; a streaming one is changed to note its end when it comes."""
        if self.user is None:  # nobody was let in: who it was is not known
            self.known(User("system:unauthenticated"), User("system:unauthenticated"))
            self.acting = None
        if self.verdict.level == "None":
            return
        if response.stream is None and response.upgrade is None:
            self._note(COMPLETE, response.status, response.body)
        else:
            self._note("ResponseStarted", response.status)
            self._follow(response)

    def _note(self, stage: str, code: int = 0, answer: Body | None = None) -> None:
        self.audit.note(Noted(self, stage, self.audit.clock.now(), code, answer))

    def _follow(self, response: Response) -> None:
        code, stream, upgrade = response.status, response.stream, response.upgrade
        if stream is not None:

            async def watched(writer: Writer) -> None:
                try:
                    await stream(writer)
                finally:
                    self._note(COMPLETE, code)

            response.stream = watched
        if upgrade is not None:

            async def owned(duplex: Any) -> None:
                try:
                    await upgrade(duplex)
                finally:
                    self._note(COMPLETE, code)

            response.upgrade = owned

    def line(self, noted: Noted, lines: Lines) -> bytes:
        """b"" when the policy does not want it."""
        verdict, request, target = self.verdict, self.request, self.target
        if verdict.level == "None" or noted.stage in verdict.omitted:
            return b""
        asked, answered = self._bodies(verdict, noted)
        agent = _agent(request)
        user = self.user or User("")
        about = self._about(noted)
        form = lines.form(verdict.level, noted.stage, user, self.acting, target, about, request.peer.address, agent)
        uri = f"{request.path}?{request.query}" if request.query else request.path
        outcome = None
        if noted.code:  # else it was received just now, and nobody has decided anything
            outcome = Outcome(Status(noted.code), asked, answered, self.annotations or None)
        return lines.fill(form, self.id, uri, about, self.received, noted.time, outcome)

    def _about(self, noted: Noted) -> About:
        """What the path does not tell is in what was sent, or, where that is no JSON, in the answer (the name alone: upstream tells
        nothing of it that the server made)."""
        target, request = self.target, self.request
        if not target.resource:
            return NOBODY
        if not noted.code or target.verb not in ("create", "update") or not request.body:
            return About(target.name)
        meta = _metadata(request.body)
        if meta is None:
            told = noted.answer if isinstance(noted.answer, bytes) and noted.code < 300 else b""
            meta = _Meta((_metadata(told) or _Meta()).name)
        return About(target.name or meta.name, meta.uid, meta.resourceVersion)

    def _bodies(self, verdict: Verdict, noted: Noted) -> tuple[Any, Any]:
        """What was asked and what was answered, as far as they are noted."""
        target, level, answer = self.target, verdict.level, noted.answer
        if level == "Metadata" or answer is None or not target.resource:
            return None, None
        if (target.group, target.resource, target.subresource) in _CONFIDENTIAL:
            return None, None
        asked = _body(self.request.body, verdict.bare) if self.request.body else None
        if level != "RequestResponse":
            return asked, None
        return asked, _body(joined(answer), verdict.bare)


class _Meta(Struct, frozen=True):
    name: str = ""
    uid: str = ""
    resourceVersion: str = ""


class _Object(Struct):
    metadata: _Meta = _Meta()


_decode_object = msgspec.json.Decoder(_Object).decode


def _metadata(content: bytes) -> _Meta | None:
    """None: it is no object in JSON."""
    try:
        return _decode_object(content).metadata
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _agent(request: Request) -> str:
    return request.headers.get("user-agent", "")[:1024]


def _body(content: bytes, bare: bool) -> Any:
    """Left out when it is too long, nested too deep or no JSON (protobuf, YAML, compressed). `bare`: without managedFields."""
    if len(content) > _LONGEST_BODY:
        return None
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    if (content.count(b"{") > MAX_DEPTH or content.count(b"[") > MAX_DEPTH) and too_deep(value):
        return None
    if isinstance(value, dict) and bare:
        for obj in (value, *parts(value, "items")):
            part(obj, "metadata").pop("managedFields", None)
    return value
