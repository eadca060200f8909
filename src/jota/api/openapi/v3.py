"""OpenAPI v3: the index and one document per group version. Kinds in, JSON values or pieces of JSON out; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from jota.api.openapi.definitions import Custom, definitions
from jota.api.openapi.paths import Operation, Parameter, operations, path_parameters
from jota.kinds.kind import Kind
from jota.meta import schema

INFO = {"title": "Kubernetes", "version": f"v{schema.VERSION}"}


def index(hashes: Mapping[str, str]) -> dict[str, Any]:
    """GET /openapi/v3: `hashes` maps "api/v1", "apis/apps/v1", ... to the hash of the document behind it."""
    return {
        "paths": {
            path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"} for path, digest in sorted(hashes.items())
        }
    }


def document(kinds: Iterable[Kind], custom: Custom) -> Iterator[bytes]:
    """The document of one group version, as pieces of JSON text."""
    members = list(kinds)
    yield b'{"openapi":"3.0.0","info":' + orjson.dumps(INFO) + b',"paths":' + orjson.dumps(_paths(members))
    yield b',"components":{"schemas":{'
    separator = b""
    for name, definition in definitions(members, custom, 3):
        yield separator + orjson.dumps(name) + b":" + orjson.dumps(definition)
        separator = b","
    token = {
        "BearerToken": {
            "type": "apiKey",
            "description": "Bearer Token authentication",
            "name": "authorization",
            "in": "header",
        }
    }
    yield b'},"securitySchemes":' + orjson.dumps(token) + b"}}"


def _paths(kinds: list[Kind]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for operation in operations(kinds):
        item = out.setdefault(operation.path, {})
        item[operation.method] = _operation(operation)
        parameters = path_parameters(operation.path)
        if parameters:
            item["parameters"] = [_parameter(p) for p in parameters]
    return out


def _operation(operation: Operation) -> dict[str, Any]:
    out: dict[str, Any] = {
        "tags": [operation.tag],
        "description": operation.description,
        "operationId": operation.id,
        "parameters": [_parameter(p) for p in operation.parameters],
        "responses": operation.responses({"content": _content(operation.produces, operation.response)}),
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": operation.gvk,
    }
    if operation.body:
        out["requestBody"] = {
            "content": _content(operation.consumes, operation.body),
            "required": operation.action != "delete",
        }
    return out


def _content(types: Iterable[str], definition: str) -> dict[str, Any]:
    reference = {"schema": {"$ref": f"#/components/schemas/{definition}"}}
    return dict.fromkeys(types, reference)


def _parameter(parameter: Parameter) -> dict[str, Any]:
    out: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.description,
        "schema": {"type": parameter.type, "uniqueItems": True},
    }
    if parameter.place == "path":
        out["required"] = True
    return out
