"""Every namespace has a ConfigMap kube-root-ca.crt with the cluster's CA, from which pods verify the API server."""

from __future__ import annotations

from typing import Any, ClassVar

from jota.controllers.controller import Context, Controller, own
from jota.controllers.serviceaccount import create_once, is_open, namespace_of
from jota.meta.resource import CONFIGMAPS, NAMESPACES

Object = dict[str, Any]

NAME = "kube-root-ca.crt"
DESCRIPTION = {
    "kubernetes.io/description": "The CA that signs the API server's certificate for addresses inside the cluster, "
    "such as kubernetes.default.svc."
}


class RootCAPublisher(Controller):
    name: ClassVar[str] = "root-ca-certificate-publisher"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.namespaces = self.watch(NAMESPACES, own)
        self.maps = self.watch(CONFIGMAPS, namespace_of, fields=f"metadata.name={NAME}")

    async def reconcile(self, key: str) -> float | None:
        if not self.config.ca_pem or not is_open(self.namespaces.get(key)):
            return None
        data, current = {"ca.crt": self.config.ca_pem}, self.maps.get(f"{key}/{NAME}")
        if current is None:
            meta = {"name": NAME, "namespace": key, "annotations": DESCRIPTION}
            made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}
            await create_once(self.client.create(CONFIGMAPS, made))
        elif current.get("data") != data:
            self.wrote(key, self.maps, await self.client.update(CONFIGMAPS, {**current, "data": data}))
        return None
