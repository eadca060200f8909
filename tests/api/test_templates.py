"""Pods of one template are decoded, defaulted and judged once; that must never show."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.api import ownnames
from jota.api.filters.attributes import User
from jota.api.shapes import MOST, Templates
from jota.testing.cluster import ApiServer, story

PATH = "/api/v1/namespaces/default/pods"
SPEC = {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]}
ANN = User("ann", groups=("system:masters", "system:authenticated"))
SERVERS = ("uid", "creationTimestamp", "resourceVersion", "name", "generateName")


def body(spec: dict[str, Any] = SPEC, **metadata: Any) -> bytes:
    return orjson.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


async def post(api: ApiServer, sent: bytes, query: str = "", media: str = "application/json") -> Any:
    return await api.request("POST", PATH, sent, query=query, content_type=media)


def comparable(response: Any) -> dict[str, Any]:
    obj = orjson.loads(response.body)
    metadata = {k: v for k, v in obj["metadata"].items() if k not in SERVERS}
    return {**obj, "metadata": metadata}


@story
async def test_the_second_pod_is_as_the_first(api: ApiServer) -> None:
    first, second = [await post(api, body(generateName="web-", labels={"a": "b"})) for _ in range(2)]
    assert (first.status, second.status) == (201, 201)
    assert comparable(first) == comparable(second)
    named = await post(api, body(name="y", labels={"a": "b"}))
    spaced = await post(api, orjson.dumps(orjson.loads(body(name="x", labels={"a": "b"})), option=orjson.OPT_INDENT_2))
    assert comparable(spaced) == comparable(named)


@story
async def test_what_is_wrong_beside_the_spec_is_still_found(api: ApiServer) -> None:
    for _ in range(2):
        assert (await post(api, body(generateName="web-"))).status == 201
    assert (await post(api, body(name="-"))).status == 422
    assert (await post(api, body(name="b", labels=3))).status == 400
    unknown = await post(api, body(name="b", unknown=3), "fieldValidation=Strict")
    assert (unknown.status, b'unknown field \\"metadata.unknown\\"' in unknown.body) == (400, True)
    other = body(name="b").replace(b'"kind":"Pod"', b'"kind":"Job"')
    assert (await post(api, other)).status == 400
    twice = body(name="b")[:-1] + b',"spec":' + orjson.dumps(SPEC) + b"}"
    assert (await post(api, twice, "fieldValidation=Strict")).status == 400
    assert (await post(api, body(name="b")[:-1])).status == 400


@story
async def test_a_doubtful_spec_is_warned_of_each_time(api: ApiServer) -> None:
    doubtful = {**SPEC, "nodeSelector": {"beta.kubernetes.io/os": "linux"}, "unknown": 1}
    for name in "abc":
        response = await post(api, body(doubtful, name=name))
        assert len([v for k, v in response.headers if k == "Warning"]) == 2, response.headers
    annotated = body(name="d", annotations={"seccomp.security.alpha.kubernetes.io/pod": "x"})
    await post(api, body(name="e"))
    assert [k for k, _ in (await post(api, annotated)).headers].count("Warning") == 1


@story
async def test_an_account_that_changes_counts_for_the_next_pod(api: ApiServer) -> None:
    await post(api, body(name="a"))
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    where = "/api/v1/namespaces/default/serviceaccounts"
    await api.request("POST", where, {**account, "automountServiceAccountToken": False})
    second = orjson.loads((await post(api, body(name="b"))).body)
    assert "volumes" not in second["spec"]


def own(claim: str, host: str, **more: Any) -> dict[str, Any]:
    """As a StatefulSet's pods: alike, but for their claims and their hostname."""
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]
    return {**SPEC, "hostname": host, "subdomain": "db", "volumes": volumes, **more}


CUNNING = {"name": "c", "image": "i", "env": [{"name": "E", "value": '"claimName":"a","hostname":"b"'}]}
ALIKE = [
    (own("data-0", "db-0"), own("data-1", "db-1")),
    (own("a", "b"), own("b", "a")),
    (own("a", "b", nodeSelector={"hostname": "x"}), own("a", "b", nodeSelector={"hostname": "y"})),
    (own("a", "b", containers=[CUNNING]), own("c", "d", containers=[CUNNING])),
    (own("a", "b"), own("dots.are-legal", "b")),
    (own("a", "b"), own("0", "0")),
]


@story
async def test_pods_with_claims_of_their_own_are_as_if_they_were_the_first(api: ApiServer) -> None:
    for first, second in ALIKE:
        async with ApiServer() as fresh:
            assert (await post(api, body(first, generateName="x-"))).status == 201
            after, alone = [await post(a, body(second, generateName="x-")) for a in (api, fresh)]
            assert (after.status, comparable(after)) == (201, comparable(alone))
            name = orjson.loads(after.body)["metadata"]["name"]
            assert comparable(await api.request("GET", f"{PATH}/{name}")) == comparable(alone)


@story
async def test_a_wrong_name_of_its_own_is_wrong(api: ApiServer) -> None:
    for name in "ab":
        assert (await post(api, body(own("a", "b"), name=name))).status == 201
    for claim, host in (("", "b"), ("a", "B"), ("a", "b_c"), ("a", "b" * 64), ("a", "b-")):
        assert (await post(api, body(own(claim, host), name="c"))).status == 422, (claim, host)


@story
async def test_a_missing_claim_is_warned_of_by_its_own_name(api: ApiServer) -> None:
    for claim in ("one", "two", "one"):
        sent = body(own(claim, "b"), generateName="x-")
        response = await api.request("POST", PATH, sent, user=ANN, content_type="application/json")
        (said,) = [v for k, v in response.headers if k == "Warning"]
        assert f'"{claim}"' in said.replace("\\", ""), said


@given(
    st.lists(
        st.sampled_from(
            ['"claimName":"', '"hostname":"', '"', "a", "b-c", "d-", "E", "0", "", ",", "{", "\\\\", '"claimName": "']
        ),
        max_size=12,
    )
)
def test_names_that_are_cut_out_are_filled_in_again(parts: list[str]) -> None:
    data = "".join(parts).encode()
    without, names = ownnames.cut(data)
    assert ownnames.fill(without, names) == data
    others = [b"x"] * len(names)
    assert ownnames.cut(ownnames.fill(without, others)) == (without, others)


def test_the_memory_is_bounded() -> None:
    templates = Templates()
    for n in range(MOST + 10):
        _, spec = templates.read(body({"containers": [], "nodeName": str(n)}, name="a"))
        templates.keep(spec, {"spec": {}})
    assert len(templates._kept) == MOST


@settings(max_examples=200)
@given(st.binary(max_size=40), st.integers(0, 200))
def test_any_bytes_are_a_miss_or_read_as_they_are(noise: bytes, at: int) -> None:
    templates = Templates()
    sent = body(name="a")
    _, spec = templates.read(sent)
    templates.keep(spec, {"spec": SPEC})
    changed = sent[: at % len(sent)] + noise + sent[at % len(sent) :]
    found, _ = templates.read(changed)
    assert found is None or found == orjson.loads(changed)
