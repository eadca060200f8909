"""Golden pairs: golden/<kind>/<case>.yaml holds what a client sends and, after `---`, what the server fills in."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from jota.kinds import table
from jota.meta import schema

CASES = sorted((Path(__file__).parent / "golden").glob("*/*.yaml"))


def documents(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    given, wanted = yaml.safe_load_all(path.read_text())
    return given, wanted


@pytest.mark.parametrize("path", CASES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_defaults(path: Path) -> None:
    given, wanted = documents(path)
    group, _, version = given["apiVersion"].rpartition("/")
    kind = table.by_kind(group, version, given["kind"])
    assert kind is not None
    assert kind.resource.kind.lower() == path.parent.name
    kind.default(given)
    assert given == wanted
    again = copy.deepcopy(given)
    kind.default(again)
    assert again == wanted


@pytest.mark.parametrize("path", CASES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_defaults_fit_the_schema(path: Path) -> None:
    _, wanted = documents(path)
    group, _, version = wanted["apiVersion"].rpartition("/")
    kind = table.by_kind(group, version, wanted["kind"])
    assert kind is not None
    assert schema.check(kind.schema, wanted) == []


def test_cases_are_found() -> None:
    assert len(CASES) >= 25


@pytest.mark.parametrize("kind", table.KINDS, ids=lambda k: f"{k.resource.version}/{k.resource.group_resource}")
def test_every_kind_has_its_schema(kind: Any) -> None:
    definition = schema.definition(kind.schema)
    assert definition is not None
    assert ("status" in definition.fields) == kind.status, "has a status field exactly when it has /status"
