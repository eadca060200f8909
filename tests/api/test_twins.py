"""Pods that a set sends in the same bytes take over the first one's outcome; that must never show, whatever changes."""

from __future__ import annotations

import asyncio
import json
from random import getrandbits
from typing import Any
from unittest.mock import Mock, patch

import orjson

from jota.api.audit import Audit
from jota.api.auditpolicy import EVERYTHING
from jota.api.filters.attributes import User
from jota.meta.resource import CONFIGMAPS, NAMESPACES, PODS, SERVICEACCOUNTS, Resource
from jota.testing.cluster import ApiServer, story

PATH = PODS.path("default")
LIMIT_RANGES = Resource("", "v1", "limitranges", "LimitRange")
QUOTAS = Resource("", "v1", "resourcequotas", "ResourceQuota")
PRIORITY_CLASSES = Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", False)
RUNTIME_CLASSES = Resource("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", False)
OWN = ("uid", "name", "resourceVersion", "creationTimestamp")


def body(**spec: Any) -> bytes:
    labels, containers = {"app": "web"}, [{"name": "c", "image": "i"}]
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u", "controller": True}
    meta = {"generateName": "web-", "labels": labels, "annotations": {"a": '"time":"x"'}, "ownerReferences": [owner]}
    return orjson.dumps(
        {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": containers, **spec}}
    )


async def make(api: ApiServer, sent: bytes, query: str = "fieldManager=set", **more: Any) -> Any:
    response = await api.request("POST", PATH, sent, query=query, content_type="application/json", **more)
    return response.status, orjson.loads(response.body)


async def make_several(api: ApiServer, sent: bytes) -> dict[str, Any]:
    """The last of three, all of which must be good."""
    made = [await make(api, sent) for _ in range(3)]
    assert [status for status, _ in made] == [201] * 3
    return made[-1][1]


def comparable(pod: dict[str, Any]) -> dict[str, Any]:
    meta = {k: v for k, v in pod["metadata"].items() if k not in OWN}
    meta["managedFields"] = [{**m, "time": ""} for m in meta["managedFields"]]
    return {**pod, "metadata": meta}


def kept(api: ApiServer) -> int:
    return len(api.api.engine.twins._kept)


@story
async def test_twins_differ_in_name_uid_and_time_alone(api: ApiServer) -> None:
    _, first = await make(api, body())
    await api.advance(5)
    _, second = await make(api, body())
    assert kept(api) == 1
    assert comparable(first) == comparable(second)
    assert all(first["metadata"][field] != second["metadata"][field] for field in OWN)
    managed = second["metadata"]["managedFields"]
    assert [m["time"] for m in managed] == [second["metadata"]["creationTimestamp"]]
    assert await api.client.get(PODS, second["metadata"]["name"], "default") == second


@story
async def test_a_name_that_is_being_taken_at_this_moment_is_drawn_anew(api: ApiServer) -> None:
    """Two requests draw the same name before either of them is stored; nothing is known of the like of the first two."""
    drawn = iter(["first", "first", "other", "aaaaa", "aaaaa", "bbbbb"])
    with patch.object(api.api.engine, "random", Mock(choices=lambda *_, **__: next(drawn), getrandbits=getrandbits)):
        with patch.object(api.api.engine.twins, "wish", return_value=None):
            made = await asyncio.gather(*(make(api, body()) for _ in range(2)))
        made += await asyncio.gather(*(make(api, body()) for _ in range(2)))
    assert [status for status, _ in made] == [201] * 4
    assert [pod["metadata"]["name"][4:] for _, pod in made] == ["first", "other", "aaaaa", "bbbbb"]


@story
async def test_those_that_come_while_the_first_is_being_stored_are_twins(api: ApiServer) -> None:
    engine = api.api.engine
    with patch.object(engine, "create", wraps=engine.create) as at_length:
        made = await asyncio.gather(*(make(api, body()) for _ in range(9)))
    assert [status for status, _ in made] == [201] * 9
    assert at_length.call_count == 1
    assert len({pod["metadata"]["name"] for _, pod in made}) == 9
    assert [comparable(pod) for _, pod in made] == [comparable(made[0][1])] * 9


@story
async def test_one_that_was_not_stored_after_all_has_twins_that_are(api: ApiServer) -> None:
    """The name of the first to be remembered is taken by then."""
    made = await asyncio.gather(*(make(api, named(name)) for name in ("exec-0", "exec-0", "exec-1")))
    assert [status for status, _ in made] == [201, 409, 201]
    assert kept(api) == 1
    assert comparable(made[2][1]) == comparable(made[0][1])


@story
async def test_another_manager_or_another_user_is_another_request(api: ApiServer) -> None:
    await make_several(api, body())
    _, pod = await make(api, body(), "fieldManager=other")
    assert pod["metadata"]["managedFields"][0]["manager"] == "other"
    node = User("system:node:n1", groups=("system:nodes", "system:masters"))
    status, refusal = await make(api, body(), user=node)
    assert (status, "mirror" in refusal["message"]) == (403, True)


@story
async def test_a_dry_run_stores_nothing(api: ApiServer) -> None:
    await make_several(api, body())
    before = api.store.count("/core/pods/")
    status, _ = await make(api, body(), "fieldManager=set&dryRun=All")
    assert (status, api.store.count("/core/pods/")) == (201, before)


@story
async def test_new_defaults_count_at_once(api: ApiServer) -> None:
    await make_several(api, body())
    item = {"type": "Container", "default": {"cpu": "2"}, "defaultRequest": {"cpu": "1"}, "max": {"cpu": "3"}}
    await api.client.create(LIMIT_RANGES, {"metadata": {"name": "r"}, "spec": {"limits": [item]}}, "default")
    pod = await make_several(api, body())
    assert pod["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}
    await api.client.patch(
        LIMIT_RANGES, "r", "default", {"spec": {"limits": [{**item, "maxLimitRequestRatio": {"cpu": "1"}}]}}
    )
    status, _ = await make(api, body())
    assert status == 403
    await api.client.delete(LIMIT_RANGES, "r", "default")
    assert "limits" not in (await make_several(api, body()))["spec"]["containers"][0].get("resources", {})


@story
async def test_a_changed_account_counts_at_once(api: ApiServer) -> None:
    await api.client.create(SERVICEACCOUNTS, {"metadata": {"name": "default"}}, "default")
    assert "imagePullSecrets" not in (await make_several(api, body()))["spec"]
    await api.client.patch(SERVICEACCOUNTS, "default", "default", {"imagePullSecrets": [{"name": "key"}]})
    assert (await make_several(api, body()))["spec"]["imagePullSecrets"] == [{"name": "key"}]
    await api.client.patch(SERVICEACCOUNTS, "default", "default", {"automountServiceAccountToken": False})
    assert "volumes" not in (await make_several(api, body()))["spec"]


@story
async def test_a_new_default_priority_counts_at_once(api: ApiServer) -> None:
    assert (await make_several(api, body()))["spec"]["priority"] == 0
    await api.client.create(PRIORITY_CLASSES, {"metadata": {"name": "p"}, "value": 7, "globalDefault": True})
    assert (await make_several(api, body()))["spec"]["priority"] == 7


@story
async def test_a_runtime_class_that_goes_takes_its_pods_along(api: ApiServer) -> None:
    await api.client.create(RUNTIME_CLASSES, {"metadata": {"name": "fast"}, "handler": "fast"})
    await make_several(api, body(runtimeClassName="fast"))
    await api.client.delete(RUNTIME_CLASSES, "fast")
    status, _ = await make(api, body(runtimeClassName="fast"))
    assert status == 403


@story
async def test_a_quota_is_kept_to_the_pod(api: ApiServer) -> None:
    await make_several(api, body())
    await api.client.create(QUOTAS, {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "5"}}}, "default")
    statuses = [(await make(api, body()))[0] for _ in range(4)]
    assert statuses == [201, 201, 403, 403]


