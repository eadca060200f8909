"""Server-side apply as stories of managers and fields; the algebra of field sets as properties."""

from __future__ import annotations

import copy
import json
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jota.meta import apply, fieldset, lastapplied, schema
from jota.meta.errors import ApiError

DEPLOYMENT = "io.k8s.api.apps.v1.Deployment"
Object = dict[str, Any]


def _deployment(**spec: Any) -> Object:
    container = {"name": "c", "image": "i", "ports": [{"containerPort": 80}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "a", "namespace": "d", "labels": {"app": "x"}},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "x"}},
            "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [container]}},
            **spec,
        },
    }


class Story:
    """One object and its writes, at times T1, T2, ..."""

    def __init__(self) -> None:
        self.live: Object | None = None
        self.tick = 0

    def now(self) -> str:
        self.tick += 1
        return f"2026-01-01T00:00:{self.tick:02d}Z"

    def update(self, manager: str, new: Object, subresource: str = "") -> list[Object]:
        new = copy.deepcopy(new)
        entries = apply.track_update(
            self.live,
            new,
            manager=manager,
            api_version="apps/v1",
            time=self.now(),
            schema=DEPLOYMENT,
            subresource=subresource,
        )
        new["metadata"]["managedFields"] = entries
        self.live = new
        return entries

    def apply(self, manager: str, applied: Object, force: bool = False) -> list[Object]:
        before = copy.deepcopy((self.live, applied))
        merged, entries = apply.apply(
            self.live, applied, manager=manager, api_version="apps/v1", time=self.now(), schema=DEPLOYMENT, force=force
        )
        assert before == (self.live, applied)
        self.live = copy.deepcopy(merged)
        self.live["metadata"]["managedFields"] = entries
        return entries

    def spec(self) -> Any:
        assert self.live is not None
        return self.live["spec"]

    def edited(self, **spec: Any) -> Object:
        new = copy.deepcopy(self.live) or {}
        new["spec"].update(spec)
        return new


def _of(entries: list[Object], manager: str) -> Any:
    return next(e for e in entries if e["manager"] == manager)


def test_a_create_owns_all_it_sets_but_no_names() -> None:
    story = Story()
    (entry,) = story.update("kubectl-create", _deployment())
    assert {k: entry[k] for k in ("manager", "operation", "apiVersion", "time", "fieldsType")} == {
        "manager": "kubectl-create",
        "operation": "Update",
        "apiVersion": "apps/v1",
        "time": "2026-01-01T00:00:01Z",
        "fieldsType": "FieldsV1",
    }
    assert entry["fieldsV1"] == {
        "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
        "f:spec": {
            "f:replicas": {},
            "f:selector": {},
            "f:template": {
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {
                    "f:containers": {
                        'k:{"name":"c"}': {
                            ".": {},
                            "f:name": {},
                            "f:image": {},
                            "f:ports": {
                                ".": {},
                                'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}},
                            },
                        }
                    }
                },
            },
        },
    }


def test_an_update_takes_the_fields_that_it_changes() -> None:
    story = Story()
    story.update("a", _deployment())
    entries = story.update("scaler", story.edited(replicas=5))
    assert _of(entries, "scaler")["fieldsV1"] == {"f:spec": {"f:replicas": {}}}
    assert "f:replicas" not in _of(entries, "a")["fieldsV1"]["f:spec"]
    assert _of(entries, "a")["time"].endswith("01Z")


def test_an_update_that_changes_nothing_leaves_the_list_itself() -> None:
    story = Story()
    entries = story.update("a", _deployment())
    assert story.update("b", story.edited()) is not None
    assert story.live is not None
    assert story.live["metadata"]["managedFields"] == entries


def test_an_owners_own_change_keeps_its_time() -> None:
    story = Story()
    story.update("a", _deployment())
    entries = story.update("a", story.edited(replicas=4))
    assert [e["time"][-3:] for e in entries] == ["01Z"]
    entries = story.update("a", story.edited(minReadySeconds=4))
    assert [e["time"][-3:] for e in entries] == ["03Z"]


def test_removed_fields_belong_to_nobody_and_empty_entries_go() -> None:
    story = Story()
    story.update("a", _deployment())
    story.update("b", story.edited(minReadySeconds=4))
    new = story.edited()
    del new["spec"]["minReadySeconds"]
    entries = story.update("c", new)
    assert [e["manager"] for e in entries] == ["a"]


