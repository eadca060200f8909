"""Our own OpenAPI documents drive random requests against the server: whatever fits the schema, or nearly, is no 500.

The seed of a failing run is in its name; `JOTA_FUZZ_SECONDS` makes a run longer.
"""

from __future__ import annotations

import asyncio
import os
import time
from random import Random
from typing import Any

import orjson
import pytest

from jota.testing.cluster import ApiServer
from jota.wire.answer import build_head

SECONDS = float(os.environ.get("JOTA_FUZZ_SECONDS", "3"))
SEEDS = (1, 2, 3)
SLOW = 2.0
"""Seconds; no single request may take that long."""
TEXTS = (
    "",
    "a",
    "default",
    "web-0",
    "A.b",
    "x" * 300,
    "\u00e9\ud7ff",
    "10m",
    "2Gi",
    "-1",
    "1.5",
    "%s",
    "2026-01-01T00:00:00Z",
)
STRANGE = ("\0", "a\x04b", "\r\nX-Injected: yes", "\x7f\u0087", '"\\', "\U000b4378", "", "a.b[0]", " ")
JSON = "application/json"
Object = dict[str, Any]


class Author:
    """Values after a schema; a small part of them wrong on purpose."""

    def __init__(self, random: Random, schemas: Object) -> None:
        self.random, self.schemas = random, schemas

    def value(self, schema: Object, depth: int = 0) -> Any:
        random = self.random
        if random.random() < 0.01:
            return random.choice([None, 0, -1, "", "x", [], {}, [None], {"": None}, True, 1 << 70, 1e300])
        while "allOf" in schema or "$ref" in schema:
            reference = schema["$ref"] if "$ref" in schema else schema["allOf"][0].get("$ref", "")
            schema = self.schemas.get(reference.rpartition("/")[2], {})
        kind = schema.get("type") or ("object" if "properties" in schema else "")
        if not kind and "oneOf" in schema:
            return self.value(random.choice(schema["oneOf"]), depth)
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            count = 0 if depth > 7 else random.choice((0, 1, 1, 2))
            return [self.value(schema.get("items") or {}, depth + 1) for _ in range(count)]
        if kind == "integer":
            return random.choice((0, 1, 2, 80, 65536, -1, 2**31 - 1, 2**31, 2**63 - 1))
        if kind == "number":
            return random.choice((0, 0.5, -1))
        if kind == "boolean":
            return random.random() < 0.5
        if schema.get("format") == "byte":
            return random.choice(("", "YQ==", "!"))
        return random.choice((*schema.get("enum", ()), *TEXTS))

    def _object(self, schema: Object, depth: int) -> Object:
        random, properties = self.random, schema.get("properties") or {}
        chance = 0.9 if depth < 2 else max(0.05, 0.5 - 0.06 * depth)
        wanted = set(schema.get("required") or ())
        out = {
            name: self.value(child, depth + 1)
            for name, child in properties.items()
            if name in wanted or random.random() < (chance if len(properties) < 25 else chance / 3)
        }
        if random.random() < 0.02:
            out[random.choice(STRANGE)] = random.choice((0, "", [], {}))  # unknown: told in a Warning header
        extra = schema.get("additionalProperties")
        if isinstance(extra, dict) and random.random() < 0.5:
            out[random.choice(TEXTS)] = self.value(extra, depth + 1)
        return out


async def operations(api: ApiServer) -> list[tuple[str, str, Object, Object]]:
    """(path, method, operation, schemas) of everything in OpenAPI v3."""
    index = orjson.loads((await api.request("GET", "/openapi/v3")).body)["paths"]  # type: ignore[arg-type]
    found = []
    for entry in index.values():
        document = orjson.loads((await api.request("GET", entry["serverRelativeURL"])).body)  # type: ignore[arg-type]
        schemas = document.get("components", {}).get("schemas", {})
        for path, methods in document["paths"].items():
            shared = methods.get("parameters", [])
            for method, operation in methods.items():
                if method in ("get", "put", "post", "patch", "delete"):
                    whole = {**operation, "parameters": [*shared, *operation.get("parameters", [])]}
                    found.append((path, method.upper(), whole, schemas))
    return found


