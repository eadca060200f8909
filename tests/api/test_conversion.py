"""Conversion webhooks over real TLS: every verb in every version, mixed storage, watches, selectors, and webhooks that fail."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import pytest

from jota.aio.clock import SystemClock
from jota.api.custom.served import BELIEVED
from jota.pki.ca import CertificateAuthority, Subject
from jota.testing.cluster import ApiServer, Watching
from jota.wire.http import HttpServer
from jota.wire.message import Request, Response

Object = dict[str, Any]
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CRD = f"{CRDS}/addresses.example.com"
V1, V2 = (f"/apis/example.com/{v}/namespaces/default/addresses" for v in ("v1", "v2"))
MERGE, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"
APPLY = "application/apply-patch+yaml"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def convert(obj: Object, wanted: str) -> Object:
    """v1 has one hostPort, v2 has host and port; v2 objects are labelled with their host."""
    out = {**obj, "apiVersion": wanted, "metadata": {**obj["metadata"]}}
    if wanted.endswith("/v2"):
        host, _, port = obj["spec"].get("hostPort", ":").partition(":")
        out["spec"] = {"host": host, "port": port, "junk": 1}
        out["metadata"]["labels"] = {**obj["metadata"].get("labels", {}), "host": host}
    else:
        out["spec"] = {"hostPort": f"{obj['spec'].get('host', '')}:{obj['spec'].get('port', '')}"}
        labels = {k: v for k, v in obj["metadata"].get("labels", {}).items() if k != "host"}
        out["metadata"]["labels"] = labels
    if "replicas" in obj["spec"]:
        out["spec"]["replicas"] = obj["spec"]["replicas"]
    return out


class Webhook:
    """A conversion webhook, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Object] = []
        self.port, self.bundle = 0, ""
        self.spoil: Callable[[Object], Any] = lambda review: review
        """Changes a good answer."""
        self.gate: asyncio.Event | None = None
        self.status = 200

    async def handle(self, request: Request) -> Response:
        review = orjson.loads(request.body)
        self.asked.append(review)
        if self.gate is not None:
            await self.gate.wait()
        asked = review["request"]
        objects = [convert(o, asked["desiredAPIVersion"]) for o in asked["objects"]]
        response = {"uid": asked["uid"], "result": {"status": "Success"}, "convertedObjects": objects}
        answer = self.spoil({"kind": "ConversionReview", "apiVersion": review["apiVersion"], "response": response})
        return Response(self.status, [("Content-Type", "application/json")], orjson.dumps(answer))


@asynccontextmanager
async def webhook() -> AsyncIterator[Webhook]:
    hook, clock = Webhook(), SystemClock()
    authority = CertificateAuthority(CertificateAuthority.create("hooks", days=1, now=clock.now()))
    pair = authority.issue(
        Subject("x", (), ("localhost", "conv.default.svc")), days=1, client=False, server=True, now=clock.now()
    )
    hook.bundle = base64.b64encode(authority.certificate_pem).decode()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with TemporaryDirectory() as directory:
        for name, content in (("c", pair.certificate), ("k", pair.key)):
            (Path(directory) / name).write_bytes(content)
        context.load_cert_chain(Path(directory) / "c", Path(directory) / "k")
    server = HttpServer(lambda request: hook.handle(request), ssl=context, clock=clock)
    await server.start("127.0.0.1", 0)
    hook.port = server.port
    try:
        yield hook
    finally:
        await server.close(0.1)


def version(name: str, properties: Object, **more: Any) -> Object:
    spec = {"type": "object", "properties": properties}
    status = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "properties": {"spec": spec, "status": status}}
    return {"name": name, "served": True, "storage": False, "schema": {"openAPIV3Schema": schema}, **more}


TEXT = {"type": "string"}
REPLICAS = {"type": "integer"}
BELOW = {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}}
NOTE = {"type": "string", "default": "old"}
FIRST = version("v1", {"hostPort": TEXT, "note": NOTE, "replicas": REPLICAS}, subresources=BELOW)
SECOND = version(
    "v2",
    {"host": TEXT, "port": TEXT, "zone": {"type": "string", "default": "here"}, "replicas": REPLICAS},
    subresources=BELOW,
    selectableFields=[{"jsonPath": ".spec.host"}],
    additionalPrinterColumns=[{"name": "Port", "type": "string", "jsonPath": ".spec.port"}],
)


