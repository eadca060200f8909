"""Every namespace has a ServiceAccount `default`. In: namespaces. Out: the account, again whenever it is deleted."""

from __future__ import annotations

from typing import Any, ClassVar

from jota.controllers.controller import Context, Controller, own
from jota.meta.errors import ApiError
from jota.meta.resource import NAMESPACES, SERVICEACCOUNTS

Object = dict[str, Any]


class ServiceAccountController(Controller):
    name: ClassVar[str] = "serviceaccount"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.namespaces = self.watch(NAMESPACES, own)
        self.accounts = self.watch(
            SERVICEACCOUNTS, namespace_of, when=lambda _, new: new is None, fields="metadata.name=default"
        )

    async def reconcile(self, key: str) -> float | None:
        if not is_open(self.namespaces.get(key)) or self.accounts.get(f"{key}/default") is not None:
            return None
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": key}}
        await create_once(self.client.create(SERVICEACCOUNTS, account))
        return None


def is_open(namespace: Object | None) -> bool:
    """It exists and takes new objects."""
    return namespace is not None and "deletionTimestamp" not in namespace["metadata"]


def namespace_of(obj: Object) -> tuple[str]:
    return (obj["metadata"]["namespace"],)


async def create_once(creating: Any) -> None:
    """Await a create; that the object exists already, or that its namespace is closing, is fine."""
    try:
        await creating
    except ApiError as e:
        if e.reason != "AlreadyExists" and not any(c.reason == "NamespaceTerminating" for c in e.causes):
            raise
