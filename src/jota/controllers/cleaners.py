"""What time removes: expired bootstrap tokens, old events and requests for pod certificates. In: the clock. Out: deletes."""

from __future__ import annotations

import base64
import binascii
from typing import Any, ClassVar

import msgspec

from jota.aio.clock import parse_rfc3339
from jota.controllers.controller import Context, Controller, Sweep, own
from jota.meta.errors import ApiError
from jota.meta.resource import EVENTS, POD_CERTIFICATE_REQUESTS, SECRETS

Object = dict[str, Any]

TOKEN_TYPE = "bootstrap.kubernetes.io/token"
PAGE = 500
REQUEST_KEPT = 900.0
"""Seconds after which a request for a pod certificate is deleted (as upstream's cleaner)."""


def expiration(secret: Object) -> float | None:
    """When a bootstrap token ends (epoch seconds); None: never. What cannot be read has ended (as upstream treats it)."""
    encoded = (secret.get("data") or {}).get("expiration")
    if not encoded:
        return None
    try:
        return parse_rfc3339(base64.b64decode(encoded).decode())
    except (ValueError, binascii.Error):
        return 0.0


class TokenCleaner(Controller):
    """Deletes bootstrap tokens in kube-system at their expiration."""

    name: ClassVar[str] = "token-cleaner"
    workers: ClassVar[int] = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.secrets = self.watch(SECRETS, own, fields=f"type={TOKEN_TYPE}")

    async def reconcile(self, key: str) -> float | None:
        secret = self.secrets.get(key)
        if secret is None or secret["metadata"]["namespace"] != "kube-system":
            return None
        end = expiration(secret)
        if end is None:
            return None
        if end > self.clock.now():
            return end - self.clock.now()
        meta = secret["metadata"]
        try:
            await self.client.delete(
                SECRETS,
                meta["name"],
                meta["namespace"],
                uid=meta["uid"],
                resource_version=meta["resourceVersion"],
            )
        except ApiError as e:
            if e.code != 404:
                raise
        return None


class _Meta(msgspec.Struct, gc=False):
    name: str
    namespace: str
    uid: str
    resourceVersion: str
    creationTimestamp: str | None = None


class _Series(msgspec.Struct, gc=False):
    lastObservedTime: str | None = None


class OldEvent(msgspec.Struct, gc=False):
    metadata: _Meta
    lastTimestamp: str | None = None
    eventTime: str | None = None
    series: _Series | None = None

    @property
    def last(self) -> float:
        """When it was last seen."""
        stamps = (
            self.metadata.creationTimestamp,
            self.lastTimestamp,
            self.eventTime,
            self.series.lastObservedTime if self.series else None,
        )
        return max((parse_rfc3339(s) for s in stamps if s), default=0.0)


class _ListMeta(msgspec.Struct):
    continue_: str = msgspec.field(default="", name="continue")


class _Events(msgspec.Struct):
    metadata: _ListMeta
    items: list[OldEvent]


class _Request(msgspec.Struct, gc=False):
    metadata: _Meta


class _Requests(msgspec.Struct):
    metadata: _ListMeta
    items: list[_Request]


class EventCleaner(Sweep):
    """Deletes events that were not seen for the event TTL."""

    name: ClassVar[str] = "event-cleaner"
    period: ClassVar[float] = 300.0

    async def sweep(self) -> None:
        before, token = self.clock.now() - self.config.event_ttl, ""
        while True:
            page = await self.client.list(EVENTS, limit=PAGE, continue_=token, type=_Events)
            for event in page.items:
                if event.last < before:
                    await self._delete(event.metadata)
            token = page.metadata.continue_
            if not token:
                return

    async def _delete(self, meta: _Meta) -> None:
        try:
            await self.client.delete(
                EVENTS, meta.name, meta.namespace, uid=meta.uid, resource_version=meta.resourceVersion
            )
        except ApiError as e:
            if e.code not in (404, 409):  # 409: it was seen again just now
                raise


class PodCertificateRequestCleaner(Sweep):
    """Deletes requests for pod certificates, answered or not: who asked has seen the answer long ago, or asks anew."""

    name: ClassVar[str] = "podcertificaterequest-cleaner"
    period: ClassVar[float] = 300.0

    async def sweep(self) -> None:
        before, token = self.clock.now() - REQUEST_KEPT, ""
        while True:
            page = await self.client.list(POD_CERTIFICATE_REQUESTS, limit=PAGE, continue_=token, type=_Requests)
            for meta in (request.metadata for request in page.items):
                if meta.creationTimestamp and parse_rfc3339(meta.creationTimestamp) <= before:
                    await self._delete(meta)
            token = page.metadata.continue_
            if not token:
                return

    async def _delete(self, meta: _Meta) -> None:
        try:
            await self.client.delete(POD_CERTIFICATE_REQUESTS, meta.name, meta.namespace, uid=meta.uid)
        except ApiError as e:
            if e.code not in (404, 409):  # gone, or made anew under its name
                raise
