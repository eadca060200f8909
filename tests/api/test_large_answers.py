"""Answers that take long to make are made in pieces: the same bytes, and others have their turn in between."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jota.aio.clock import SystemClock
from jota.api import lazily, protobuf_form, yaml_form
from jota.api.protobuf_form import LARGE
from jota.kinds.core.pod import columns
from jota.meta import protobuf_encode
from jota.meta.resource import CONFIGMAPS, PODS
from jota.testing.cluster import ApiServer
from jota.wire.message import Response

Object = dict[str, Any]
PLACE = "/api/v1/namespaces/default"
TABLE = "application/json;as=Table;g=meta.k8s.io;v=v1"
PROTOBUF = "application/vnd.kubernetes.protobuf"


class Costly(SystemClock):
    """Each look at this clock costs a millisecond."""

    seconds = 0.0

    def monotonic(self) -> float:
        self.seconds += 0.001
        return self.seconds


def story(test: Callable[[ApiServer], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        async def main() -> None:
            async with ApiServer(clock=Costly()) as server:
                for n in range(60):
                    data = {"text": f"{n}: yes\n  no\n", "on": "ä" * 9}
                    await server.client.create(CONFIGMAPS, {"metadata": {"name": f"c{n}"}, "data": data}, "default")
                    spec = {"containers": [{"name": f"n{k}", "image": "i"} for k in range(1 + n % 3)]}
                    await server.client.create(PODS, {"metadata": {"name": f"p{n}"}, "spec": spec}, "default")
                await test(server)

        asyncio.run(main())

    return run


async def ask(server: ApiServer, path: str, accept: str = "application/json") -> tuple[Response, bytes]:
    answer = await server.request("GET", f"{PLACE}/{path}", accept=accept)
    assert answer.status == 200
    return answer, answer.body if isinstance(answer.body, bytes) else b"".join(answer.body)


async def turns(work: Awaitable[Any]) -> int:
    """How many turns of the loop others had until it was done."""
    task, seen = asyncio.ensure_future(work), 0
    while not task.done():
        await asyncio.sleep(0)
        seen += 1
    await task
    return seen


@story
async def test_rows_are_made_in_several_turns(server: ApiServer) -> None:
    await ask(server, "pods", TABLE)
    one = await turns(ask(server, "pods?limit=1", TABLE))
    assert await turns(ask(server, "pods", TABLE)) >= one + 60 // 6


@pytest.mark.parametrize("include", ["", "Metadata", "Object", "None"])
def test_a_table_holds_what_its_kind_says_of_each_object(include: str) -> None:
    @story
    async def check(server: ApiServer) -> None:
        for plural in ("pods", "configmaps"):
            served = server.api.served[("", "v1", plural)]
            for query in ("", "&limit=7", "&fieldSelector=metadata.name%3Dnobody"):
                listed = orjson.loads((await ask(server, f"{plural}?x=y{query}"))[1])
                made = orjson.loads((await ask(server, f"{plural}?includeObject={include}{query}", TABLE))[1])
                assert made["metadata"]["resourceVersion"] == listed["metadata"]["resourceVersion"]
                assert made["metadata"].get("remainingItemCount") == listed["metadata"].get("remainingItemCount")
                assert made["columnDefinitions"][0]["name"] == "Name"
                rows = zip(made["rows"], listed["items"], strict=True)
                for row, item in rows:
                    cells = [c.cell(item, server.clock.now()) for c in served.kind.columns]
                    assert row["cells"][:4] == cells[:4]
                    assert len(row["cells"]) == len(cells) == len(made["columnDefinitions"])
                    named = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
                    if include in ("", "Metadata"):
                        assert row["object"] == {**named, "metadata": item["metadata"]}
                    elif include == "Object":
                        assert row["object"] == {"kind": served.resource.kind, "apiVersion": "v1", **item}
                    else:
                        assert "object" not in row

    check()


@given(st.data())
def test_the_cells_of_a_pod_are_those_of_its_columns(data: st.DataObject) -> None:
    word = st.sampled_from(["", "a", "Running", "Completed", "Always", "2026-01-01T00:00:00Z"])
    ended = st.fixed_dictionaries({}, optional={"exitCode": st.integers(0, 2), "reason": word, "finishedAt": word})
    state = st.fixed_dictionaries(
        {}, optional={"terminated": ended, "waiting": st.fixed_dictionaries({"reason": word}), "running": st.just({})}
    )
    status = st.fixed_dictionaries(
        {"name": st.sampled_from("abc")},
        optional={
            "state": state,
            "lastState": state,
            "ready": st.booleans(),
            "started": st.booleans(),
            "restartCount": st.integers(0, 3),
        },
    )
    container = st.fixed_dictionaries({"name": st.sampled_from("abc")}, optional={"restartPolicy": word})
    pod = data.draw(
        st.fixed_dictionaries(
            {
                "metadata": st.fixed_dictionaries({"name": word}, optional={"deletionTimestamp": word}),
                "spec": st.fixed_dictionaries(
                    {}, optional={"containers": st.lists(container), "initContainers": st.lists(container)}
                ),
                "status": st.fixed_dictionaries(
                    {},
                    optional={
                        "phase": word,
                        "containerStatuses": st.lists(status),
                        "initContainerStatuses": st.lists(status),
                    },
                ),
            }
        )
    )
    assert columns.cells(pod, 1e9) == [c.cell(pod, 1e9) for c in columns.COLUMNS]


@story
async def test_yaml_says_what_json_says(server: ApiServer) -> None:
    for path in ("configmaps", "configmaps/c1", "pods?limit=3", "secrets"):
        _, plain = await ask(server, path)
        answer, text = await ask(server, path, "application/yaml")
        assert ("Content-Type", "application/yaml") in answer.headers
        assert text.decode() == yaml.dump(orjson.loads(plain), Dumper=yaml.CSafeDumper, sort_keys=True)
    _, text = await ask(server, "configmaps", TABLE.replace("json", "yaml"))
    assert yaml.safe_load(text)["kind"] == "Table"
    missing = await server.request("GET", f"{PLACE}/configmaps/none", accept="application/yaml")
    assert (missing.status, orjson.loads(missing.body)["code"]) == (404, 404)


@story
async def test_yaml_and_large_protobuf_are_made_beside_the_loop(server: ApiServer) -> None:
    data = {"text": "x" * LARGE}
    await server.client.create(CONFIGMAPS, {"metadata": {"name": "large"}, "data": data}, "default")
    seen: list[threading.Thread] = []
    with pytest.MonkeyPatch.context() as patch:
        real = lazily.fields

        def fields(body: bytes) -> dict[str, Any]:
            seen.append(threading.current_thread())
            return real(body)

        patch.setattr(yaml_form.lazily, "fields", fields)
        await ask(server, "configmaps/c1", "application/yaml")
        await ask(server, "configmaps", PROTOBUF)
    assert len(seen) == 2
    assert threading.main_thread() not in seen


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)


@given(st.dictionaries(st.text() | st.sampled_from(["y", "on", "items", "null", "1", "x" * 200]), JSON, min_size=1))
def test_pieces_of_yaml_make_the_whole(value: Object) -> None:
    made = asyncio.run(yaml_form.answer(Response(200, [("Content-Type", "application/json")], orjson.dumps(value))))
    assert made.body == yaml.dump(value, Dumper=yaml.CSafeDumper, sort_keys=True).encode()  # type: ignore[union-attr]


@given(st.dictionaries(st.text(), JSON, max_size=6))
def test_fields_that_are_read_as_they_come_are_those_of_the_whole(value: Object) -> None:
    found = lazily.fields(orjson.dumps(value))
    assert {k: list(v) if isinstance(value[k], list) else v for k, v in found.items()} == value


@story
async def test_a_large_list_in_protobuf_is_the_same(server: ApiServer) -> None:
    long = {"text": "x" * (LARGE // 10)}
    for n in range(20):
        await server.client.create(CONFIGMAPS, {"metadata": {"name": f"l{n}"}, "data": long}, "default")
    _, plain = await ask(server, "configmaps")
    assert len(plain) > LARGE
    _, made = await ask(server, "configmaps", PROTOBUF)
    assert made == protobuf_encode.object_(orjson.loads(plain)) == protobuf_form.encode(plain)
