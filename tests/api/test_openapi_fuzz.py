"""Our own OpenAPI documents, walked by schemathesis: whatever they let in, and whatever they keep out, is answered, as they say, and soon.

One server for each document (what is written to one group may switch off others: webhooks, policies), reached over HTTP.
Kubernetes' documents leave to prose what most requests turn on; `sharpened` says it in the schema, so that not all that is
generated ends at the first look. `JOTA_FUZZ_SECONDS` (for each document) makes a run longer, `JOTA_FUZZ_SEED` another one; `-s` shows
what was asked.

Of schemathesis' checks, those of what documents of Kubernetes do not say are left out (`CHECKS`), and answers that Kubernetes
means so are let pass (`is_meant`).
"""

from __future__ import annotations

import asyncio
import copy
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import pytest
from tests.api.test_tier0_resources import BODIES, NAMED

from jota.aio.clock import SystemClock
from jota.api.filters.attributes import COMPONENT
from jota.api.runtime_config import serves
from jota.kinds.apiextensions.crd import CRDS
from jota.kinds.kind import Kind
from jota.kinds.table import KINDS
from jota.testing.cluster import ApiServer
from jota.wire.http import HttpServer
from jota.wire.message import Request, Response, Stream, Writer

schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis: make clients")
engine = pytest.importorskip("schemathesis.engine")
requests = pytest.importorskip("requests")
failures = pytest.importorskip("schemathesis.core.failures")
JsonSchemaError = pytest.importorskip("schemathesis.openapi.checks").JsonSchemaError

Object = dict[str, Any]
SEED = int(os.environ.get("JOTA_FUZZ_SEED", "1"))
SECONDS = int(os.environ.get("JOTA_FUZZ_SECONDS", "0"))
"""0: as many as the document has operations for."""
SWAGGER = ("configmaps", "leases", "foos")
"""Of the document of OpenAPI v2."""
INTEGERS = ("limit", "timeoutSeconds", "gracePeriodSeconds")
"""Parameters."""
HANGS = 10.0
"""Seconds; no request may take that long."""
WATCHED = 0.02
"""Seconds after which who watches has seen enough."""
CHECKS = {
    # of documents that list 401 and no other error: success_is_declared and errors_are_statuses are what can be asked
    "status_code_conformance": {"enabled": False},
    # most rules of validation are prose: what fits the schema may be Invalid
    "positive_data_acceptance": {"enabled": False},
    # what has finalizers or a grace period is still there after its DELETE
    "use_after_free": {"enabled": False},
    # a POST with dryRun=All is answered with 201, and nothing is there
    "ensure_resource_availability": {"enabled": False},
    # v3 documents require no credentials (v2 does), and this server asks for none: tests/api/test_security*.py
    "ignored_auth": {"enabled": False},
    "missing_required_header": {"enabled": False},
    "object_level_authorization": {"enabled": False},
    "max_response_time": HANGS,
}


def document_of(kind: Kind) -> str:
    return kind.resource.path().rpartition("/")[0].strip("/")


DOCUMENTS = sorted(
    {"apis/metrics.k8s.io/v1beta1", "apis/stable.example.com/v1", *(document_of(k) for k in KINDS if serves({}, k))}
)
SCHEMA = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["size"],
            "properties": {
                "size": {"type": "integer", "minimum": 0, "maximum": 10},
                "name": {"type": "string", "pattern": "^[a-z]*$", "default": "a"},
                "port": {"x-kubernetes-int-or-string": True},
                "many": {"type": "array", "maxItems": 3, "items": {"type": "number"}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "maybe": {"type": "string", "nullable": True},
            },
            "x-kubernetes-validations": [{"rule": "self.size < 9 || self.name != 'a'"}],
        },
        "status": {"type": "object", "properties": {"size": {"type": "integer"}}},
    },
}
CUSTOM: Object = {
    "metadata": {"name": "foos.stable.example.com"},
    "spec": {
        "group": "stable.example.com",
        "names": {"plural": "foos", "singular": "foo", "kind": "Foo"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"},
                },
                "schema": {"openAPIV3Schema": SCHEMA},
            }
        ],
    },
}
OTHER = {**CUSTOM["spec"], "group": "other.example.com"}
SPECIMENS = {
    **BODIES,
    "stable.example.com/v1/foos": {"spec": {"size": 1}},
    "apiextensions.k8s.io/v1/customresourcedefinitions": {"spec": OTHER},
    # a group must be named, though it may be the core one
    "storagemigration.k8s.io/v1/storageversionmigrations": {
        "spec": {"resource": {"group": "", "resource": "configmaps"}}
    },
}
ONLY = {**NAMED, "customresourcedefinitions": "foos.other.example.com"}
"""The one name that the specimen of a kind may have."""


