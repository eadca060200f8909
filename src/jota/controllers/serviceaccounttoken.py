"""Fills Secrets of type kubernetes.io/service-account-token: a token of the account that they name, which does not end, the
cluster's CA, and the namespace. In: such Secrets, accounts. Out: their data; the Secret goes when its account is gone.

The rules are those of upstream's token controller. `filled` is pure.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, ClassVar

from jota.controllers.controller import Context, Controller, own
from jota.controllers.views import Partial
from jota.kinds.core import legacytoken
from jota.kinds.core.secret import ACCOUNT_NAME, ACCOUNT_UID, SERVICE_ACCOUNT_TOKEN
from jota.meta.errors import ApiError
from jota.meta.resource import SECRETS, SERVICEACCOUNTS

Object = dict[str, Any]


def account_of(secret: Object) -> str:
    """The key of the account that it is for; "" when it names none."""
    name = (secret["metadata"].get("annotations") or {}).get(ACCOUNT_NAME, "")
    return f"{secret['metadata']['namespace']}/{name}" if name else ""


def filled(secret: Object, uid: str, ca: str, sign: Callable[[Object], str]) -> Object | None:
    """The Secret with what it lacks; None when it lacks nothing. `uid`: of its account; `ca`: PEM, "" when there is none."""
    meta, data = secret["metadata"], dict(secret.get("data") or {})
    namespace, name = account_of(secret).split("/")
    if ca:
        data["ca.crt"] = _base64(ca)
    if not data.get("namespace"):
        data["namespace"] = _base64(namespace)
    if not data.get("token"):
        data["token"] = _base64(sign(legacytoken.claims(namespace, name, uid, meta["name"])))
    if data == secret.get("data"):
        return None
    annotations = {**meta["annotations"], ACCOUNT_UID: uid}
    return {**secret, "metadata": {**meta, "annotations": annotations}, "data": data}


class ServiceAccountTokenController(Controller):
    name: ClassVar[str] = "serviceaccount-token"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.secrets = self.watch(SECRETS, own, fields=f"type={SERVICE_ACCOUNT_TOKEN}")
        self.secrets.add_index("account", lambda secret: [account_of(secret)])
        self.accounts = self.watch(SERVICEACCOUNTS, self._secrets_of, when=_another, type=Partial)

    def _secrets_of(self, account: Partial) -> list[str]:
        meta = account.metadata
        found = self.secrets.by_index("account", f"{meta.namespace}/{meta.name}")
        return [f"{s['metadata']['namespace']}/{s['metadata']['name']}" for s in found]

    async def reconcile(self, key: str) -> float | None:
        secret, signer = self.secrets.get(key), self.config.token_signer
        if signer is None or secret is None or "deletionTimestamp" in secret["metadata"] or not account_of(secret):
            return None
        uid = await self._uid(account_of(secret))
        wanted = secret["metadata"]["annotations"].get(ACCOUNT_UID)
        if not uid or (wanted and wanted != uid):
            await self._remove(secret)
            return None
        changed = filled(secret, uid, self.config.ca_pem, signer.sign)
        if changed is not None:
            self.wrote(key, self.secrets, await self.client.update(SECRETS, changed))
        return None

    async def _uid(self, key: str) -> str:
        """Of the account as it is now: what is not in the cache may be there. "" when it is gone."""
        account = self.accounts.get(key)
        if account is not None:
            return str(account.metadata.uid)
        namespace, name = key.split("/")
        try:
            return str((await self.client.get(SERVICEACCOUNTS, name, namespace))["metadata"]["uid"])
        except ApiError as error:
            if error.code != 404:
                raise
            return ""

    async def _remove(self, secret: Object) -> None:
        meta = secret["metadata"]
        try:
            await self.client.delete(SECRETS, meta["name"], meta["namespace"], uid=meta["uid"])
        except ApiError as error:
            if error.code not in (404, 409):  # it is gone, or another one has its name
                raise


def _another(old: Partial | None, new: Partial | None) -> bool:
    return old is None or new is None or old.metadata.uid != new.metadata.uid


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