def definition(hook: Webhook, storage: str = "v1", reviews: tuple[str, ...] = ("v1",)) -> Object:
    versions = [{**v, "storage": v["name"] == storage} for v in (FIRST, SECOND)]
    client = {"url": f"https://localhost:{hook.port}/convert", "caBundle": hook.bundle}
    conversion = {"strategy": "Webhook", "webhook": {"clientConfig": client, "conversionReviewVersions": reviews}}
    names = {"plural": "addresses", "kind": "Address"}
    spec = {"group": "example.com", "names": names, "scope": "Namespaced", "versions": versions}
    return {"metadata": {"name": "addresses.example.com"}, "spec": {**spec, "conversion": conversion}}


class Api:
    """Requests with their decoded answers."""

    def __init__(self, api: ApiServer, hook: Webhook) -> None:
        self.api, self.hook = api, hook

    async def do(self, method: str, path: str, body: Any = b"", want: int = 200, **headers: str) -> Object:
        response = await self.api.request(method, path, body, **headers)
        data = response.body if isinstance(response.body, bytes) else b"".join(response.body)
        assert response.status == want, (method, path, data)
        found: Object = orjson.loads(data)
        return found

    async def put_definition(self, **options: Any) -> Object:
        """Change it on the server, as somebody would who releases a new version."""
        crd = await self.do("GET", CRD)
        made = await self.do("PUT", CRD, {**crd, "spec": definition(self.hook, **options)["spec"]})
        await self.api.settle()
        return made

    def reviews(self) -> list[tuple[str, list[str]]]:
        """(wanted version, names) of each review since the last time."""
        found = [
            (r["request"]["desiredAPIVersion"], [o["metadata"]["name"] for o in r["request"]["objects"]])
            for r in self.hook.asked
        ]
        self.hook.asked.clear()
        return found


def first(name: str = "a", host_port: str = "h:80", **meta: Any) -> Object:
    return {"metadata": {"name": name, **meta}, "spec": {"hostPort": host_port}}


def second(name: str = "b", host: str = "h", port: str = "80", **meta: Any) -> Object:
    return {"metadata": {"name": name, **meta}, "spec": {"host": host, "port": port}}


def told(story: Callable[[Api], Any]) -> Callable[[], None]:
    def test() -> None:
        async def run() -> None:
            async with webhook() as hook, ApiServer(clock=SystemClock()) as server:
                api = Api(server, hook)
                await api.do("POST", CRDS, definition(hook), 201)
                await server.until(lambda: ("example.com", "v2", "addresses") in server.api.served)
                await story(api)

        asyncio.run(run())

    test.__name__ = story.__name__
    return test


@told
async def test_an_object_is_kept_in_one_version_and_shown_in_each(api: Api) -> None:
    made = await api.do("POST", V2, second(labels={"a": "b"}), 201)
    assert made["apiVersion"] == "example.com/v2"
    assert made["spec"] == {"host": "h", "port": "80"}, "zone is not known to the storage version and so it is lost"
    assert made["metadata"]["labels"] == {"a": "b", "host": "h"}
    assert api.reviews() == [("example.com/v1", ["b"]), ("example.com/v2", ["b"])]
    stored = await api.do("GET", f"{V1}/b")
    assert stored["spec"] == {"hostPort": "h:80", "note": "old"}, "with the defaults of the storage version"
    assert api.reviews() == [], "v1 is what is stored"
    again = await api.do("GET", f"{V2}/b")
    assert again == made
    for field in ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"):
        assert again["metadata"][field] == stored["metadata"][field]
    kinds = {e["apiVersion"] for e in again["metadata"]["managedFields"]}
    assert kinds == {"example.com/v2"}


@told
async def test_the_review_is_that_of_upstream(api: Api) -> None:
    await api.do("POST", V1, first(), 201)
    await api.do("GET", f"{V2}/a")
    (review,) = api.hook.asked
    assert (review["kind"], review["apiVersion"]) == ("ConversionReview", "apiextensions.k8s.io/v1")
    request = review["request"]
    assert sorted(request) == ["desiredAPIVersion", "objects", "uid"]
    (sent,) = request["objects"]
    assert (sent["apiVersion"], sent["kind"]) == ("example.com/v1", "Address")
    assert sent["metadata"]["resourceVersion"].isdigit()
    assert "~" not in sent
    await api.put_definition(reviews=("v9", "v1beta1", "v1"))
    api.hook.asked.clear()
    await api.do("GET", f"{V2}/a")
    assert api.hook.asked[0]["apiVersion"] == "apiextensions.k8s.io/v1beta1"


