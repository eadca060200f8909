"""Whoever asks about what is deprecated is told so, whatever it asks."""

from __future__ import annotations

from typing import Any

import pytest

from jota.kinds.apiextensions.crd import CRDS
from jota.testing.cluster import ApiServer, story
from jota.wire.message import Response

ENDPOINTS = "/api/v1/namespaces/default/endpoints"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
TABLE = "application/json;as=Table;g=meta.k8s.io;v=v1"


def warnings(response: Response) -> list[str]:
    return [value for name, value in response.headers if name.lower() == "warning"]


@story
async def test_every_request_about_endpoints(api: ApiServer) -> None:
    text = '299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"'
    named = {"metadata": {"name": "e"}}
    for method, path, sent, accept in (
        ("POST", ENDPOINTS, named, ""),
        ("GET", ENDPOINTS, None, ""),
        ("GET", ENDPOINTS, None, TABLE),
        ("GET", f"{ENDPOINTS}/e", None, ""),
        ("GET", f"{ENDPOINTS}/e", None, ""),  # what was asked before is answered otherwise
        ("GET", f"{ENDPOINTS}/e", None, TABLE),
        ("GET", "/api/v1/endpoints", None, ""),
        ("GET", f"{ENDPOINTS}?watch=true&timeoutSeconds=1", None, ""),
        ("PUT", f"{ENDPOINTS}/e", {"metadata": {"name": "e", "labels": {"a": "b"}}}, ""),
        ("DELETE", f"{ENDPOINTS}/e", {}, ""),
        ("DELETE", ENDPOINTS, {}, ""),
    ):
        response = await api.request(method, path, sent, accept=accept or "application/json")
        assert response.status in (200, 201), (method, path)
        assert warnings(response) == [text], (method, path)
    assert warnings(await api.request("GET", SLICES)) == []


def version(name: str, *, storage: bool = False, **more: Any) -> dict[str, Any]:
    schema = {"openAPIV3Schema": {"type": "object"}}
    return {"name": name, "served": True, "storage": storage, "schema": schema, **more}


@pytest.mark.parametrize("said", ["", "example.com/v1 Toy is old"])
def test_every_request_about_a_deprecated_version_of_a_definition(said: str) -> None:
    @story
    async def tale(api: ApiServer) -> None:
        old: dict[str, Any] = {"deprecated": True, **({"deprecationWarning": said} if said else {})}
        definition = {
            "metadata": {"name": "toys.example.com"},
            "spec": {
                "group": "example.com",
                "scope": "Cluster",
                "names": {"plural": "toys", "kind": "Toy"},
                "versions": [version("v1", **old), version("v2", storage=True)],
            },
        }
        await api.client.create(CRDS, definition)
        await api.settle()
        text = f'299 - "{said or "example.com/v1 Toy is deprecated"}"'
        for number, expected in ((1, [text]), (2, [])):
            path = f"/apis/example.com/v{number}/toys"
            name = {"metadata": {"name": f"t{number}"}}
            assert warnings(await api.request("POST", path, name)) == expected
            assert warnings(await api.request("GET", path)) == expected
            assert warnings(await api.request("GET", f"{path}/t{number}")) == expected
            assert warnings(await api.request("DELETE", f"{path}/t{number}")) == expected

    tale()
