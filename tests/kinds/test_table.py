"""Every kind survives what a store may hold: lookups agree, columns and validation never raise, defaults are idempotent."""

from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.kinds import table
from jota.kinds.kind import Kind

scalar = (
    st.none()
    | st.booleans()
    | st.integers(-5, 70000)
    | st.floats(allow_nan=False)
    | st.sampled_from(["", "a", "x/y", "Always", "TCP", "100m", "25%", "2026-01-01T00:00:00Z", "None", "10.0.0.1"])
)
FIELDS = [
    "name",
    "containers",
    "image",
    "ports",
    "template",
    "selector",
    "labels",
    "matchLabels",
    "type",
    "status",
    "spec",
]
json_value = st.recursive(
    scalar,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize("kind", table.KINDS, ids=lambda k: k.resource.group_resource)
def test_lookups_find_every_kind(kind: Kind) -> None:
    resource = kind.resource
    assert table.by_resource(resource.group, resource.version, resource.plural) is kind
    assert table.by_kind(resource.group, resource.version, resource.kind) is kind
    assert resource.version in table.groups()[resource.group]


@pytest.mark.parametrize("kind", table.KINDS, ids=lambda k: k.resource.group_resource)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_nothing_raises_on_arbitrary_objects(kind: Kind, data: st.DataObject) -> None:
    tops = st.fixed_dictionaries(
        {}, optional={"metadata": json_value, "spec": json_value, "status": json_value, "data": json_value}
    )
    obj: dict[str, Any] = data.draw(tops)
    old: dict[str, Any] = data.draw(tops)
    for column in kind.columns:
        column.cell(obj, 1.8e9)
    kind.default(obj)
    once = copy.deepcopy(obj)
    kind.default(obj)
    assert obj == once
    kind.validate(obj)
    kind.validate_update(obj, old)
    if kind.judge is not None:
        kind.judge(obj, None, [])
        kind.judge(obj, old, [])
    kind.validate_status(obj, old)
    kind.warnings(obj)
    for read in kind.selectable.values():
        assert isinstance(read(obj), str)
    kind.prepare_update(obj, old)
    kind.prepare_create(obj)


def test_flags_are_upstreams() -> None:
    plurals = {k.resource.plural: k for k in table.KINDS}
    assert {p for p, k in plurals.items() if not k.unconditional_update} == {
        "apiservices",
        "csidrivers",
        "customresourcedefinitions",
        "csinodes",
        "csistoragecapacities",
        "leasecandidates",
        "leases",
        "poddisruptionbudgets",
        "runtimeclasses",
        "volumeattachments",
    }
    assert {p for p, k in plurals.items() if k.create_on_update} == {
        "clusterrolebindings",
        "clusterroles",
        "endpoints",
        "events",
        "leasecandidates",
        "leases",
        "limitranges",
        "rolebindings",
        "roles",
        "services",
    }
    assert {p for p, k in plurals.items() if k.scale} == {
        "deployments",
        "replicasets",
        "replicationcontrollers",
        "statefulsets",
    }


def test_short_names_are_unique_within_the_cluster() -> None:
    seen: dict[str, str] = {}
    for kind in table.KINDS:
        for short in kind.short_names:
            assert seen.setdefault(short, kind.resource.plural) == kind.resource.plural


def test_importing_the_table_stays_light() -> None:
    """Start-up counts: no schema, no YAML, no time zones, no numbers library."""
    code = "import sys, jota.kinds.table; print(' '.join(sys.modules))"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert loaded & {"yaml", "numpy", "zoneinfo", "kubernetes_validate", "cryptography", "jota.meta.schema"} == set()