@told
async def test_every_write_in_the_other_version(api: Api) -> None:
    await api.do("POST", V1, first(), 201)
    seen = await api.do("GET", f"{V2}/a")
    seen["spec"]["port"] = "81"
    put = await api.do("PUT", f"{V2}/a", seen)
    assert put["spec"] == {"host": "h", "port": "81"}
    assert put["metadata"]["generation"] == 2
    assert (await api.do("GET", f"{V1}/a"))["spec"]["hostPort"] == "h:81"
    merged = await api.do("PATCH", f"{V2}/a", {"spec": {"host": "g"}}, content_type=MERGE)
    assert merged["spec"] == {"host": "g", "port": "81"}
    steps = [{"op": "test", "path": "/spec/host", "value": "g"}, {"op": "replace", "path": "/spec/port", "value": "9"}]
    patched = await api.do("PATCH", f"{V2}/a", steps, content_type=JSON_PATCH)
    assert patched["spec"] == {"host": "g", "port": "9"}
    wanted = {"apiVersion": "example.com/v2", "kind": "Address", "spec": {"host": "x"}}
    applied = await api.do("PATCH", f"{V2}/a?fieldManager=m&force=true", wanted, content_type=APPLY)
    assert applied["spec"] == {"host": "x", "port": "9"}
    created = await api.do("PATCH", f"{V2}/n?fieldManager=m", wanted, 201, content_type=APPLY)
    assert created["spec"] == {"host": "x", "port": ""}
    shown = {**applied, "status": {"ready": True}}
    told = await api.do("PUT", f"{V2}/a/status", shown)
    assert told["status"] == {"ready": True}
    assert (await api.do("GET", f"{V1}/a"))["status"] == {"ready": True}
    stale = {**seen, "spec": {"host": "late"}}
    await api.do("PUT", f"{V2}/a", stale, 409)
    dry = await api.do("PATCH", f"{V2}/a?dryRun=All", {"spec": {"host": "dry"}}, content_type=MERGE)
    assert dry["spec"]["host"] == "dry"
    assert (await api.do("GET", f"{V1}/a"))["spec"]["hostPort"] == "x:9"
    kept = await api.do("PATCH", f"{V2}/a", {"metadata": {"finalizers": ["a.b/c"]}}, content_type=MERGE)
    assert kept["metadata"]["finalizers"] == ["a.b/c"]
    held = await api.do("DELETE", f"{V2}/a")
    assert held["metadata"]["deletionTimestamp"]
    assert held["spec"]["host"] == "x"
    await api.do("PATCH", f"{V2}/a", {"metadata": {"finalizers": None}}, content_type=MERGE)
    await api.do("GET", f"{V1}/a", want=404)


async def mixed(api: Api) -> None:
    """a1, a2 stored in v1; b1, b2 in v2; the storage version is v2 then."""
    for name in ("a1", "a2"):
        await api.do("POST", V1, first(name, f"{name}:1"), 201)
    await api.put_definition(storage="v2")
    for name in ("b1", "b2"):
        await api.do("POST", V2, second(name, name, "2"), 201)
    api.reviews()


@told
async def test_a_mixed_list_is_converted_in_one_review(api: Api) -> None:
    await mixed(api)
    crd = await api.do("GET", CRD)
    assert crd["status"]["storedVersions"] == ["v1", "v2"]
    listed = await api.do("GET", V2)
    assert [(i["apiVersion"], i["metadata"]["name"], i["spec"]["host"]) for i in listed["items"]] == [
        ("example.com/v2", name, name) for name in ("a1", "a2", "b1", "b2")
    ]
    assert api.reviews() == [("example.com/v2", ["a1", "a2"])]
    listed = await api.do("GET", V1)
    assert [i["spec"]["hostPort"] for i in listed["items"]] == ["a1:1", "a2:1", "b1:2", "b2:2"]
    assert api.reviews() == [("example.com/v1", ["b1", "b2"])]
    page = await api.do("GET", f"{V2}?limit=3")
    assert [i["metadata"]["name"] for i in page["items"]] == ["a1", "a2", "b1"]
    token = page["metadata"]["continue"]
    rest = await api.do("GET", f"{V2}?limit=3&continue={token}")
    assert [i["metadata"]["name"] for i in rest["items"]] == ["b2"]
    table = await api.do("GET", V2, accept=TABLE)
    assert [row["cells"] for row in table["rows"]] == [["a1", "1"], ["a2", "1"], ["b1", "2"], ["b2", "2"]]
    partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    found = await api.do("GET", V2, accept=partial)
    assert [i["metadata"].get("labels") for i in found["items"]] == [{"host": "a1"}, {"host": "a2"}, None, None]