def patch_steps(random: Random, author: Author) -> list[Object]:
    paths = ("", "/", "/metadata", "/metadata/labels", "/spec", "/spec/0", "/metadata/finalizers/-", "/a~2", "no")
    return [
        {
            "op": random.choice(("add", "remove", "replace", "test", "move", "copy", "x")),
            "path": random.choice(paths),
            "from": random.choice(paths),
            "value": author.value({"type": random.choice(("object", "string", "array"))}),
        }
        for _ in range(random.randrange(4))
    ]


def request_of(
    random: Random, path: str, method: str, operation: Object, schemas: Object
) -> tuple[str, str, bytes, str]:
    """(path, query, body, media type)."""
    author = Author(random, schemas)
    names = ("fuzz", "fuzz", "default", "nobody", "A", "%2e%2e", "x" * 260)
    path = path.replace("{namespace}", random.choice(("default", "default", "default", "nowhere", "%00")))
    path = path.replace("{name}", random.choice(names)).replace("{path}", random.choice(("", "a/b")))
    pairs = []
    for parameter in operation["parameters"]:
        if parameter.get("in") == "query" and random.random() < 0.15 and parameter["name"] not in ("watch", "follow"):
            given = random.choice(
                ("true", "1", "0", "All", "Strict", "Exact", "metadata.name=fuzz", "a in (b", "\u00e9", "")
            )
            pairs.append(f"{parameter['name']}={given}")
    content = (operation.get("requestBody") or {}).get("content") or {}
    if not content:
        return path, "&".join(pairs), b"", JSON
    media = random.choice(list(content))
    schema = content[media].get("schema") or {}
    value = author.value(schema)
    if media == "application/json-patch+json":
        value = patch_steps(random, author)
    elif isinstance(value, dict) and random.random() < 0.95:
        gvk = operation.get("x-kubernetes-group-version-kind") or {}
        value["apiVersion"] = f"{gvk.get('group')}/{gvk.get('version')}" if gvk.get("group") else gvk.get("version")
        value["kind"] = gvk.get("kind")
        if method == "DELETE":
            value["apiVersion"], value["kind"] = "v1", "DeleteOptions"
        if random.random() < 0.9:
            value["metadata"] = {"name": "fuzz"}
    if "apply" in media:
        pairs += ["fieldManager=fuzz", "force=true"]
    body = orjson.dumps(value, default=str) if not _too_big(value) else b"{}"
    if random.random() < 0.02:
        body = body[: random.randrange(len(body) + 1)]
    return path, "&".join(pairs), body, "application/json" if media == "*/*" else media


def _too_big(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except TypeError:
        return True
    return False


@pytest.mark.parametrize("seed", SEEDS)
def test_what_fits_the_schema_never_breaks_the_server(seed: int) -> None:
    async def main() -> None:
        random, codes = Random(seed), dict[int, int]()
        async with ApiServer(seed=seed) as api:
            everything = await operations(api)
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                path, method, operation, schemas = random.choice(everything)
                where, query, body, media = request_of(random, path, method, operation, schemas)
                begin = time.monotonic()
                response = await api.request(method, where, body, query=query, content_type=media)
                took = time.monotonic() - begin
                codes[response.status] = codes.get(response.status, 0) + 1
                told = (method, where, query, media, body, response.body)
                assert response.status not in (500, 501), told
                assert took < SLOW, (took, told)
                assert build_head(response.status, response.headers).data.count(b"\r\n") == len(response.headers) + 1, (
                    told
                )
                if response.status >= 400 and method != "HEAD":
                    status = orjson.loads(response.body)  # type: ignore[arg-type]
                    assert (status["kind"], status["code"]) == ("Status", response.status), told
        assert codes.get(201), f"nothing was ever created: {codes}"

    asyncio.run(main())
