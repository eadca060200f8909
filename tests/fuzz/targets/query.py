"""Paths, query parameters and continue tokens against a server with a few objects: a list, a Status that blames the sender."""

from __future__ import annotations

import asyncio
import base64

import orjson

from jota.api.filters.attributes import COMPONENT
from jota.api.verbs.list import encode_token
from jota.meta.resource import CONFIGMAPS
from jota.testing.cluster import ApiServer
from jota.wire.message import Request
from targets import kit

CM = b"/api/v1/namespaces/default/configmaps"
SEEDS = [
    CM + b"?limit=1&continue=" + encode_token(3, "a").encode(),
    CM + b"?limit=2&labelSelector=a%3Db&fieldSelector=metadata.name%3Da",
    CM + b"?resourceVersion=3&resourceVersionMatch=Exact&limit=1",
    CM + b"?resourceVersion=1&resourceVersionMatch=NotOlderThan&timeoutSeconds=1",
    CM + b"/a?pretty=true&includeObject=Object",
    CM + b"!" + base64.b64encode(b'{"v":"meta.k8s.io/v1","rv":-1,"start":"a"}'),
    CM + b'!{"v":"meta.k8s.io/v1","rv":99999999999999999999,"start":"a/../b"}',
    b"/apis/apps/v1/namespaces/default/deployments/x/scale?dryRun=All",
    b"/api/v1/namespaces/default/services/https:a:80/proxy/x%2fy?z",
    b"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/%00?limit=9223372036854775808",
    b"/openapi/v3/api/v1?hash=x",
    b"/api/v1/componentstatuses/x",
    b"/metrics",
]
WORDS = [
    b"?limit=",
    b"&continue=",
    b"&resourceVersion=",
    b"&resourceVersionMatch=Exact",
    b"&fieldSelector=",
    b"%00",
    b"/status",
]
WORDS += [
    b"/api/v1/",
    b"/apis/",
    b"/namespaces/",
    b"/log",
    b"/exec?command=",
    b"%2f",
    b"&pretty=",
    b"/watch/",
    b"&dryRun=All",
]
FORMS = ("application/json", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json", "*/*")
_SERVER: list[ApiServer] = []


async def _server() -> ApiServer:
    if not _SERVER:
        server = ApiServer()
        await server.api.start()
        for name in ("a", "b", "c", "d"):
            await server.client.create(CONFIGMAPS, {"metadata": {"name": name, "labels": {"a": name}}}, "default")
        _SERVER.append(server)
    return _SERVER[0]


async def _ask(data: bytes) -> None:
    server = await _server()
    head, found, token = data.partition(b"!")
    if found:  # a token in the clear, packed here
        head += b"?limit=2&continue=" + base64.urlsafe_b64encode(token).rstrip(b"=")
    path, _, query = head.decode("latin-1").partition("?")
    if "watch" in query or "follow" in query or "/watch/" in path:
        return  # streams do not end
    form = FORMS[len(data) % len(FORMS)]
    request = Request("GET", "/" + path.lstrip("/"), query, {"accept": form}, user=COMPONENT)
    response = await server.api.handle(request)
    if response.stream is not None or response.upgrade is not None:
        return
    assert response.status < 500 or response.status in (503, 504), (data, response.status, response.body)
    body = response.body if isinstance(response.body, bytes) else b"".join(response.body)
    if response.status >= 400:
        assert not body.startswith(b"{") or orjson.loads(body)["code"] == response.status
    elif response.status == 200 and body.startswith(b"{"):
        orjson.loads(body)


def check(data: bytes) -> None:
    try:
        kit.loop().run_until_complete(asyncio.wait_for(_ask(data), 5))
    except TimeoutError:
        raise AssertionError(f"hangs: {data!r}") from None


def close() -> None:
    """End the server; the next input gets a fresh one."""
    while _SERVER:
        kit.loop().run_until_complete(_SERVER.pop().__aexit__(None, None, None))