# -- a server


@contextmanager
def served() -> Iterator[str]:
    """The address of an API server in a thread of its own, where there are foos."""
    ready, told = threading.Event(), dict[str, Any]()

    async def main() -> None:
        ended = asyncio.Event()
        async with ApiServer(clock=SystemClock(), seed=SEED) as server:
            await server.client.create(CRDS, CUSTOM)

            async def handle(request: Request) -> Response:
                request.user = COMPONENT
                response = await server.api.handle(request)
                if response.stream is not None:
                    response.stream = beginning_of(response.stream)
                return response

            edge = HttpServer(handle, clock=SystemClock())
            await edge.start("127.0.0.1", 0)
            told.update(port=edge.port, end=ended.set, loop=asyncio.get_running_loop())
            ready.set()
            await ended.wait()
            await edge.close(0)

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="api")
    thread.start()
    assert ready.wait(20)
    try:
        yield f"http://127.0.0.1:{told['port']}"
    finally:
        told["loop"].call_soon_threadsafe(told["end"])
        thread.join()


def beginning_of(stream: Stream) -> Stream:
    """Of a watch: nobody here waits for its end."""

    async def beginning(writer: Writer) -> None:
        try:
            async with asyncio.timeout(WATCHED):
                await stream(writer)
        except TimeoutError:
            pass

    return beginning


# -- what documents leave to prose


def sharpened(document: Object) -> Object:
    """With more of what must be sent, specimens of it, and what may be asked of what was made."""
    document = copy.deepcopy(document)
    for path, item in document["paths"].items():
        for parameter in item.get("parameters", ()):
            names = ["default"] if parameter["name"] == "namespace" else names_at(path)
            parameter["schema"] = {"type": "string", "enum": names}
        for method, operation in item.items():
            if method == "parameters":
                continue
            for parameter in operation["parameters"]:
                del parameter["schema"]["uniqueItems"]  # which says nothing of what is no array
                if (method, parameter["name"]) == ("patch", "fieldManager"):  # an apply patch must have one
                    parameter |= {"required": True, "schema": {"type": "string", "pattern": "^[a-z]{1,9}$"}}
            if "requestBody" in operation:
                sharpen_body(document["components"]["schemas"], path, operation)
        if "post" in item:
            links = links_to(document["paths"].get(f"{path}/{{name}}", {}), namespaced="{namespace}" in path)
            item["post"]["responses"]["201"]["links"] = links
    return document


def names_at(path: str) -> list[str]:
    """Of objects; two of them, but where there may be one alone."""
    only = ONLY.get(plural_of(path))
    return [only] if only else ["fuzz", "other"]


def plural_of(path: str) -> str:
    return path.partition("/{name}")[0].rpartition("/")[2]


def links_to(one: Object, *, namespaced: bool) -> Object:
    """What may be asked of an object that was just made; among that, to take it back as it is."""
    made = {"name": "$response.body#/metadata/name"} | ({"namespace": "$request.path.namespace"} if namespaced else {})
    return {
        method: {"operationId": operation["operationId"], "parameters": made}
        | ({"requestBody": "$response.body"} if method == "put" else {})
        for method, operation in one.items()
        if method != "parameters"
    }


