"""A pod is deleted from a part of it: to everybody outside, all is as if the whole had been decoded."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import orjson
import pytest

from jota.kinds.kind import Kind
from jota.kinds.table import KINDS
from jota.meta.resource import PODS
from jota.testing.cluster import ApiServer, Watching

Object = dict[str, Any]
PATH = "/api/v1/namespaces/default/pods"
WHOLE = tuple(replace(k, graced_from=None) for k in KINDS)
TABLE = "application/json;as=Table;g=meta.k8s.io;v=v1"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


async def observed(kinds: tuple[Kind, ...], pod: Object, phase: str, options: list[Object], accept: str) -> list[Any]:
    """All that clients see: answers, events, what is left."""
    async with ApiServer(kinds=kinds) as api:
        meta = {
            "name": "p",
            "labels": {"a": "b", "managedFields": "m"},
            "annotations": {"x": "ü\\n"},
            **pod.pop("metadata", {}),
        }
        spec = {"containers": [{"name": "c", "image": "i"}], **pod}
        await api.client.create(PODS, {"metadata": meta, "spec": spec}, "default")
        await api.client.patch(PODS, "p", "default", {"status": {"phase": phase}}, subresource="status")
        seen: list[Any] = []
        async with Watching(api, f"{PATH}?watch=1") as watching:
            for body in options:
                response = await api.request("DELETE", f"{PATH}/p", body, accept=accept)
                content = response.body if isinstance(response.body, bytes) else b"".join(response.body)
                seen.append((response.status, orjson.loads(content)))
                await api.advance(1)
            await api.settle()
            seen += watching.events
        return [*seen, (await api.client.list(PODS, "default"))["items"]]


@pytest.mark.parametrize("accept", ["application/json", TABLE, METADATA])
@pytest.mark.parametrize(
    ("pod", "phase"),
    [
        ({}, "Pending"),
        ({"nodeName": "n"}, "Running"),
        ({"nodeName": "n", "terminationGracePeriodSeconds": 7}, "Running"),
        ({"nodeName": "n", "terminationGracePeriodSeconds": 0}, "Running"),
        ({"nodeName": "n"}, "Succeeded"),
        ({"nodeName": "n", "metadata": {"finalizers": ["example.com/a"]}}, "Running"),
        ({"metadata": {"finalizers": ["example.com/a"]}}, "Pending"),
    ],
)
def test_nobody_can_tell(pod: Object, phase: str, accept: str) -> None:
    async def story() -> None:
        for options in (
            [{}, {"gracePeriodSeconds": 3}, {"gracePeriodSeconds": 0}, {}],
            [{"gracePeriodSeconds": -1}, {"propagationPolicy": "Foreground"}, {"propagationPolicy": "Background"}],
            [{"preconditions": {"uid": "other"}}, {"preconditions": {"resourceVersion": "1"}}, {"dryRun": ["All"]}],
            [{"gracePeriodSeconds": 0}],
        ):
            answers = [await observed(k, dict(pod), phase, options, accept) for k in (KINDS, WHOLE)]
            assert answers[0] == answers[1]

    asyncio.run(story())