@told
async def test_selectors_look_at_what_is_shown(api: Api) -> None:
    await mixed(api)
    for query in ("fieldSelector=spec.host=a2", "labelSelector=host=a2", "fieldSelector=metadata.name=a2"):
        for limit in ("", "&limit=5"):
            found = await api.do("GET", f"{V2}?{query}{limit}")
            assert [i["metadata"]["name"] for i in found["items"]] == ["a2"], query
    assert (await api.do("GET", f"{V1}?labelSelector=host=a2"))["items"] == []
    await api.do("GET", f"{V1}?fieldSelector=spec.host=a2", want=400)
    gone = await api.do("DELETE", f"{V2}?fieldSelector=spec.host=a2")
    assert [i["spec"]["host"] for i in gone["items"]] == ["a2"]
    assert [i["metadata"]["name"] for i in (await api.do("GET", V1))["items"]] == ["a1", "b1", "b2"]


@told
async def test_watches_are_converted_in_order(api: Api) -> None:
    await mixed(api)
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    async with (
        Watching(api.api, f"{V2}?{query}") as everything,
        Watching(api.api, f"{V2}?watch=1&fieldSelector=spec.host=new") as chosen,
        Watching(api.api, f"{V1}?watch=1&resourceVersion=0", accept=TABLE) as table,
    ):
        await api.api.until(lambda: len(everything.events) == 5)
        assert [(t, o["spec"].get("host")) for t, o in everything.events[:4]] == [
            ("ADDED", name) for name in ("a1", "a2", "b1", "b2")
        ]
        assert everything.events[4][0] == "BOOKMARK", "it comes after what had to be converted"
        await api.do("PATCH", f"{V1}/a1", {"spec": {"hostPort": "new:1"}}, content_type=MERGE)
        await api.do("PATCH", f"{V2}/a1", {"spec": {"host": "other"}}, content_type=MERGE)
        await api.do("DELETE", f"{V1}/a1")
        await api.api.until(lambda: len(everything.events) == 8 and len(chosen.events) == 2)
        assert [(t, o["apiVersion"], o["spec"]["host"]) for t, o in everything.events[5:]] == [
            ("MODIFIED", "example.com/v2", "new"),
            ("MODIFIED", "example.com/v2", "other"),
            ("DELETED", "example.com/v2", "other"),
        ]
        assert [(t, o["spec"]["host"]) for t, o in chosen.events] == [("ADDED", "new"), ("DELETED", "new")]
        await api.api.until(lambda: len(table.events) == 7)
        assert [o["rows"][0]["cells"][0] for _, o in table.events] == ["a1", "a2", "b1", "b2", "a1", "a1", "a1"]


@told
async def test_a_watch_waits_for_its_webhook_without_holding_up_anybody(api: Api) -> None:
    async with Watching(api.api, f"{V2}?watch=1") as slow, Watching(api.api, f"{V1}?watch=1") as quick:
        api.hook.gate = asyncio.Event()
        for name in ("a", "b", "c"):
            await api.do("POST", V1, first(name), 201)
        await api.api.until(lambda: len(quick.events) == 3)
        assert slow.events == []
        api.hook.gate.set()
        await api.api.until(lambda: len(slow.events) == 3)
        assert slow.names() == [("ADDED", "a"), ("ADDED", "b"), ("ADDED", "c")]
        assert len(api.reviews()) == 2, "what gathered meanwhile goes in one review"


@told
async def test_many_readers_of_one_object_ask_once(api: Api) -> None:
    await api.do("POST", V1, first(), 201)
    api.hook.gate = asyncio.Event()
    reads = [asyncio.ensure_future(api.do("GET", f"{V2}/a")) for _ in range(5)]
    await api.api.until(lambda: bool(api.hook.asked))
    api.hook.gate.set()
    assert len({o["spec"]["host"] for o in await asyncio.gather(*reads)}) == 1
    assert len(api.reviews()) == 1


@told
async def test_a_webhook_that_was_mended_is_asked_again(api: Api) -> None:
    """Nothing tells that it converts otherwise now: its answers are believed for a moment only."""
    await api.do("POST", V1, first(), 201)
    assert (await api.do("GET", f"{V2}/a"))["spec"]["port"] == "80"

    def mended(answer: Object) -> Object:
        for obj in answer["response"]["convertedObjects"]:
            obj["spec"]["port"] = "8080"
        return answer

    api.hook.spoil = mended
    converter = api.api.api.served[("example.com", "v2", "addresses")].converter
    now, later = converter.now, BELIEVED + 1
    converter.now = lambda: now() + later
    assert (await api.do("GET", f"{V2}/a"))["spec"]["port"] == "8080"
    assert (await api.do("GET", V2))["items"][0]["spec"]["port"] == "8080"
    assert len(api.hook.asked) == 2, "the second reader shared the first one's answer"


@told
async def test_a_reader_that_goes_away_takes_nobody_with_it(api: Api) -> None:
    await api.do("POST", V1, first(), 201)
    api.hook.gate = asyncio.Event()
    one, two = (asyncio.ensure_future(api.do("GET", f"{V2}/a")) for _ in range(2))
    await api.api.until(lambda: bool(api.hook.asked))
    one.cancel()
    await asyncio.wait({one})
    assert one.cancelled()
    await api.api.until(lambda: len(api.hook.asked) == 2)
    api.hook.gate.set()
    assert (await two)["spec"]["host"] == "h"


