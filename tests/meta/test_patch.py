"""The three patch types: what they make of an object, and what they refuse."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jota.meta.errors import ApiError
from jota.meta.patch import json, merge, strategic

POD = "io.k8s.api.core.v1.Pod"
DEPLOYMENT = "io.k8s.api.apps.v1.Deployment"
Json = Any
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["", "a", "b"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c/d", "~"]), inner, max_size=3)
    ),
    max_leaves=10,
)


# --- RFC 6902 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "patch", "expected"),
    [
        ({"a": 1}, [{"op": "add", "path": "/b", "value": 2}], {"a": 1, "b": 2}),
        ({"a": [1, 3]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2, 3]}),
        ({"a": [1]}, [{"op": "add", "path": "/a/-", "value": 2}], {"a": [1, 2]}),
        ({"a": 1}, [{"op": "remove", "path": "/a"}], {}),
        ({"a": [1, 2]}, [{"op": "remove", "path": "/a/0"}], {"a": [2]}),
        ({"a": 1}, [{"op": "replace", "path": "/a", "value": None}], {"a": None}),
        ({"a": {"b": 1}}, [{"op": "move", "from": "/a/b", "path": "/c"}], {"a": {}, "c": 1}),
        ({"a": {"b": 1}}, [{"op": "copy", "from": "/a", "path": "/c"}], {"a": {"b": 1}, "c": {"b": 1}}),
        ({"a/b": 1, "~": 2}, [{"op": "replace", "path": "/a~1b", "value": 3}], {"a/b": 3, "~": 2}),
        ({"a": 1}, [{"op": "test", "path": "/a", "value": 1}], {"a": 1}),
        ({"a": 1}, [{"op": "test", "path": "/missing", "value": None}], {"a": 1}),
        ({"a": 1}, [{"op": "replace", "path": "", "value": [1]}], [1]),
    ],
)
def test_json_patch(document: Json, patch: Json, expected: Json) -> None:
    before = copy.deepcopy(document)
    assert json.apply(document, patch) == expected
    assert document == before


@pytest.mark.parametrize(
    ("patch", "code"),
    [
        ({"op": "add"}, 400),
        ("x", 400),
        (["x"], 400),
        ([{"op": "test", "path": "/a", "value": 2}], 422),
        ([{"op": "test", "path": "/a", "value": True}], 422),
        ([{"op": "remove", "path": "/b"}], 422),
        ([{"op": "replace", "path": "/b", "value": 1}], 422),
        ([{"op": "add", "path": "/b/c", "value": 1}], 422),
        ([{"op": "add", "path": "/l/9", "value": 1}], 422),
        ([{"op": "add", "path": "/l/01", "value": 1}], 422),
        ([{"op": "add", "path": "/l/x", "value": 1}], 422),
        ([{"op": "add", "path": "b", "value": 1}], 422),
        ([{"op": "add", "path": "/b"}], 422),
        ([{"op": "spin", "path": "/b"}], 422),
        ([{"op": "move", "from": "/o", "path": "/o/p"}], 422),
        ([{"op": "remove", "path": ""}], 422),
        ([{"op": "test", "path": "/a", "value": 1}] * 10_001, 413),
        ([{"op": "copy", "from": "", "path": f"/o/{i}"} for i in range(40)], 413),
        ([{"op": "copy", "from": "", "path": "/o/p"}] * 5000, 422),
        ([{"op": "add", "path": "/o" + "/x" * i, "value": {}} for i in range(300)], 422),
    ],
)
def test_json_patches_that_fail(patch: Json, code: int) -> None:
    with pytest.raises(ApiError) as caught:
        json.apply({"a": 1, "l": [1], "o": {}}, patch)
    assert caught.value.code == code


def test_copied_values_are_independent() -> None:
    patch = [{"op": "copy", "from": "/a", "path": "/b"}, {"op": "add", "path": "/b/x", "value": 1}]
    assert json.apply({"a": {}}, patch) == {"a": {}, "b": {"x": 1}}
    again = [{"op": "add", "path": "/a/y", "value": 1}, *patch, {"op": "add", "path": "/a/z", "value": 1}]
    assert json.apply({"a": {}}, again) == {"a": {"y": 1, "z": 1}, "b": {"y": 1, "x": 1}}


def test_a_value_of_the_patch_is_never_changed() -> None:
    patch = [{"op": "add", "path": "/a", "value": {}}, {"op": "add", "path": "/a/b", "value": 1}]
    assert json.apply({}, patch) == {"a": {"b": 1}}
    assert patch[0]["value"] == {}


OPERATIONS = st.lists(
    st.fixed_dictionaries(
        {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"])},
        optional={
            "path": st.sampled_from(["", "/a", "/a/b", "/a/0", "/b/-", "/c~1d", "/~0"]),
            "from": st.sampled_from(["", "/a", "/a/b", "/b"]),
            "value": VALUES,
        },
    ),
    max_size=5,
)


@given(VALUES, OPERATIONS)
def test_any_json_patch_applies_or_is_refused_and_leaves_the_object_alone(document: Json, patch: Json) -> None:
    before = copy.deepcopy((document, patch))
    try:
        json.apply(document, patch)
    except ApiError as e:
        assert e.code in (400, 413, 422)
    assert (document, patch) == before


# --- RFC 7386 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": ["c"]}, {"a": ["c"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({}, {"a": {"b": {"c": None}}}, {"a": {"b": {}}}),
        (["a"], {"a": 1}, {"a": 1}),
        ({"a": 1}, ["x"], ["x"]),
    ],
)
def test_merge_patch(document: Json, patch: Json, expected: Json) -> None:
    assert merge.apply(document, patch) == expected


NO_NULLS = st.recursive(
    st.booleans() | st.integers(0, 3) | st.sampled_from(["a"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from("abc"), NO_NULLS), st.dictionaries(st.sampled_from("abc"), NO_NULLS))
def test_a_diff_applied_gives_the_new_object(old: Json, new: Json) -> None:
    before = copy.deepcopy((old, new))
    assert merge.apply(old, merge.diff(old, new)) == new
    assert (old, new) == before


# --- strategic -------------------------------------------------------------------------------------------------------


def _pod(**spec: Json) -> Json:
    return {"metadata": {"name": "p", "finalizers": ["a", "b"]}, "spec": spec}


def test_lists_merge_by_their_key() -> None:
    live = _pod(
        containers=[{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b", "image": "2"}]
    )
    patch = {"spec": {"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}]}, {"name": "c", "image": "3"}]}}
    got = strategic.apply(live, patch, POD)["spec"]["containers"]
    assert [c["name"] for c in got] == ["a", "c", "b"], "what is new comes before what the patch does not name"
    assert got[0] == {"name": "a", "image": "1", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}]}


def test_an_item_is_deleted_by_directive() -> None:
    live = _pod(containers=[{"name": "a"}, {"name": "b"}])
    patch = {"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}
    assert strategic.apply(live, patch, POD)["spec"]["containers"] == [{"name": "b"}]


def test_a_list_is_replaced_by_directive() -> None:
    live = _pod(containers=[{"name": "a"}, {"name": "b"}])
    patch = {"spec": {"containers": [{"$patch": "replace"}, {"name": "c"}]}}
    assert strategic.apply(live, patch, POD)["spec"]["containers"] == [{"name": "c"}]
    patch = {"spec": {"containers": [{"name": "b", "$patch": "replace"}, {"name": "c"}]}}
    assert strategic.apply(live, patch, POD)["spec"]["containers"] == [{"name": "c"}], "what bears it is no item"


@pytest.mark.parametrize(
    ("before", "patch", "after"),
    [
        ("ab", "c", "cab"),
        ("ab", "ba", "ba"),
        ("abc", "c", "abc"),
        ("abc", "an", "anbc"),
        ("abc", "nb", "nabc"),
        ("", "ba", "ba"),
    ],
)
@pytest.mark.parametrize("directive", [False, True])
def test_the_order_without_a_word_of_it(before: str, patch: str, after: str, directive: bool) -> None:
    """As apimachinery's strategicpatch orders the same."""
    named: list[Json] = [{"name": name, "image": "1"} for name in patch]
    gone = [{"name": "z", "$patch": "delete"}] if directive else []
    got = strategic.apply(
        _pod(containers=[{"name": name} for name in before]), {"spec": {"containers": named + gone}}, POD
    )
    assert [c["name"] for c in got["spec"]["containers"]] == list(after)
    live = {"metadata": {"finalizers": list(before)}}
    assert strategic.apply(live, {"metadata": {"finalizers": list(patch)}}, POD)["metadata"]["finalizers"] == list(
        after
    )


