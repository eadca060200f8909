"""/api, /apis and what is below them: discovery.py's documents, negotiated and kept as bytes until the kinds change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from jota.api import discovery, respond
from jota.api.negotiate import clauses
from jota.kinds.kind import Kind
from jota.meta.errors import not_acceptable, only_read, path_not_found
from jota.wire.message import Request, Response

if TYPE_CHECKING:
    from jota.api.server import Api

AGGREGATED = ("v2", "v2beta1")


def wanted(accept: str) -> str:
    """The version of the aggregated form that is asked for first, "" for the legacy form. Raises ApiError 406."""
    if not accept:
        return ""
    for media, params in clauses(accept):
        if media not in ("application/json", "*/*", "application/*"):
            continue
        if not params.get("as"):
            return ""
        version = params.get("v", "")
        if (params["as"], params.get("g")) == (
            "APIGroupDiscoveryList",
            "apidiscovery.k8s.io",
        ) and version in AGGREGATED:
            return version
    raise not_acceptable(["application/json"])


class DiscoveryPages:
    def __init__(self, api: Api) -> None:
        self._api = api
        self._kept: dict[tuple[str, str], bytes] = {}

    def forget(self) -> None:
        self._kept.clear()

    async def serve(self, request: Request) -> Response:
        """Raises ApiError 404, 405, 406."""
        if request.method not in ("GET", "HEAD"):
            raise only_read()
        path = request.path.strip("/")
        version = wanted(request.headers.get("accept", "")) if path in ("api", "apis") else ""
        found = self._kept.get((path, version))
        if found is None:
            document = self._build(path, version)
            if document is None:
                raise path_not_found()
            found = self._kept[(path, version)] = orjson.dumps(document)
        if version:
            return Response(200, [respond.CACHE, ("Content-Type", discovery.content_type(version))], found)
        return Response(200, respond.headers(), found)

    def _build(self, path: str, version: str) -> dict[str, Any] | None:
        kinds, foreign = self._kinds(), self._api.aggregation.foreign()
        parts = path.split("/")
        core = parts[0] == "api"
        if version:
            return discovery.aggregated(kinds, core, version, foreign)
        if len(parts) == 1:
            config = self._api.config
            address = f"{config.advertise_address}:{config.advertise_port}" if config.advertise_address else ""
            return discovery.legacy_api(kinds, address) if core else discovery.legacy_group_list(kinds, foreign)
        if core:
            return discovery.legacy_resources(kinds, "", parts[1]) if len(parts) == 2 else None
        if len(parts) == 2:
            return discovery.legacy_group(kinds, parts[1], foreign)
        return discovery.legacy_resources(kinds, parts[1], parts[2]) if len(parts) == 3 else None

    def _kinds(self) -> list[Kind]:
        return [served.kind for served in self._api.served.values()]