def owners(obj: Object) -> dict[str, set[str]]:
    """manager and version -> the fields of spec that it owns."""
    found: dict[str, set[str]] = {}
    for entry in obj["metadata"]["managedFields"]:
        where = f"{entry['manager']} {entry['apiVersion'].rpartition('/')[2]}"
        found[where] = {f.removeprefix("f:") for f in entry["fieldsV1"].get("f:spec", {})}
    return found


def wanted(version: str, **spec: Any) -> Object:
    return {"apiVersion": f"example.com/{version}", "kind": "Address", "metadata": {"name": "a"}, "spec": spec}


@told
async def test_owners_of_one_version_hear_of_changes_in_another(api: Api) -> None:
    v1 = await api.do("PATCH", f"{V1}/a?fieldManager=one", wanted("v1", hostPort="h:80"), 201, content_type=APPLY)
    assert owners(v1) == {"one v1": {"hostPort"}}
    refused = await api.do("PATCH", f"{V2}/a?fieldManager=two", wanted("v2", host="x"), 409, content_type=APPLY)
    assert refused["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "field": ".spec.hostPort", "message": 'conflict with "one"'}
    ]
    same = await api.do("PATCH", f"{V2}/a?fieldManager=two", wanted("v2", host="h"), content_type=APPLY)
    assert owners(same) == {"one v1": {"hostPort"}, "two v2": {"host"}}, "who wants the same shares it"
    forced = await api.do("PATCH", f"{V2}/a?fieldManager=two&force=1", wanted("v2", host="x"), content_type=APPLY)
    assert owners(forced) == {"two v2": {"host"}}
    refused = await api.do("PATCH", f"{V1}/a?fieldManager=one", wanted("v1", hostPort="h:80"), 409, content_type=APPLY)
    assert refused["details"]["causes"][0]["field"] == ".spec.host"
    patched = await api.do("PATCH", f"{V1}/a?fieldManager=k", {"spec": {"hostPort": "z:1"}}, content_type=MERGE)
    assert owners(patched) == {"k v1": {"hostPort"}}
    assert (await api.do("GET", f"{V2}/a"))["spec"] == {"host": "z", "port": "1"}
    status = await api.do("PATCH", f"{V2}/a/status?fieldManager=s", {"status": {"a": 1}}, content_type=MERGE)
    assert owners(status)["k v1"] == {"hostPort"}


def response(**changes: Any) -> Callable[[Object], Any]:
    return lambda review: {**review, "response": {**review["response"], **changes}}


def changed(change: Callable[[Object], Any]) -> Callable[[Object], Any]:
    """Spoils the first of the objects."""

    def spoil(review: Object) -> Object:
        change(review["response"]["convertedObjects"][0])
        return review

    return spoil


WHICH = "conversion webhook for example.com/v1, Kind=Address"
BAD: list[tuple[str, Callable[[Object], Any], str]] = [
    ("refusal", response(result={"status": "Failure", "message": "no way"}), f"{WHICH} failed: no way"),
    (
        "status",
        response(result={"status": "Maybe"}),
        f"{WHICH} failed: response.result.status was 'Maybe', not 'Success'",
    ),
    ("uid", response(uid="x"), f"{WHICH} failed: expected response.uid="),
    ("none", lambda r: {**r, "response": None}, f"{WHICH} failed: no response provided"),
    (
        "type",
        lambda r: {**r, "kind": "Other"},
        f"{WHICH} failed: expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got "
        "apiextensions.k8s.io/v1, Kind=Other",
    ),
    ("list", lambda r: [], f"{WHICH} failed: the answer is no object"),
    ("too few", response(convertedObjects=[]), f"{WHICH} returned 0 objects, expected 1"),
    (
        "version",
        changed(lambda o: o.update(apiVersion="example.com/v1")),
        f"{WHICH} returned invalid object at index 0: invalid groupVersion (expected example.com/v2, received "
        "example.com/v1)",
    ),
    (
        "kind",
        changed(lambda o: o.update(kind="Door")),
        f"{WHICH} returned invalid object at index 0: invalid kind (expected Address, received Door)",
    ),
    (
        "name",
        changed(lambda o: o["metadata"].update(name="z")),
        f"{WHICH} returned invalid object: must have the same name: a != z",
    ),
    (
        "namespace",
        changed(lambda o: o["metadata"].update(namespace="z")),
        f"{WHICH} returned invalid object: must have the same namespace: default != z",
    ),
    (
        "uid of it",
        changed(lambda o: o["metadata"].pop("uid")),
        f"{WHICH} returned invalid object: must have the same UID: ",
    ),
    (
        "metadata",
        changed(lambda o: o.pop("metadata")),
        f"{WHICH} returned invalid metadata: missing metadata in converted object",
    ),
    (
        "labels",
        changed(lambda o: o["metadata"].update(labels={"a": 1})),
        f"{WHICH} returned invalid metadata: metadata.labels[a] must be a string, but is int in converted object",
    ),
    (
        "bad label",
        changed(lambda o: o["metadata"].update(labels={"a": "?"})),
        f'{WHICH} returned invalid metadata: metadata.labels: Invalid value: "?": ',
    ),
    ("not there", response(convertedObjects=["x"]), f"{WHICH} returned invalid object at index 0: it is no object"),
]


