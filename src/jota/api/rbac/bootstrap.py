"""The roles and bindings that a cluster is born with: names and meaning are Kubernetes' bootstrap policy.

Written at every start and reconciled: missing rules and subjects are added back, additions of the operator stay, unless the
annotation rbac.authorization.kubernetes.io/autoupdate is "false". `api/bootstrap.py` writes what `objects()` lists.
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

_READ = ("get", "list", "watch")
_WRITE = ("create", "delete", "deletecollection", "patch", "update")
_ALL = ("*",)
_GROUP = "rbac.authorization.k8s.io"
_APPS = ("apps",)
_WORKLOADS = (
    "daemonsets",
    "deployments",
    "deployments/scale",
    "replicasets",
    "replicasets/scale",
    "statefulsets",
    "statefulsets/scale",
)
_BATCH = ("cronjobs", "jobs")
_CORE_EDIT = (
    "configmaps",
    "events",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "replicationcontrollers/scale",
    "secrets",
    "serviceaccounts",
    "services",
)
_CORE_VIEW = (
    "bindings",
    "configmaps",
    "endpoints",
    "events",
    "limitranges",
    "namespaces",
    "namespaces/status",
    "persistentvolumeclaims",
    "persistentvolumeclaims/status",
    "pods",
    "pods/log",
    "pods/status",
    "replicationcontrollers",
    "replicationcontrollers/scale",
    "replicationcontrollers/status",
    "resourcequotas",
    "resourcequotas/status",
    "serviceaccounts",
    "services",
    "services/status",
)
_NETWORKING = ("ingresses", "networkpolicies")


def _rule(verbs: tuple[str, ...], groups: tuple[str, ...], *resources: str, names: tuple[str, ...] = ()) -> Object:
    rule: Object = {"verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources)}
    if names:
        rule["resourceNames"] = list(names)
    return rule


def _urls(*paths: str) -> Object:
    return {"verbs": ["get"], "nonResourceURLs": list(paths)}


def _view() -> list[Object]:
    return [
        _rule(_READ, ("",), *_CORE_VIEW),
        _rule(_READ, ("discovery.k8s.io",), "endpointslices"),
        _rule(_READ, _APPS, *_WORKLOADS, *(w + "/status" for w in _WORKLOADS if "/" not in w), "controllerrevisions"),
        _rule(_READ, ("autoscaling",), "horizontalpodautoscalers", "horizontalpodautoscalers/status"),
        _rule(_READ, ("batch",), *_BATCH, *(b + "/status" for b in _BATCH)),
        _rule(_READ, ("policy",), "poddisruptionbudgets", "poddisruptionbudgets/status"),
        _rule(_READ, ("networking.k8s.io",), *_NETWORKING, "ingresses/status"),
        _rule(_READ, ("metrics.k8s.io",), "pods", "nodes"),
    ]


def _edit() -> list[Object]:
    streams = ("pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "services/proxy", "secrets")
    return [
        _rule(("get", "list", "watch"), ("",), *streams),
        _rule(("impersonate",), ("",), "serviceaccounts"),
        _rule(_WRITE, ("",), "pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy"),
        _rule(("create",), ("",), "pods/eviction", "serviceaccounts/token"),
        _rule(_WRITE, ("",), *_CORE_EDIT, "services/proxy"),
        _rule(_WRITE, _APPS, *_WORKLOADS, "deployments/rollback"),
        _rule(_WRITE, ("autoscaling",), "horizontalpodautoscalers"),
        _rule(_WRITE, ("batch",), *_BATCH),
        _rule(_WRITE, ("policy",), "poddisruptionbudgets"),
        _rule(_WRITE, ("networking.k8s.io",), *_NETWORKING),
        _rule((*_READ, *_WRITE), ("coordination.k8s.io",), "leases"),
    ]


def _admin() -> list[Object]:
    return [
        _rule((*_READ, *_WRITE), (_GROUP,), "rolebindings", "roles"),
        _rule(("create",), ("authorization.k8s.io",), "localsubjectaccessreviews"),
    ]


def node_rules() -> list[Object]:
    """What every node agent may do, whatever runs on it; what it may read beyond that, filters/node.py decides by its pods.

    The ClusterRole system:node says the same for the record; nobody is bound to it, as upstream.
    """
    return [
        _rule(("create",), ("authentication.k8s.io",), "tokenreviews"),
        _rule(("create",), ("authorization.k8s.io",), "localsubjectaccessreviews", "subjectaccessreviews"),
        _rule(_READ, ("",), "services"),
        _rule(("create",), ("",), "nodes"),
        _rule(("patch", "update"), ("",), "nodes", "nodes/status"),
        _rule(("create", "patch", "update"), ("", "events.k8s.io"), "events"),
        _rule(_READ, ("storage.k8s.io",), "csidrivers"),
        _rule(("create", *_READ), (_CSR,), _REQUESTS),
        _rule(_READ, ("node.k8s.io",), "runtimeclasses"),
        _rule(_READ, (_CSR,), "clustertrustbundles"),
        _rule(("create", *_READ), (_CSR,), "podcertificaterequests"),
    ]


def _scheduler() -> list[Object]:
    everything = (
        "nodes",
        "pods",
        "namespaces",
        "services",
        "replicationcontrollers",
        "persistentvolumeclaims",
        "persistentvolumes",
    )
    return [
        _rule(("create", "patch", "update"), ("", "events.k8s.io"), "events"),
        _rule(("create", "get", "update", "list", "watch"), ("coordination.k8s.io",), "leases"),
        _rule(_READ, ("",), *everything),
        _rule(("delete",), ("",), "pods"),
        _rule(("create",), ("",), "bindings", "pods/binding"),
        _rule(("patch", "update"), ("",), "pods/status"),
        _rule(_READ, _APPS, "replicasets", "statefulsets"),
        _rule(_READ, ("policy",), "poddisruptionbudgets"),
        _rule(
            _READ,
            ("storage.k8s.io",),
            "csinodes",
            "csidrivers",
            "csistoragecapacities",
            "storageclasses",
            "volumeattachments",
        ),
        _rule(_READ, ("resource.k8s.io",), "deviceclasses", "devicetaintrules", "resourceclaims", "resourceslices"),
        _rule(("patch", "update"), ("resource.k8s.io",), "resourceclaims", "resourceclaims/status"),
        _rule(_READ, ("scheduling.k8s.io", "scheduling.x-k8s.io"), "podgroups"),
        _rule(("patch", "update"), ("scheduling.k8s.io",), "podgroups/status"),
        _rule(("create",), ("authentication.k8s.io",), "tokenreviews"),
        _rule(("create",), ("authorization.k8s.io",), "subjectaccessreviews"),
    ]


def _controller_manager() -> list[Object]:
    return [
        _rule(("create", "patch", "update"), ("", "events.k8s.io"), "events"),
        _rule(("create", "get", "update", "list", "watch"), ("coordination.k8s.io",), "leases"),
        _rule(("create", "get", "update", "delete"), ("",), "secrets", "serviceaccounts"),
        _rule(("get", "update"), ("",), "namespaces", "endpoints", "configmaps"),
        _rule(("create",), ("authentication.k8s.io",), "tokenreviews"),
        _rule(("create",), ("authorization.k8s.io",), "subjectaccessreviews"),
        _rule(("create",), ("",), "serviceaccounts/token"),
        _rule(("list", "watch"), _ALL, "*"),
    ]


_ISSUER = (
    "/.well-known/openid-configuration",
    "/.well-known/openid-configuration/",
    "/openid/v1/jwks",
    "/openid/v1/jwks/",
)
_HEALTH = ("/healthz", "/livez", "/readyz", "/version", "/version/")
_DISCOVERY = (
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/livez",
    "/openapi",
    "/openapi/*",
    "/readyz",
    "/version",
    "/version/",
)
_CSR = "certificates.k8s.io"
_CERTIFICATES = "system:certificates.k8s.io:"
_REQUESTS = "certificatesigningrequests"
_NODE_KINDS = ("nodeclient", "selfnodeclient")
_SIGNERS = ("kube-apiserver-client", "kube-apiserver-client-kubelet", "kubelet-serving", "legacy-unknown")
_AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"


def _approve(signer: str) -> Object:
    return _rule(("approve",), (_CSR,), "signers", names=(f"kubernetes.io/{signer}",))


def _cluster_roles() -> dict[str, list[Object]]:
    return {
        "cluster-admin": [_rule(_ALL, _ALL, "*"), {"verbs": ["*"], "nonResourceURLs": ["*"]}],
        "system:discovery": [_urls(*_DISCOVERY)],
        "system:basic-user": [
            _rule(("create",), ("authorization.k8s.io",), "selfsubjectaccessreviews", "selfsubjectrulesreviews"),
            _rule(("create",), ("authentication.k8s.io",), "selfsubjectreviews"),
        ],
        "system:public-info-viewer": [_urls(*_HEALTH)],
        "system:monitoring": [
            _urls("/metrics", "/metrics/slis", "/livez", "/readyz", "/healthz", "/livez/*", "/readyz/*", "/healthz/*")
        ],
        "system:aggregate-to-admin": _admin(),
        "system:aggregate-to-edit": _edit(),
        "system:aggregate-to-view": _view(),
        "system:auth-delegator": [
            _rule(("create",), ("authentication.k8s.io",), "tokenreviews"),
            _rule(("create",), ("authorization.k8s.io",), "subjectaccessreviews"),
        ],
        "system:kubelet-api-admin": [
            _rule(_READ, ("",), "nodes"),
            _rule(("proxy",), ("",), "nodes"),
            _rule(
                _ALL,
                ("",),
                "nodes/log",
                "nodes/metrics",
                "nodes/proxy",
                "nodes/stats",
                "nodes/configz",
                "nodes/healthz",
                "nodes/pods",
            ),
        ],
        "system:node": node_rules(),
        "system:node-bootstrapper": [_rule(("create", "get", "list", "watch"), (_CSR,), "certificatesigningrequests")],
        "system:node-proxier": [
            _rule(_READ, ("",), "endpoints", "services", "nodes"),
            _rule(("create", "patch", "update"), ("", "events.k8s.io"), "events"),
            _rule(_READ, ("discovery.k8s.io",), "endpointslices"),
            _rule(("list", "watch"), ("networking.k8s.io",), "servicecidrs"),
        ],
        # the node agent is its node's service proxy, router and DNS server too
        "jota:node-network": [
            _rule(_READ, ("",), "endpoints", "namespaces", "nodes", "services"),
            _rule(_READ, ("discovery.k8s.io",), "endpointslices"),
            _rule(_READ, ("networking.k8s.io",), "servicecidrs"),
        ],
        "system:kube-scheduler": _scheduler(),
        "system:kube-controller-manager": _controller_manager(),
        "system:kube-dns": [_rule(("list", "watch"), ("",), "endpoints", "services")],
        "system:persistent-volume-provisioner": [
            _rule(("create", "delete", *_READ), ("",), "persistentvolumes"),
            _rule((*_READ, "update"), ("",), "persistentvolumeclaims"),
            _rule(_READ, ("storage.k8s.io",), "storageclasses"),
            _rule(("watch",), ("",), "events"),
            _rule(("create", "patch", "update"), ("", "events.k8s.io"), "events"),
        ],
        "system:volume-scheduler": [
            _rule((*_READ, "patch", "update"), ("",), "persistentvolumes"),
            _rule(_READ, ("storage.k8s.io",), "storageclasses"),
            _rule((*_READ, "patch", "update"), ("",), "persistentvolumeclaims"),
        ],
        "system:service-account-issuer-discovery": [_urls(*_ISSUER)],
        "system:cluster-trust-bundle-discovery": [_rule(_READ, (_CSR,), "clustertrustbundles")],
        **{
            f"{_CERTIFICATES}certificatesigningrequests:{kind}": [_rule(("create",), (_CSR,), f"{_REQUESTS}/{kind}")]
            for kind in _NODE_KINDS
        },
        **{f"{_CERTIFICATES}{s}-approver": [_approve(s)] for s in _SIGNERS},
    }


_AGGREGATED = {
    "admin": ("admin", ("system:aggregate-to-admin", "system:aggregate-to-edit", "system:aggregate-to-view")),
    "edit": ("edit", ("system:aggregate-to-edit", "system:aggregate-to-view")),
    "view": ("view", ("system:aggregate-to-view",)),
}

_CLUSTER_BINDINGS = {
    "cluster-admin": ("cluster-admin", ("G:system:masters",)),
    "system:basic-user": ("system:basic-user", ("G:system:authenticated",)),
    "system:discovery": ("system:discovery", ("G:system:authenticated",)),
    "system:public-info-viewer": ("system:public-info-viewer", ("G:system:authenticated", "G:system:unauthenticated")),
    "system:monitoring": ("system:monitoring", ("G:system:monitoring",)),
    "system:service-account-issuer-discovery": (
        "system:service-account-issuer-discovery",
        ("G:system:serviceaccounts",),
    ),
    "system:cluster-trust-bundle-discovery": (
        "system:cluster-trust-bundle-discovery",
        ("G:system:serviceaccounts",),
    ),
    "system:node": ("system:node", ()),
    "system:node-proxier": ("system:node-proxier", ("U:system:kube-proxy",)),
    "jota:node-network": ("jota:node-network", ("G:system:nodes",)),
    "system:kube-scheduler": ("system:kube-scheduler", ("U:system:kube-scheduler",)),
    "system:kube-controller-manager": ("system:kube-controller-manager", ("U:system:kube-controller-manager",)),
    "system:volume-scheduler": ("system:volume-scheduler", ("U:system:kube-scheduler",)),
    "jota:node-bootstrapper": ("system:node-bootstrapper", ("G:system:bootstrappers",)),
    "jota:node-autoapprove-bootstrap": (
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        ("G:system:bootstrappers",),
    ),
    "jota:node-autoapprove-renewal": (
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        ("G:system:nodes",),
    ),
}

_ROLES: dict[tuple[str, str], tuple[list[Object], tuple[str, ...]]] = {
    ("kube-system", "extension-apiserver-authentication-reader"): (
        [_rule(_READ, ("",), "configmaps", names=("extension-apiserver-authentication",))],
        (),
    ),
    ("kube-public", "jota:cluster-info"): (
        [_rule(("get",), ("",), "configmaps", names=("cluster-info",))],
        ("G:system:unauthenticated", "G:system:authenticated"),
    ),
}


def objects() -> list[tuple[str, Object]]:
    """(plural, object) of every built-in role and binding; roles before their bindings."""
    found: list[tuple[str, Object]] = []
    for name, rules in _cluster_roles().items():
        labels = {}
        if name.startswith("system:aggregate-to-"):
            labels[_AGGREGATE + name.rpartition("-")[2]] = "true"
        found.append(("clusterroles", {**_object("ClusterRole", name, labels), "rules": rules}))
    cluster = _cluster_roles()
    for name, (label, parts) in _AGGREGATED.items():
        role = _object("ClusterRole", name, {})
        upward = {"edit": "admin", "view": "edit"}.get(name)
        if upward:
            role["metadata"]["labels"][_AGGREGATE + upward] = "true"
        role["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": {_AGGREGATE + label: "true"}}]}
        role["rules"] = [rule for part in parts for rule in cluster[part]]
        found.append(("clusterroles", role))
    for name, (ref, subjects) in _CLUSTER_BINDINGS.items():
        found.append(("clusterrolebindings", _binding("ClusterRoleBinding", name, "", "ClusterRole", ref, subjects)))
    for (namespace, name), (rules, subjects) in _ROLES.items():
        found.append(("roles", {**_object("Role", name, {}, namespace), "rules": rules}))
        if subjects:
            found.append(("rolebindings", _binding("RoleBinding", name, namespace, "Role", name, subjects)))
    return found


def _object(kind: str, name: str, labels: dict[str, str], namespace: str = "") -> Object:
    metadata: Object = {
        "name": name,
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults", **labels},
    }
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": f"{_GROUP}/v1", "kind": kind, "metadata": metadata}


def _binding(kind: str, name: str, namespace: str, role_kind: str, role: str, subjects: tuple[str, ...]) -> Object:
    listed = [{"kind": "Group" if s[0] == "G" else "User", "apiGroup": _GROUP, "name": s[2:]} for s in subjects]
    ref = {"apiGroup": _GROUP, "kind": role_kind, "name": role}
    binding = {**_object(kind, name, {}, namespace), "roleRef": ref}
    return {**binding, "subjects": listed} if listed else binding
