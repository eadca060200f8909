"""OpenAPI v2 (Swagger): one document of everything that is served, as pieces of JSON. gnostic.py encodes the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from jota.api.openapi.definitions import Custom, definitions
from jota.api.openapi.paths import Operation, Parameter, operations, path_parameters
from jota.api.openapi.v3 import INFO
from jota.kinds.kind import Kind

SECURITY = {
    "BearerToken": {
        "description": "Bearer Token authentication",
        "type": "apiKey",
        "name": "authorization",
        "in": "header",
    }
}


def document(kinds: Iterable[Kind], custom: Custom) -> Iterator[bytes]:
    """The whole document as pieces of JSON text."""
    members = list(kinds)
    yield b'{"swagger":"2.0","info":' + orjson.dumps(INFO) + b',"paths":{'
    yield from _joined(paths(members))
    yield b'},"definitions":{'
    yield from _joined(definitions(members, custom, 2))
    yield b'},"securityDefinitions":' + orjson.dumps(SECURITY) + b',"security":[{"BearerToken":[]}]}'


def _joined(pairs: Iterable[tuple[str, dict[str, Any]]]) -> Iterator[bytes]:
    separator = b""
    for name, value in pairs:
        yield separator + orjson.dumps(name) + b":" + orjson.dumps(value)
        separator = b","


def paths(kinds: list[Kind]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, path item) in order."""
    found: dict[str, list[Operation]] = {}
    for operation in operations(kinds):
        found.setdefault(operation.path, []).append(operation)
    for path, members in sorted(found.items()):
        item: dict[str, Any] = {operation.method: _operation(operation) for operation in members}
        parameters = path_parameters(path)
        if parameters:
            item["parameters"] = [_parameter(p) for p in parameters]
        yield path, item


def _operation(operation: Operation) -> dict[str, Any]:
    parameters = [_parameter(p) for p in operation.parameters]
    if operation.body:
        reference = {"$ref": f"#/definitions/{operation.body}"}
        body = {"name": "body", "in": "body", "schema": reference}
        parameters.insert(0, body | ({} if "delete" in operation.action else {"required": True}))
    return {
        "description": operation.description,
        "consumes": list(operation.consumes),
        "produces": list(operation.produces),
        "schemes": ["https"],
        "tags": [operation.tag],
        "operationId": operation.id,
        "parameters": parameters,
        "responses": operation.responses({"schema": {"$ref": f"#/definitions/{operation.response}"}}),
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": operation.gvk,
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    out: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.description,
        "type": parameter.type,
        "uniqueItems": True,
    }
    if parameter.place == "path":
        out["required"] = True
    return out