def test_status_writes_have_an_entry_of_their_own_and_need_not_look_at_the_rest() -> None:
    story = Story()
    story.update("a", _deployment())
    new = {**story.edited(), "status": {"replicas": 1, "conditions": [{"type": "Available", "status": "True"}]}}
    entries = story.update("a", new, "status")
    assert [e.get("subresource") for e in entries] == [None, "status"]
    assert entries[1]["fieldsV1"] == {
        "f:status": {
            "f:replicas": {},
            "f:conditions": {".": {}, 'k:{"type":"Available"}': {".": {}, "f:type": {}, "f:status": {}}},
        }
    }
    changed = {**new, "spec": {"ignored": True}, "status": {"replicas": 2}}
    common: Any = {"manager": "a", "api_version": "apps/v1", "time": "T", "schema": DEPLOYMENT, "subresource": "status"}
    found = apply.track_update(story.live, changed, unchanged=("spec", "metadata"), **common)
    assert found[0] == entries[0]


def test_at_most_ten_update_managers() -> None:
    story = Story()
    story.update("first", _deployment())
    for n in range(14):
        entries = story.update(
            f"m{n:02d}", story.edited(template={"metadata": {"annotations": {f"k{i}": "" for i in range(n + 1)}}})
        )
    assert len(entries) == 10
    ancient = _of(entries, "ancient-changes")
    assert ancient["fieldsV1"]["f:spec"]["f:template"]["f:metadata"]["f:annotations"].keys() == {
        ".",
        *(f"f:k{i}" for i in range(5)),
    }
    assert ancient["time"].endswith("06Z")


def test_a_client_may_clear_managed_fields() -> None:
    story = Story()
    story.update("a", _deployment())
    new = story.edited(replicas=9)
    new["metadata"]["managedFields"] = [{}]
    assert story.update("b", new) == []
    assert story.update("b", story.edited(replicas=8)) == []
    entries = story.apply("me", _deployment(replicas=8))
    assert [e["manager"] for e in entries] == ["me", "before-first-apply"]


def test_what_a_client_sends_as_managed_fields_is_checked() -> None:
    story = Story()
    story.update("a", _deployment())
    new = story.edited(replicas=9)
    new["metadata"]["managedFields"] = [{"manager": "evil", "operation": "Update", "fieldsV1": {"zz": 1}}, "x"]
    assert [e["manager"] for e in story.update("b", new)] == ["a", "b"]


# --- apply -----------------------------------------------------------------------------------------------------------


