"""One request with as much as a body may hold keeps nobody else waiting long: work grows with its input, not with its square.

The bound is generous for a slow machine and far below what a square would cost (minutes): it tells hangs, not speed.
"""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest

from jota.meta.patch import strategic
from jota.pki import pem
from jota.testing.cluster import ApiServer, story

HANG = 20.0
"""Seconds."""
MANY = 20_000
CM, PODS = "/api/v1/namespaces/default/configmaps", "/api/v1/namespaces/default/pods"
STRATEGIC, APPLY = "application/strategic-merge-patch+json", "application/apply-patch+yaml"


def finalizers(word: str, count: int = MANY) -> list[str]:
    return [f"example.com/{word}{n}" for n in range(count)]


def containers(image: str) -> list[dict[str, str]]:
    return [{"name": f"c{n}", "image": image} for n in range(MANY // 2)]


@story
async def test_patches_of_long_lists(api: ApiServer) -> None:
    async def ask(method: str, path: str, body: Any, media: str = "application/json") -> None:
        began = time.monotonic()
        response = await api.request(method, path, orjson.dumps(body), content_type=media)
        assert response.status < 300, response.body
        assert time.monotonic() - began < HANG, (method, path, str(body)[:200])

    await ask("POST", CM, {"metadata": {"name": "c", "finalizers": finalizers("a")}})
    await ask("PATCH", f"{CM}/c", {"metadata": {"finalizers": finalizers("b")}}, STRATEGIC)
    order = {"$setElementOrder/finalizers": finalizers("b")[::-1], "finalizers": finalizers("b")}
    await ask("PATCH", f"{CM}/c", {"metadata": order}, STRATEGIC)
    await ask("PATCH", f"{CM}/c", {"metadata": {"$deleteFromPrimitiveList/finalizers": finalizers("a")}}, STRATEGIC)
    left = await api.client.raw("GET", f"{CM}/c")
    body = left.body if isinstance(left.body, bytes) else b"".join(left.body)
    assert orjson.loads(body)["metadata"]["finalizers"] == finalizers("b")[::-1]
    whole = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "d"}}
    for manager, wanted in (("ann", finalizers("a")), ("ben", finalizers("a")[::-1])):
        whole["metadata"]["finalizers"] = wanted  # type: ignore[index]
        await ask("PATCH", f"{CM}/d?fieldManager={manager}&force=true", whole, APPLY)
    await ask("POST", PODS, {"metadata": {"name": "p"}, "spec": {"containers": containers("i")}})
    await ask("PATCH", f"{PODS}/p", {"spec": {"containers": containers("j")}}, STRATEGIC)


@pytest.mark.parametrize("text", ["-----BEGIN A-----\n", "-----BEGIN ", "-----BEGIN A-----\n-----END B-----\n"])
def test_beginnings_of_pem_without_an_end(text: str) -> None:
    began = time.monotonic()
    assert pem.blocks(text * 50_000) == []
    assert time.monotonic() - began < HANG


def test_numbers_and_truth_are_not_the_same_item() -> None:
    live = {"metadata": {"finalizers": [1, "1", True, 0, False]}}
    patched = strategic.apply(live, {"metadata": {"finalizers": [True, 1.0]}}, "io.k8s.api.core.v1.ConfigMap")
    assert [repr(one) for one in patched["metadata"]["finalizers"]] == ["1", "'1'", "True", "0", "False", "1.0"]
