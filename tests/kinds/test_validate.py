"""What is wrong with objects other than pods: the path and the sentence, as upstream says it."""

from __future__ import annotations

from typing import Any

import pytest
from kinds_build import changed, container, kind, service, shown, workload

JOB_TEMPLATE = {"spec": {"restartPolicy": "Always", "containers": [container()]}}
ROLE_RULE = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}


def new(plural: str, obj: dict[str, Any]) -> list[str]:
    """Errors of a new object, defaults filled in."""
    of = kind(plural)
    obj = {"metadata": {"name": "x", "namespace": "default", "uid": "u"}, **obj}
    of.default(obj)
    of.prepare_create(obj)
    found = of.validate(obj) + of.validate_create(obj)
    return shown(found + (of.judge(obj, None, found) if of.judge is not None else []))


NEW: list[tuple[str, dict[str, Any], str]] = [
    ("volumeattributesclasses", {"parameters": {"a": "b"}}, "driverName: Required value"),
    (
        "volumeattributesclasses",
        {"driverName": "a.b"},
        "parameters: Required value: must contain at least one key/value pair",
    ),
    (
        "volumeattributesclasses",
        {"driverName": "a.b", "parameters": {"": "x"}},
        'parameters: Invalid value: "": field can not be empty.',
    ),
    (
        "volumeattributesclasses",
        {"driverName": "a.b", "parameters": {"x": "y" * (256 << 10)}},
        "parameters: Too long: may not be more than 262144 bytes",
    ),
    ("devicetaintrules", {"spec": {"taint": {"key": "a"}}}, "spec.taint.effect: Required value"),
    (
        "devicetaintrules",
        {"spec": {"taint": {"key": "a", "effect": "PreferNoSchedule"}}},
        'spec.taint.effect: Unsupported value: "PreferNoSchedule": supported values: "NoExecute", "NoSchedule", "None"',
    ),
    (
        "devicetaintrules",
        {"spec": {"taint": {"key": "a", "effect": "None"}, "deviceSelector": {"pool": ""}}},
        "spec.deviceSelector.pool: Required value",
    ),
    (
        "storageclasses",
        {"provisioner": "a", "allowedTopologies": [{"matchLabelExpressions": [{"key": "a"}]}]},
        "allowedTopologies[0].matchLabelExpressions[0].values: Required value",
    ),
    (
        "storageclasses",
        {"provisioner": "a", "allowedTopologies": [{"matchLabelExpressions": [{"values": ["x"]}]}]},
        'allowedTopologies[0].matchLabelExpressions[0].key: Invalid value: "": name part must be non-empty',
    ),
    (
        "storageclasses",
        {
            "provisioner": "a",
            "allowedTopologies": [{"matchLabelExpressions": [{"key": "a", "values": ["x", "x"]}] * 2}],
        },
        'allowedTopologies[0].matchLabelExpressions[1].key: Duplicate value: "a"',
    ),
    ("deviceclasses", {"spec": {"config": [{}]}}, "spec.config[0].opaque: Required value"),
    (
        "deviceclasses",
        {"spec": {"config": [{"opaque": {"parameters": {}}}]}},
        "spec.config[0].opaque.driver: Required value",
    ),
    (
        "resourceclaims",
        {"spec": {"devices": {"config": [{"opaque": {"driver": "a.b"}}]}}},
        "spec.devices.config[0].opaque.parameters: Required value",
    ),
    (
        "resourceclaimtemplates",
        {"spec": {"spec": {"devices": {"config": [{"opaque": {"driver": "a.b", "parameters": 1}}]}}}},
        'spec.spec.devices.config[0].opaque.parameters: Invalid value: "<value omitted>": '
        "parameters must be a valid JSON object",
    ),
    (
        "deviceclasses",
        {"spec": {"config": [{"opaque": {"driver": "a" * 64, "parameters": {}}}]}},
        "spec.config[0].opaque.driver: Too long: may not be more than 63 bytes",
    ),
    (
        "storageversionmigrations",
        {"spec": {}},
        "spec.resource.resource: Required value: resource is required to be set",
    ),
    ("services", service(ports=[]), "spec.ports: Required value"),
    (
        "services",
        service(trafficDistribution="PreferFar"),
        'spec.trafficDistribution: Unsupported value: "PreferFar": supported values: "PreferClose", "PreferSameNode", '
        '"PreferSameZone"',
    ),
    ("services", service(ports=[{"port": 1, "name": "a"}, {"port": 2}]), "spec.ports[1].name: Required value"),
    (
        "services",
        service(ports=[{"port": 0}]),
        "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
    ),
    (
        "services",
        service(type="Magic"),
        'spec.type: Unsupported value: "Magic": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"',
    ),
    (
        "services",
        service(ports=[{"port": 1, "nodePort": 30000}]),
        "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
    ),
    (
        "services",
        service(clusterIP="None", type="NodePort"),
        "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
    ),
    (
        "services",
        service(clusterIPs=["10.0.0.1"], clusterIP="10.0.0.2"),
        'spec.clusterIPs: Invalid value: ["10.0.0.1"]: first value must match `clusterIP`',
    ),
    ("services", service(type="ExternalName", ports=[]), "spec.externalName: Required value"),
    (
        "services",
        service(loadBalancerClass="a/b"),
        "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
    ),
    (
        "services",
        service(externalIPs=["127.0.0.1"]),
        'spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)',
    ),
    ("deployments", {"spec": {"template": {"spec": {"containers": [container()]}}}}, "spec.selector: Required value"),
    (
        "deployments",
        workload(selector={}),
        "spec.selector: Invalid value: {}: empty selector is invalid for deployment",
    ),
    (
        "deployments",
        workload(selector={"matchLabels": {"app": "other"}}),
        'spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`',
    ),
    ("deployments", workload(replicas=-1), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
    (
        "deployments",
        workload(strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}),
        "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
    ),
    (
        "deployments",
        workload(strategy={"type": "Recreate", "rollingUpdate": {}}),
        "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
    ),
    (
        "deployments",
        changed(workload(), "spec.template.spec.restartPolicy", "Never"),
        'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"',
    ),
    (
        "daemonsets",
        workload("daemonsets", updateStrategy={"rollingUpdate": {"maxUnavailable": 0}}),
        "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
    ),
    (
        "statefulsets",
        workload("statefulsets", podManagementPolicy="Chaos"),
        "spec.podManagementPolicy: Invalid value: \"Chaos\": must be 'OrderedReady' or 'Parallel'",
    ),
    (
        "jobs",
        {"spec": {"template": JOB_TEMPLATE}},
        'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"',
    ),
    (
        "jobs",
        {"spec": {"completionMode": "Indexed", "parallelism": 1, "template": JOB_TEMPLATE}},
        "spec.completions: Required value: when completion mode is Indexed",
    ),
    (
        "cronjobs",
        {"spec": {"schedule": "* * *", "jobTemplate": {}}},
        'spec.schedule: Invalid value: "* * *": expected exactly 5 fields, found 3: [* * *]',
    ),
    (
        "cronjobs",
        {"spec": {"schedule": "99 * * * *"}},
        'spec.schedule: Invalid value: "99 * * * *": end of range (99) above maximum (59): 99',
    ),
    (
        "cronjobs",
        {"spec": {"schedule": "@daily", "timeZone": "Mars/Base"}},
        'spec.timeZone: Invalid value: "Mars/Base": unknown time zone Mars/Base',
    ),
    ("configmaps", {"data": {"..x": "1"}}, "data[..x]: Invalid value: \"..x\": must not start with '..'"),
    (
        "configmaps",
        {"data": {"a": "1"}, "binaryData": {"a": "MQ=="}},
        'data[a]: Invalid value: "a": duplicate of key present in binaryData',
    ),
    ("configmaps", {"data": {"a": "x" * 1048577}}, ": Too long: may not be more than 1048576 bytes"),
    ("secrets", {"type": "kubernetes.io/tls", "stringData": {"tls.crt": "x"}}, "data[tls.key]: Required value"),
    (
        "secrets",
        {"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "{"}},
        'data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": invalid character in JSON',
    ),
    (
        "secrets",
        {"type": "kubernetes.io/service-account-token"},
        "metadata.annotations[kubernetes.io/service-account.name]: Required value",
    ),
    (
        "nodes",
        {"spec": {"taints": [{"key": "a", "effect": "Never"}]}},
        'spec.taints[0].effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"',
    ),
    (
        "events",
        {"involvedObject": {"namespace": "other"}},
        'involvedObject.namespace: Invalid value: "other": does not match event.namespace',
    ),
    (
        "limitranges",
        {"spec": {"limits": [{"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}}]}},
        'spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1',
    ),
    (
        "resourcequotas",
        {"spec": {"scopes": ["BestEffort", "NotBestEffort"]}},
        'spec.scopes: Invalid value: ["BestEffort","NotBestEffort"]: conflicting scopes',
    ),
    ("persistentvolumeclaims", {"spec": {"accessModes": ["ReadWriteOnce"]}}, "spec.resources[storage]: Required value"),
    ("persistentvolumeclaims", {"spec": {}}, "spec.accessModes: Required value: at least 1 access mode is required"),
    (
        "persistentvolumes",
        {"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}},
        "spec: Required value: must specify a volume type",
    ),
    (
        "roles",
        {"rules": [{"verbs": ["get"], "nonResourceURLs": ["/"]}]},
        'rules[0].nonResourceURLs: Invalid value: ["/"]: namespaced rules cannot apply to non-resource URLs',
    ),
    (
        "roles",
        {"rules": [{**ROLE_RULE, "verbs": []}]},
        "rules[0].verbs: Required value: verbs must contain at least one value",
    ),
    (
        "clusterroles",
        {"rules": [{"verbs": ["get"], "resources": ["pods"]}]},
        "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
    ),
    (
        "clusterrolebindings",
        {"roleRef": {"kind": "Role", "name": "r"}},
        'roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"',
    ),
    (
        "clusterrolebindings",
        {"roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "ServiceAccount", "name": "s"}]},
        "subjects[0].namespace: Required value",
    ),
    (
        "poddisruptionbudgets",
        {"spec": {"minAvailable": "101%"}},
        'spec.minAvailable: Invalid value: "101%": must not be greater than 100%',
    ),
    (
        "horizontalpodautoscalers",
        {"spec": {"maxReplicas": 1, "minReplicas": 2}},
        "spec.maxReplicas: Invalid value: 1: must be greater than or equal to `minReplicas`",
    ),
    (
        "ingresses",
        {"spec": {"rules": [{"http": {"paths": [{"path": "x", "pathType": "Prefix"}]}}]}},
        'spec.rules[0].http.paths[0].path: Invalid value: "x": must be an absolute path',
    ),
    (
        "ingresses",
        {
            "metadata": {"name": "i", "annotations": {"kubernetes.io/ingress.class": "a"}},
            "spec": {"ingressClassName": "a"},
        },
        "metadata.annotations[kubernetes.io/ingress.class]: Forbidden: can not be set when the class field is also set",
    ),
    (
        "networkpolicies",
        {"spec": {"ingress": [{"from": [{}]}]}},
        "spec.ingress[0].from[0]: Required value: must specify a peer",
    ),
    (
        "networkpolicies",
        {"spec": {"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}]}]}},
        'spec.egress[0].to[0].ipBlock.except[0]: Invalid value: "11.0.0.0/16": must be a strict subset of `cidr`',
    ),
    (
        "priorityclasses",
        {"value": 2000000000},
        "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
    ),
    ("storageclasses", {}, "provisioner: Required value"),
    (
        "leases",
        {"spec": {"leaseDurationSeconds": 0}},
        "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
    ),
    (
        "endpointslices",
        {"addressType": "IPv4", "endpoints": [{"addresses": ["fd00::1"]}]},
        'endpoints[0].addresses[0]: Invalid value: "fd00::1": must be an IPv4 address',
    ),
    (
        "certificatesigningrequests",
        {"spec": {"request": "eA==", "signerName": "a.b/c", "usages": ["any"]}},
        'spec.request: Invalid value: "eA==": PEM block type must be CERTIFICATE REQUEST',
    ),
    (
        "ipaddresses",
        {"metadata": {"name": "010.0.0.1"}},
        'metadata.name: Invalid value: "010.0.0.1": must be a valid address in canonical form',
    ),
]


@pytest.mark.parametrize(("plural", "obj", "problem"), NEW, ids=[f"{n[0]} {n[2][:60]}" for n in NEW])
def test_new(plural: str, obj: dict[str, Any], problem: str) -> None:
    assert problem in new(plural, obj)


CLAIM: dict[str, Any] = {
    "status": {"phase": "Bound"},
    "spec": {"accessModes": ["ReadWriteOnce"], "volumeName": "v", "resources": {"requests": {"storage": "2Gi"}}},
}
UPDATES: list[tuple[str, dict[str, Any], str, Any, str]] = [
    (
        "deployments",
        workload(),
        "spec.selector.matchLabels.app",
        "x",
        'spec.selector: Invalid value: {"matchLabels":{"app":"x"}}: field is immutable',
    ),
    (
        "statefulsets",
        workload("statefulsets", serviceName="a"),
        "spec.serviceName",
        "b",
        "spec: Forbidden: updates to statefulset spec for fields other than",
    ),
    (
        "services",
        service(clusterIP="10.0.0.1"),
        "spec.clusterIPs",
        ["10.0.0.2"],
        'spec.clusterIPs[0]: Invalid value: ["10.0.0.2"]: may not change once set',
    ),
    (
        "configmaps",
        {"immutable": True, "data": {"a": "1"}},
        "data.a",
        "2",
        "data: Forbidden: field is immutable when `immutable` is set",
    ),
    ("secrets", {"type": "Opaque"}, "type", "x/y", 'type: Invalid value: "x/y": field is immutable'),
    (
        "rolebindings",
        {"roleRef": {"name": "a"}},
        "roleRef.name",
        "b",
        'roleRef: Invalid value: {"name":"b"}: cannot change roleRef',
    ),
    (
        "jobs",
        {"spec": {"completions": 1}},
        "spec.completions",
        2,
        "spec.completions: Invalid value: 2: field is immutable",
    ),
    (
        "persistentvolumeclaims",
        CLAIM,
        "spec.volumeName",
        "w",
        "spec: Forbidden: spec is immutable after creation except",
    ),
    (
        "persistentvolumeclaims",
        CLAIM,
        "spec.resources.requests.storage",
        "1Gi",
        "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity",
    ),
    ("priorityclasses", {"value": 1}, "value", 2, "value: Forbidden: may not be changed in an update."),
    (
        "ingressclasses",
        {"spec": {"controller": "a/b"}},
        "spec.controller",
        "c/d",
        'spec.controller: Invalid value: "c/d": field is immutable',
    ),
    (
        "storageclasses",
        {"provisioner": "a"},
        "provisioner",
        "b",
        "provisioner: Forbidden: updates to provisioner are forbidden.",
    ),
]


@pytest.mark.parametrize(
    ("plural", "old", "path", "value", "problem"), UPDATES, ids=[f"{u[0]} {u[2]}" for u in UPDATES]
)
def test_immutable(plural: str, old: dict[str, Any], path: str, value: Any, problem: str) -> None:
    assert kind(plural).validate_update(old, old) == []
    (error,) = shown(kind(plural).validate_update(changed(old, path, value), old))
    assert error.startswith(problem)


def test_an_unbound_claim_may_not_grow() -> None:
    pending = {**CLAIM, "status": {"phase": "Pending"}}
    grown = changed(pending, "spec.resources.requests.storage", "3Gi")
    assert [e.field for e in kind("persistentvolumeclaims").validate_update(grown, pending)] == ["spec"]


def test_a_bound_claim_may_grow() -> None:
    assert (
        kind("persistentvolumeclaims").validate_update(changed(CLAIM, "spec.resources.requests.storage", "3Gi"), CLAIM)
        == []
    )


@pytest.mark.parametrize(
    "schedule", ["* * * * *", "*/5 0-6,12 1 jan-mar MON-FRI", "@hourly", "@every 1h30m", "0 0 ? * 7"]
)
def test_good_schedules(schedule: str) -> None:
    job = {"template": {"spec": {"restartPolicy": "Never", "containers": [container()]}}}
    assert new("cronjobs", {"spec": {"schedule": schedule, "jobTemplate": {"spec": job}}}) == []


def test_a_job_gets_a_selector_of_its_own() -> None:
    job: dict[str, Any] = {
        "metadata": {"name": "j", "uid": "u-1"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container()]}}},
    }
    jobs = kind("jobs")
    jobs.default(job)
    jobs.prepare_create(job)
    assert job["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": "u-1"}}
    assert job["spec"]["template"]["metadata"]["labels"] == {
        "job-name": "j",
        "batch.kubernetes.io/job-name": "j",
        "controller-uid": "u-1",
        "batch.kubernetes.io/controller-uid": "u-1",
    }
    assert shown(jobs.validate(job)) == []


@pytest.mark.parametrize("plural", ["flowschemas", "prioritylevelconfigurations"])
def test_conditions_of_flow_control_have_a_type_of_their_own(plural: str) -> None:
    conditions = [{"status": "True"}, {"type": "Dangling"}, {"type": "Dangling"}]
    errors = kind(plural).validate_status({"status": {"conditions": conditions}}, {})
    assert shown(errors) == [
        "status.conditions[0].type: Required value: must not be empty",
        'status.conditions[2].type: Duplicate value: "Dangling"',
    ]
