"""Names and metadata: which are refused, in upstream's words."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from jota.meta import names


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ("dns-label", ["a", "a-1", "9a", "x" * 63], ["", "A", "-a", "a-", "a.b", "x" * 64, "a_b"]),
        ("dns-subdomain", ["a.b-c", "x" * 253], ["a..b", ".a", "a.", "A.b", "x" * 254, ""]),
        ("dns-1035-label", ["web", "a1"], ["1a", "a.b", "A", ""]),
        ("path-segment", ["system:node", "Any thing*"], ["..", ".", "a/b", "50%"]),
    ],
)
def test_name_rules(rule: str, good: list[str], bad: list[str]) -> None:
    assert [n for n in good if names.RULES[rule](n)] == []
    assert [n for n in bad if not names.RULES[rule](n)] == []


def test_qualified_names_and_label_values() -> None:
    for good in ("a", "A.b_c-1", "example.com/a", "x" * 63):
        assert names.qualified_name(good) == []
    for bad in ("", "/a", "a/", "a/b/c", "Example.com/a", "-a", "x" * 64, "a b"):
        assert names.qualified_name(bad)
    assert names.label_value("") == names.label_value("A.b-c_9") == []
    assert names.label_value("-")
    assert names.label_value("x" * 64)
    assert names.label_value("a b")


def test_the_words_are_upstreams() -> None:
    assert names.dns_label("A") == [
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
        "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
        "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
    ]
    assert names.dns_label("x" * 64) == ["must be no more than 63 bytes"]


def test_generated_names_are_bounded_and_have_no_vowels() -> None:
    name = names.generate_name("x" * 80, Random(1))
    assert len(name) == 63
    assert not set(name[58:]) & set("aeiou013l")
    assert names.generate_name("web-", Random(1)) != names.generate_name("web-", Random(2))


def _errors(meta: dict[str, Any], namespaced: bool = True, rule: str = "dns-subdomain") -> list[tuple[str, str]]:
    found = names.validate_metadata(meta, namespaced=namespaced, name_rule=rule)
    return [(e.field, e.message.partition(":")[0]) for e in found]


OWNER = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1", "controller": True}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"name": ""}, [("metadata.name", "Required value")]),
        ({"name": "A"}, [("metadata.name", "Invalid value")]),
        ({"generateName": "web-"}, []),
        ({"generateName": "Web-"}, [("metadata.generateName", "Invalid value")]),
        ({"namespace": ""}, [("metadata.namespace", "Required value")]),
        ({"namespace": "a.b"}, [("metadata.namespace", "Invalid value")]),
        ({"labels": {"a b": "c"}}, [("metadata.labels", "Invalid value")]),
        ({"labels": {"a": "c d"}}, [("metadata.labels", "Invalid value")]),
        ({"annotations": {"A/B": "x"}}, []),
        ({"annotations": {"a": "x" * 262144}}, [("metadata.annotations", "Too long")]),
        ({"finalizers": ["a b"]}, [("metadata.finalizers", "Invalid value")]),
        ({"finalizers": ["orphan", "foregroundDeletion"]}, [("metadata.finalizers", "Invalid value")]),
        ({"ownerReferences": [OWNER]}, []),
        ({"ownerReferences": [OWNER, {**OWNER, "uid": "2"}]}, [("metadata.ownerReferences", "Invalid value")]),
        ({"ownerReferences": [{**OWNER, "uid": ""}]}, [("metadata.ownerReferences.uid", "Invalid value")]),
        (
            {"ownerReferences": [{**OWNER, "apiVersion": ""}]},
            [("metadata.ownerReferences.apiVersion", "Invalid value")],
        ),
    ],
)
def test_metadata(change: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert _errors({"name": "a", "namespace": "default", **change}) == expected


def test_cluster_scoped_objects_have_no_namespace() -> None:
    assert _errors({"name": "a", "namespace": "x"}, namespaced=False) == [("metadata.namespace", "Forbidden")]


def test_finalizers_without_a_domain_are_warned_about() -> None:
    assert names.finalizer_warnings(["orphan", "example.com/x"]) == []
    assert len(names.finalizer_warnings(["mine"])) == 1
