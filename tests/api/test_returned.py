"""A PUT of an object as it was read, but for one field: only that is decoded, which must never show.

Two servers get the same requests, one of which always takes the long way (as in test_apart.py).
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any
from unittest.mock import patch

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.api.test_apart import CLAIMS, MAKERS, VOLUMES, Pair, broken, first

from jota.api import returned
from jota.meta.resource import LEASES, Resource
from jota.testing.cluster import ApiServer, story

Object = dict[str, Any]
JSON = "application/json"


def edited(random: Random, body: bytes, field: str) -> bytes:
    """What a client could make of such a body, or an attacker."""
    key = b'"%b":' % field.encode()
    at = body.rindex(key)
    choices = [
        body,
        body + b"\n",
        body + b" ",
        body.replace(b'"resourceVersion":"', b'"resourceVersion":"1'),
        body.replace(b'"metadata":{', b'"metadata": {'),
        body[:-1] + b',"unknown":1}',
        body[:-1] + b',"kind":"Other"}',
        body[:-1] + b',"metadata":{"name":"o","labels":{"later":"one"}}}',
        body[:-1] + b',"spec":{}}',
        body[:-1] + b"," + key + b'{"phase":"Bound"}}',
        body[:at] + key + b"{}," + body[at:],
        body[:at] + key + b"null}",
        body[:at] + key + b"[]}",
        body[:at] + key + b'{"phase":"Bound","phase":"Lost"}}',
        body[:at] + key + b'{"phase":"\\ud800"}}',
        body[:at] + key + b"}",
        body[:-1],
        body + b"}",
        orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS),
        orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2),
        orjson.dumps(dict(reversed(orjson.loads(body).items()))),
    ]
    return random.choice([body, *choices])


async def play(seed: int, resource: Resource) -> None:
    random = Random(seed)
    pair = Pair(exact=False)
    path = resource.path("default" if resource.namespaced else "", "o")
    field = "spec" if resource == LEASES else "status"
    async with pair.short, pair.long:
        body = orjson.dumps(first(random, resource))
        await pair.both("POST", path.rpartition("/")[0], body, "fieldManager=set", content_type=JSON)
        for _ in range(10):
            got = await pair.both("GET", path, b"", "")
            if got["kind"] != resource.kind:
                return
            sent = edited(random, orjson.dumps({**got, field: broken(random, MAKERS[resource](random))}), field)
            query = random.choice(
                ["", "", "fieldManager=a", "fieldValidation=Strict", "fieldValidation=Ignore", "dryRun=All"]
            )
            where = path + ("" if field == "spec" or random.random() < 0.1 else "/status")
            media = JSON if random.random() < 0.95 else "application/yaml"
            await pair.both("PUT", where, sent, query, content_type=media)


@pytest.mark.parametrize("resource", list(MAKERS), ids=lambda r: r.plural)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_is_given_back_is_written_as_if_all_of_it_were_decoded(resource: Resource, seed: int) -> None:
    asyncio.run(play(seed, resource))


async def _put(api: ApiServer, resource: Resource, body: bytes) -> tuple[int, Object, bool]:
    """(status, answer, whether the field alone was decoded)."""
    taken = []

    def part_of(*args: Any) -> Any:
        taken.append(found(*args))
        return taken[-1]

    found = returned.part_of
    name, namespace = orjson.loads(body)["metadata"]["name"], "default" if resource.namespaced else ""
    with patch.object(returned, "part_of", part_of):
        reply = await api.request("PUT", resource.path(namespace, name) + "/status", body, content_type=JSON)
    return reply.status, orjson.loads(reply.body), taken[0] is not None


@story
async def test_a_claims_and_a_volumes_status_are_given_back(api: ApiServer) -> None:
    modes, amount = ["ReadWriteOnce"], {"storage": "1Gi"}
    specs: dict[Resource, Object] = {
        CLAIMS: {"accessModes": modes, "resources": {"requests": amount}},
        VOLUMES: {"accessModes": modes, "capacity": amount, "hostPath": {"path": "/data"}},
    }
    for resource, spec in specs.items():
        sent = {"metadata": {"name": "o"}, "spec": spec}
        made = await api.client.create(resource, sent, "default" if resource.namespaced else "")
        status, written, short = await _put(api, resource, orjson.dumps({**made, "status": {"phase": "Bound"}}))
        assert (status, short) == (200, True)
        assert (written["status"]["phase"], written["spec"]) == ("Bound", made["spec"])
        # older than what is stored now
        status, refusal, short = await _put(api, resource, orjson.dumps({**made, "status": {"phase": "Lost"}}))
        assert (status, refusal["reason"], short) == (409, "Conflict", False)
        # and with one more label
        meta = {**written["metadata"], "labels": {"a": "b"}}
        status, written, short = await _put(api, resource, orjson.dumps({**written, "metadata": meta}))
        assert (status, written["metadata"]["labels"], short) == (200, {"a": "b"}, False)


@story
async def test_nothing_is_hidden_behind_the_field(api: ApiServer) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    made = await api.client.create(CLAIMS, {"metadata": {"name": "o"}, "spec": spec}, "default")
    body = orjson.dumps({**made, "status": {"phase": "Bound"}})
    status, _, short = await _put(api, CLAIMS, body[:-1] + b',"unknown":{}}')
    assert (status, short) == (200, False), "with a warning"
    made = await api.client.get(CLAIMS, "o", "default")
    body = orjson.dumps({**made, "status": {"phase": "Lost"}})
    status, _, short = await _put(api, CLAIMS, body[:-1] + b',"kind":"Pod"}')
    assert (status, short) == (400, False)