def test_apply_creates() -> None:
    story = Story()
    (entry,) = story.apply("me", _deployment())
    assert entry["operation"] == "Apply"
    assert entry["fieldsV1"]["f:metadata"] == {"f:labels": {"f:app": {}}}
    ports = entry["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"c"}']["f:ports"]
    assert ports == {'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}}


def test_what_is_applied_is_noted_in_upstreams_order() -> None:
    configuration = _deployment()
    configuration["spec"] = dict(reversed(configuration["spec"].items()))
    (entry,) = Story().apply("me", configuration)
    (other,) = Story().apply("me", _deployment())
    assert list(entry["fieldsV1"]["f:spec"]) == sorted(entry["fieldsV1"]["f:spec"])
    assert json.dumps(entry["fieldsV1"]) == json.dumps(other["fieldsV1"])


def test_a_repeated_apply_changes_nothing_not_even_the_time() -> None:
    story = Story()
    first = story.apply("me", _deployment())
    before = copy.deepcopy(story.live)
    assert story.apply("me", _deployment()) == first
    assert story.live == before


def test_one_conflict() -> None:
    story = Story()
    story.update("kubectl-create", _deployment())
    with pytest.raises(ApiError) as caught:
        story.apply("me", _deployment(replicas=5))
    error = caught.value
    assert (error.code, error.reason) == (409, "Conflict")
    assert error.message == 'Apply failed with 1 conflict: conflict with "kubectl-create" using apps/v1: .spec.replicas'
    (cause,) = error.causes
    assert (cause.reason, cause.field) == ("FieldManagerConflict", ".spec.replicas")
    assert cause.message == 'conflict with "kubectl-create" using apps/v1'


def test_many_conflicts_name_paths_inside_lists() -> None:
    story = Story()
    story.update("kubectl-create", _deployment())
    story.apply("other", _deployment())
    changed = _deployment(replicas=5)
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "j"
    with pytest.raises(ApiError) as caught:
        story.apply("me", changed)
    paths = '\n- .spec.replicas\n- .spec.template.spec.containers[name="c"].image'
    assert caught.value.message == (
        f'Apply failed with 4 conflicts: conflicts with "kubectl-create" using apps/v1:{paths}\nconflicts with "other":{paths}'
    )


def test_force_takes_the_fields_over() -> None:
    story = Story()
    story.update("kubectl-create", _deployment())
    entries = story.apply("me", _deployment(replicas=5), force=True)
    assert story.spec()["replicas"] == 5
    assert "f:replicas" not in _of(entries, "kubectl-create")["fieldsV1"]["f:spec"]


def _applied_by_kubectl(applied: Object) -> Object:
    """The object as client-side apply makes it: its annotation holds what was applied."""
    made = copy.deepcopy(applied)
    made["metadata"]["annotations"] = {lastapplied.ANNOTATION: json.dumps(applied)}
    return made


def test_kubectl_takes_what_its_client_side_apply_noted_and_keeps_the_note() -> None:
    story = Story()
    story.update("kubectl-client-side-apply", _applied_by_kubectl(_deployment()))
    with pytest.raises(ApiError, match="conflict with"):
        story.apply("another", _deployment(replicas=5))
    entries = story.apply("kubectl", _deployment(replicas=5))
    assert story.spec()["replicas"] == 5
    assert "f:replicas" not in _of(entries, "kubectl-client-side-apply")["fieldsV1"]["f:spec"]
    assert story.live is not None
    noted = story.live["metadata"]["annotations"][lastapplied.ANNOTATION]
    assert noted.endswith("}\n")
    assert json.loads(noted) == _deployment(replicas=5)


def test_kubectl_does_not_take_what_has_changed_since_its_client_side_apply() -> None:
    story = Story()
    story.update("kubectl-client-side-apply", _applied_by_kubectl(_deployment()))
    scaled = copy.deepcopy(story.live) or {}
    scaled["spec"]["replicas"] = 100  # by somebody else, since
    scaled["metadata"]["labels"]["team"] = "t"  # never was applied
    story.update("kubectl-edit", scaled)
    wanted = _deployment(replicas=5)
    wanted["metadata"]["labels"]["team"] = "u"
    wanted["spec"]["template"]["spec"]["containers"][0]["image"] = "j"  # as it was applied
    with pytest.raises(ApiError) as caught:
        story.apply("kubectl", wanted)
    assert {c.field for c in caught.value.causes} == {".spec.replicas", ".metadata.labels.team"}


@pytest.mark.parametrize(
    "note", ["", "{", "[]", '{"apiVersion":"apps/v1beta1","kind":"Deployment","spec":{"replicas":3}}']
)
def test_a_note_that_cannot_be_read_or_is_of_another_version_allows_nothing(note: str) -> None:
    story = Story()
    made = _deployment()
    made["metadata"]["annotations"] = {lastapplied.ANNOTATION: note}
    story.update("kubectl-client-side-apply", made)
    with pytest.raises(ApiError, match="conflict with"):
        story.apply("kubectl", _deployment(replicas=5))


def test_a_note_that_outgrows_the_annotations_goes() -> None:
    story = Story()
    story.update("kubectl-client-side-apply", _applied_by_kubectl(_deployment()))
    large = _deployment()
    large["metadata"]["annotations"] = {"large": "x" * (200 << 10)}
    story.apply("kubectl", large)
    assert story.live is not None
    assert story.live["metadata"]["annotations"].keys() == {"large"}


def test_the_same_value_is_shared_without_conflict() -> None:
    story = Story()
    story.update("kubectl-create", _deployment())
    entries = story.apply("me", _deployment())
    assert "f:replicas" in _of(entries, "kubectl-create")["fieldsV1"]["f:spec"]
    assert "f:replicas" in _of(entries, "me")["fieldsV1"]["f:spec"]


def test_what_only_this_manager_had_and_no_longer_applies_is_removed() -> None:
    story = Story()
    story.apply("me", _deployment(minReadySeconds=5))
    without = _deployment()
    del without["spec"]["replicas"]
    story.apply("me", without)
    assert "replicas" not in story.spec()
    assert "minReadySeconds" not in story.spec()


def test_what_another_owns_too_stays() -> None:
    story = Story()
    story.apply("me", _deployment())
    story.apply("other", _deployment())
    without = _deployment()
    del without["spec"]["replicas"]
    entries = story.apply("me", without)
    assert story.spec()["replicas"] == 3
    assert "f:replicas" not in _of(entries, "me")["fieldsV1"]["f:spec"]


def test_list_items_merge_and_leave_by_key() -> None:
    story = Story()
    story.apply("me", _deployment())
    story.update("sidecar", _with_container(story.edited(), {"name": "s", "image": "s"}))
    changed = _deployment()
    changed["spec"]["template"]["spec"]["containers"] = [{"name": "d", "image": "j"}]
    story.apply("me", changed)
    assert [c["name"] for c in story.spec()["template"]["spec"]["containers"]] == ["s", "d"]


def _with_container(obj: Object, container: Object) -> Object:
    obj["spec"]["template"]["spec"]["containers"].append(container)
    return obj


def test_a_field_that_nobody_owns_survives_the_removal_of_its_neighbours() -> None:
    story = Story()
    story.apply("me", {**_deployment(), "metadata": {"name": "a", "namespace": "d", "labels": {"l": "1"}}})
    assert story.live is not None
    story.live["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    story.apply("me", {**_deployment(), "metadata": {"name": "a", "namespace": "d"}})
    assert story.live["metadata"].keys() == {"name", "namespace", "deletionTimestamp", "managedFields"}


def test_sets_merge_and_atomic_maps_are_replaced() -> None:
    story = Story()
    story.apply("a", {**_deployment(), "metadata": {"name": "a", "finalizers": ["x/a"]}})
    story.apply("b", {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "finalizers": ["x/b"]}})
    assert story.live is not None
    assert sorted(story.live["metadata"]["finalizers"]) == ["x/a", "x/b"]
    story.apply("a", {**_deployment(selector={"matchLabels": {"y": "z"}}), "metadata": {"name": "a"}})
    assert story.live["metadata"]["finalizers"] == ["x/b"]
    assert story.spec()["selector"] == {"matchLabels": {"y": "z"}}


def test_the_first_apply_on_an_unmanaged_object() -> None:
    story = Story()
    story.live = _deployment()
    entries = story.apply("me", _deployment())
    assert [(e["manager"], e["operation"]) for e in entries] == [("me", "Apply"), ("before-first-apply", "Update")]


def test_fields_that_the_endpoint_does_not_take_are_not_owned() -> None:
    applied = {**_deployment(), "status": {"replicas": 1}}
    merged, (entry,) = apply.apply(
        None, applied, manager="me", api_version="apps/v1", time="T", schema=DEPLOYMENT, reset=("status",)
    )
    assert "status" not in merged
    assert "f:status" not in entry["fieldsV1"]


@pytest.mark.parametrize(
    ("containers", "message"),
    [
        ([{"image": "x"}], 'omits key field "name"'),
        ([{"name": "a"}, {"name": "a"}], 'duplicate entries for key \\[name="a"\\]'),
    ],
)
def test_items_without_or_with_the_same_key_are_400(containers: list[Object], message: str) -> None:
    bad = _deployment()
    bad["spec"]["template"]["spec"]["containers"] = containers
    with pytest.raises(ApiError, match=message) as caught:
        Story().apply("me", bad)
    assert caught.value.code == 400


def test_managed_fields_in_the_configuration_are_400() -> None:
    bad = _deployment()
    bad["metadata"]["managedFields"] = [{}]
    with pytest.raises(ApiError, match="must be nil"):
        Story().apply("me", bad)


def test_custom_resources_without_a_schema_have_granular_maps() -> None:
    common: Any = {"manager": "m", "api_version": "x/v1", "time": "T", "schema": None}
    one = {"apiVersion": "x/v1", "kind": "X", "metadata": {"name": "a"}, "spec": {"a": {"b": 1}, "l": [1]}}
    _merged, entries = apply.apply(None, one, **common)
    assert entries[0]["fieldsV1"] == {"f:spec": {"f:a": {"f:b": {}}, "f:l": {}}}


# --- algebra ---------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["f:a", "f:b", 'k:{"n":"x"}', "v:1"])
SETS = st.recursive(
    st.just({}), lambda inner: st.dictionaries(NAMES | st.just("."), inner, max_size=3), max_leaves=8
).map(lambda tree: _proper(tree))


def _proper(tree: Any) -> Any:
    """ "." has nothing below it, and a node that is only itself is a leaf."""
    out = {key: {} if key == "." else _proper(child) for key, child in tree.items()}
    return {} if out.keys() == {"."} else out


def _members(tree: Any, at: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    if not tree:
        return {at}
    found: set[tuple[str, ...]] = set()
    for key, child in tree.items():
        found |= {at} if key == "." else _members(child, (*at, key))
    return found


@given(SETS, SETS)
def test_union_has_the_members_of_both(a: Any, b: Any) -> None:
    before = copy.deepcopy((a, b))
    assert _members(fieldset.union(a, b)) == _members(a) | _members(b)
    assert (a, b) == before


@given(SETS.filter(bool), SETS.filter(bool))
def test_subtract_takes_members_and_all_below_a_leaf(a: Any, b: Any) -> None:
    a, b = ({k: v for k, v in tree.items() if k != "."} for tree in (a, b))
    before = copy.deepcopy((a, b))
    rest = fieldset.subtract(a, b)
    leaves = {path for path in _members(b) if not _at(b, path)} if b else set()
    gone = (_members(b) if b else set()) | {
        p for p in (_members(a) if a else set()) for leaf in leaves if p[: len(leaf)] == leaf
    }
    assert (_members(rest) if rest else set()) == (_members(a) if a else set()) - gone
    assert (a, b) == before


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


SPECS = st.fixed_dictionaries(
    {},
    optional={
        "replicas": st.integers(0, 3),
        "paused": st.booleans(),
        "minReadySeconds": st.integers(0, 2),
        "template": st.fixed_dictionaries(
            {},
            optional={
                "metadata": st.fixed_dictionaries(
                    {"labels": st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"))}
                ),
                "spec": st.fixed_dictionaries(
                    {
                        "containers": st.lists(
                            st.fixed_dictionaries({"name": st.sampled_from("pqr"), "image": st.sampled_from("12")}),
                            unique_by=lambda c: c["name"],
                            max_size=3,
                        )
                    }
                ),
            },
        ),
    },
)


def _object(spec: Object) -> Object:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": spec}


@given(SPECS, SPECS, SPECS)
def test_a_forced_apply_sets_all_it_says_and_repeats_without_effect(
    created: Object, first: Object, second: Object
) -> None:
    story = Story()
    story.update("creator", _object(created))
    story.apply("me", _object(first), force=True)
    story.apply("me", _object(second), force=True)
    assert _holds(story.spec(), second)
    before = copy.deepcopy(story.live)
    story.apply("me", _object(second))
    assert story.live == before


@given(SPECS, SPECS)
def test_an_apply_alone_replaces_its_earlier_self(first: Object, second: Object) -> None:
    story = Story()
    story.apply("me", _object(first))
    story.apply("me", _object(second))
    assert _leaves(story.spec()) == _leaves(second)


def _leaves(value: Any) -> Any:
    """Without the empty containers that a removal leaves behind, and without the order of keyed lists."""
    if isinstance(value, dict):
        kept = {k: _leaves(v) for k, v in value.items()}
        return {k: v for k, v in kept.items() if v not in ({}, [])}
    return (
        sorted((_leaves(v) for v in value), key=partial(json.dumps, sort_keys=True))
        if isinstance(value, list)
        else value
    )


def _holds(value: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return all(key in value and _holds(value[key], child) for key, child in part.items())
    if isinstance(part, list):
        return all(any(v["name"] == p["name"] and _holds(v, p) for v in value) for p in part)
    return bool(value == part)


def test_messages_spell_paths_as_upstream() -> None:
    assert fieldset.show("f:spec") == ".spec"
    assert fieldset.show('k:{"containerPort":80,"protocol":"TCP"}') == '[containerPort=80,protocol="TCP"]'
    assert fieldset.show('v:"x"') == '[="x"]'
    assert fieldset.show("i:3") == "[3]"


def test_the_schema_tells_how_values_divide() -> None:
    root = schema.definition(DEPLOYMENT)
    assert root is not None
    assert fieldset.extract({"spec": {"selector": {"matchLabels": {"a": "b"}}}}, root) == {"f:spec": {"f:selector": {}}}
