"""What requests share that are alike and about objects of one collection, from when the first of them was let in (straight.py)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from jota.wire.message import Request, Response

if TYPE_CHECKING:
    from jota.api.audit import Audit
    from jota.api.auditline import Form
    from jota.api.filters.attributes import User
    from jota.api.foreseen import Foresee
    from jota.api.lanes import Lane
    from jota.api.metrics import Row
    from jota.api.negotiate import Accepted
    from jota.api.path import Target
    from jota.api.served import Served, Verb
    from jota.api.server import Api

NO_ANNOTATIONS: Mapping[str, str] = MappingProxyType({})


class Writing(NamedTuple):
    """A verb and what it is called with, but for names and bodies."""

    verb: Verb
    accepted: Accepted
    params: dict[str, str]
    seconds: float
    """How long it may take."""
    foresee: Foresee | None
    """How it is known what it makes before it is called; None: it is not."""


class Way(NamedTuple):
    """Out of date when its lane is (lanes.py)."""

    user: User
    kin: Target
    lane: Lane
    served: Served
    where: str
    """The storage key without the name."""
    code: int
    """Of a success."""
    form: Form
    """Of the line of a success in the audit log, with a name; b"" for none."""
    row: Row
    """Where such requests are counted."""
    writing: Writing | None
    """None: they read."""
    wire: bool
    """They come over one: somebody is told by which id the audit log has them."""

    def audited(
        self,
        audit: Audit,
        request: Request,
        name: str,
        response: Response,
        received: float,
        annotations: Mapping[str, str],
        audit_id: str,
    ) -> None:
        """What is no success as any other."""
        trail = audit.begin(request, self.kin.named(request.path, name), audit_id)
        trail.received, trail.annotations = received, {**annotations}
        trail.known(self.user, self.user)
        trail.decided(True)
        trail.finish(response)

    def noted(
        self,
        api: Api,
        request: Request,
        name: str,
        response: Response,
        received: float,
        took: float,
        annotations: Mapping[str, str] = NO_ANNOTATIONS,
    ) -> Response:
        """The answer, counted and in the audit log. `received`: epoch seconds; `took`: seconds; `annotations`: of admission."""
        if self.wire or self.form:
            audit_id = next(api.audit_ids)
            if self.form and api.audit is not None:
                if response.status != self.code or not name or annotations or _identifies(request):
                    self.audited(api.audit, request, name, response, received, annotations, audit_id)
                else:
                    api.audit.note_at_once(self.form, audit_id, _uri(request), name, received, took)
            if self.wire:
                response.own = own_lines(self.lane.flow.lines, audit_id)
        self.row.count(response.status, took)
        return response


def own_lines(flow: bytes, audit_id: str) -> bytes:
    """The headers that are an answer's own. `flow`: the lines of its flow."""
    return b"%bAudit-Id: %b\r\n" % (flow, audit_id.encode())


def _identifies(request: Request) -> bool:
    """Whether the body of a creation or update may say more of what it is about than its name, which the audit log tells then."""
    body = request.body
    return request.method in ("POST", "PUT") and (b'"uid"' in body or b'"resourceVersion"' in body)


def _uri(request: Request) -> str:
    return f"{request.path}?{request.query}" if request.query else request.path
