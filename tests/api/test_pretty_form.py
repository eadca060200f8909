"""JSON in lines, for people: who gets it, and who does not."""

from __future__ import annotations

import json

from jota.api import pretty_form
from jota.meta.resource import CONFIGMAPS
from jota.testing.cluster import ApiServer, story
from jota.wire.message import Response, joined


@story
async def test_browsers_and_whoever_asks_get_lines(api: ApiServer) -> None:
    cases = [
        ("curl/8.1", "", True),
        ("Wget/1.21", "", True),
        ("Mozilla/5.0 (X11)", "", True),
        ("kubectl/v1.37.0", "", False),
        ("kubectl/v1.37.0", "pretty=true", True),
        ("kubectl/v1.37.0", "limit=1&pretty=1", True),
        ("curl/8.1", "pretty=false", False),
        ("curl/8.1", "pretty=", True),
    ]
    for agent, query, lines in cases:
        # nobody: what comes over a wire has no user yet, and the refusal is an answer as any other
        answer = await api.request("GET", "/api/v1/namespaces", query=query, user=None, user_agent=agent)
        body = joined(answer.body)
        assert answer.status == 401
        assert (body == json.dumps(json.loads(body), indent=2).encode()) is lines, (agent, query, body)


@story
async def test_a_large_list_is_written_as_a_small_one(api: ApiServer) -> None:
    for n in range(80):
        body = {"metadata": {"name": f"c{n}"}, "data": {"text": "line\nline\n" * 200}}
        await api.client.create(CONFIGMAPS, body, "default")
    sent = await api.request("GET", "/api/v1/namespaces/default/configmaps")
    made = await pretty_form.answer(sent)
    whole = json.loads(joined(sent.body))
    assert len(joined(sent.body)) > pretty_form.LARGE
    assert joined(made.body) == json.dumps(whole, indent=2).encode()
    for value in ({"items": [], "a": {"b": [{}]}}, [1, 2], "text", {}):
        large = json.dumps(value).encode() + b" " * pretty_form.LARGE
        answer = Response(200, [("Content-Type", "application/json")], large)
        assert json.loads(joined((await pretty_form.answer(answer)).body)) == value
