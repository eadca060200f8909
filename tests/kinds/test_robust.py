"""Nothing raises on objects of doubtful shape: every value of the golden objects is replaced by junk, one at a time."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from jota.kinds import table
from jota.kinds.core.pod import resize, update

CASES = sorted((Path(__file__).parent / "golden").glob("*/*.yaml"))
JUNK: tuple[Any, ...] = (None, True, -1, 2.5, "", "x/../y", [], [None], [1, "a"], {}, {"a": [{}]}, [[]], [{"name": 1}])
Path_ = tuple[str | int, ...]


def paths(value: Any, at: Path_ = ()) -> Iterator[Path_]:
    """Every place below a JSON value."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield (*at, key)
        yield from paths(child, (*at, key))


def replaced(obj: Any, path: Path_, value: Any) -> Any:
    out = copy.deepcopy(obj)
    at = out
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return out


@pytest.mark.parametrize("path", CASES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_junk_anywhere(path: Path) -> None:
    good = list(yaml.safe_load_all(path.read_text()))[1]
    group, _, version = good["apiVersion"].rpartition("/")
    kind = table.by_kind(group, version, good["kind"])
    assert kind is not None
    places = [p for p in paths(good) if p[0] not in ("apiVersion", "kind") and p != ("metadata",)]
    for number, place in enumerate(places):
        for junk in (JUNK[number % len(JUNK)], JUNK[(number * 5 + 3) % len(JUNK)], JUNK[(number * 7 + 8) % len(JUNK)]):
            bad = replaced(good, place, junk)
            kind.default(bad)
            kind.validate(bad)
            kind.validate_create(bad)
            kind.validate_update(bad, good)
            kind.validate_update(good, bad)
            if kind.judge is not None:
                kind.judge(bad, None, [])
                kind.judge(bad, good, [])
            kind.warnings(bad)
            for column in kind.columns:
                column.cell(bad, 1.8e9)
            for select in kind.selectable.values():
                assert isinstance(select(bad), str)
            kind.prepare_update(bad, copy.deepcopy(good))
            kind.prepare_create(bad)


def test_junk_in_the_other_writes_of_a_pod() -> None:
    good = list(yaml.safe_load_all((Path(__file__).parent / "golden/pod/full.yaml").read_text()))[1]
    for place in paths(good):
        for junk in JUNK[::3]:
            bad = replaced(good, place, junk)
            for prepare, validate in (
                (update.prepare_ephemeral, update.validate_ephemeral),
                (resize.prepare_resize, resize.validate_resize),
            ):
                prepare(bad, good)
                validate(bad, good)


STATUS = {
    "pods": {
        "phase": "Running",
        "podIPs": [{"ip": "1"}],
        "conditions": [{"type": "Ready", "status": "True"}],
        "initContainerStatuses": [{"name": "i", "restartCount": 1, "state": {"terminated": {"exitCode": 0}}}],
        "containerStatuses": [
            {"name": "c", "restartCount": 1, "ready": True, "state": {"running": {}}},
            {
                "lastState": {"terminated": {"finishedAt": "2026-01-01T00:00:00Z"}},
                "state": {"waiting": {"reason": "x"}},
            },
        ],
    },
    "nodes": {
        "conditions": [{"type": "Ready", "status": "True"}],
        "addresses": [{"type": "InternalIP", "address": "1"}],
    },
    "jobs": {
        "conditions": [{"type": "Complete", "status": "True"}],
        "startTime": "2026-01-01T00:00:00Z",
        "succeeded": 1,
    },
    "horizontalpodautoscalers": {"currentMetrics": [{"resource": {"current": {"averageUtilization": 1}}}]},
    "services": {"loadBalancer": {"ingress": [{"ip": "1"}]}},
    "resourcequotas": {"hard": {"pods": "1"}, "used": {"pods": "1"}},
}


@pytest.mark.parametrize("plural", STATUS)
def test_junk_in_the_status(plural: str) -> None:
    for kind in table.KINDS:
        if kind.resource.plural != plural:
            continue
        good = {
            "metadata": {"name": "x", "labels": {"a": "b"}},
            "spec": {"type": "LoadBalancer"},
            "status": STATUS[plural],
        }
        for place in paths(good):
            for junk in JUNK:
                bad = replaced(good, place, junk)
                for column in kind.columns:
                    column.cell(bad, 1.8e9)
                kind.validate_status(bad, good)
