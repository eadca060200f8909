"""The FlowSchemas and PriorityLevelConfigurations that every cluster has: upstream's mandatory and suggested ones.

Plain data for `keeper.py`. Mandatory objects keep their spec whatever happens; suggested ones may be taken over by an
operator (annotation apf.kubernetes.io/autoupdate-spec: "false").
"""

from __future__ import annotations

from collections.abc import Iterator

from jota.kinds.kind import Object
from jota.meta.resource import Resource

FLOW_SCHEMAS = Resource("flowcontrol.apiserver.k8s.io", "v1", "flowschemas", "FlowSchema", False)
PRIORITY_LEVELS = Resource(
    "flowcontrol.apiserver.k8s.io", "v1", "prioritylevelconfigurations", "PriorityLevelConfiguration", False
)
MANDATORY = ("exempt", "catch-all")
"""Names, of the levels and of the schemas alike."""
_EVERY_VERB = ["*"]
_LEADER_VERBS = ["get", "create", "update"]
_AUTHENTICATED, _UNAUTHENTICATED = "system:authenticated", "system:unauthenticated"


def priority_levels() -> Iterator[Object]:
    """The mandatory first."""
    yield _named("exempt", {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}})
    yield _level("catch-all", 5, 0)
    yield _level("system", 30, 33, queues=64, hand=6)
    yield _level("node-high", 40, 25, queues=64, hand=6)
    yield _level("leader-election", 10, 0, queues=16, hand=4)
    yield _level("workload-high", 40, 50, queues=128, hand=6)
    yield _level("workload-low", 100, 90, queues=128, hand=6)
    yield _level("global-default", 20, 50, queues=128, hand=6)


def flow_schemas() -> Iterator[Object]:
    """The mandatory first."""
    everybody = [_group(_UNAUTHENTICATED), _group(_AUTHENTICATED)]
    nodes, system_accounts = [_group("system:nodes")], [_account("*")]
    manager, scheduler = _user("system:kube-controller-manager"), _user("system:kube-scheduler")
    leases = _rule(_LEADER_VERBS, "coordination.k8s.io", ["leases"], cluster=False)
    yield _schema("exempt", "exempt", 1, "", [_group("system:masters")])
    yield _schema("catch-all", "catch-all", 10000, "ByUser", everybody)
    yield _schema("system-nodes", "system", 500, "ByUser", nodes)
    node_rules = [
        _rule(_EVERY_VERB, "", ["nodes", "nodes/status"]),
        _rule(_EVERY_VERB, "coordination.k8s.io", ["leases"], cluster=False),
    ]
    yield _schema("system-node-high", "node-high", 400, "ByUser", nodes, node_rules, [])
    probes = [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]
    yield _schema("probes", "exempt", 2, "", everybody, [], probes)
    leaders = [manager, scheduler, *system_accounts]
    yield _schema("system-leader-election", "leader-election", 100, "ByUser", leaders, [leases], [])
    others = _rule(_LEADER_VERBS, "", ["endpoints", "configmaps"], cluster=False)
    yield _schema("workload-leader-election", "leader-election", 200, "ByUser", system_accounts, [others, leases], [])
    endpoints = [_rule(_LEADER_VERBS, "", ["endpoints"], cluster=False)]
    writers = [manager, _account("endpoint-controller"), _account("endpointslicemirroring-controller")]
    yield _schema("endpoint-controller", "workload-high", 150, "ByUser", writers, endpoints, [])
    yield _schema("kube-controller-manager", "workload-high", 800, "ByNamespace", [manager])
    yield _schema("kube-scheduler", "workload-high", 800, "ByNamespace", [scheduler])
    yield _schema("kube-system-service-accounts", "workload-high", 900, "ByNamespace", system_accounts)
    yield _schema("service-accounts", "workload-low", 9000, "ByUser", [_group("system:serviceaccounts")])
    yield _schema("global-default", "global-default", 9900, "ByUser", everybody)


def _level(name: str, shares: int, lendable: int, *, queues: int = 0, hand: int = 0) -> Object:
    response: Object = {"type": "Reject"}
    if queues:
        response = {"type": "Queue", "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 50}}
    limited = {"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response}
    return _named(name, {"type": "Limited", "limited": limited})


def _schema(
    name: str,
    level: str,
    precedence: int,
    distinguisher: str,
    subjects: list[Object],
    resources: list[Object] | None = None,
    paths: list[Object] | None = None,
) -> Object:
    """Without rules of its own it is about everything that its subjects ask for."""
    rule: Object = {"subjects": subjects}
    rule["resourceRules"] = [_rule(_EVERY_VERB, "*", ["*"])] if resources is None else resources
    rule["nonResourceRules"] = [{"verbs": ["*"], "nonResourceURLs": ["*"]}] if paths is None else paths
    spec: Object = {
        "matchingPrecedence": precedence,
        "priorityLevelConfiguration": {"name": level},
        "rules": [{k: v for k, v in rule.items() if v}],
    }
    if distinguisher:
        spec["distinguisherMethod"] = {"type": distinguisher}
    return _named(name, spec)


def _named(name: str, spec: Object) -> Object:
    return {"metadata": {"name": name, "annotations": {AUTOUPDATE: "true"}}, "spec": spec}


AUTOUPDATE = "apf.kubernetes.io/autoupdate-spec"


def _rule(verbs: list[str], group: str, resources: list[str], *, cluster: bool = True) -> Object:
    rule: Object = {"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"]}
    return rule | {"clusterScope": True} if cluster else rule


def _group(name: str) -> Object:
    return {"kind": "Group", "group": {"name": name}}


def _user(name: str) -> Object:
    return {"kind": "User", "user": {"name": name}}


def _account(name: str) -> Object:
    return {"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": name}}
