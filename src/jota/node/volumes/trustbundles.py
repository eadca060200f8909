"""clusterTrustBundle: the trust anchors of one ClusterTrustBundle, or of all that a signer's selector matches, as one file.

In: the source, and the cluster's bundles from a cache. Out: PEM with every anchor once, or why there is none. `select` and
`anchors` are pure; the rules and their words are the kubelet's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from random import Random
from typing import TYPE_CHECKING

from jota.aio.clock import Clock
from jota.client.client import Client
from jota.client.informer import Informer
from jota.meta.resource import CLUSTER_TRUST_BUNDLES
from jota.meta.selectors import from_object
from jota.node.model import Object
from jota.node.sharedcache import SharedCache
from jota.node.volumes.volume import VolumeFault

if TYPE_CHECKING:
    import asyncio


def select(source: Object, bundles: Iterable[Object]) -> list[Object]:
    """The bundles that a source means. No selector matches nothing, an empty one everything. Raises VolumeFault when there are
    none and the source is not optional."""
    if name := source.get("name"):
        found = [b for b in bundles if b["metadata"]["name"] == name]
        problem = (
            f'while getting ClusterTrustBundle: clustertrustbundle.{CLUSTER_TRUST_BUNDLES.group} "{name}" not found'
        )
    else:
        selector, signer = from_object(source.get("labelSelector")), source.get("signerName")
        mine = (b for b in bundles if _signer(b) == signer)
        found = [b for b in mine if selector.matches(b["metadata"].get("labels") or {})]
        problem = "combination of signerName and labelSelector matched zero ClusterTrustBundles"
    if not found and not source.get("optional"):
        raise VolumeFault(problem)
    return found


def anchors(bundles: list[Object], salt: str) -> bytes:
    """Every certificate once, without anything between them. Nobody may rely on their order (as upstream, which shuffles): it
    follows from the salt, so that the file of one pod changes only when the anchors do."""
    if not bundles:
        return b""
    # reading certificates costs 50 ms to load: only nodes whose pods ask for them pay
    from jota.pki import pem

    found = {block.der for bundle in bundles for block in pem.blocks(bundle["spec"].get("trustBundle", ""))}
    return pem.certificates(sorted(found, key=lambda der: hashlib.sha256(salt.encode() + der).digest()))


def _signer(bundle: Object) -> str:
    return str(bundle["spec"].get("signerName") or "")


class TrustBundles:
    """All bundles of the cluster, read once a pod of the node mounts one."""

    def __init__(self, client: Client, clock: Clock, random: Random, group: asyncio.TaskGroup) -> None:
        informer: Informer[Object] = Informer(client, CLUSTER_TRUST_BUNDLES, clock=clock, random=random)
        # a name has no slash, a signer has one
        self._cache = SharedCache(informer, lambda b: (b["metadata"]["name"], _signer(b)), group)

    async def anchors(self, uid: str, source: Object, changed: Callable[[], None]) -> bytes:
        """The file's content for the pod with this uid, which hears from now on when it may have changed. Raises VolumeFault,
        TimeoutError."""
        self._cache.follow(uid, source.get("name") or source.get("signerName") or "", changed)
        bundles = await self._cache.ready()
        return anchors(select(source, bundles.list()), uid)

    def forget(self, uid: str) -> None:
        self._cache.forget(uid)
