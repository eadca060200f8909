"""MutatingAdmissionPolicy: what expressions change, in which order, for which writes, and what happens when they cannot."""

from __future__ import annotations

from typing import Any

import pytest

from jota.api.admission.mutating_policies import BINDINGS, POLICIES
from jota.api.filters.attributes import Attributes, Decision, User
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, DEPLOYMENTS, NAMESPACES, PODS
from jota.testing.cluster import ApiServer, story

Object = dict[str, Any]
WRITES = ["CREATE", "UPDATE"]
LABEL = "Object{metadata: Object.metadata{labels: {'by': 'policy'}}}"


def apply(expression: str) -> Object:
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


def patch(expression: str) -> Object:
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


def rule(resource: str = "configmaps", group: str = "", operations: list[str] = WRITES) -> Object:
    return {"operations": operations, "apiGroups": [group], "apiVersions": ["v1"], "resources": [resource]}


async def enforce(
    api: ApiServer,
    *mutations: Object,
    name: str = "p",
    rules: Object | None = None,
    binding: Object | None = None,
    **spec: Any,
) -> None:
    constraints = {"resourceRules": [rules or rule()]}
    policy = {"matchConstraints": constraints, "mutations": list(mutations), "reinvocationPolicy": "Never", **spec}
    await api.client.create(POLICIES, {"metadata": {"name": name}, "spec": policy})
    bound = {"policyName": name, **(binding or {})}
    await api.client.create(BINDINGS, {"metadata": {"name": f"{name}-binding"}, "spec": bound})
    await api.settle()


async def config(api: ApiServer, name: str = "c", data: Object | None = None, **meta: Any) -> Object:
    return await api.client.create(CONFIGMAPS, {"metadata": {"name": name, **meta}, "data": data or {}}, "default")


@story
async def test_an_apply_configuration_is_merged(api: ApiServer) -> None:
    await enforce(
        api, apply("Object{metadata: Object.metadata{labels: {'by': 'policy'}}, data: {'x': object.metadata.name}}")
    )
    made = await config(api, data={"mine": "1"}, labels={"own": "yes"})
    assert made["metadata"]["labels"] == {"own": "yes", "by": "policy"}
    assert made["data"] == {"mine": "1", "x": "c"}
    await api.client.patch(CONFIGMAPS, "c", "default", {"metadata": {"labels": {"by": None}}})
    assert (await api.client.get(CONFIGMAPS, "c", "default"))["metadata"]["labels"]["by"] == "policy"


@story
async def test_what_only_the_server_sets_is_no_policys_to_give(api: ApiServer) -> None:
    """The API machinery fills these in after admission: no new object begins its life as a deleted one."""
    stolen = {"uid": "'u'", "deletionTimestamp": "'2020-01-01T00:00:00Z'", "deletionGracePeriodSeconds": "3"}
    given = {**stolen, "finalizers": "['example.com/x']"}
    steps = [f"JSONPatch{{op: 'add', path: '/metadata/{field}', value: {value}}}" for field, value in given.items()]
    await enforce(api, patch(f"[{', '.join(steps)}]"))
    meta = (await config(api))["metadata"]
    assert meta["finalizers"] == ["example.com/x"]
    assert meta["uid"] != "u"
    assert not {"deletionTimestamp", "deletionGracePeriodSeconds"} & meta.keys()


POD = {"containers": [{"name": "main", "image": "i", "env": [{"name": "A", "value": "1"}]}]}


@story
async def test_lists_of_maps_merge_by_their_keys_and_defaults_follow(api: ApiServer) -> None:
    sidecar = "Object.spec.containers{name: 'mesh', image: 'mesh:1'}"
    env = "Object.spec.containers{name: 'main', env: [Object.spec.containers.env{name: 'B', value: '2'}]}"
    unless = {"name": "once", "expression": "!object.spec.containers.exists(c, c.name == 'mesh')"}
    mutation = apply(f"Object{{spec: Object.spec{{containers: [{env}, {sidecar}]}}}}")
    await enforce(api, mutation, rules=rule("pods", operations=["CREATE"]), matchConditions=[unless])
    made = await api.client.create(PODS, {"metadata": {"name": "p"}, "spec": POD}, "default")
    main, mesh = made["spec"]["containers"]
    assert [e["name"] for e in main["env"]] == ["A", "B"]
    assert (main["image"], mesh["image"], mesh["imagePullPolicy"]) == ("i", "mesh:1", "IfNotPresent")


