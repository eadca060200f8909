"""What is wanted: groups of nodes with their bounds, and the autoscaler's options. In: a file, or words of a command line.

groups:
- {name: local, provider: local, min: 1, max: 5}
- {name: big, provider: exec, min: 0, max: 3, command: [/opt/machines], timeout: 60s, template: {cpu: "8", memory: 32Gi}}
scaleDownUnneededTime: 10m

The same in words: `local:1..5`, `exec:0..3,name=big,command=/opt/machines,cpu=8,memory=32Gi`, `scaleDownUnneededTime=10m`.
Options are named as upstream's flags and mean the same. Next: world.py.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from jota.autoscaler.provider import Template
from jota.meta.names import validate_labels
from jota.meta.quantity import value

PROVIDERS = ("local", "hollow", "exec")
MOST_NODES = 16_000
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_NUMBER = re.compile(r"\d+(\.\d+)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_RESOURCES = ("cpu", "memory", "pods", "ephemeral-storage")


class BadSettings(ValueError):
    """The message names the key and says what may stand there."""


@dataclass(slots=True, frozen=True)
class GroupSettings:
    name: str
    provider: str
    min: int
    max: int
    command: tuple[str, ...] = ()
    """exec: the program that makes and removes machines, with its first arguments."""
    timeout: float = 60.0
    """exec: seconds that one call may take."""
    template: Template = field(default_factory=Template)
    """exec: what a node of the group is like."""


@dataclass(slots=True, frozen=True)
class Options:
    """Times in seconds. Defaults are upstream's."""

    scanInterval: float = 10.0
    scaleDownEnabled: bool = True
    scaleDownUnneededTime: float = 600.0
    scaleDownUnreadyTime: float = 1200.0
    scaleDownUtilizationThreshold: float = 0.5
    scaleDownDelayAfterAdd: float = 600.0
    scaleDownDelayAfterFailure: float = 180.0
    scaleDownNonEmptyCandidatesCount: int = 30
    maxScaleDownParallelism: int = 10
    maxDrainParallelism: int = 1
    maxNodeProvisionTime: float = 900.0
    maxPodEvictionTime: float = 600.0
    """A node whose pods cannot be evicted in this time is given back (upstream: 2 m of retries and 10 m of termination)."""
    maxNodesTotal: int = 0
    """Of all nodes; 0: no bound but the groups' own."""
    newPodScaleUpDelay: float = 0.0
    expendablePodsPriorityCutoff: int = -10
    skipNodesWithSystemPods: bool = True
    skipNodesWithLocalStorage: bool = True
    initialNodeGroupBackoffDuration: float = 300.0
    maxNodeGroupBackoffDuration: float = 1800.0
    nodeGroupBackoffResetTimeout: float = 10800.0
    okTotalUnreadyCount: int = 3
    maxTotalUnreadyPercentage: float = 45.0


@dataclass(slots=True, frozen=True)
class Settings:
    groups: tuple[GroupSettings, ...] = ()
    options: Options = field(default_factory=Options)


def parse(document: Any) -> Settings:
    """The file's content. Raises BadSettings."""
    if not isinstance(document, dict):
        raise BadSettings("the settings must be a mapping with `groups`")
    given = document.get("groups") or []
    if not isinstance(given, list) or not all(isinstance(g, dict) for g in given):
        raise BadSettings("groups: must be a list of mappings")
    groups = tuple(_group(g) for g in given)
    names = [g.name for g in groups]
    if twice := {n for n in names if names.count(n) > 1}:
        raise BadSettings(f"groups: the name {sorted(twice)[0]} is given twice; set another with `name`")
    for only in ("local", "hollow"):
        if sum(g.provider == only for g in groups) > 1:
            raise BadSettings(f"groups: there can be one {only} group")
    return Settings(groups, _options({k: v for k, v in document.items() if k != "groups"}))


def from_words(words: Iterable[str]) -> dict[str, Any]:
    """The document that words of a command line stand for. Raises BadSettings."""
    document: dict[str, Any] = {"groups": []}
    for word in words:
        head, colon, rest = word.partition(":")
        if colon and head in PROVIDERS:
            document["groups"].append(_group_words(head, rest))
        elif "=" in word and not colon:
            key, _, text = word.partition("=")
            document[key] = text
        else:
            raise BadSettings(f"{word}: give PROVIDER:MIN..MAX (providers: {', '.join(PROVIDERS)}) or OPTION=VALUE")
    parse(document)
    return document


def _group_words(provider: str, rest: str) -> dict[str, Any]:
    bounds, *pairs = rest.split(",")
    found = _RANGE.fullmatch(bounds)
    if found is None:
        raise BadSettings(f"{provider}:{rest}: give the bounds as MIN..MAX, e.g. {provider}:1..5")
    group: dict[str, Any] = {"provider": provider, "min": int(found[1]), "max": int(found[2])}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise BadSettings(f"{provider}:{rest}: {pair!r} is not KEY=VALUE")
        if key in _RESOURCES:
            group.setdefault("template", {})[key] = text
        elif key.startswith("label."):
            group.setdefault("template", {}).setdefault("labels", {})[key.removeprefix("label.")] = text
        else:
            group[key] = shlex.split(text) if key == "command" else text
    return group