def sharpen_body(schemas: Object, path: str, operation: Object) -> None:
    gvk, action = operation["x-kubernetes-group-version-kind"], operation["x-kubernetes-action"]
    version = f"{gvk['group']}/{gvk['version']}".lstrip("/")
    specimen = SPECIMENS.get(f"{version}/{plural_of(path)}", {})
    bodies = operation["requestBody"]["content"]
    if "*/*" in bodies:
        of_any_type = bodies.pop("*/*")
        bodies |= {"application/json": dict(of_any_type), "application/yaml": dict(of_any_type)}
    metadata = metadata_at(schemas, path)
    for media, body in bodies.items():
        if action in ("delete", "deletecollection"):
            body["schema"] = narrowed(
                schemas, body, {"apiVersion": {"enum": ["v1"]}, "kind": {"enum": ["DeleteOptions"]}}
            )
        elif media == "application/json-patch+json":
            body["schema"] = JSON_PATCH
        elif action == "patch" and "apply" not in media:
            properties = {"metadata": metadata} | ({"spec": {"type": "object"}} if "spec" in specimen else {})
            body["schema"] = {"type": "object", "properties": properties}
        else:
            head = {"apiVersion": {"enum": [version]}, "kind": {"enum": [gvk["kind"]]}, "metadata": metadata}
            whole = operation["responses"]["200"]["content"]["application/json"]  # of an apply patch, too
            body["schema"] = narrowed(schemas, whole, head)
            named = {"apiVersion": version, "kind": gvk["kind"], "metadata": {"name": names_at(path)[0]}}
            body["example"] = {**named, **specimen}


def narrowed(schemas: Object, content: Object, properties: Object) -> Object:
    """A definition with some properties that must be there, and as they are given."""
    whole = schemas[content["schema"]["$ref"].rpartition("/")[2]]
    required = [*whole.get("required", ()), *(name for name in properties if name not in whole.get("required", ()))]
    return {**whole, "required": required, "properties": {**whole["properties"], **properties}}


def metadata_at(schemas: Object, path: str) -> Object:
    """Of an object that may be new: a name that fits, and nothing that the server gives."""
    properties: Object = {
        "name": {"type": "string", "enum": names_at(path)},
        "namespace": {"type": "string", "enum": ["default" if "{namespace}" in path else ""]},
        "labels": {"type": "object", "additionalProperties": {"type": "string", "pattern": "^[a-z]{1,9}$"}},
        **{given: {"type": "string", "enum": [""]} for given in ("generateName", "resourceVersion", "uid")},
    }
    whole = schemas["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"]
    return {**whole, "required": ["name"], "properties": {**whole["properties"], **properties}}


_POINTERS = [
    "",
    "/",
    "/metadata",
    "/metadata/labels",
    "/metadata/finalizers/-",
    "/spec",
    "/spec/0",
    "/metadata/annotations/a~1b",
]
JSON_PATCH = {
    "type": "array",
    "maxItems": 4,
    "items": {
        "type": "object",
        "required": ["op", "path"],
        "properties": {
            "op": {"enum": ["add", "remove", "replace", "test", "move", "copy"]},
            "path": {"enum": _POINTERS},
            "from": {"enum": _POINTERS},
            "value": {},
        },
    },
}


# -- what is asked of answers


@schemathesis.check
def success_is_declared(context: Any, response: Any, case: Any) -> None:
    if response.status_code < 300:
        codes = case.operation.definition.raw["responses"]
        assert str(response.status_code) in codes, f"{response.status_code} is not among {sorted(codes)}"


@schemathesis.check
def errors_are_statuses(context: Any, response: Any, case: Any) -> None:
    if response.status_code >= 400 and response.request.method != "HEAD":
        status = orjson.loads(response.content)
        assert (status["kind"], status["apiVersion"], status["status"]) == ("Status", "v1", "Failure")
        assert status["code"] == response.status_code
        assert status["message"]
        assert status["reason"]


def is_meant(failure: Any, case: Any, response: Any) -> bool:
    """Whether Kubernetes has it so."""
    if isinstance(failure, JsonSchemaError | failures.MalformedJson):
        action = case.operation.definition.raw["x-kubernetes-action"]
        # where a list is declared, a watch is a stream of events; where a Status is, a deletion that waits answers with the
        # object; what Go writes always may be missing from what a client did not say, and a null among times stays one
        watches = action == "list" and "watch" in (case.query or {})
        waits = action == "delete" and "deletionTimestamp" in response.text
        nothing = failure.message.startswith("null is not of type") and "meta.v1.Time:" in failure.message
        return watches or waits or nothing or "is a required property" in failure.message
    if isinstance(failure, failures.AcceptedNegativeData):
        _, _, said = failure.message.partition("Invalid component:")
        return not any(is_wrong(component, said, case, response) for component in said.splitlines())
    return False


