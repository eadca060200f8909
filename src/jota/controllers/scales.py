"""The sub-resource /scale of any kind that has one, custom resources too. In: a reference to an owner or target. Out: its
Scale. Used by hpa.py and poddisruptionbudget.py.
"""

from __future__ import annotations

from typing import Any

import orjson

from jota.client.client import Client
from jota.client.transport import error_from
from jota.controllers.discovery import discover
from jota.meta.errors import ApiError
from jota.meta.resource import DEPLOYMENTS, Resource

Object = dict[str, Any]


class Scales:
    """Remembers which resource a kind is; asks discovery when it meets a new one."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._kinds: dict[tuple[str, str], Resource] = {(DEPLOYMENTS.api_version, DEPLOYMENTS.kind): DEPLOYMENTS}

    async def resource(self, api_version: str, kind: str) -> Resource:
        """The resource of a kind. Raises ApiError 404."""
        wanted = (api_version, kind)
        if wanted not in self._kinds:
            self._kinds |= (await discover(self._client)).kinds
        found = self._kinds.get(wanted)
        if found is None:
            raise ApiError(404, "NotFound", f'no matches for kind "{kind}" in version "{api_version}"')
        return found

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """Raises ApiError, 404 also when the resource has no /scale, or stands in no namespace: who names it may do so in that one."""
        if not resource.namespaced:
            raise ApiError(404, "NotFound", f'{resource.group_resource} "{name}" stands in no namespace')
        return await get(self._client, resource.path(namespace, name, "scale"))


async def get(client: Client, path: str, query: str = "") -> Object:
    """An object at a path that no Resource names. Raises ApiError."""
    response = await client.raw("GET", path, query)
    body = response.body if isinstance(response.body, bytes) else b"".join(response.body)
    if response.status != 200:
        raise error_from(response.status, body)
    return dict(orjson.loads(body))


def selector_text(selector: Object) -> str:
    """A LabelSelector as query text."""
    parts = [f"{k}={v}" for k, v in (selector.get("matchLabels") or {}).items()]
    for one in selector.get("matchExpressions") or ():
        key, operator, values = one["key"], one["operator"], ",".join(one.get("values") or ())
        words = {
            "In": f"{key} in ({values})",
            "NotIn": f"{key} notin ({values})",
            "Exists": key,
            "DoesNotExist": f"!{key}",
        }
        parts.append(words[operator])
    return ",".join(parts)
