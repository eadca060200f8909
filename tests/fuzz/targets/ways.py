"""Every short way of a write (twins, alikepatches, alikeputs, renewals, returned, relabel, apart, straight) against the long one:
two servers get the same requests, one of which knows its clients and what it has made before; both answer and keep the same.

A text is a request: what its first byte says (`ASKED`), and its body; or a second that passes."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from contextlib import ExitStack
from typing import Any
from unittest import mock

import orjson

from jota.api import apart, relabel, returned
from jota.api.alikeputs import AlikePuts
from jota.api.filters.attributes import COMPONENT
from jota.testing.cluster import ApiServer
from jota.wire.message import Alike, Request, Response
from targets import kit

_CORE = "/api/v1/namespaces/default"
_MERGE, _STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
PLACES = {
    "configmaps": f"{_CORE}/configmaps",
    "pods": f"{_CORE}/pods",
    "leases": "/apis/coordination.k8s.io/v1/namespaces/default/leases",
    "claims": f"{_CORE}/persistentvolumeclaims",
    "volumes": "/api/v1/persistentvolumes",
}
ASKED = [
    *(("POST", place, "application/json") for place in PLACES.values()),
    *(("PUT", f"{place}/{name}", "application/json") for place in PLACES.values() for name in "ab"),
    *(
        ("PATCH", f"{place}/{name}", media)
        for place in PLACES.values()
        for name in "ab"
        for media in (_MERGE, _STRATEGIC)
    ),
    *(
        ("PATCH", f"{PLACES[kind]}/{name}/status", _STRATEGIC)
        for kind in ("pods", "claims", "volumes")
        for name in "ab"
    ),
    *(
        ("PUT", f"{PLACES[kind]}/{name}/status", "application/json")
        for kind in ("pods", "claims", "volumes")
        for name in "ab"
    ),
    *(("DELETE", f"{place}/{name}", "application/json") for place in PLACES.values() for name in "ab"),
]
"""At most 255."""
_LATER = b"\xff"
MOST = 12
"""Requests of one input."""


def _asked(method: str, kind: str, name: str = "", media: str = "application/json", status: bool = False) -> bytes:
    path = PLACES[kind] + (f"/{name}" if name else "") + ("/status" if status else "")
    return bytes((ASKED.index((method, path, media)),))


_MAP = b'{"metadata":{"name":"a"},"data":{"k":"v"}}'
_POD = b'{"metadata":{"name":"a"},"spec":{"containers":[{"name":"c","image":"i"}],"nodeName":"n","automountServiceAccountToken":false}}'
_IP = b'{"status":{"phase":"Running","hostIP":"192.0.2.1","podIP":"10.0.0.7","podIPs":[{"ip":"10.0.0.7"}]}}'
_CLAIM = b'{"metadata":{"name":"a"},"spec":{"accessModes":["ReadOnlyMany"],"resources":{"requests":{"storage":"1Gi"}},"volumeName":"a"}}'
_LEASE = b'{"metadata":{"name":"a"},"spec":{"holderIdentity":"me","renewTime":"2026-01-01T00:00:00.000000Z"}}'
_RENEW = b'{"spec":{"renewTime":"2026-01-01T00:00:01.000000Z"}}'
_BOUND = b'{"apiVersion":"v1","kind":"PersistentVolumeClaim",' + _CLAIM[1:-1] + b',"status":{"phase":"Bound"}}'


def _of_b(body: bytes) -> bytes:
    return body.replace(b'"a"', b'"b"')


SEEDS = [
    kit.MARK.join(texts)
    for texts in (
        (
            _asked("POST", "configmaps") + _MAP,
            _asked("POST", "configmaps") + _of_b(_MAP),
            _asked("PATCH", "configmaps", "a", _MERGE) + b'{"metadata":{"labels":{"x":"y"}}}',
            _asked("PUT", "configmaps", "b") + _of_b(_MAP),
            _asked("PATCH", "configmaps", "b", _MERGE) + b'{"metadata":{"name":null,"labels":{"x":"y"}}}',
            _asked("PUT", "configmaps", "b") + b'{"metadata":{"labels":{"x":"y"}}}',
            _asked("DELETE", "configmaps", "a"),
        ),
        (
            _asked("POST", "pods") + _POD,
            _asked("POST", "pods") + _of_b(_POD),
            _asked("POST", "pods") + _POD.replace(b'"a"', b'"c"'),
            _asked("POST", "pods") + _POD.replace(b'"name":"a"', b'"generateName":"a-"'),
            _asked("PATCH", "pods", "a", _STRATEGIC, True) + _IP,
            _asked("PATCH", "pods", "b", _STRATEGIC, True) + _IP.replace(b"0.7", b"0.8"),
            _asked("PATCH", "pods", "b", _STRATEGIC, True) + b'{"sta\x92us":{}}',  # a 500 it was
            _asked("DELETE", "pods", "a"),
        ),
        (
            _asked("POST", "claims") + _CLAIM,
            _asked("POST", "claims") + _of_b(_CLAIM),
            _asked("POST", "claims") + _CLAIM.replace(b'"a"', b'"c"'),
            _asked("PUT", "claims", "a", status=True) + _BOUND,
            _asked("PUT", "claims", "b", status=True) + _of_b(_BOUND),
        ),
        (
            _asked("POST", "leases") + _LEASE,
            _asked("POST", "leases") + _of_b(_LEASE),
            _LATER,
            _asked("PATCH", "leases", "a", _MERGE) + _RENEW,
            _LATER,
            _asked("PATCH", "leases", "a", _MERGE) + _RENEW.replace(b":01.", b":02."),
            _asked("PATCH", "leases", "b", _MERGE) + _RENEW.replace(b":01.", b":03."),
            _asked("PATCH", "leases", "b", _STRATEGIC) + b'{"metadata":{"uid":"x"},' + _RENEW[1:],
        ),
    )
]
WORDS = [
    kit.MARK,
    kit.edit(20, 1, b"b"),
    b'"metadata":',
    b'"name":"',
    b'"labels":',
    b'"status":',
    b'"spec":',
    b'"uid":"',
    b"null",
    b'"finalizers":',
]
WORDS += [
    b'"resourceVersion":"',
    b'"ownerReferences":',
    b'"podIPs":',
    b'"managedFields":',
    b"\\u0061",
    b'"generateName":"',
    b'"annotations":',
]


class _Pair:
    def __init__(self) -> None:
        self.short, self.long, self.inputs = ApiServer(seed=1), ApiServer(seed=1), 0
        self.long.api.engine.twins.find = lambda *_: None  # type: ignore[method-assign]
        self.alikes: dict[Any, Alike] = {}

    async def start(self) -> None:
        await self.short.api.start()
        await self.long.api.start()

    async def close(self) -> None:
        for server in (self.short, self.long):
            await server.__aexit__(None, None, None)

    async def both(self, method: str, path: str, media: str, body: bytes) -> None:
        requests = [
            Request(method, path, "", {"content-type": media, "accept": "application/json"}, body, user=COMPONENT)
            for _ in "ab"
        ]
        requests[0].alike = self.alikes[method, media]
        answer = self.short.api.reply(requests[0])
        answers = [answer if isinstance(answer, Response) else await answer]
        with _the_long_way():
            answers.append(await self.long.api.handle(requests[1]))
        assert _shown(answers[0]) == _shown(answers[1]), (method, path, body, *map(_shown, answers))

    async def same(self) -> None:
        for place in PLACES.values():
            await self.both("GET", place, "application/json", b"")

    async def clear(self) -> None:
        for place in PLACES.values():
            for server in (self.short, self.long):
                listed = orjson.loads(_body(await server.request("GET", place)))
                for item in listed["items"]:
                    one = f"{place}/{item['metadata']['name']}"
                    if item["metadata"].get("finalizers"):
                        await server.request("PATCH", one, b'{"metadata":{"finalizers":null}}', content_type=_MERGE)
                    await server.request("DELETE", one, query="gracePeriodSeconds=0")
                left = orjson.loads(_body(await server.request("GET", place)))["items"]
                assert not left, left


def _the_long_way() -> ExitStack:
    stack = ExitStack()
    for where, name, value in (
        (apart, "suits", False),
        (relabel, "applies", False),
        (returned, "part_of", None),
        (AlikePuts, "find", None),
    ):
        stack.enter_context(mock.patch.object(where, name, lambda *_, value=value: value))
    return stack


def _body(response: Response) -> bytes:
    return response.body if isinstance(response.body, bytes) else b"".join(response.body)


_DRAWN = re.compile(rb'[b-df-hj-np-tv-z2-9]{5}(?=\\?")')
"""The end of a generated name, wherever it is told."""


def _shown(response: Response) -> tuple[int, list[tuple[str, str]], Any]:
    """Without what is drawn anew each time."""
    body = re.sub(rb"[0-9a-f]{8}-[0-9a-f]{4}-[-0-9a-f]{22}", b"ID", _body(response))
    headers = [(key, value) for key, value in response.headers if key != "Audit-Id"]
    return response.status, headers, orjson.loads(_DRAWN.sub(b"DRAWN", body))


_PAIR: list[_Pair] = []


async def _play(texts: list[bytes]) -> None:
    if _PAIR and _PAIR[0].inputs >= 200:
        await _PAIR.pop().close()
    if not _PAIR:
        _PAIR.append(_Pair())
        await _PAIR[0].start()
    pair = _PAIR[0]
    pair.inputs += 1
    pair.alikes = defaultdict(Alike)
    for text in texts[:MOST]:
        if text[:1] == _LATER:
            await pair.short.advance(1)
            await pair.long.advance(1)
            continue
        method, path, media = ASKED[(text[:1] or b"\0")[0] % len(ASKED)]
        await pair.both(method, path, media, text[1:] if method != "DELETE" else b"")
    await pair.same()
    await pair.clear()


def check(data: bytes) -> None:
    try:
        kit.loop().run_until_complete(asyncio.wait_for(_play(kit.edited(data)), 20))
    except BaseException:
        close()
        raise


def close() -> None:
    """End the servers; the next input gets fresh ones."""
    while _PAIR:
        kit.loop().run_until_complete(_PAIR.pop().close())