@story
async def test_json_patches(api: ApiServer) -> None:
    key = "'/metadata/annotations/' + jsonpatch.escapeKey('example.com/policy')"
    await enforce(
        api,
        patch(
            "has(object.metadata.annotations) ? [] : [JSONPatch{op: 'add', path: '/metadata/annotations', value: {}}]"
        ),
        patch(f"[JSONPatch{{op: 'add', path: {key}, value: 'a' + 'b'}}]"),
        patch("[JSONPatch{op: 'test', path: '/data/x', value: 'no'}, JSONPatch{op: 'remove', path: '/data/x'}]"),
        patch("[JSONPatch{op: 'replace', path: '/data', value: Object.data{y: 'z', x: object.data.x}}]"),
    )
    made = await config(api, data={"x": "yes"})
    assert made["metadata"]["annotations"] == {"example.com/policy": "ab"}
    assert made["data"] == {"x": "yes", "y": "z"}, "a test that fails leaves everything as it was"


@story
async def test_variables_parameters_and_selectors(api: ApiServer) -> None:
    await api.client.create(NAMESPACES, {"metadata": {"name": "team", "labels": {"tier": "gold"}}})
    for name, value in (("one", "1"), ("two", "2")):
        labels = {"use": "yes"}
        await api.client.create(
            CONFIGMAPS, {"metadata": {"name": name, "labels": labels}, "data": {"v": value}}, "team"
        )
    reference = {"selector": {"matchLabels": {"use": "yes"}}, "parameterNotFoundAction": "Deny"}
    await enforce(
        api,
        apply("Object{metadata: Object.metadata{labels: {variables.key: params.data.v, 'tier': variables.tier}}}"),
        rules=rule("pods"),
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
        variables=[
            {"name": "tier", "expression": "namespaceObject.metadata.labels['tier']"},
            {"name": "key", "expression": "params.metadata.name + '-' + variables.tier"},
        ],
        binding={"paramRef": reference, "matchResources": {"namespaceSelector": {"matchLabels": {"tier": "gold"}}}},
    )
    made = await api.client.create(PODS, {"metadata": {"name": "p"}, "spec": POD}, "team")
    assert made["metadata"]["labels"] == {"one-gold": "1", "two-gold": "2", "tier": "gold"}
    assert (
        "labels" not in (await api.client.create(PODS, {"metadata": {"name": "p"}, "spec": POD}, "default"))["metadata"]
    )
    await api.client.delete_collection(CONFIGMAPS, "team")
    with pytest.raises(ApiError) as refused:
        await api.client.create(PODS, {"metadata": {"name": "q"}, "spec": POD}, "team")
    assert (refused.value.code, refused.value.reason) == (403, "Forbidden")
    assert refused.value.message == (
        "policy 'p' with binding 'p-binding' denied request: failed to configure binding: "
        "no params found for policy binding with `Deny` parameterNotFoundAction"
    )


@story
async def test_policies_go_by_name_and_again_when_they_want(api: ApiServer) -> None:
    count = "Object{data: {'a': has(object.data.a) ? object.data.a + '+' : '1', 'saw': has(object.data.b) ? 'b' : 'nothing'}}"
    await enforce(api, apply(count), name="a", reinvocationPolicy="IfNeeded")
    await enforce(api, apply("Object{data: {'b': object.data.a}}"), name="b")
    made = await config(api)
    assert made["data"] == {"a": "1+", "b": "1", "saw": "b"}


