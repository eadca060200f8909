"""ServiceAccount tokens for projected volumes: asked of the API, bound to the pod, renewed before they expire."""

from __future__ import annotations

from jota.aio.clock import Clock, parse_rfc3339
from jota.client.client import Client
from jota.meta.errors import ApiError
from jota.meta.resource import SERVICEACCOUNTS
from jota.node.model import Object, uid_of
from jota.node.volumes.volume import VolumeFault

RENEW = 0.8
DAY = 86_400.0


class Tokens:
    """A small cache: a token is handed out again until 80 % of its life, or a day, has passed."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client, self._clock = client, clock
        self._known: dict[tuple[str, str, int], tuple[str, float]] = {}

    async def token(self, pod: Object, audience: str, seconds: int) -> tuple[str, float]:
        key = (uid_of(pod), audience, seconds)
        known = self._known.get(key)
        if known is None or known[1] <= self._clock.now():
            known = self._known[key] = await self._ask(pod, audience, seconds)
        return known

    def forget(self, uid: str) -> None:
        for key in [k for k in self._known if k[0] == uid]:
            del self._known[key]

    async def _ask(self, pod: Object, audience: str, seconds: int) -> tuple[str, float]:
        meta = pod["metadata"]
        account = pod["spec"].get("serviceAccountName") or "default"
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [audience] if audience else [],
                "expirationSeconds": seconds,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]},
            },
        }
        try:
            answer = await self._client.create(SERVICEACCOUNTS, request, meta["namespace"], "token", account)
        except (ApiError, OSError, TimeoutError) as e:
            raise VolumeFault(f"failed to fetch token for service account {account}: {e}") from e
        status = answer["status"]
        now = self._clock.now()
        life = parse_rfc3339(status["expirationTimestamp"]) - now
        return status["token"], now + min(max(life, 0) * RENEW, DAY)