@pytest.mark.parametrize(("spoil", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_a_wrong_answer_is_told_in_upstreams_words(spoil: Callable[[Object], Any], message: str) -> None:
    @told
    async def tale(api: Api) -> None:
        await api.do("POST", V1, first(), 201)
        api.hook.spoil = spoil
        for path in (f"{V2}/a", V2, f"{V2}?labelSelector=a=b&limit=1"):
            status = await api.do("GET", path, want=500)
            assert status["message"].startswith(message)
            assert status["kind"] == "Status"
        await api.do("PATCH", f"{V2}/a", {"spec": {"host": "x"}}, 500, content_type=MERGE)
        await api.do("DELETE", f"{V2}/a", want=500)
        assert (await api.do("GET", f"{V1}/a"))["spec"]["hostPort"] == "h:80", "what is stored is as it was"
        async with Watching(api.api, f"{V2}?watch=1") as watch:
            await api.api.until(lambda: bool(watch.events) and watch.ended)
            assert watch.events[-1][0] == "ERROR"
            assert watch.events[-1][1]["message"].startswith(message)
        api.hook.spoil = lambda review: review
        assert (await api.do("GET", f"{V2}/a"))["spec"]["host"] == "h", "a failure is not remembered"

    tale()


@told
async def test_nothing_is_stored_that_could_not_be_read_again(api: Api) -> None:
    def no_way_back(review: Object) -> Object:
        found = review["response"]["convertedObjects"]
        return response(convertedObjects=[])(review) if found[0]["apiVersion"] == "example.com/v2" else review

    api.hook.spoil = no_way_back
    await api.do("POST", V2, second(), 500)
    await api.do("POST", f"{V2}?dryRun=All", second(), 500)
    await api.do("GET", f"{V1}/b", want=404)


@told
async def test_a_webhook_that_is_not_there(api: Api) -> None:
    await api.do("POST", V1, first(), 201)
    api.hook.status = 503
    status = await api.do("GET", f"{V2}/a", want=500)
    assert status["message"].startswith(f"{WHICH} failed: the server answered 503")
    crd = await api.do("GET", CRD)
    crd["spec"]["conversion"]["webhook"]["clientConfig"] = {"service": {"name": "no", "namespace": "default"}}
    await api.do("PUT", CRD, crd)
    await api.api.settle()
    status = await api.do("GET", f"{V2}/a", want=500)
    assert status["message"] == f'{WHICH} failed: service "no" not found'
    await api.do("DELETE", CRD)

    def gone() -> bool:
        return api.api.store.get("/apiextensions.k8s.io/customresourcedefinitions/addresses.example.com") is None

    await api.api.until(gone)
    assert api.api.store.count("/example.com/addresses/") == 0, "its instances go, webhook or not"


@told
async def test_a_webhook_behind_a_service_and_one_of_another_authority(api: Api) -> None:
    await api.do("POST", V1, first(), 201)
    service = {"metadata": {"name": "conv"}, "spec": {"type": "ExternalName", "externalName": "localhost"}}
    await api.do("POST", "/api/v1/namespaces/default/services", service, 201)
    crd = await api.do("GET", CRD)
    where = {"name": "conv", "namespace": "default", "port": api.hook.port, "path": "/c"}
    crd["spec"]["conversion"]["webhook"]["clientConfig"] = {"service": where, "caBundle": api.hook.bundle}
    crd = await api.do("PUT", CRD, crd)
    await api.api.settle()
    assert (await api.do("GET", f"{V2}/a"))["spec"]["host"] == "h"
    other = CertificateAuthority(CertificateAuthority.create("other", days=1, now=SystemClock().now()))
    client = crd["spec"]["conversion"]["webhook"]["clientConfig"]
    client["caBundle"] = base64.b64encode(other.certificate_pem).decode()
    await api.do("PUT", CRD, crd)
    await api.api.settle()
    status = await api.do("GET", f"{V2}/a", want=500)
    url = f"https://conv.default.svc:{api.hook.port}/c?timeout=30s"
    assert status["message"].startswith(f'{WHICH} failed: Post "{url}": ')
    assert "certificate verify failed" in status["message"]


@told
async def test_scale_in_the_other_version(api: Api) -> None:
    body = first()
    body["spec"]["replicas"] = 2
    await api.do("POST", V1, body, 201)
    scale = await api.do("GET", f"{V2}/a/scale")
    assert scale["spec"] == {"replicas": 2}
    scale["spec"]["replicas"] = 5
    assert (await api.do("PUT", f"{V2}/a/scale", scale))["spec"] == {"replicas": 5}
    assert (await api.do("GET", f"{V1}/a"))["spec"] == {"hostPort": "h:80", "note": "old", "replicas": 5}


async def without_v1(api: Api) -> None:
    """Some objects lie in v1, which is not served any more."""
    await mixed(api)
    crd = await api.do("GET", CRD)
    crd["spec"]["versions"][0]["served"] = False
    await api.do("PUT", CRD, crd)
    await api.api.until(lambda: ("example.com", "v1", "addresses") not in api.api.api.served)


@told
async def test_what_lies_in_a_version_that_is_not_served_any_more(api: Api) -> None:
    await without_v1(api)
    listed = await api.do("GET", V2)
    assert [i["spec"]["host"] for i in listed["items"]] == ["a1", "a2", "b1", "b2"]
    await api.do("GET", V1, want=404)


@told
async def test_a_definition_goes_when_its_webhook_comes_back(api: Api) -> None:
    await without_v1(api)
    api.hook.status = 503
    await api.do("DELETE", CRD)
    path = "/example.com/addresses/"
    await api.api.until(lambda: api.api.store.count(path) == 2, within=20)
    api.hook.status = 200
    await api.api.until(lambda: api.api.store.count(path) == 0, within=20)


@told
async def test_a_long_list_goes_in_several_reviews(api: Api) -> None:
    for name in ("a", "b", "c"):
        await api.do("POST", V1, first(name), 201)
    size = len(orjson.dumps(await api.do("GET", f"{V1}/a")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jota.api.custom.conversion.LARGEST", 2 * size + 10)
        assert len((await api.do("GET", V2))["items"]) == 3
    assert api.reviews() == [("example.com/v2", ["a", "b"]), ("example.com/v2", ["c"])]


@told
async def test_two_writers_in_two_versions_lose_nothing(api: Api) -> None:
    """Read, change, write with the revision, again on a conflict: as controllers do, one in each version."""
    body = first(annotations={})
    body["spec"]["replicas"] = 0
    await api.do("POST", V1, body, 201)

    async def count(path: str, times: int) -> None:
        while times:
            seen = await api.do("GET", f"{path}/a")
            seen["spec"]["replicas"] += 1
            response = await api.api.request("PUT", f"{path}/a", seen)
            assert response.status in (200, 409), response.body
            times -= response.status == 200

    async with Watching(api.api, f"{V2}?watch=1&resourceVersion=0") as watch:
        await asyncio.gather(count(V1, 10), count(V2, 10))
        assert (await api.do("GET", f"{V2}/a"))["spec"]["replicas"] == 20
        await api.api.until(lambda: len(watch.events) == 21)
        assert [o["spec"]["replicas"] for _, o in watch.events] == list(range(21))


@told
async def test_metadata_but_labels_and_annotations_is_the_servers(api: Api) -> None:
    await api.do("POST", V1, first(labels={"old": "x"}, annotations={"keep": "y"}), 201)

    def meddle(obj: Object) -> None:
        meta = obj["metadata"]
        meta |= {"labels": {"new": "x"}, "annotations": None, "generation": 99, "finalizers": ["a.b/c"]}
        meta["resourceVersion"] = "1"
        del meta["managedFields"]

    api.hook.spoil = changed(meddle)
    before, after = await api.do("GET", f"{V1}/a"), await api.do("GET", f"{V2}/a")
    kept = {k: v for k, v in before["metadata"].items() if k not in ("labels", "annotations")}
    assert after["metadata"] == {**kept, "labels": {"new": "x"}}


@told
async def test_a_write_moves_an_object_to_the_storage_version(api: Api) -> None:
    await mixed(api)
    before = await api.do("GET", f"{V1}/a1")
    after = await api.do("PUT", f"{V1}/a1", before)
    assert int(after["metadata"]["resourceVersion"]) > int(before["metadata"]["resourceVersion"])
    entry = api.api.store.get("/example.com/addresses/default/a1")
    assert entry is not None
    assert b'"~":"v2 ' in (entry.value or b"")
    seen = await api.do("GET", f"{V2}/a1")
    again = await api.do("PUT", f"{V2}/a1", seen)
    assert again["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"], "there is nothing more to do"


@told
async def test_what_is_stored_in_a_version_keeps_the_version(api: Api) -> None:
    await mixed(api)
    crd = await api.do("GET", CRD)
    without = {**crd, "spec": {**crd["spec"], "versions": crd["spec"]["versions"][1:]}}
    refused = await api.do("PUT", CRD, without, 422)
    assert 'status.storedVersions[0]: Invalid value: "v1": missing from spec.versions' in refused["message"]
    for stored, message in (
        ([], "status.storedVersions: Invalid value: []: must have at least one stored version"),
        (["v1"], 'status.storedVersions: Invalid value: "v2": must have the storage version v2'),
        (["v2", "v3"], 'status.storedVersions[1]: Invalid value: "v3": must appear in spec.versions'),
    ):
        wrong = {**crd, "status": {**crd["status"], "storedVersions": stored}}
        refused = await api.do("PUT", f"{CRD}/status", wrong, 422)
        assert message in refused["message"]
    for name in ("a1", "a2"):
        await api.do("PUT", f"{V1}/{name}", await api.do("GET", f"{V1}/{name}"))
    done = {**crd, "status": {**crd["status"], "storedVersions": ["v2"]}}
    crd = await api.do("PUT", f"{CRD}/status", done)
    without = {**crd, "spec": {**crd["spec"], "versions": crd["spec"]["versions"][1:]}}
    await api.do("PUT", CRD, without)
    await api.api.until(lambda: ("example.com", "v1", "addresses") not in api.api.api.served)
    api.reviews()
    assert len((await api.do("GET", V2))["items"]) == 4
    assert api.reviews() == []


@told
async def test_admission_webhooks_see_the_version_that_they_want(api: Api) -> None:
    seen: list[Object] = []

    async def answer(request: Request) -> Response:
        review = orjson.loads(request.body)
        if review["kind"] == "ConversionReview":
            return await Webhook.handle(api.hook, request)
        seen.append(review["request"])
        verdict = {"uid": review["request"]["uid"], "allowed": True}
        body = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": verdict}
        return Response(200, [("Content-Type", "application/json")], orjson.dumps(body))

    api.hook.handle = answer  # type: ignore[method-assign]
    rule = {"operations": ["*"], "apiGroups": ["example.com"], "apiVersions": ["v2"], "resources": ["addresses"]}
    hook = {
        "name": "x.example.com",
        "clientConfig": {"url": f"https://localhost:{api.hook.port}/admit", "caBundle": api.hook.bundle},
        "rules": [rule],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    where = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    await api.do("POST", where, {"metadata": {"name": "x"}, "webhooks": [hook]}, 201)
    await api.api.settle()
    await api.do("POST", V1, first(), 201)
    assert [r["object"]["spec"] for r in seen] == [{"host": "h", "port": "80"}]
    assert seen[0]["object"]["apiVersion"] == "example.com/v2"


JUNK: tuple[Any, ...] = (None, True, -1, 2.5, "", "x", [], [None], [1, "a"], {}, {"host": []}, {"host": {"a": 1}}, [[]])


@told
async def test_junk_from_a_webhook_is_shown_or_refused_and_nothing_breaks(api: Api) -> None:
    await api.do("POST", V1, first(), 201)
    places = ("spec", "status", "metadata", "apiVersion", "kind", "extra")
    for number, (where, junk) in enumerate((w, j) for w in places for j in JUNK):
        # a new state each time: what was converted well is remembered
        note = {"metadata": {"annotations": {"n": str(number)}}}
        api.hook.spoil = changed(lambda o, where=where, junk=junk: o.update({where: junk}))
        await api.do("PATCH", f"{V1}/a", note, content_type=MERGE)
        for method, path, body in (
            ("GET", f"{V2}/a", b""),
            ("GET", f"{V2}?fieldSelector=spec.host=h", b""),
            ("PATCH", f"{V2}/a?dryRun=All", {"spec": {"port": "1"}}),
        ):
            kind = {"content_type": MERGE} if method == "PATCH" else {}
            response = await api.api.request(method, path, body, **kind)
            data = response.body if isinstance(response.body, bytes) else b"".join(response.body)
            found = orjson.loads(data)
            if response.status == 500:
                assert found["message"].startswith("conversion webhook for "), (where, junk, found)
            else:
                assert response.status in (200, 422), (where, junk, found)
    assert (await api.do("GET", f"{V1}/a"))["spec"]["hostPort"] == "h:80"