@pytest.mark.parametrize(
    ("mutation", "words"),
    [
        (
            apply("Object{spec: Object.wrong{}}"),
            'type mismatch: unexpected type name "Object.wrong", expected "Object.spec"',
        ),
        (
            apply("Object{speck: 'x'}"),
            "failed to convert patch object to typed object: .speck: field not declared in schema",
        ),
        (apply("Object{data: {'a': object.nothing}}"), "no such key: nothing"),
        (apply("Object{immutable: dyn('x')}"), "failed to convert patch object to typed object"),
        (patch("[JSONPatch{op: 'remove', path: '/data/missing'}]"), "JSONPath: "),
        (patch("[JSONPatch{op: 'add', path: '/wrong', value: 1}]"), 'strict decoding error: unknown field "wrong"'),
    ],
)
@pytest.mark.parametrize("lenient", [False, True])
def test_failures_count_by_the_policy(mutation: Object, words: str, lenient: bool) -> None:
    @story
    async def run(api: ApiServer) -> None:
        await enforce(api, mutation, failurePolicy="Ignore" if lenient else "Fail")
        if lenient:
            assert (await config(api))["data"] == {}
            return
        with pytest.raises(ApiError) as refused:
            await config(api)
        assert (refused.value.code, refused.value.reason) == (403, "Invalid")
        assert refused.value.message.startswith("policy 'p' with binding 'p-binding' denied request: ")
        assert words in refused.value.message

    run()


@story
async def test_atomic_lists_are_not_merged(api: ApiServer) -> None:
    mutation = apply(
        "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{tolerations: []}}}}"
    )
    await enforce(api, mutation, rules=rule("deployments", "apps"))
    template = {"metadata": {"labels": {"a": "b"}}, "spec": POD}
    with pytest.raises(
        ApiError, match=r"may not mutate atomic arrays, maps or structs: \.spec\.template\.spec\.tolerations"
    ):
        await api.client.create(
            DEPLOYMENTS,
            {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}},
            "default",
        )


@pytest.mark.parametrize(
    ("mutation", "field", "words"),
    [
        (apply("object.metadata"), "applyConfiguration", ""),
        (apply("'x'"), "applyConfiguration", "must evaluate to Object"),
        (apply("Object{"), "applyConfiguration", "compilation failed: ERROR: <input>:1:8: Syntax error"),
        (apply("Object{a: params.x}"), "applyConfiguration", "undeclared reference to 'params'"),
        (patch("Object{}"), "jsonPatch", "must evaluate to list(JSONPatch)"),
        (patch("[JSONPatch{opp: 'add'}]"), "jsonPatch", "undefined field 'opp'"),
    ],
)
def test_expressions_are_judged_when_they_are_written(mutation: Object, field: str, words: str) -> None:
    @story
    async def run(api: ApiServer) -> None:
        if not words:
            await enforce(api, mutation)
            return
        with pytest.raises(ApiError) as refused:
            await enforce(api, mutation)
        assert refused.value.code == 422
        assert [c.field for c in refused.value.causes] == [f"spec.mutations[0].{field}.expression"]
        assert words in refused.value.message

    run()


class OnlyGet:
    """Everybody may read, nobody else may write Secrets."""

    def authorize(self, user: User, attributes: Attributes) -> Decision:
        return Decision(attributes.verb == "get" or attributes.resource != "secrets", "because")


@story
async def test_the_authorizer_is_asked_about_who_writes(api: ApiServer) -> None:
    api.api.authorizer = OnlyGet()
    check = "authorizer.group('').resource('secrets').namespace('default')"
    text = f"string({check}.check('get').allowed()) + string({check}.check('create').allowed())"
    own = "authorizer.requestResource.check('create').reason()"
    await enforce(api, apply(f"Object{{data: {{'answer': {text}}}}}"), apply(f"Object{{data: {{'own': {own}}}}}"))
    assert (await config(api))["data"] == {"answer": "truefalse", "own": "because"}


@story
async def test_deletes_are_left_alone_and_dry_runs_are_not(api: ApiServer) -> None:
    await enforce(api, apply(LABEL), rules=rule(operations=["*"]))
    await config(api)
    await api.client.delete(CONFIGMAPS, "c", "default")
    made = await api.request("POST", CONFIGMAPS.path("default"), {"metadata": {"name": "d"}}, query="dryRun=All")
    assert b'"by":"policy"' in made.body
