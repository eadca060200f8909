"""Pods as controllers read them: what is shared between pods that are alike must not show."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jota.client.informer import Informer
from jota.client.sharing import Shared, without_node
from jota.controllers.views import Pod, PodStatus
from jota.meta import resource
from jota.testing.cluster import ApiServer, story

_plain = msgspec.json.Decoder(Pod).decode
TEXT = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from([',"nodeName":"x"}', "\\", '"', "n1"])
SPECS = st.fixed_dictionaries(
    {"containers": st.lists(st.fixed_dictionaries({"name": TEXT}), max_size=2)},
    optional={
        "nodeName": TEXT,
        "hostname": TEXT,
        "affinity": st.fixed_dictionaries({"nodeName": TEXT}),
        "unknown": st.fixed_dictionaries({"a": TEXT, "nodeName": TEXT}),
    },
)
CONDITION = st.fixed_dictionaries({"type": TEXT, "status": st.sampled_from(["True", "False"])})
PODS = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries(
            {"name": TEXT, "labels": st.none() | st.dictionaries(TEXT, TEXT, max_size=2)},
            optional={"ownerReferences": st.none(), "uid": TEXT, "resourceVersion": TEXT},
        ),
        "spec": SPECS,
    },
    optional={
        "status": st.fixed_dictionaries({}, optional={"conditions": st.none() | st.lists(CONDITION, max_size=2)})
    },
)


@given(PODS, st.permutations(["containers", "nodeName", "hostname", "affinity", "unknown"]))
def test_a_shared_pod_is_as_a_plain_one(pod: dict[str, Any], order: list[str]) -> None:
    pod["spec"] = {key: pod["spec"][key] for key in order if key in pod["spec"]}
    data = orjson.dumps(pod)
    for _ in range(2):
        assert Pod.from_json(data) == _plain(data)
        metadata = {k: v for k, v in pod["metadata"].items() if k != "resourceVersion"}
        rest = {k: v for k, v in pod.items() if k != "metadata"}
        version = pod["metadata"].get("resourceVersion", "")
        assert Pod.from_parts(orjson.dumps(metadata), orjson.dumps(rest), version) == _plain(data)


def test_pods_of_one_template_share_all_but_their_own() -> None:
    spec = {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]}
    first, second = (
        Pod.from_json(orjson.dumps({"metadata": {"name": n, "labels": {"a": "b"}}, "spec": {**spec, "nodeName": n}}))
        for n in ("one", "two")
    )
    assert first.spec.containers is second.spec.containers
    assert first.metadata.labels is second.metadata.labels
    assert (first.spec.nodeName, second.spec.nodeName) == ("one", "two")


@pytest.mark.parametrize(
    "spec",
    [
        b'{"a":{"nodeName":"x"}}',
        b'{"b":[],"a":{"c":1,"nodeName":"x"}}',
        b'{"nodeName":"x"}',
        b'{"a":1,"nodeName":"x\\u0041"}',
        b'{"a":1,"nodeName":"x","b":2}',
        b'{"a":",\\"nodeName\\":\\"x\\"}"}',
    ],
)
def test_only_a_last_plain_name_is_cut_off(spec: bytes) -> None:
    assert without_node(spec) == (spec, "")


def test_what_is_shared_is_bounded() -> None:
    shared = Shared[int](int, most=3)
    assert [shared.of(b"%d" % n) for n in range(10)] == list(range(10))
    assert len(shared._kept) == 3


def test_no_field_of_the_status_is_lost() -> None:
    ran = {
        "name": "c",
        "restartCount": 2,
        "state": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:00:00Z"}},
    }
    status = {
        "phase": "Running",
        "startTime": "2026-01-01T00:00:00Z",
        "podIP": "10.0.0.1",
        "podIPs": [{"ip": "10.0.0.1"}],
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [ran],
        "initContainerStatuses": [ran],
        "resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "p-gpu-x"}],
        "nominatedNodeName": "n1",
    }
    assert set(status) == set(PodStatus.__struct_fields__) - {"resized"}  # made of others, while a pod is resized
    data = orjson.dumps({"metadata": {"name": "p"}, "spec": {"containers": []}, "status": status})
    assert Pod.from_json(data) == _plain(data)


@pytest.mark.parametrize("condition", [None, {}, {"type": None, "status": "True"}, {"type": "Ready", "status": None}])
def test_whatever_the_api_takes_for_a_condition_can_be_read(condition: Any) -> None:
    """One pod that cannot be read would keep all controllers of the cluster from seeing any."""

    @story
    async def run(api: ApiServer) -> None:
        containers = [{"name": "c", "image": "i"}]
        await api.client.create(
            resource.PODS, {"metadata": {"name": "p"}, "spec": {"containers": containers}}, "default"
        )
        status = {"status": {"conditions": [condition, {"type": "Ready", "status": "True"}]}}
        await api.client.patch(resource.PODS, "p", "default", status, subresource="status")
        pods = Informer(api.client, resource.PODS, type=Pod, clock=api.clock)
        watching = asyncio.create_task(pods.run())
        await api.until(lambda: pods.get("default/p") is not None)
        watching.cancel()

    run()
