"""Ends the tokens in Secrets that nobody has used for a year: first marked invalid, and deleted after another year (KEP-2799).

In: Secrets of type kubernetes.io/service-account-token that a ServiceAccount names in `secrets`, as upstream once made them for
every account; those that people make by hand are theirs. Labels say when they were used (api/legacyuses.py). Out: a label, a
delete. The rules are those of upstream's legacy-serviceaccount-token-cleaner; `verdict` is pure.
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar, Literal

from jota.aio.clock import parse_rfc3339
from jota.controllers.controller import Sweep
from jota.controllers.serviceaccounttoken import account_of
from jota.kinds.core.legacytoken import INVALID_SINCE, LAST_USED, SINCE, TRACKING, day, is_day
from jota.kinds.core.secret import ACCOUNT_UID, SERVICE_ACCOUNT_TOKEN
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, PODS, SECRETS, SERVICEACCOUNTS

Object = dict[str, Any]
log = logging.getLogger(__name__)
DAY = 86400.0


def unused(secret: Object, before: float) -> bool:
    """Not used since then. Uses without a label were before any were noted."""
    meta = secret["metadata"]
    if "deletionTimestamp" in meta or parse_rfc3339(meta["creationTimestamp"]) >= before:
        return False
    used = (meta.get("labels") or {}).get(LAST_USED)
    return used is None or (is_day(used) and used < day(before))


def names(account: Object, secret: Object) -> bool:
    """The account says that the Secret is one of its own."""
    uid, meta = secret["metadata"]["annotations"].get(ACCOUNT_UID), account["metadata"]
    if uid and uid != meta["uid"]:
        return False
    return any(one.get("name") == secret["metadata"]["name"] for one in account.get("secrets") or ())


def mentions(value: Any, name: str) -> bool:
    """Somewhere in a pod's spec: more than the references to Secrets, and never less."""
    if isinstance(value, dict):
        return any(mentions(each, name) for each in value.values())
    if isinstance(value, list):
        return any(mentions(each, name) for each in value)
    return bool(value == name)


def verdict(secret: Object, before: float) -> Literal["mark", "delete", ""]:
    """Of one that is unused, and that no pod has."""
    since = (secret["metadata"].get("labels") or {}).get(INVALID_SINCE, "")
    if not is_day(since):
        return "mark"
    return "delete" if since < day(before) else ""


class LegacyTokenCleaner(Sweep):
    name: ClassVar[str] = "legacy-serviceaccount-token-cleaner"
    period: ClassVar[float] = DAY

    async def reconcile(self, key: str) -> float | None:
        await self.sweep()
        return min(self.period, self.config.legacy_token_unused)

    async def sweep(self) -> None:
        now = self.clock.now()
        before, since = now - self.config.legacy_token_unused, await self._tracked_since()
        if since is None or before < since:
            return  # who used a token before uses were noted cannot be told from who did not
        found = await self.client.list(SECRETS, fields=f"type={SERVICE_ACCOUNT_TOKEN}")
        for secret in found["items"]:
            if unused(secret, before) and await self._named(secret) and not await self._mounted(secret):
                await self._carry_out(verdict(secret, before), secret, now)

    async def _tracked_since(self) -> float | None:
        """The first moment of the first day whose uses were all noted."""
        try:
            found = await self.client.get(CONFIGMAPS, TRACKING, "kube-system")
        except ApiError as e:
            if e.code != 404:
                raise
            return None
        since = str((found.get("data") or {}).get(SINCE, ""))
        return parse_rfc3339(f"{since}T00:00:00Z") + DAY if is_day(since) else None

    async def _named(self, secret: Object) -> bool:
        namespace, _, account = account_of(secret).partition("/")
        if not account:
            return False
        try:
            return names(await self.client.get(SERVICEACCOUNTS, account, namespace), secret)
        except ApiError as e:
            if e.code != 404:
                raise
            return False

    async def _mounted(self, secret: Object) -> bool:
        meta = secret["metadata"]
        pods = (await self.client.list(PODS, meta["namespace"]))["items"]
        return any(mentions(pod["spec"], meta["name"]) for pod in pods)

    async def _carry_out(self, what: str, secret: Object, now: float) -> None:
        meta = secret["metadata"]
        namespace, name = meta["namespace"], meta["name"]
        try:
            if what == "mark":
                log.info("the token in secret %s/%s, unused for long, is marked invalid", namespace, name)
                patch = {"metadata": {"uid": meta["uid"], "labels": {INVALID_SINCE: day(now)}}}
                await self.client.patch(SECRETS, name, namespace, patch)
            elif what == "delete":
                log.info("the token in secret %s/%s, invalid for long, is deleted", namespace, name)
                version = meta["resourceVersion"]
                await self.client.delete(SECRETS, name, namespace, uid=meta["uid"], resource_version=version)
        except ApiError as e:
            if e.code not in (404, 409):  # gone, or used just now
                raise