def test_an_object_is_replaced_or_emptied_by_directive() -> None:
    live = _pod(nodeSelector={"a": "b"}, containers=[])
    assert strategic.apply(live, {"spec": {"nodeSelector": {"$patch": "replace", "c": "d"}}}, POD)["spec"] == {
        "nodeSelector": {"c": "d"},
        "containers": [],
    }
    assert strategic.apply(live, {"spec": {"$patch": "delete"}}, POD)["spec"] == {}
    assert strategic.apply(live, {"spec": {"$patch": "merge", "hostNetwork": True}}, POD)["spec"]["hostNetwork"] is True


def test_nulls_delete_and_atomic_lists_are_replaced() -> None:
    live = _pod(nodeSelector={"a": "b"}, tolerations=[{"key": "x"}])
    got = strategic.apply(live, {"spec": {"nodeSelector": None, "tolerations": [{"key": "y"}]}}, POD)
    assert got["spec"] == {"tolerations": [{"key": "y"}]}
    patch = {"spec": {"tolerations": [{"key": "x", "$patch": "delete"}, {"key": "y"}]}}
    assert strategic.apply(live, patch, POD)["spec"]["tolerations"] == [{"key": "y"}]


def test_primitive_lists_merge_and_delete() -> None:
    got = strategic.apply(_pod(), {"metadata": {"finalizers": ["c", "a"]}}, POD)
    assert got["metadata"]["finalizers"] == ["c", "a", "b"]
    got = strategic.apply(_pod(), {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}, POD)
    assert got["metadata"]["finalizers"] == ["b"]