@story
async def test_nothing_comes_into_a_namespace_that_goes(api: ApiServer) -> None:
    await make_several(api, body())
    await api.client.create(NAMESPACES, {"metadata": {"name": "gone"}})
    path = PODS.path("gone")
    sent = body()
    for _ in range(2):
        made = await api.request("POST", path, sent, content_type="application/json")
        assert made.status == 201
    await api.client.delete(NAMESPACES, "gone")
    refused = await api.request("POST", path, sent, content_type="application/json")
    assert (refused.status, b"being terminated" in refused.body) == (403, True)


@story
async def test_a_stricter_level_refuses_at_once(api: ApiServer) -> None:
    sent = body(hostNetwork=True)
    await make_several(api, sent)
    await api.client.patch(
        NAMESPACES, "default", "", {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}}
    )
    status, refusal = await make(api, sent)
    assert (status, "PodSecurity" in refusal["message"]) == (403, True)


@story
async def test_what_the_audit_trail_notes_is_noted_of_each(api: ApiServer) -> None:
    lines: list[bytes] = []

    class Sink:
        def write(self, found: list[bytes]) -> None:
            lines.extend(found)

    api.api.audit = Audit(EVERYTHING, Sink(), api.clock)
    level = {"pod-security.kubernetes.io/audit": "baseline"}
    await api.client.patch(NAMESPACES, "default", "", {"metadata": {"labels": level}})
    lines.clear()
    await make_several(api, body(hostNetwork=True))
    await api.settle()
    noted = [orjson.loads(line).get("annotations", {}) for line in lines]
    assert sum("pod-security.kubernetes.io/audit-violations" in found for found in noted) == 3


