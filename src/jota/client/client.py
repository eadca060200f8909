"""The API as Python calls: builds the paths and queries, encodes bodies, turns failed answers into ApiError.

In: Resource values and plain dicts. Out: dicts, or msgspec Structs that the caller names, or raw bytes. The same code
serves the in-process and the HTTPS transport. Next: informer.py for anything that reads more than once.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from functools import lru_cache
from typing import Any, Literal, TypeVar, overload
from urllib.parse import quote, urlencode

import msgspec
import orjson

from jota.client.caches import Caches
from jota.client.transport import EventBatch, Reply, Transport, error_from
from jota.meta.errors import ApiError
from jota.meta.resource import Resource
from jota.wire.message import Response

T = TypeVar("T")
Object = dict[str, Any]

PATCH_TYPES = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"


class _PageMeta(msgspec.Struct):
    token: str = msgspec.field(default="", name="continue")


class _Page(msgspec.Struct):
    metadata: _PageMeta = msgspec.field(default_factory=_PageMeta)


class Client:
    """One caller of the API. Every method raises ApiError for an answer of 400 and above (also over HTTPS).

    `type=` decodes into a msgspec Struct (declare only the fields you need); without it answers are plain dicts.
    """

    def __init__(self, transport: Transport, *, user_agent: str = "jota", manager: str = "") -> None:
        self.transport = transport
        self.caches = Caches()
        """Of the informers that are made with this client."""
        self._headers = {"user-agent": user_agent, "accept": "application/json"}
        self._manager = manager
        """Sent as fieldManager with every write, when set."""

    # -- reading

    @overload
    async def get(
        self, resource: Resource, name: str, namespace: str = "", *, subresource: str = "", resource_version: str = ""
    ) -> Object: ...
    @overload
    async def get(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        subresource: str = "",
        resource_version: str = "",
        type: type[T],
    ) -> T: ...
    async def get(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        subresource: str = "",
        resource_version: str = "",
        type: Any = None,
    ) -> Any:
        query = _query(resourceVersion=resource_version)
        reply = await self._do("GET", _path(resource, namespace, name, subresource), query)
        return _decode(reply.body, type)

    @overload
    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        limit: int = 0,
        continue_: str = "",
        *,
        resource_version: str = "",
        metadata: bool = False,
    ) -> Object: ...
    @overload
    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        limit: int = 0,
        continue_: str = "",
        *,
        resource_version: str = "",
        metadata: bool = False,
        type: type[T],
    ) -> T: ...
    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        limit: int = 0,
        continue_: str = "",
        *,
        resource_version: str = "",
        metadata: bool = False,
        type: Any = None,
    ) -> Any:
        """The List object. `metadata`: items come as PartialObjectMetadata. `type` is the Struct of the whole List."""
        query = _query(
            labelSelector=labels,
            fieldSelector=fields,
            limit=limit,
            resourceVersion=resource_version,
            **{"continue": continue_},
        )
        headers = {"accept": METADATA_LIST} if metadata else None
        reply = await self._do("GET", _path(resource, namespace), query, headers=headers)
        return _decode(reply.body, type)

    async def watch(
        self,
        resource: Resource,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        resource_version: str = "",
        bookmarks: bool = True,
        *,
        timeout_seconds: int = 0,
        metadata: bool = False,
    ) -> AsyncGenerator[tuple[str, bytes], None]:
        """(type, object as JSON bytes) until the server ends the stream. An ERROR event raises its ApiError."""
        batches = self.watch_batches(
            resource,
            namespace,
            labels,
            fields,
            resource_version,
            bookmarks,
            timeout_seconds=timeout_seconds,
            metadata=metadata,
        )
        async with aclosing(batches):
            async for batch in batches:
                for event in batch:
                    yield event.type, event.body

    async def watch_batches(
        self,
        resource: Resource,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        resource_version: str = "",
        bookmarks: bool = True,
        *,
        timeout_seconds: int = 0,
        metadata: bool = False,
        initial: bool = False,
    ) -> AsyncGenerator[EventBatch, None]:
        """Like `watch`, in batches as they arrive. `initial`: the WatchList form (state, then a BOOKMARK that says so)."""
        query = _query(
            watch="1",
            labelSelector=labels,
            fieldSelector=fields,
            resourceVersion=resource_version,
            allowWatchBookmarks="true" if bookmarks else "",
            timeoutSeconds=timeout_seconds,
            sendInitialEvents="true" if initial else "",
            resourceVersionMatch="NotOlderThan" if initial else "",
        )
        headers = {**self._headers, "accept": METADATA} if metadata else self._headers
        batches = self.transport.watch(_path(resource, namespace), query, headers)
        async with aclosing(batches):
            async for batch in batches:
                if batch[-1].type == "ERROR":  # always the last of a stream
                    if len(batch) > 1:
                        yield batch[:-1]
                    raise error_from(500, batch[-1].body)
                yield batch

    # -- writing

    @overload
    async def create(
        self, resource: Resource, obj: Any, namespace: str = "", subresource: str = "", name: str = ""
    ) -> Object: ...
    @overload
    async def create(
        self, resource: Resource, obj: Any, namespace: str = "", subresource: str = "", name: str = "", *, type: type[T]
    ) -> T: ...
    async def create(
        self,
        resource: Resource,
        obj: Any,
        namespace: str = "",
        subresource: str = "",
        name: str = "",
        *,
        type: Any = None,
    ) -> Any:
        """POST. The namespace defaults to the object's own; `name` with `subresource` posts to e.g. pods/x/binding."""
        if not namespace and isinstance(obj, dict):
            namespace = obj.get("metadata", {}).get("namespace", "")
        return await self._write("POST", _path(resource, namespace, name, subresource), obj, type=type)

    async def create_alike(
        self, resource: Resource, obj: Any, namespace: str, times: int, *, type: type[T]
    ) -> Sequence[T]:
        """POST an object with a generateName of which `times` are wanted: name and resourceVersion of those that were made in one
        go, as metadata of a `type`. It is one at least; more when the server is in this process and knows what becomes of such
        a request."""
        body = obj if isinstance(obj, bytes) else orjson.dumps(obj)
        query = _query(fieldManager=self._manager)
        reply = await self._do("POST", _path(resource, namespace), query, body, _MADE, times)
        found: Sequence[T] = _decode(reply.body if reply.body[:1] == b"[" else b"[%b]" % reply.body, list[type])  # type: ignore[valid-type]
        return found

    async def create_each(self, resource: Resource, objs: Sequence[Object], namespace: str) -> Sequence[bool]:
        """POST them in one go, where the server is in this process. False: nothing was begun, `create` it."""
        if len(objs) < 2 or not self.transport.several:
            return [False] * len(objs)
        query = _query(fieldManager=self._manager)
        reply = await self._do("POST", _path(resource, namespace), query, orjson.dumps(objs), _JSON, len(objs))
        return [answer is not None for answer in orjson.loads(reply.body)]

    async def patch_each(
        self,
        resource: Resource,
        patches: Sequence[tuple[str, Any]],
        namespace: str = "",
        type: Literal["merge", "strategic", "json"] = "merge",
        subresource: str = "",
    ) -> Sequence[bool]:
        """PATCH those of these names, each with a document of its own, in one go where the server is in this process. False:
        nothing was begun, `patch` it."""
        return await self._each("PATCH", resource, patches, namespace, subresource, {"content-type": PATCH_TYPES[type]})

    async def delete_each(
        self,
        resource: Resource,
        names: Sequence[tuple[str, str]],
        namespace: str = "",
        grace: int | None = None,
        propagation: str = "",
        resource_versions: Sequence[str] = (),
    ) -> Sequence[bool]:
        """DELETE those of these names and uids ("": any), and versions if given, in one go where the server is in this process.
        False: nothing was begun, `delete` it."""
        several = zip(names, resource_versions or [""] * len(names), strict=True)
        bodies = [(name, _delete_options(grace, uid, version, propagation)) for (name, uid), version in several]
        return await self._each("DELETE", resource, bodies, namespace, "", _JSON)

    async def _each(
        self,
        method: str,
        resource: Resource,
        bodies: Sequence[tuple[str, Any]],
        namespace: str,
        subresource: str,
        headers: Mapping[str, str],
    ) -> Sequence[bool]:
        if len(bodies) < 2 or not self.transport.several:
            return [False] * len(bodies)
        path, query = resource.path(namespace, "*", subresource), _query(fieldManager=self._manager)
        try:
            reply = await self._do(method, path, query, orjson.dumps(bodies), headers, len(bodies))
        except ApiError as refused:
            if refused.code != 403:  # who may not do so whatever the name may still do it to some
                raise
            return [False] * len(bodies)
        return [bool(done) for done in orjson.loads(reply.body)]

    async def update(self, resource: Resource, obj: Object, subresource: str = "") -> Object:
        meta = obj["metadata"]
        path = _path(resource, meta.get("namespace", ""), meta["name"], subresource)
        written: Object = await self._write("PUT", path, obj)
        return written

    async def patch(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        patch: Any = None,
        type: Literal["merge", "strategic", "json", "apply"] = "merge",
        subresource: str = "",
        manager: str = "",
        force: bool = False,
        answer: bool = True,
    ) -> Object:
        """PATCH; `patch` is the document (a list of operations for "json"). An apply needs a `manager`.

        Without `answer` no more than metadata is asked for, which is not decoded, and {} comes back."""
        query = _query(fieldManager=manager or self._manager, force="true" if force else "")
        headers = {"content-type": PATCH_TYPES[type]}
        if not answer:
            headers["accept"] = METADATA
        path = _path(resource, namespace, name, subresource)
        reply = await self._do("PATCH", path, query, orjson.dumps(patch), headers)
        return _decode(reply.body) if answer else {}

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        grace: int | None = None,
        uid: str = "",
        resource_version: str = "",
        propagation: str = "",
        answer: bool = True,
    ) -> Object:
        """DELETE. `uid` and `resource_version` are preconditions (409 otherwise); `grace` in seconds.

        `propagation`: Background | Foreground | Orphan. Returns the object while it lingers, else a Status; without `answer`
        no more than metadata is asked for, which is not decoded, and {} comes back.
        """
        body = _delete_options(grace, uid, resource_version, propagation)
        query = _query(fieldManager=self._manager) if self._manager else ""
        content = _JSON if answer else _MADE
        reply = await self._do("DELETE", _path(resource, namespace, name), query, orjson.dumps(body), content)
        left: Object = _decode(reply.body) if answer else {}
        return left

    async def delete_collection(
        self,
        resource: Resource,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        grace: int | None = None,
        propagation: str = "",
    ) -> Object:
        reply = await self._delete_collection(resource, namespace, grace, propagation, labels=labels, fields=fields)
        left: Object = _decode(reply.body)
        return left

    async def delete_in_pieces(
        self, resource: Resource, namespace: str = "", grace: int | None = None, propagation: str = "", piece: int = 500
    ) -> None:
        """DELETE of a whole collection by requests for `piece` objects each: none of them gets near its deadline."""
        token = ""
        while True:
            reply = await self._delete_collection(
                resource, namespace, grace, propagation, limit=piece, token=token, headers={"accept": METADATA_LIST}
            )
            token = _decode(reply.body, _Page).metadata.token
            if not token:
                return

    async def _delete_collection(
        self,
        resource: Resource,
        namespace: str,
        grace: int | None,
        propagation: str,
        *,
        labels: str = "",
        fields: str = "",
        limit: int = 0,
        token: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        body = _delete_options(grace, "", "", propagation)
        query = _query(labelSelector=labels, fieldSelector=fields, limit=limit, **{"continue": token})
        content = {"content-type": "application/json", **(headers or {})}
        return await self._do("DELETE", _path(resource, namespace), query, orjson.dumps(body), content)

    async def raw(
        self, method: str, path: str, query: str = "", body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Response:
        """Any request, answered as it came (no ApiError for failures)."""
        reply = await self.transport.request(method, path, query, body, {**self._headers, **(headers or {})})
        return Response(reply.status, list(reply.headers.items()), reply.body)

    async def close(self) -> None:
        await self.transport.close()

    # -- shared

    async def _write(self, method: str, path: str, obj: Any, query: str = "", type: Any = None) -> Any:
        body = obj if isinstance(obj, bytes) else orjson.dumps(obj)
        if not query and self._manager:
            query = _query(fieldManager=self._manager)
        reply = await self._do(method, path, query, body, _JSON)
        return _decode(reply.body, type)

    async def _do(
        self,
        method: str,
        path: str,
        query: str = "",
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        times: int = 1,
    ) -> Reply:
        merged = {**self._headers, **headers} if headers else self._headers
        reply = await self.transport.request(method, path, query, body, merged, times=times)
        if reply.status >= 400:
            raise error_from(reply.status, reply.body)
        return reply


_JSON = {"content-type": "application/json"}
_MADE = {**_JSON, "accept": METADATA}
_is_safe = re.compile(r"[A-Za-z0-9.:_~-]*").fullmatch


def _delete_options(grace: int | None, uid: str, resource_version: str, propagation: str) -> Object:
    body: Object = {"kind": "DeleteOptions", "apiVersion": "v1"}
    if grace is not None:
        body["gracePeriodSeconds"] = grace
    conditions = {k: v for k, v in (("uid", uid), ("resourceVersion", resource_version)) if v}
    if conditions:
        body["preconditions"] = conditions
    if propagation:
        body["propagationPolicy"] = propagation
    return body


def _path(resource: Resource, namespace: str = "", name: str = "", subresource: str = "") -> str:
    # Names such as "system:node:x/y" are legal and must be escaped as a path segment.
    return resource.path(namespace, name if _is_safe(name) else quote(name, safe=":"), subresource)


def _query(**pairs: Any) -> str:
    given = tuple(pair for pair in pairs.items() if pair[1])
    return _encoded(given) if given else ""


@lru_cache(maxsize=512)
def _encoded(pairs: tuple[tuple[str, Any], ...]) -> str:
    """Queries repeat: a controller sends its fieldManager with every write."""
    return urlencode(pairs)


def _decode(body: bytes, type: Any = None) -> Any:
    return orjson.loads(body) if type is None else _decoder(type).decode(body)


@lru_cache(maxsize=256)
def _decoder(type: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(type)
