"""A definition as large as they come (cert-manager, Prometheus, Ray: up to a megabyte) keeps nobody waiting for all of its work."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from jota.aio import slices
from jota.kinds.apiextensions.crd import KIND
from jota.testing.cluster import ApiServer, story

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
APPLY = "application/apply-patch+yaml"
_NODES = 4_000


def definition(about: str = "") -> dict[str, Any]:
    node = {"type": "object", "properties": {f"f{n}": {"type": "string", "description": "x" * 60} for n in range(39)}}
    properties = {f"part{n}": node for n in range(_NODES // 40)}
    schema = {
        "type": "object",
        "description": about,
        "properties": {"spec": {"type": "object", "properties": properties}},
    }
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "larges", "singular": "large", "kind": "Large", "listKind": "LargeList"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "larges.example.com"},
        "spec": {"group": "example.com", "names": names, "scope": "Namespaced", "versions": [version]},
    }


def test_its_schema_is_judged_in_slices() -> None:
    judge = KIND.judge
    assert judge is not None
    with pytest.raises(slices.TooLong):
        slices.at_once(lambda: judge(definition(), None, []))
    assert judge(definition(), None, []) == []


def test_a_schema_that_stays_is_not_judged_again() -> None:
    judge = KIND.judge
    assert judge is not None
    found, units = slices.at_once(lambda: judge(definition(), definition(), []))
    assert (found, units) == ([], 0)


@story
async def test_others_have_their_turn_between_its_steps(api: ApiServer) -> None:
    for about in ("new", "changed"):
        body = orjson.dumps(definition(about))
        path = f"{CRDS}/larges.example.com?fieldManager=m&force=true"
        write = asyncio.create_task(api.request("PATCH", path, body, content_type=APPLY))
        turns = 0
        while not write.done():
            await asyncio.sleep(0)
            turns += 1
        assert write.result().status in (200, 201)
        # read | merged and checked | a first look and two slices or more of the rules | stored
        assert turns >= 6
