"""API checklist, section F: patches, apply, dry run, field validation."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, DEPLOYMENTS, SERVICES
from jota.testing.cluster import ApiServer, story

CM = "/api/v1/namespaces/default/configmaps"
DEPLOYS = "/apis/apps/v1/namespaces/default/deployments"
JSON, MERGE = "application/json-patch+json", "application/merge-patch+json"
STRATEGIC, APPLY = "application/strategic-merge-patch+json", "application/apply-patch+yaml"


def read(response: Any) -> dict[str, Any]:
    out: dict[str, Any] = orjson.loads(response.body)
    return out


def deployment(**spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template, **spec},
    }


@story
async def test_44_each_patch_type(api: ApiServer) -> None:
    await api.client.create(DEPLOYMENTS, deployment(), "default")
    path = "/spec/template/spec/containers/0/image"
    done = read(
        await api.request("PATCH", f"{DEPLOYS}/d", [{"op": "replace", "path": path, "value": "i:2"}], content_type=JSON)
    )
    assert done["spec"]["template"]["spec"]["containers"][0]["image"] == "i:2"
    done = read(
        await api.request("PATCH", f"{DEPLOYS}/d", {"spec": {"replicas": 3, "paused": True}}, content_type=MERGE)
    )
    assert (done["spec"]["replicas"], done["spec"]["paused"]) == (3, True)
    more = {"spec": {"template": {"spec": {"containers": [{"name": "d", "image": "j"}]}}}}
    done = read(await api.request("PATCH", f"{DEPLOYS}/d", more, content_type=STRATEGIC))
    assert [c["name"] for c in done["spec"]["template"]["spec"]["containers"]] == ["d", "c"]
    response = await api.request("PATCH", f"{DEPLOYS}/d", {}, content_type="application/json")
    assert response.status == 415


@story
async def test_44_patches_that_fail(api: ApiServer) -> None:
    await api.client.create(CONFIGMAPS, {"metadata": {"name": "a"}, "data": {"k": "v"}}, "default")
    cases: list[tuple[str, Any, int]] = [
        (JSON, b"{", 400),
        (JSON, {"op": "add"}, 400),
        (JSON, [{"op": "test", "path": "/data/k", "value": "w"}], 422),
        (JSON, [{"op": "remove", "path": "/data/none"}], 422),
        (JSON, [{"op": "test", "path": "/data/k", "value": "v"}] * 10_001, 413),
        (JSON, [{"op": "replace", "path": "", "value": 5}], 422),
        (JSON, [{"op": "replace", "path": "/metadata", "value": 5}], 422),
        (MERGE, [1], 400),
        (MERGE, {"metadata": {"name": "b"}}, 400),
        (MERGE, {"metadata": {"namespace": "b"}}, 400),
        (MERGE, {"metadata": {"uid": "b"}}, 409),
        (MERGE, {"metadata": {"resourceVersion": "1"}}, 409),
        (MERGE, {"kind": "Secret"}, 400),
        (MERGE, {"data": {"k": 5}}, 422),
        (MERGE, {"metadata": {"labels": {"a b": "c"}}}, 422),
        (STRATEGIC, {"$patch": "nonsense"}, 400),
    ]
    for media, body, code in cases:
        response = await api.request("PATCH", f"{CM}/a", body, content_type=media)
        assert response.status == code, (media, str(body)[:80], response.body)
    assert (await api.request("PATCH", f"{CM}/none", {}, content_type=MERGE)).status == 404


@story
async def test_a_patch_that_leaves_no_object_of_its_kind_is_invalid_and_shown(api: ApiServer) -> None:
    await api.request("POST", DEPLOYS, deployment())
    of_type = "json: cannot unmarshal string into Go struct field"
    cases: list[tuple[Any, str, str]] = [
        ({"metadata": {"labels": "x"}}, "map[metadata:map[labels:x]]", "cannot restore map from string"),
        ({"metadata": {"labels": {"a": 1}}}, "map[metadata:map[labels:map[a:1]]]", "cannot convert int64 to string"),
        ({"spec": {"replicas": "x"}}, "map[spec:map[replicas:x]]", "unrecognized type: int32"),
        ({"spec": {"strategy": []}}, "map[spec:map[strategy:[]]]", "cannot restore struct from: slice"),
        ({"spec": {"paused": [1, None, True]}}, "map[spec:map[paused:[1 <nil> true]]]", "unrecognized type: bool"),
        (
            {"spec": {"template": {"spec": {"volumes": "x"}}}},
            "map[spec:map[template:map[spec:map[volumes:x]]]]",
            "cannot restore slice from string",
        ),
        ({"spec": {"odd": 1}}, "map[spec:map[odd:1]]", 'strict decoding error: unknown field "spec.odd"'),
    ]
    for body, shown, text in cases:
        await _refused_as_invalid(api, STRATEGIC, body, shown, text)
    of_type = "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"
    await _refused_as_invalid(api, MERGE, {"spec": {"replicas": "x"}}, '{\\"spec\\":{\\"replicas\\":\\"x\\"}}', of_type)


async def _refused_as_invalid(api: ApiServer, media: str, body: Any, shown: str, text: str) -> None:
    answer = read(await api.request("PATCH", f"{DEPLOYS}/d?fieldValidation=Strict", body, content_type=media))
    assert (answer["code"], answer["reason"]) == (422, "Invalid"), (body, answer)
    assert answer["message"] == f' "" is invalid: patch: Invalid value: "{shown}": {text}'
    assert [c["field"] for c in answer["details"]["causes"]] == ["patch"]


@story
async def test_45_json_patch_tests_the_version(api: ApiServer) -> None:
    made = await api.client.create(CONFIGMAPS, {"metadata": {"name": "a"}}, "default")
    version = made["metadata"]["resourceVersion"]
    guarded = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": version},
        {"op": "add", "path": "/data", "value": {"k": "v"}},
    ]
    assert (await api.request("PATCH", f"{CM}/a", guarded, content_type=JSON)).status == 200
    assert (await api.request("PATCH", f"{CM}/a", guarded, content_type=JSON)).status == 422


@story
async def test_46_strategic_merge_directives(api: ApiServer) -> None:
    both = [{"name": "c", "image": "i"}, {"name": "d", "image": "j"}]
    obj = deployment()
    obj["spec"]["template"]["spec"]["containers"] = both
    await api.client.create(DEPLOYMENTS, obj, "default")
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "c", "$patch": "delete"}]}}}}
    done = read(await api.request("PATCH", f"{DEPLOYS}/d", patch, content_type=STRATEGIC))
    assert [c["name"] for c in done["spec"]["template"]["spec"]["containers"]] == ["d"]
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    done = read(await api.request("PATCH", f"{DEPLOYS}/d", patch, content_type=STRATEGIC))
    assert done["spec"]["strategy"] == {"type": "Recreate"}


@story
async def test_47_field_validation(api: ApiServer) -> None:
    body = {"metadata": {"name": "a"}, "spoc": 1}
    response = await api.request("POST", f"{CM}?fieldValidation=Strict", body)
    assert (response.status, b'strict decoding error: unknown field \\"spoc\\"' in response.body) == (400, True)
    twice = b'{"metadata":{"name":"a"},"data":{"k":"v","k":"w"}}'
    response = await api.request("POST", f"{CM}?fieldValidation=Strict", twice)
    assert (response.status, b'duplicate field \\"data.k\\"' in response.body) == (400, True)
    response = await api.request("POST", f"{CM}?fieldValidation=Ignore", body)
    assert (response.status, [k for k, _ in response.headers if k == "Warning"]) == (201, [])
    assert "spoc" not in read(response)
    response = await api.request("PATCH", f"{CM}/a", {"spoc": 1}, content_type=MERGE)
    assert [v for k, v in response.headers if k == "Warning"] == ['299 - "unknown field \\"spoc\\""']
    assert (await api.request("POST", f"{CM}?fieldValidation=Maybe", body)).status == 422


@story
async def test_48_apply_creates_then_merges_then_removes(api: ApiServer) -> None:
    url = f"{DEPLOYS}/d?fieldManager=me"
    response = await api.request("PATCH", url, deployment(replicas=2), content_type=APPLY)
    made = read(response)
    assert (response.status, made["spec"]["replicas"]) == (201, 2)
    (entry,) = made["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"], entry["apiVersion"]) == ("me", "Apply", "apps/v1")
    response = await api.request("PATCH", url, deployment(replicas=2), content_type=APPLY)
    assert (response.status, read(response)) == (200, made)
    done = read(await api.request("PATCH", url, deployment(), content_type=APPLY))
    assert done["spec"]["replicas"] == 1  # nobody's any more, so the default


@story
async def test_48_apply_conflicts_unless_forced(api: ApiServer) -> None:
    await api.request("PATCH", f"{DEPLOYS}/d?fieldManager=one", deployment(replicas=2), content_type=APPLY)
    response = await api.request("PATCH", f"{DEPLOYS}/d?fieldManager=two", deployment(replicas=3), content_type=APPLY)
    status = read(response)
    assert (response.status, status["reason"]) == (409, "Conflict")
    assert status["message"] == 'Apply failed with 1 conflict: conflict with "one": .spec.replicas'
    (cause,) = status["details"]["causes"]
    assert (cause["reason"], cause["field"]) == ("FieldManagerConflict", ".spec.replicas")
    forced = f"{DEPLOYS}/d?fieldManager=two&force=true"
    response = await api.request("PATCH", forced, deployment(replicas=3), content_type=APPLY)
    assert (response.status, read(response)["spec"]["replicas"]) == (200, 3)


@story
async def test_48_what_apply_requires(api: ApiServer) -> None:
    assert (await api.request("PATCH", f"{DEPLOYS}/d", deployment(), content_type=APPLY)).status == 422
    url = f"{DEPLOYS}/d?fieldManager=me"
    cases: list[Any] = [b"{", b"", [1], {"metadata": {"name": "d"}}, {**deployment(), "metadata": {"name": "other"}}]
    for body in cases:
        response = await api.request("PATCH", url, body, content_type=APPLY)
        assert response.status == 400, (body, response.body)
    managed = deployment()
    managed["metadata"]["managedFields"] = [{"manager": "x"}]
    assert (await api.request("PATCH", url, managed, content_type=APPLY)).status == 400
    yaml = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: y\ndata:\n  when: 2020-01-01\n"
    response = await api.request("PATCH", f"{CM}/y?fieldManager=me", yaml, content_type=APPLY)
    assert (response.status, read(response)["data"]) == (201, {"when": "2020-01-01"})


@story
async def test_49_who_applies_nothing_owns_nothing(api: ApiServer) -> None:
    bare = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    made = await api.client.patch(CONFIGMAPS, "a", "default", bare, type="apply", manager="m")
    assert "managedFields" not in made["metadata"]
    full = {**bare, "data": {"k": "v"}}
    made = await api.client.patch(CONFIGMAPS, "a", "default", full, type="apply", manager="m")
    assert [entry["manager"] for entry in made["metadata"]["managedFields"]] == ["m"]
    made = await api.client.patch(CONFIGMAPS, "a", "default", bare, type="apply", manager="m")
    assert ("managedFields" in made["metadata"], "data" in made) == (False, False)


@story
async def test_48_nothing_else_is_forced(api: ApiServer) -> None:
    """ValidatePatchOptions: `force` is a word of apply."""
    await api.client.create(DEPLOYMENTS, deployment(), "default")
    for media, body in ((MERGE, {"spec": {"replicas": 2}}), (STRATEGIC, {}), (JSON, [])):
        for where in ("d", "d/scale", "d/status"):
            for force in ("true", "false"):
                response = await api.request("PATCH", f"{DEPLOYS}/{where}?force={force}", body, content_type=media)
                assert response.status == 422, (media, where)
                assert "force: Forbidden: may not be specified for non-apply patch" in read(response)["message"]


@story
async def test_48_apply_to_status_takes_status_alone(api: ApiServer) -> None:
    await api.client.create(DEPLOYMENTS, deployment(), "default")
    body = {**deployment(replicas=9), "status": {"replicas": 4}}
    response = await api.request("PATCH", f"{DEPLOYS}/d/status?fieldManager=c&force=true", body, content_type=APPLY)
    done = read(response)
    assert (response.status, done["status"]["replicas"], done["spec"]["replicas"]) == (200, 4, 1)
    entry = next(e for e in done["metadata"]["managedFields"] if e["manager"] == "c")
    assert (entry["subresource"], "f:spec" in entry["fieldsV1"]) == ("status", False)


@story
async def test_49_updates_own_what_they_change(api: ApiServer) -> None:
    await api.request("POST", f"{CM}?fieldManager=maker", {"metadata": {"name": "a"}, "data": {"k": "v", "l": "v"}})
    await api.request("PATCH", f"{CM}/a", {"data": {"k": "w"}}, content_type=MERGE, user_agent="tool/v1.2 (linux)")
    owners = (await api.client.get(CONFIGMAPS, "a", "default"))["metadata"]["managedFields"]
    fields = {e["manager"]: e["fieldsV1"]["f:data"] for e in owners}
    assert fields == {"maker": {".": {}, "f:l": {}}, "tool": {"f:k": {}}}


@story
async def test_51_dry_run_does_everything_but_store(api: ApiServer) -> None:
    before = api.store.revision
    response = await api.request("POST", f"{CM}?dryRun=All", {"metadata": {"generateName": "a-"}})
    made = read(response)
    assert (response.status, made["metadata"]["name"][:2], bool(made["metadata"]["uid"])) == (201, "a-", True)
    assert (await api.request("POST", f"{CM}?dryRun=All", {"metadata": {"name": "A"}})).status == 422
    assert (await api.request("POST", f"{CM}?dryRun=Some", {"metadata": {"name": "a"}})).status == 422
    assert api.store.revision == before
    kept = await api.client.create(CONFIGMAPS, {"metadata": {"name": "k"}}, "default")
    done = read(await api.request("PATCH", f"{CM}/k?dryRun=All", {"data": {"a": "b"}}, content_type=MERGE))
    assert (done["data"], done["metadata"]["resourceVersion"]) == ({"a": "b"}, kept["metadata"]["resourceVersion"])
    assert (await api.request("DELETE", f"{CM}/k", {"dryRun": ["All"]})).status == 200
    assert (await api.request("DELETE", f"{CM}/k?dryRun=All")).status == 200
    assert await api.client.get(CONFIGMAPS, "k", "default") == kept
    assert (await api.request("POST", f"{CM}?dryRun=All", {"metadata": {"name": "k"}})).status == 409


@story
async def test_52_kubectl_apply_round_trip(api: ApiServer) -> None:
    note = "kubectl.kubernetes.io/last-applied-configuration"
    first = deployment()
    first["metadata"]["annotations"] = {note: "{}"}
    query = "fieldManager=kubectl-client-side-apply&fieldValidation=Strict"
    assert (await api.request("POST", f"{DEPLOYS}?{query}", first)).status == 201
    order = {"$setElementOrder/containers": [{"name": "c"}], "containers": [{"name": "c", "image": "i:2"}]}
    patch = {"metadata": {"annotations": {note: "{1}"}}, "spec": {"template": {"spec": order}}}
    response = await api.request("PATCH", f"{DEPLOYS}/d?{query}", patch, content_type=STRATEGIC)
    assert read(response)["spec"]["template"]["spec"]["containers"][0]["image"] == "i:2"


@story
async def test_a_patch_that_loses_a_race_is_tried_again(api: ApiServer) -> None:
    import asyncio

    await api.client.create(CONFIGMAPS, {"metadata": {"name": "a"}}, "default")
    patches = (api.client.patch(CONFIGMAPS, "a", "default", {"data": {f"k{i}": "v"}}) for i in range(4))
    await asyncio.gather(*patches)
    assert len((await api.client.get(CONFIGMAPS, "a", "default"))["data"]) == 4


@story
async def test_service_patches_by_port(api: ApiServer) -> None:
    ports = [{"name": "a", "port": 80}, {"name": "b", "port": 81}]
    await api.client.create(SERVICES, {"metadata": {"name": "s"}, "spec": {"ports": ports}}, "default")
    patch = {"spec": {"ports": [{"port": 81, "targetPort": 8081}]}}
    done = await api.client.patch(SERVICES, "s", "default", patch, type="strategic")
    assert [p["targetPort"] for p in done["spec"]["ports"]] == [80, 8081]
    with pytest.raises(ApiError) as refused:
        await api.client.patch(
            SERVICES, "s", "default", {"spec": {"clusterIP": "10.96.9.9", "clusterIPs": ["10.96.9.9"]}}
        )
    assert refused.value.code == 422


@story
async def test_50_keyed_lists_merge_by_their_keys_with_defaults(api: ApiServer) -> None:
    """Ports of a container are keyed by number and protocol; a protocol that was left out is TCP."""
    path = "/apis/apps/v1/namespaces/default/deployments/keyed"

    def wish(*ports: dict[str, Any]) -> dict[str, Any]:
        labels = {"a": "b"}
        container = {"name": "c", "image": "i", "ports": list(ports)}
        spec = {"containers": [container]}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "keyed"},
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}},
        }

    async def apply(manager: str, body: dict[str, Any]) -> Any:
        media = "application/apply-patch+yaml"
        return await api.request("PATCH", f"{path}?fieldManager={manager}", body, content_type=media)

    def ports(response: Any) -> set[tuple[int, str]]:
        (container,) = orjson.loads(response.body)["spec"]["template"]["spec"]["containers"]
        return {(p["containerPort"], p["protocol"]) for p in container["ports"]}

    dns = {"containerPort": 53, "protocol": "UDP"}
    assert (await apply("one", wish({"containerPort": 53}, dns))).status == 201
    second = await apply("two", wish({"containerPort": 80, "name": "web"}))
    assert (second.status, ports(second)) == (200, {(53, "TCP"), (53, "UDP"), (80, "TCP")})
    assert ports(await apply("one", wish(dns))) == {(53, "UDP"), (80, "TCP")}
    named = await apply("one", wish(dns, {"containerPort": 80, "protocol": "TCP", "name": "other"}))
    (cause,) = orjson.loads(named.body)["details"]["causes"]  # type: ignore[arg-type]
    assert (named.status, cause["field"]) == (
        409,
        '.spec.template.spec.containers[name="c"].ports[containerPort=80,protocol="TCP"].name',
    )
    twice = await apply("one", wish(dns, dns))
    assert twice.status in (400, 422)


@story
async def test_updates_without_a_version_all_succeed_in_some_order(api: ApiServer) -> None:
    where = "/api/v1/namespaces/default/configmaps"
    await api.request("POST", where, {"metadata": {"name": "raced"}})
    bodies = [{"metadata": {"name": "raced", "labels": {"n": str(n)}}, "data": {"n": str(n)}} for n in range(4)]
    answers = await asyncio.gather(*(api.request("PUT", f"{where}/raced", body) for body in bodies))
    assert [a.status for a in answers] == [200] * 4
    left = orjson.loads((await api.request("GET", f"{where}/raced")).body)  # type: ignore[arg-type]
    assert left["data"]["n"] == left["metadata"]["labels"]["n"]
    assert len({orjson.loads(a.body)["metadata"]["resourceVersion"] for a in answers}) == 4  # type: ignore[arg-type]


@story
async def test_an_applied_object_is_of_the_version_that_it_is_applied_to(api: ApiServer) -> None:
    """The Python client's own suite applies a Deployment to the address of a pod."""
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}}
    refused = await api.request(
        "PATCH",
        "/api/v1/namespaces/default/pods/a",
        body,
        query="fieldManager=m&dryRun=All",
        content_type="application/apply-patch+yaml",
    )
    text = b"Incorrect version specified in apply patch. Specified patch version: apps/v1, expected: v1"
    assert (refused.status, text in refused.body) == (400, True)