def _group(given: Mapping[str, Any]) -> GroupSettings:
    provider = given.get("provider", "")
    if provider not in PROVIDERS:
        raise BadSettings(f"provider: {provider!r} is none of {', '.join(PROVIDERS)}")
    name = given.get("name") or provider
    allowed = {"name", "provider", "min", "max"} | ({"command", "timeout", "template"} if provider == "exec" else set())
    if unknown := sorted(given.keys() - allowed, key=str):
        raise BadSettings(
            f"group {name}: {unknown[0]}: no such setting of provider {provider}; there are {_list(allowed)}"
        )
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadSettings(f'name: {name!r}: use lower-case letters, digits and "-", at most 40')
    least, most = (_whole(f"group {name}: {key}", given.get(key)) for key in ("min", "max"))
    if not 0 <= least <= most <= MOST_NODES:
        raise BadSettings(f"group {name}: min {least} and max {most} are not in order between 0 and {MOST_NODES}")
    group = GroupSettings(name, provider, least, most)
    if provider != "exec":
        return group
    command = given.get("command") or ()
    if not isinstance(command, list | tuple) or not command or not all(isinstance(w, str) and w for w in command):
        raise BadSettings(f"group {name}: command: give the program that makes machines, as a list of words")
    timeout = _seconds(f"group {name}: timeout", given.get("timeout", 60.0))
    if not 0 < timeout <= 3600:
        raise BadSettings(f"group {name}: timeout: must be more than 0 and at most an hour")
    return replace(group, command=tuple(command), timeout=timeout, template=template(name, given.get("template")))


def template(name: str, given: Any) -> Template:
    """What a node of a group is like, from its setting. Raises BadSettings."""
    if not isinstance(given, dict) or not {"cpu", "memory"} <= given.keys():
        raise BadSettings(f"group {name}: template: give at least cpu and memory of its nodes")
    labels, taints = given.get("labels") or {}, given.get("taints") or []
    amounts = {"pods": "110", **{k: str(v) for k, v in given.items() if k not in ("labels", "taints")}}
    for resource, amount in amounts.items():
        try:
            if value(amount) <= 0:
                raise ValueError
        except ValueError:
            raise BadSettings(f"group {name}: template: {resource}: {amount!r} is not an amount") from None
    words = isinstance(labels, dict) and all(isinstance(word, str) for pair in labels.items() for word in pair)
    if not words or validate_labels(labels, "labels"):
        raise BadSettings(f"group {name}: template: labels: not a mapping of label names to values")
    effects = ("NoSchedule", "PreferNoSchedule", "NoExecute")
    if not isinstance(taints, list) or not all(
        isinstance(t, dict) and t.get("key") and t.get("effect") in effects for t in taints
    ):
        raise BadSettings(f"group {name}: template: taints: a list of key, value and effect ({', '.join(effects)})")
    return Template(amounts, dict(labels), tuple(taints))


def _options(given: Mapping[str, Any]) -> Options:
    known = {f.name: getattr(Options(), f.name) for f in fields(Options)}
    values: dict[str, Any] = {}
    for key, raw in given.items():
        if key not in known:
            raise BadSettings(f"{key}: no such option; there are {', '.join(known)}")
        if isinstance(known[key], bool):
            values[key] = _truth(key, raw)
        elif isinstance(known[key], int):
            values[key] = _whole(key, raw)
        elif key in ("scaleDownUtilizationThreshold", "maxTotalUnreadyPercentage"):
            values[key] = _number(key, raw)
        else:
            values[key] = _seconds(key, raw)
    options = Options(**values)
    if not 0.1 <= options.scanInterval <= 60:
        raise BadSettings("scanInterval: must be at least 100ms and at most a minute")
    if options.maxNodeProvisionTime <= 0 or options.maxScaleDownParallelism < 1 or options.maxDrainParallelism < 1:
        raise BadSettings("maxNodeProvisionTime, maxScaleDownParallelism, maxDrainParallelism: must be positive")
    return options


def _truth(key: str, raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    if raw in ("true", "false"):
        return bool(raw == "true")
    raise BadSettings(f"{key}: {raw!r} is neither true nor false")


def _whole(key: str, raw: Any) -> int:
    try:
        if isinstance(raw, bool) or (isinstance(raw, float) and raw != int(raw)):
            raise ValueError
        return int(raw)
    except (TypeError, ValueError, OverflowError):
        raise BadSettings(f"{key}: {raw!r} is not a whole number") from None


def _number(key: str, raw: Any, most: float = 100.0) -> float:
    try:
        found = float(raw)
    except (TypeError, ValueError, OverflowError):
        raise BadSettings(f"{key}: {raw!r} is not a number") from None
    if not 0 <= found <= most:
        raise BadSettings(f"{key}: {raw!r} is out of range")
    return found


def _seconds(key: str, raw: Any) -> float:
    """A number of seconds, or Go's form: 90s, 1h30m."""
    if (isinstance(raw, int | float) and not isinstance(raw, bool)) or _NUMBER.fullmatch(str(raw)):
        found = _number(key, raw, most=1e9)
    else:
        text = str(raw)
        parts = _DURATION.findall(text)
        if not parts or "".join(n + u for n, u in parts) != text:
            raise BadSettings(f"{key}: {raw!r} is not a time; write 30s, 10m or 1h30m")
        found = sum(float(n) * _UNITS[u] for n, u in parts)
    if not 0 <= found < 1e9:
        raise BadSettings(f"{key}: {raw!r} is out of range")
    return found


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