@story
async def test_a_policy_is_asked_about_each(api: ApiServer) -> None:
    from jota.api.admission.policies import BINDINGS, POLICIES

    await make_several(api, body())
    rule = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
    spec = {"matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": "false", "message": "no"}]}
    await api.client.create(POLICIES, {"metadata": {"name": "p"}, "spec": spec})
    bound = {"policyName": "p", "validationActions": ["Deny"]}
    await api.client.create(BINDINGS, {"metadata": {"name": "b"}, "spec": bound})
    await api.settle()
    status, refusal = await make(api, body())
    assert (status, "no" in refusal["message"]) == (422, True)


def named(name: str, *, labels: dict[str, str] | None = None, **spec: Any) -> bytes:
    pod = orjson.loads(body(**spec))
    meta = {"labels": labels or {"app": "web"}, "name": name, "annotations": {"a": '"name":"x"'}}
    return orjson.dumps({**pod, "metadata": meta})


@story
async def test_named_twins_differ_in_name_uid_and_time_alone(api: ApiServer) -> None:
    made = []
    for n in range(4):
        status, pod = await make(api, named(f"exec-{n}"))
        assert (status, kept(api)) == (201, int(n > 0)), "the first may be the only one"
        made.append(pod)
        await api.advance(5)
    assert [pod["metadata"]["name"] for pod in made] == ["exec-0", "exec-1", "exec-2", "exec-3"]
    assert [comparable(pod) for pod in made] == [comparable(made[0])] * 4
    assert all(len({pod["metadata"][field] for pod in made}) == 4 for field in OWN)
    for pod in made:
        assert pod["metadata"]["managedFields"][0]["time"] == pod["metadata"]["creationTimestamp"]
        assert await api.client.get(PODS, pod["metadata"]["name"], "default") == pod
    status, refusal = await make(api, named("exec-3"))
    assert (status, refusal["message"]) == (409, 'pods "exec-3" already exists')
    status, refusal = await make(api, named("exec.."))
    assert (status, "metadata.name: Invalid value" in refusal["message"]) == (422, True)
    elsewhere = orjson.loads(named("exec-9"))
    elsewhere["metadata"]["namespace"] = "other"
    status, _ = await make(api, orjson.dumps(elsewhere))
    assert status == 400


