"""Notes on which day a token that is kept in a Secret was last used, in a label of that Secret, as upstream does (KEP-2799).

In: `Uses.note`, from who accepts such a token (tokens.py), at each use. Out: a patch a day and Secret, from a task of the server:
the request does not wait for it. Beside it the ConfigMap that says since when this is done.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import orjson

from jota.api import bootstrap
from jota.api.filters.attributes import COMPONENT
from jota.kinds.core.legacytoken import LAST_USED, SINCE, TRACKING, day, is_day
from jota.meta.resource import CONFIGMAPS, SECRETS
from jota.wire.message import Request

if TYPE_CHECKING:
    from jota.api.server import Api

log = logging.getLogger("jota.api")
_DAY = 86400


class Uses:
    def __init__(self, api: Api) -> None:
        self._api = api
        self._todo: dict[tuple[str, str, str], str] = {}
        """(namespace, name, uid) -> day."""
        self._changed = asyncio.Event()

    def note(self, secret: dict[str, Any]) -> None:
        """Its token was used just now. Tomorrow's label counts, too: another server's clock may be ahead."""
        now, meta = self._api.clock.now(), secret["metadata"]
        if (meta.get("labels") or {}).get(LAST_USED) not in (day(now), day(now + _DAY)):
            self._todo[meta["namespace"], meta["name"], meta["uid"]] = day(now)
            self._changed.set()

    async def write(self) -> None:
        """Until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            for key in list(self._todo):
                await self._write(*key, self._todo.pop(key))

    async def _write(self, namespace: str, name: str, uid: str, today: str) -> None:
        patch = {"metadata": {"uid": uid, "labels": {LAST_USED: today}}}
        headers = {"content-type": "application/merge-patch+json", **bootstrap.AGENT}
        path = SECRETS.path(namespace, name)
        answer = await self._api.handle(Request("PATCH", path, "", headers, orjson.dumps(patch), user=COMPONENT))
        if answer.status not in (200, 404, 409):  # gone, or another of its name
            log.warning("the use of the token in %s/%s was not noted: %r", namespace, name, answer.body)


async def tracked(api: Api) -> None:
    """The ConfigMap that says since when; what is no day there counts from today on. Raises RuntimeError."""
    if api.engine.tokens is None:
        return  # nobody comes with tokens here
    found = api.registry.get(CONFIGMAPS, "kube-system", TRACKING)
    if found is None or not is_day(str((found.get("data") or {}).get(SINCE, ""))):
        meta = {"name": TRACKING, "namespace": "kube-system"}
        await bootstrap.put(api, CONFIGMAPS, {"metadata": meta, "data": {SINCE: day(api.clock.now())}})
