"""What requests share that are alike and about objects of one collection, from when the first of them was let in (straight.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from jota.wire.message import Request, Response

if TYPE_CHECKING:
    from jota.api.auditline import Form
    from jota.api.filters.attributes import User
    from jota.api.foreseen import Foresee
    from jota.api.lanes import Lane
    from jota.api.metrics import Row
    from jota.api.negotiate import Accepted
    from jota.api.path import Target
    from jota.api.served import Served, Verb
    from jota.api.server import Api


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

    def noted(
        self, api: Api, request: Request, name: str, response: Response, received: float, took: float
    ) -> Response:
        """A success, counted and in the audit log, when its path and name are all that the log tells of what it is about.
        `received`: epoch seconds; `took`: seconds."""
        if self.wire or self.form:
            audit_id = next(api.audit_ids)
            if self.form and api.audit is not None:
                api.audit.note_at_once(self.form, audit_id, _uri(request), name, received, took)
            self._own(response, audit_id)
        self.row.count(response.status, took)
        return response

    def noted_in_full(
        self,
        api: Api,
        request: Request,
        name: str,
        response: Response,
        received: float,
        took: float,
        annotations: Mapping[str, str],
    ) -> Response:
        """The same of any outcome, with what its body says it is about."""
        audit_id = next(api.audit_ids)
        if self.form and api.audit is not None:
            trail = api.audit.begin(request, self.kin.named(request.path, name), audit_id)
            trail.received, trail.annotations = received, {**annotations}
            trail.known(self.user, self.user)
            trail.decided(True)
            trail.finish(response)
        self._own(response, audit_id)
        self.row.count(response.status, took)
        return response

    def _own(self, response: Response, audit_id: str) -> None:
        """The headers that are an answer's own."""
        if self.wire:
            response.own = b"%bAudit-Id: %b\r\n" % (self.lane.flow.lines, audit_id.encode())


def identifies(body: bytes) -> bool:
    """Whether the body of a creation or update may say more of what it is about than its name, which the audit log tells then."""
    return b'"uid"' in body or b'"resourceVersion"' in body


def _uri(request: Request) -> str:
    return f"{request.path}?{request.query}" if request.query else request.path
