"""What requests share that are alike and about objects of one collection, from when the first of them was let in (straight.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jota.api.respond import PLAIN_HEADERS
from jota.wire.message import Request, Response

if TYPE_CHECKING:
    from jota.api.alikepatches import Manner
    from jota.api.auditline import Form
    from jota.api.filters.attributes import User
    from jota.api.lanes import Lane
    from jota.api.metrics import Row
    from jota.api.negotiate import Accepted
    from jota.api.path import Target
    from jota.api.served import Served, Verb
    from jota.api.server import Api


class Writing(NamedTuple):
    """A verb and what it is called with, but for names and bodies."""

    user: User
    verb: Verb
    accepted: Accepted
    params: dict[str, str]
    seconds: float
    """How long it may take."""


class Patching(NamedTuple):
    manner: Manner
    metadata: bytes
    """The opening of an answer that tells no more than metadata; b"": it tells all."""


class Way(NamedTuple):
    """Out of date when its lane is (lanes.py)."""

    kin: Target
    lane: Lane
    served: Served
    where: str
    """The storage key without the name."""
    form: Form
    """Of the line in the audit log; b"" for none."""
    row: Row
    """Where such requests are counted."""
    writing: Writing | None
    """None: they read."""
    patching: Patching | None
    """How they patch, where all that are like one before are made of it."""

    def noted(self, api: Api, request: Request, name: str, body: bytes, received: float, took: float) -> Response:
        """The answer, when it is counted and in the audit log. `received`: epoch seconds; `took`: seconds."""
        audit_id = next(api.audit_ids)
        self.row.count(200, took)
        if self.form and api.audit is not None:
            api.audit.note_at_once(self.form, audit_id, request.path, name, received, took)
        return Response(200, PLAIN_HEADERS, body, own=self.own_lines(audit_id))

    def own_lines(self, audit_id: str) -> bytes:
        """The headers that are an answer's own."""
        return b"%bAudit-Id: %b\r\n" % (self.lane.flow.lines, audit_id.encode())