@story
async def test_named_twins_are_known_in_other_spellings_of_json(api: ApiServer) -> None:
    for n in range(3):
        sent = json.dumps(orjson.loads(named(f"exec-{n}"))).encode()
        assert (await make(api, sent))[1]["metadata"]["name"] == f"exec-{n}"
    assert kept(api) == 1
    for n in range(3):
        sent = json.dumps(orjson.loads(named(f"odd-{n}")), indent=1, separators=(",", "  :  ")).encode()
        assert (await make(api, sent))[1]["metadata"]["name"] == f"odd-{n}"
    assert kept(api) == 1


@story
async def test_a_name_that_stands_elsewhere_too_is_no_part_of_the_difference(api: ApiServer) -> None:
    """The first "name" of a body may be that of something else, with the same value."""
    for n in range(3):
        for label in ("a", "b"):
            name = label if n == 2 else f"{label}{n}"
            _, pod = await make(api, named(name, labels={"name": label}))
            assert (pod["metadata"]["name"], pod["metadata"]["labels"]) == (name, {"name": label})
    for n in range(3):
        sent = named("x").replace(b'"name":"x"', b'"name":"gone","name":"y%d"' % n, 1)
        _, pod = await make(api, sent)
        assert pod["metadata"]["name"] == f"y{n}"
        sent = named("x").replace(b'"name":"x"', b'"name":"\\u007a%d"' % n, 1)
        _, pod = await make(api, sent)
        assert pod["metadata"]["name"] == f"z{n}"


@story
async def test_what_named_twins_refer_to_is_looked_for_each_time(api: ApiServer) -> None:
    map_ = {"name": "settings", "configMap": {"name": "settings"}}
    user = User("jane", groups=("system:masters",))

    async def warned(name: str) -> list[str]:
        made = await api.request("POST", PATH, named(name, volumes=[map_]), user=user, content_type="application/json")
        assert made.status == 201
        return [text for header, text in made.headers if header == "Warning"]

    first = [await warned(f"a{n}") for n in range(3)]
    assert kept(api) == 1
    assert 'ConfigMap \\"settings\\" does not exist' in first[0][0]
    assert first == [first[0]] * 3
    await api.client.create(CONFIGMAPS, {"metadata": {"name": "settings"}}, "default")
    assert [await warned(f"b{n}") for n in range(3)] == [[]] * 3
    await api.client.delete(CONFIGMAPS, "settings", "default")
    assert await warned("c") == first[0]
    assert kept(api) == 1


@story
async def test_new_defaults_count_for_named_twins_at_once(api: ApiServer) -> None:
    for n in range(3):
        await make(api, named(f"a{n}"))
    assert kept(api) == 1
    item = {"type": "Container", "max": {"cpu": "3"}}
    await api.client.create(LIMIT_RANGES, {"metadata": {"name": "r"}, "spec": {"limits": [item]}}, "default")
    status, pod = await make(api, named("b"))
    assert (status, pod["spec"]["containers"][0]["resources"]["limits"]) == (201, {"cpu": "3"})


@story
async def test_what_is_the_only_one_or_warned_of_has_no_twins(api: ApiServer) -> None:
    for n in range(3):
        assert (await make(api, named(f"one-{n}", labels={"n": str(n)})))[0] == 201
    doubtful = body(nodeSelector={"beta.kubernetes.io/os": "linux"})
    for _ in range(2):
        response = await api.request("POST", PATH, doubtful, content_type="application/json")
        assert any(name == "Warning" for name, _ in response.headers)
    assert kept(api) == 0