def test_element_order_is_set_and_the_servers_own_items_keep_their_place() -> None:
    live = _pod(containers=[{"name": "a"}, {"name": "server"}, {"name": "b"}])
    patch = {
        "spec": {
            "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}, {"name": "c"}],
            "containers": [{"name": "c", "image": "x"}],
        }
    }
    got = strategic.apply(live, patch, POD)["spec"]
    assert [c["name"] for c in got["containers"]] == ["server", "b", "a", "c"]
    assert not [key for key in got if key.startswith("$")]


def test_retain_keys_drops_the_others() -> None:
    live = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert strategic.apply(live, patch, DEPLOYMENT) == {"spec": {"strategy": {"type": "Recreate"}}}


def test_directives_never_end_up_in_a_new_part() -> None:
    patch = {
        "spec": {
            "containers": [{"name": "gone", "$patch": "delete"}, {"name": "a", "$retainKeys": ["name"]}],
            "volumes": [{"name": "v", "$retainKeys": ["name", "emptyDir"], "emptyDir": {}}],
        }
    }
    assert strategic.apply({}, patch, POD) == {
        "spec": {"containers": [{"name": "a"}], "volumes": [{"name": "v", "emptyDir": {}}]}
    }


@pytest.mark.parametrize(
    "patch",
    [
        [],
        {"spec": {"$patch": "explode"}},
        {"spec": {"containers": [{"image": "x"}]}},
        {"metadata": {"$deleteFromPrimitiveList/finalizers": "a"}},
        {"spec": {"$retainKeys": ["a"], "b": 1}},
        {"spec": {"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a"}]}},
        {"spec": {"$setElementOrder/containers": "a", "containers": [{"name": "a"}]}},
    ],
)
def test_bad_strategic_patches_are_400(patch: Json) -> None:
    with pytest.raises(ApiError) as caught:
        strategic.apply(_pod(), patch, POD)
    assert caught.value.code == 400


@pytest.mark.parametrize("engine", [merge.apply, lambda o, p: strategic.apply(o, p, POD), json.apply])
def test_patches_that_are_nested_too_deep_are_400(engine: Any) -> None:
    patch: Json = {"spec": {}}
    for _ in range(900):
        patch = {"spec": patch}
    with pytest.raises(ApiError) as caught:
        engine({}, [{"op": "add", "path": "/a", "value": patch}] if engine is json.apply else patch)
    assert caught.value.code == 400


@given(VALUES)
def test_a_strategic_patch_changes_neither_argument(value: Json) -> None:
    live = _pod(containers=[{"name": "a", "image": "x"}], nodeSelector={"a": "b"})
    patch = {"spec": {"nodeSelector": value, "containers": [{"name": "a", "args": value}]}}
    before = copy.deepcopy((live, patch))
    strategic.apply(live, patch, POD)
    assert (live, patch) == before


NAMED = st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "b", "c"])},
    optional={
        "image": st.sampled_from(["x", "y"]),
        "args": st.lists(st.sampled_from(["1", "2"]), max_size=2),
        "env": st.lists(
            st.fixed_dictionaries({"name": st.sampled_from(["A", "B"]), "value": st.sampled_from(["1", "2"])}),
            unique_by=lambda item: item["name"],
            max_size=2,
        ),
    },
)
PODS = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.fixed_dictionaries(
            {},
            optional={
                "labels": st.dictionaries(st.sampled_from(["k", "l"]), st.sampled_from(["1", "2"]), max_size=2),
                "finalizers": st.lists(st.sampled_from(["f", "g", "h"]), unique=True, max_size=3),
            },
        ),
        "spec": st.fixed_dictionaries(
            {},
            optional={
                "containers": st.lists(NAMED, unique_by=lambda item: item["name"], max_size=3),
                "securityContext": st.fixed_dictionaries({}, optional={"runAsUser": st.integers(0, 2)}),
            },
        ),
    },
)


@given(PODS, PODS)
def test_a_patch_without_directives_takes_the_short_way_to_the_same_end(pod: Json, patch: Json) -> None:
    """Empty lists included: they merge nothing, and only directives take anything away."""
    before = copy.deepcopy(pod)
    long = strategic.apply(pod, patch, POD)
    assert strategic.apply(pod, patch, POD, plain=True) == long
    assert pod == before
    had, has = (set(obj.get("metadata", {}).get("finalizers", ())) for obj in (pod, long))
    assert had <= has