def is_wrong(component: str, said: str, case: Any, response: Any) -> bool:
    """Whether it is of another type than what is declared: rules beyond that are `sharpened`'s own. Where it was sent, what was
    `said` tells before all of them."""
    if "ncorrect type" not in component and "violates `type`" not in component:
        return False
    if "in path" in said or "path:" in component:
        return False
    if case.method == "PATCH" and case.operation.path.partition("/{name}")[2]:
        return False  # what is said to a subresource beside what it has counts for nothing
    if "in query" in said or "query:" in component:
        # booleans are all true but "0" and "false"; of a delete's options, those in the body count
        return not case.body and any(name in component for name in INTEGERS)
    # a null is nothing said; who owns what is forgotten when it cannot be read
    sent = response.request.body or b""
    return b"null" not in (sent.encode() if isinstance(sent, str) else sent) and "fieldsV1" not in component


def configured(base: str, seconds: int) -> Any:
    return schemathesis.Config.from_dict(
        {
            "seed": SEED,
            "max-time": seconds,
            "base-url": base,
            "request-timeout": 2 * HANGS,
            "continue-on-failure": True,
            "cache": {"enabled": False},  # of one run nothing is kept for the next
            "generation": {"database": "none", "no-shrink": True, "max-examples": 4},
            "checks": CHECKS,
        }
    )


def walk(schema: Any) -> tuple[dict[tuple[str, str], str], Counter[tuple[str, str, int]]]:
    """(what is wrong: (operation, check) -> details of the first; how often what was answered: (phase, method, code))."""
    wrong, answers = dict[tuple[str, str], str](), Counter[tuple[str, str, int]]()

    @schema.hook
    def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
        return not is_meant(failure, case, response)

    for event in engine.from_schema(schema).execute():
        if isinstance(event, engine.events.NonFatalError):
            wrong.setdefault((event.label, str(event.info.title)), str(event.info.message))
        if not isinstance(event, engine.events.ScenarioFinished):
            continue
        asked = {name: node.value for name, node in event.recorder.cases.items()}
        for interaction in event.recorder.interactions.values():
            code = interaction.response.status_code if interaction.response is not None else 0
            answers[event.phase.value, interaction.request.method, code] += 1
        for name, checks in event.recorder.checks.items():
            for check in checks:
                if check.failure_info is not None:
                    details = f"{check.failure_info.failure.message}\n{check.failure_info.code_sample}"
                    wrong.setdefault((asked[name].operation.label, check.name), details[:4000])
    return wrong, answers


@pytest.mark.parametrize("document", DOCUMENTS)
def test_what_a_document_lets_in_or_keeps_out_is_answered_as_it_says(document: str) -> None:
    with served() as base:
        given = requests.get(f"{base}/openapi/v3/{document}", timeout=HANGS).json()
        operations = sum(len(item.keys() - {"parameters"}) for item in given["paths"].values())
        seconds = SECONDS or max(2, operations // 15)
        wrong, answers = walk(schemathesis.openapi.from_dict(sharpened(given), config=configured(base, seconds)))
    print(f"seed {SEED}, {document}: {sum(answers.values())} requests: {dict(answers)}")
    assert not wrong, f"seed {SEED}: " + "\n".join(f"{key}: {text}" for key, text in wrong.items())
    posts = {code for _, method, code in answers if method == "POST"} - {405}
    assert not posts or 201 in posts, "nothing was ever made"


def test_the_swagger_document_is_answered_as_it_says() -> None:
    """The same operations once more, as clients before OpenAPI v3 know them: those of a few kinds, for it is one document, and
    all that is in it is worked out before the first request."""
    with served() as base:
        given = requests.get(f"{base}/openapi/v2", timeout=HANGS).json()
        given["paths"] = {path: item for path, item in given["paths"].items() if plural_of(path) in SWAGGER}
        wrong, answers = walk(schemathesis.openapi.from_dict(given, config=configured(base, SECONDS or 4)))
    print(f"seed {SEED}, v2: {sum(answers.values())} requests: {dict(answers)}")
    assert answers
    assert not wrong, f"seed {SEED}: " + "\n".join(f"{key}: {text}" for key, text in wrong.items())


def test_no_document_is_left_out() -> None:
    with served() as base:
        assert sorted(requests.get(f"{base}/openapi/v3", timeout=HANGS).json()["paths"]) == DOCUMENTS
