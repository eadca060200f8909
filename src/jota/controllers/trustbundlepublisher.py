"""One ClusterTrustBundle says who signs the API server's certificate: pods mount it by the signer's name.

In: the cluster's CA. Out: kubernetes.io:kube-apiserver-serving:<hash of the CA>, and no other bundle of this signer. (The older
way, a ConfigMap in every namespace, is rootca.py.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, ClassVar

from jota.controllers.controller import Context, Controller
from jota.controllers.serviceaccount import create_once
from jota.meta.errors import ApiError
from jota.meta.resource import CLUSTER_TRUST_BUNDLES

Object = dict[str, Any]

SIGNER = "kubernetes.io/kube-apiserver-serving"
_KEY = "bundle"


def wanted(ca_pem: str) -> Object:
    """The bundle. A new CA is a new name, so that no pod ever reads half of a change."""
    name = f"{SIGNER.replace('/', ':')}:{hashlib.sha256(ca_pem.encode()).hexdigest()[:24]}"
    return {
        "apiVersion": CLUSTER_TRUST_BUNDLES.api_version,
        "kind": CLUSTER_TRUST_BUNDLES.kind,
        "metadata": {"name": name},
        "spec": {"signerName": SIGNER, "trustBundle": ca_pem},
    }


class TrustBundlePublisher(Controller):
    name: ClassVar[str] = "kube-apiserver-serving-clustertrustbundle-publisher"
    workers: ClassVar[int] = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.bundles = self.watch(CLUSTER_TRUST_BUNDLES, lambda _: (_KEY,), fields=f"spec.signerName={SIGNER}")
        self.queue.add(_KEY)

    def all_keys(self) -> Iterable[str]:
        return (_KEY,)

    async def reconcile(self, key: str) -> float | None:
        if not self.config.ca_pem:
            return None
        bundle = wanted(self.config.ca_pem)
        name = bundle["metadata"]["name"]
        current = self.bundles.get(name)
        if current is None:
            await create_once(self.client.create(CLUSTER_TRUST_BUNDLES, bundle))
        elif current["spec"] != bundle["spec"]:
            changed = {**current, "spec": bundle["spec"]}
            self.wrote(key, self.bundles, await self.client.update(CLUSTER_TRUST_BUNDLES, changed))
        for old in [meta for b in self.bundles.list() if (meta := b["metadata"])["name"] != name]:
            try:
                await self.client.delete(CLUSTER_TRUST_BUNDLES, old["name"], uid=old["uid"])
            except ApiError as e:
                if e.code not in (404, 409):
                    raise
        return None