@story
async def test_what_is_applied_names_declared_fields_alone(api: ApiServer) -> None:
    await api.request("POST", DEPLOYS, deployment())
    for query in ("", "&fieldValidation=Ignore", "&fieldValidation=Strict"):
        for at, body in (("", {"spec": {"replicaz": 1}}), ("/status", {"status": {"replicaz": 1}})):
            applied = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, **body}
            url = f"{DEPLOYS}/d{at}?fieldManager=m{query}"
            said = read(await api.request("PATCH", url, applied, content_type=APPLY))
            field = f".{next(iter(body))}.replicaz"
            assert said["message"] == (
                f"failed to create typed patch object (default/d; apps/v1, Kind=Deployment): {field}: field not declared in schema"
            )


@story
async def test_nobody_owns_what_admission_and_allocation_add(api: ApiServer) -> None:
    """A later apply of the same must not take it away: upstream notes the fields before admission (handlers/create.go)."""
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
    made = read(await api.request("POST", "/api/v1/namespaces/default/services", service))
    assert made["spec"]["clusterIP"]
    spec = made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]
    assert {"f:ports", "f:sessionAffinity", "f:type"} <= spec.keys()
    assert not {"f:clusterIP", "f:clusterIPs", "f:ipFamilies"} & spec.keys()
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    made = read(await api.request("POST", "/api/v1/namespaces/default/pods", pod))
    assert made["spec"]["tolerations"]
    spec = made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]
    assert {"f:containers", "f:dnsPolicy", "f:restartPolicy"} <= spec.keys()
    assert not {"f:tolerations", "f:priority", "f:serviceAccountName", "f:volumes"} & spec.keys()
