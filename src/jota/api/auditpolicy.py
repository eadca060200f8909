"""The policy of the audit log: which requests are noted at which level.

In: an audit.k8s.io/v1 Policy. Out: for a user and a target the level, the stages left out and whether managedFields are. The
first rule that matches decides. What is asked again and again (agents, controllers, load) is remembered. Next: audit.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jota.api.configfile import BadConfiguration, Fields
from jota.api.filters.attributes import User
from jota.api.path import Target
from jota.kinds.kind import Object
from jota.kinds.shape import parts, text, texts

LEVELS = ("None", "Metadata", "Request", "RequestResponse")
STAGES = ("RequestReceived", "ResponseStarted", "ResponseComplete", "Panic")
EVERYTHING: Object = {"rules": [{"level": "Metadata"}], "omitStages": ["RequestReceived"]}
"""The policy of a server that was given a log and no policy."""
CONDITIONS = ("users", "userGroups", "verbs", "namespaces", "resources", "nonResourceURLs")
_REMEMBERED = 4096


class BadPolicy(ValueError):
    """The policy cannot be used; the text names the place."""


def read_policy(content: str) -> Object:
    """A Policy from YAML or JSON. Raises BadPolicy."""
    import yaml

    try:
        policy = yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise BadPolicy(f"not YAML: {error}") from None
    if not isinstance(policy, dict) or policy.get("kind") != "Policy":
        raise BadPolicy("not a Policy of audit.k8s.io/v1")
    if policy.get("apiVersion") != "audit.k8s.io/v1":
        raise BadPolicy(f"apiVersion {policy.get('apiVersion')!r} is not audit.k8s.io/v1")
    try:
        _check(Fields(policy, ""))
    except BadConfiguration as error:
        raise BadPolicy(str(error)) from None
    return policy


def _check(policy: Fields) -> None:
    """Raises BadConfiguration: a rule whose conditions cannot be read would hold for everything."""
    for name in ("kind", "apiVersion"):
        policy.text(name)
    policy.object("metadata")
    _check_common(policy)
    rules = policy.objects("rules")
    if not rules:
        raise policy.fail("rules", "at least one is needed, or nothing is logged")
    for rule in rules:
        level = rule.text("level", "")
        if level not in LEVELS:
            raise rule.fail("level", f"{level!r} is none of {', '.join(LEVELS)}")
        _check_common(rule)
        for name in ("users", "userGroups", "verbs", "namespaces"):
            rule.texts(name, empty=True)
        resources, urls = rule.objects("resources"), rule.texts("nonResourceURLs")
        if resources and urls:
            raise rule.fail("resources", "resources and nonResourceURLs exclude each other")
        for resource in resources:
            resource.text("group", "")
            named = resource.texts("resourceNames")
            if not resource.texts("resources") and named:
                raise resource.fail("resourceNames", "need resources to be named")
            resource.done()
        rule.done()
    policy.done()


def _check_common(given: Fields) -> None:
    given.flag("omitManagedFields", False)
    for stage in given.texts("omitStages"):
        if stage not in STAGES:
            raise given.fail("omitStages", f"{stage!r} is none of {', '.join(STAGES)}")


@dataclass(frozen=True, slots=True)
class Verdict:
    level: str
    omitted: frozenset[str] = frozenset()
    """Stages that are left out."""
    bare: bool = False
    """Bodies are noted without managedFields."""


NOTHING = Verdict("None")


class Policy:
    """A policy that `read_policy` let pass. It never changes while it is in use."""

    def __init__(self, given: Object) -> None:
        rules, omitted, bare = parts(given, "rules"), texts(given, "omitStages"), given.get("omitManagedFields")
        self._rules = [(_matcher(rule), _verdict(rule, omitted, bare)) for rule in rules]
        self.named = any(texts(resource, "resourceNames") for rule in rules for resource in parts(rule, "resources"))
        """Whether the names of what requests are about may decide."""
        self.receives = any(v.level != "None" and "RequestReceived" not in v.omitted for _, v in self._rules)
        """Whether it may want to know of requests before they are judged."""
        self._always = self._rules[0][1] if rules and _unconditional(rules[0]) else None
        """The verdict about everything, where the first rule asks for nothing."""
        self._known: dict[tuple[object, ...], Verdict] = {}

    def verdict(self, user: User, target: Target) -> Verdict:
        if self._always is not None:
            return self._always
        what = (target.name if self.named else "") if target.resource else target.path
        asked = (user.name, user.groups, target.kin or target.verb, what)
        found = self._known.get(asked)
        if found is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            found = next((verdict for matches, verdict in self._rules if matches(user, target)), NOTHING)
            self._known[asked] = found
        return found


def _verdict(rule: Object, omitted: list[str], bare: object) -> Verdict:
    own = rule.get("omitManagedFields")
    stages = frozenset((*omitted, *texts(rule, "omitStages")))
    return Verdict(text(rule, "level"), stages, (bare if own is None else own) is True)


def _unconditional(rule: Object) -> bool:
    return not any(rule.get(name) for name in CONDITIONS)


def _matcher(rule: Object) -> Callable[[User, Target], bool]:
    users, groups, verbs = (frozenset(texts(rule, name)) for name in ("users", "userGroups", "verbs"))
    namespaces, resources, urls = texts(rule, "namespaces"), parts(rule, "resources"), texts(rule, "nonResourceURLs")

    def matches(user: User, target: Target) -> bool:
        if (users and user.name not in users) or (verbs and target.verb not in verbs):
            return False
        if groups and groups.isdisjoint(user.groups):
            return False
        if not target.resource:
            listed = any(u in ("*", target.path) or (u[-1:] == "*" and target.path.startswith(u[:-1])) for u in urls)
            return listed if urls else not (namespaces or resources)
        if urls or (namespaces and target.namespace not in namespaces):
            return False
        return not resources or any(_covers(resource, target) for resource in resources)

    return matches


def _covers(wanted: Object, target: Target) -> bool:
    names, resources = texts(wanted, "resourceNames"), texts(wanted, "resources")
    if text(wanted, "group") != target.group or (names and target.name not in names):
        return False
    full = f"{target.resource}/{target.subresource}" if target.subresource else target.resource
    fitting = {full, "*", f"*/{target.subresource}", f"{target.resource}/*"}
    return not resources or bool(fitting.intersection(resources))
