"""The audit trail of a request that is many (several.py, Client.create_alike, create_each): a line for each that was done, as if it had
come alone.

In: such a request, which comes from this process alone. Out: its Trail; None where the policy wants more of each than its
Metadata at the end, or judges by names: then all of them are sent by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator

import orjson
from msgspec.structs import replace

from jota.api import several
from jota.api.audit import Audit, Trail
from jota.api.path import Target
from jota.wire.message import Request, Response, joined


class TrailOfMany(Trail):
    ids: Iterator[str] = iter(())
    """Of the lines."""

    def finish(self, response: Response) -> None:
        body = joined(response.body)
        if several.asked(self.request):
            if response.status < 300:  # else whoever sent them sends them by themselves
                self._note_each(_done(self.request, orjson.loads(body)), replace(self.target, name=several.ANY))
        elif body[:1] == b"[":
            self._note_each([""] * len(orjson.loads(body)), self.target)
        else:  # one of them was made
            super().finish(response)

    def _note_each(self, names: list[str], target: Target) -> None:
        audit, request = self.audit, self.request
        code = 201 if request.method == "POST" else 200
        form = audit.at_once(request.user, target, request, code, self.annotations)
        took = audit.clock.now() - self.received
        if not form:
            return
        for name in names:
            uri = request.path.replace(several.ANY, name)
            audit.note_at_once(form, next(self.ids), uri, name, self.received, took)


def begin(audit: Audit, request: Request, target: Target, audit_id: str, ids: Iterator[str]) -> Trail | None:
    user = request.user
    if request.times == 1 or user is None or audit.at_once(user, target, request) is None:
        return None
    return TrailOfMany(audit, request, target, audit_id, audit.clock.now(), ids=ids)


def _done(request: Request, answers: list[object]) -> list[str]:
    """The names of those that were done."""
    pairs = zip(orjson.loads(request.body), answers, strict=True)
    return [one[0] if isinstance(one, list) else one["metadata"]["name"] for one, done in pairs if done]
