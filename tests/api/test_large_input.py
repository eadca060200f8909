"""One request with as much as a body may hold keeps nobody else waiting long: work grows with its input, not with its square.

The bound is generous for a slow machine and far below what a square would cost (minutes): it tells hangs, not speed.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
import pytest

from jota.api.filters.attributes import User
from jota.api.security import secure, write_roles
from jota.meta.patch import strategic
from jota.pki import pem
from jota.pki.jwt import TokenSigner
from jota.testing.cluster import ApiServer, story

HANG = 10.0
"""Seconds."""
MANY = 12_000
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
    steps = [{"op": "add", "path": "/metadata/finalizers", "value": finalizers("e", 4 * MANY)}]
    last: dict[str, Any] = {"op": "copy", "from": "/metadata/finalizers/0", "path": "/metadata/finalizers/-"}
    await ask("PATCH", f"{CM}/c", [*steps, *[last] * 9000], "application/json-patch+json")
    whole = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "d"}}
    for manager, wanted in (("ann", finalizers("a")), ("ben", finalizers("a")[::-1])):
        whole["metadata"]["finalizers"] = wanted  # type: ignore[index]
        await ask("PATCH", f"{CM}/d?fieldManager={manager}&force=true", whole, APPLY)
    await ask("POST", PODS, {"metadata": {"name": "p"}, "spec": {"containers": containers("i")}})
    await ask("PATCH", f"{PODS}/p", {"spec": {"containers": containers("j")}}, STRATEGIC)


def test_roles_as_large_as_they_may_be_are_judged_or_refused() -> None:
    """Both the role that is written and the rules that its writer holds are as long as a body allows."""
    rbac, eve = "/apis/rbac.authorization.k8s.io/v1/namespaces/default", User("eve", groups=("system:authenticated",))
    group = "rbac.authorization.k8s.io"

    def rules(resource: str) -> list[dict[str, Any]]:
        one = {"verbs": ["get"], "apiGroups": [""], "resources": [resource]}
        return [{**one, "resourceNames": [f"n{n}"]} for n in range(MANY)]

    wide = {"verbs": [f"v{n}" for n in range(2000)], "apiGroups": [f"g{n}" for n in range(2000)]}
    wide["resources"] = [f"r{n}" for n in range(2000)]

    async def main() -> None:
        server = ApiServer()
        secure(server.api, TokenSigner(TokenSigner.create_key()), "https://issuer")
        async with server:
            await write_roles(server.api)
            for kind, name in (("ClusterRole", "admin"), ("Role", "held")):
                if kind == "Role":
                    made = await server.request(
                        "POST", f"{rbac}/roles", {"metadata": {"name": name}, "rules": rules("pods")}
                    )
                    assert made.status == 201
                ref = {"apiGroup": group, "kind": kind, "name": name}
                subjects = [{"kind": "User", "apiGroup": group, "name": "eve"}]
                body = {"metadata": {"name": name}, "roleRef": ref, "subjects": subjects}
                assert (await server.request("POST", f"{rbac}/rolebindings", body)).status == 201
            for name, wanted, status in (
                ("lacks", rules("things"), 403),
                ("wide", [wide], 403),
                ("small", rules("pods")[:3], 201),
                ("single", [{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "secrets"]}], 201),
            ):
                began = time.monotonic()
                body = {"metadata": {"name": name}, "rules": wanted}
                response = await server.request("POST", f"{rbac}/roles", body, user=eve)
                assert response.status == status, (name, response.body[:300])  # type: ignore[index]
                assert time.monotonic() - began < HANG, name

    asyncio.run(main())


@pytest.mark.parametrize("text", ["-----BEGIN A-----\n", "-----BEGIN ", "-----BEGIN A-----\n-----END B-----\n"])
def test_beginnings_of_pem_without_an_end(text: str) -> None:
    began = time.monotonic()
    assert pem.blocks(text * 50_000) == []
    assert time.monotonic() - began < HANG


def test_numbers_and_truth_are_not_the_same_item() -> None:
    live = {"metadata": {"finalizers": [1, "1", True, 0, False]}}
    patched = strategic.apply(live, {"metadata": {"finalizers": [True, 1.0]}}, "io.k8s.api.core.v1.ConfigMap")
    assert [repr(one) for one in patched["metadata"]["finalizers"]] == ["1", "'1'", "True", "1.0", "0", "False"]
