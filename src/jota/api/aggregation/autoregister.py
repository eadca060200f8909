"""Which local APIServices there must be: one for each group version that this server answers for. Pure: `plan` decides.

Upstream's table of what happens to an APIService of a given name:

                                     not wanted    wanted, built in     wanted, of a definition
    not there                        -             create, once         create
    there, not labelled as ours      -             -                    -
    ours, "onstart", older than us   delete, once  update, once         update, once
    ours, "onstart", newer than us   -             -                    -
    ours, "true"                     delete        update, once         update

So a server that somebody registered by hand for a definition's group version keeps it. Pod metrics are served here without
an APIService: who installs a metrics server creates its own, and finds the name free, as on any cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from jota.api.aggregation.priorities import CUSTOM, KING, METRICS, Priority, built_in
from jota.kinds.kind import Object
from jota.kinds.shape import meta, part, strings

LABEL = "kube-aggregator.kubernetes.io/automanaged"
ON_START, ALWAYS = "onstart", "true"
GroupVersion = tuple[str, str]


@dataclass(slots=True)
class Steps:
    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[str] = field(default_factory=list)


def name_of(group: str, version: str) -> str:
    return f"{version}.{group}"


def wanted(built: Iterable[GroupVersion], custom: Iterable[GroupVersion]) -> dict[str, Object]:
    """Name -> APIService. `custom`: of definitions. What is built in but not ranked is left out, as upstream."""
    out: dict[str, Object] = {}
    for group, version in custom:
        out[name_of(group, version)] = _local(group, version, CUSTOM, ALWAYS)
    for group, version in built:
        priority = built_in(group, version)
        if priority is not None and group not in (KING, METRICS):
            out[name_of(group, version)] = _local(group, version, priority, ON_START)
    return out


def _local(group: str, version: str, priority: Priority, label: str) -> Object:
    spec = {
        "group": group,
        "version": version,
        "groupPriorityMinimum": priority.group,
        "versionPriority": priority.version,
    }
    if not group:
        del spec["group"]
    return {"metadata": {"name": name_of(group, version), "labels": {LABEL: label}}, "spec": spec}


def plan(
    desired: Mapping[str, Object], current: Mapping[str, Object], at_start: frozenset[str], synced: frozenset[str]
) -> Steps:
    """`at_start`: names that were there when this server started; `synced`: names that were dealt with since."""
    steps = Steps()
    for name in sorted({*desired, *current}):
        want, have = desired.get(name), current.get(name)
        once = name in synced
        if have is None:
            if want is not None and not (_label(want) == ON_START and once):
                steps.create.append(want)
            continue
        label = _label(have)
        if label not in (ON_START, ALWAYS) or (want is not None and _label(want) == ON_START and once):
            continue
        if label == ON_START and (name not in at_start or once):
            continue
        if want is None:
            steps.delete.append(name)
        elif part(have, "spec") != want["spec"]:
            steps.update.append({**have, "spec": want["spec"]})
    return steps


def _label(apiservice: Object) -> str:
    return strings(meta(apiservice), "labels").get(LABEL, "")
