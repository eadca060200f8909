"""The lines of the audit log: audit.k8s.io/v1 Events as JSON. In: what is known of a request at one of its stages. Out: a line.

The requests of one user from one place about one kind of thing differ in their ids, paths, names and times, and in what came of
them; all else of a line is encoded once and remembered. Next: audit.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct

from jota.aio.clock import rfc3339
from jota.api.filters.attributes import User
from jota.api.path import Target
from jota.kinds.kind import Object

_REMEMBERED = 4096
_OPEN = Raw(b"\0")
"""Stands where the lines of one form differ: nothing that the encoder gives holds such a byte."""
Form = bytes
"""A line with `%b` where it differs, and `%%` for each percent sign in between."""
_encode = msgspec.json.Encoder().encode


class UserInfo(Struct, omit_defaults=True):
    username: str
    uid: str = ""
    groups: Sequence[str] = ()
    extra: dict[str, list[str]] | None = None


class Reference(Struct, omit_defaults=True):
    resource: str
    namespace: str = ""
    name: str | Raw = ""
    uid: str | Raw = ""
    apiGroup: str = ""
    apiVersion: str = ""
    resourceVersion: str | Raw = ""
    subresource: str = ""


class About(NamedTuple):
    """What a line tells of the one object that a request is about; "" where it does not."""

    name: str = ""
    uid: str = ""
    version: str = ""

    @property
    def parts(self) -> tuple[bool, bool, bool]:
        """Which of them are told."""
        return bool(self.name), bool(self.uid), bool(self.version)


class Event(Struct, omit_defaults=True, tag_field="kind"):
    """audit.k8s.io/v1, without what came of it (Outcome)."""

    apiVersion: str
    level: str
    auditID: Raw
    stage: str
    requestURI: Raw
    verb: str
    user: UserInfo
    requestReceivedTimestamp: Raw
    stageTimestamp: Raw
    impersonatedUser: UserInfo | None = None
    sourceIPs: Sequence[str] = ()
    userAgent: str = ""
    objectRef: Reference | None = None


class Status(Struct):
    code: int
    metadata: Object = {}


class Outcome(Struct, omit_defaults=True):
    """The rest of an Event that tells of an answer."""

    responseStatus: Status
    requestObject: Any = None
    responseObject: Any = None
    annotations: Mapping[str, str] | None = None


class Lines:
    """What is remembered of them."""

    def __init__(self) -> None:
        self._forms: dict[tuple[object, ...], tuple[User, bytes]] = {}
        self._second, self._written = -1_000_000, b""
        """The second that was last written down, in microseconds since the epoch, and how its times begin."""

    def form(
        self,
        level: str,
        stage: str,
        user: User,
        acting: User | None,
        target: Target,
        about: About,
        address: str,
        agent: str,
    ) -> Form:
        """The line with `%b` in place of what `fill` fills in. `acting`: as whom `user` asks, if not as himself."""
        if acting is not None:
            return _form(level, stage, user, acting, target, about, address, agent)
        key = (level, stage, user.name, user.groups, target.kin or target.verb, about.parts, address, agent)
        known = self._forms.get(key)
        if known is None or (known[0] is not user and known[0] != user):  # they may have the same name, but another uid
            if len(self._forms) >= _REMEMBERED:
                self._forms.clear()
            known = self._forms[key] = user, _form(level, stage, user, None, target, about, address, agent)
        return known[1]

    def fill(
        self, form: bytes, audit_id: str, uri: str, about: About, received: float, now: float, outcome: Outcome | None
    ) -> bytes:
        """The line, with its end. `received`, `now`: epoch seconds, of the request and of its stage."""
        rest = b"}" if outcome is None else b"," + _encode(outcome)[1:]
        own = _encode(audit_id), _encode(uri), self._time(received), self._time(now)
        return form % (*own, *[_encode(part) for part in about if part], rest)

    def whole(
        self,
        level: str,
        stage: str,
        user: User,
        target: Target,
        address: str,
        agent: str,
        code: int,
        annotations: Mapping[str, str],
    ) -> Form:
        """As `form`, of an answer with these annotations and no bodies, of whose object no more than the name is told: nothing is
        left but what `fill_whole` fills in."""
        rest = _encode(Outcome(Status(code), annotations=annotations))[1:]
        return (
            self.form(level, stage, user, None, target, About(target.name), address, agent)[:-3]
            + b","
            + rest.replace(b"%", b"%%")
            + b"\n"
        )

    def fill_whole(self, form: Form, audit_id: str, uri: str, name: str, received: float, now: float) -> bytes:
        """As `fill`, of a form that knows what came of it."""
        own = _encode(audit_id), _encode(uri), self._time(received), self._time(now)
        return form % ((*own, _encode(name)) if name else own)

    def _time(self, seconds: float) -> bytes:
        """metav1.MicroTime, as `rfc3339_micro` has it."""
        micro = round(seconds * 1_000_000)
        within = micro - self._second
        if not 0 <= within < 1_000_000:
            within = micro % 1_000_000
            self._second = micro - within
            self._written = b'"' + rfc3339(self._second // 1_000_000)[:-1].encode()
        return b'%b.%06dZ"' % (self._written, within)


def _form(
    level: str, stage: str, user: User, acting: User | None, target: Target, about: About, address: str, agent: str
) -> bytes:
    reference = None
    if target.resource:
        name, uid, version = (_OPEN if told else "" for told in about.parts)
        where = target.resource, target.namespace, name, uid, target.group, target.version, version
        reference = Reference(*where, target.subresource)
    event = Event(
        "audit.k8s.io/v1",
        level,
        _OPEN,
        stage,
        _OPEN,
        target.verb,
        _user(user),
        _OPEN,
        _OPEN,
        _user(acting) if acting is not None else None,
        (address,) if address else (),
        agent,
        reference,
    )
    return _encode(event)[:-1].replace(b"%", b"%%").replace(b"\0", b"%b") + b"%b\n"


def _user(user: User) -> UserInfo:
    return UserInfo(user.name, user.uid, user.groups, user.extra or None)
