"""What is wrong with a pod: the path and the sentence, as upstream says it."""

from __future__ import annotations

from typing import Any

import pytest
from kinds_build import container, kind, pod, shown

POD = kind("pods")
C = "spec.containers[0]"
LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an "
    "alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)


def probe(**fields: Any) -> dict[str, Any]:
    return {"tcpSocket": {"port": 80}, **fields}


def of_container(**fields: Any) -> dict[str, Any]:
    return {"containers": [container(**fields)]}


TABLE: list[tuple[dict[str, Any], str]] = [
    ({"containers": []}, "spec.containers: Required value"),
    (of_container(name=""), f"{C}.name: Required value"),
    ({"containers": [container(), container()]}, 'spec.containers[1].name: Duplicate value: "c"'),
    ({"initContainers": [container()]}, 'spec.initContainers[0].name: Duplicate value: "c"'),
    (of_container(image=""), f"{C}.image: Required value"),
    (
        of_container(securityContext={"seccompProfile": {"type": "Localhost", "localhostProfile": "../../x"}}),
        f"{C}.securityContext.seccompProfile.localhostProfile: Invalid value: \"../../x\": must not contain '..'",
    ),
    (
        {"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "/x"}}},
        'spec.securityContext.seccompProfile.localhostProfile: Invalid value: "/x": must be a relative path',
    ),
    (
        of_container(
            lifecycle={
                "preStop": {"httpGet": {"path": "/", "port": 1, "httpHeaders": [{"name": "a: b", "value": "c"}]}}
            }
        ),
        f'{C}.lifecycle.preStop.httpGet.httpHeaders: Invalid value: "a: b": a valid HTTP header must consist of alphanumeric '
        "characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
    ),
    (
        of_container(securityContext={"procMount": "Unmasked"}),
        f'{C}.securityContext.procMount: Invalid value: "Unmasked": `hostUsers` must be false to use `Unmasked`',
    ),
    (
        {"hostNetwork": True, "securityContext": {"sysctls": [{"name": "net/ipv4/tcp_rmem", "value": "1"}]}},
        'spec.securityContext.sysctls[0].name: Invalid value: "net/ipv4/tcp_rmem": '
        "may not be specified when 'hostNetwork' is true",
    ),
    (
        {"hostIPC": True, "securityContext": {"sysctls": [{"name": "kernel.sem", "value": "1"}]}},
        'spec.securityContext.sysctls[0].name: Invalid value: "kernel.sem": '
        "may not be specified when 'hostIPC' is true",
    ),
    (of_container(image=" x"), f'{C}.image: Invalid value: " x": must not have leading or trailing whitespace'),
    (
        of_container(imagePullPolicy="Sometimes"),
        f'{C}.imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never"',
    ),
    (of_container(ports=[{}]), f"{C}.ports[0].containerPort: Required value"),
    (
        of_container(ports=[{"containerPort": 70000}]),
        f"{C}.ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
    ),
    (
        of_container(ports=[{"containerPort": 1, "protocol": "ICMP"}]),
        f'{C}.ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"',
    ),
    (
        of_container(ports=[{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]),
        f'{C}.ports[1].name: Duplicate value: "a"',
    ),
    (of_container(env=[{"value": "x"}]), f"{C}.env[0].name: Required value"),
    (
        of_container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nope"}}}]),
        f'{C}.env[0].valueFrom.fieldRef.fieldPath: Invalid value: "spec.nope": '
        "error converting fieldPath: field label not supported: spec.nope",
    ),
    (
        of_container(env=[{"name": "A", "value": "x", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
        f'{C}.env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty',
    ),
    (
        of_container(envFrom=[{}]),
        f'{C}.envFrom[0]: Invalid value: "": must specify one of: `configMapRef` or `secretRef`',
    ),
    (of_container(volumeMounts=[{"name": "v", "mountPath": "/v"}]), f'{C}.volumeMounts[0].name: Not found: "v"'),
    (
        {**of_container(volumeMounts=[{"name": "v", "mountPath": "/v"}] * 2), "volumes": [{"name": "v"}]},
        f'{C}.volumeMounts[1].mountPath: Invalid value: "/v": must be unique',
    ),
    (
        {
            **of_container(volumeMounts=[{"name": "v", "mountPath": "/v", "subPath": "../x"}]),
            "volumes": [{"name": "v"}],
        },
        f"{C}.volumeMounts[0].subPath: Invalid value: \"../x\": must not contain '..'",
    ),
    (of_container(livenessProbe={}), f"{C}.livenessProbe: Required value: must specify a handler type"),
    (
        of_container(livenessProbe=probe(successThreshold=2)),
        f"{C}.livenessProbe.successThreshold: Invalid value: 2: must be 1",
    ),
    (
        of_container(readinessProbe=probe(periodSeconds=-1)),
        f"{C}.readinessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
    ),
    (
        of_container(readinessProbe={"tcpSocket": {"port": 1}, "exec": {"command": ["x"]}}),
        f"{C}.readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
    ),
    (
        of_container(lifecycle={"preStop": {"exec": {}}}),
        f"{C}.lifecycle.preStop.exec.command: Required value",
    ),
    (
        of_container(resources={"limits": {"cpu": "500m"}, "requests": {"cpu": "1"}}),
        f'{C}.resources.requests: Invalid value: "1": must be less than or equal to cpu limit of 500m',
    ),
    (
        of_container(resources={"limits": {"memory": "-1Mi"}}),
        f'{C}.resources.limits[memory]: Invalid value: "-1Mi": must be greater than or equal to 0',
    ),
    (
        of_container(resources={"requests": {"example.com/gpu": "1"}}),
        f"{C}.resources.limits: Required value: Limit must be set for non overcommitable resources",
    ),
    (
        of_container(resources={"limits": {"gpu": "1"}}),
        f'{C}.resources.limits: Invalid value: "gpu": must be a standard resource type or fully qualified',
    ),
    (
        of_container(securityContext={"runAsUser": -1}),
        f"{C}.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
    ),
    (
        of_container(securityContext={"privileged": True, "allowPrivilegeEscalation": False}),
        f'{C}.securityContext: Invalid value: {{"privileged":true,"allowPrivilegeEscalation":false}}: '
        "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
    ),
    (
        {"initContainers": [container(name="i", readinessProbe=probe())]},
        "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
    ),
    (
        {"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}]},
        "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
    ),
    ({"volumes": [{"name": "v"}, {"name": "v"}]}, 'spec.volumes[1].name: Duplicate value: "v"'),
    ({"volumes": [{"name": "V"}]}, f'spec.volumes[0].name: Invalid value: "V": {LABEL}'),
    ({"volumes": [{"name": "v", "secret": {}}]}, "spec.volumes[0].secret.secretName: Required value"),
    (
        {"volumes": [{"name": "v", "persistentVolumeClaim": {}}]},
        "spec.volumes[0].persistentVolumeClaim.claimName: Required value",
    ),
    (
        {"volumes": [{"name": "v", "configMap": {"name": "c", "defaultMode": 1000}}]},
        "spec.volumes[0].configMap.defaultMode: Invalid value: 1000: "
        "must be a number between 0 and 0777 (octal), both inclusive",
    ),
    (
        {"restartPolicy": "Maybe"},
        'spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "Never", "OnFailure"',
    ),
    ({"dnsPolicy": "None"}, "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"),
    (
        {"activeDeadlineSeconds": 0},
        "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
    ),
    (
        {"tolerations": [{"operator": "Equal"}]},
        'spec.tolerations[0].operator: Invalid value: "Equal": '
        'operator must be Exists when `key` is empty, which means "match all values and all keys"',
    ),
    (
        {"tolerations": [{"key": "a", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 1}]},
        "spec.tolerations[0].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when `tolerationSeconds` is set",
    ),
    (
        {"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}]},
        "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
    ),
    (
        {"schedulingGates": [{"name": "a.b/c"}], "nodeName": "n"},
        "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared",
    ),
    (
        {"hostPID": True, "shareProcessNamespace": True},
        "spec.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled",
    ),
    (
        {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": {}}]}}},
        "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: "
        "Required value: can not be empty",
    ),
]


@pytest.mark.parametrize(("spec", "problem"), TABLE, ids=[p.partition(":")[0] for _, p in TABLE])
def test_one_thing_is_wrong(spec: dict[str, Any], problem: str) -> None:
    assert problem in shown(POD.validate(pod(**spec)))


def test_a_good_pod_has_no_errors() -> None:
    rich = pod(
        containers=[
            container(
                ports=[{"containerPort": 80, "name": "http"}],
                env=[
                    {"name": "app.level", "value": "1"},
                    {"name": "NS", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
                ],
                volumeMounts=[{"name": "v", "mountPath": "/v", "subPath": "a/b"}],
                livenessProbe={"httpGet": {"port": "http"}},
                resources={"limits": {"cpu": 1, "memory": "1Gi", "example.com/gpu": 1}},
            )
        ],
        initContainers=[container(name="sidecar", restartPolicy="Always", readinessProbe=probe())],
        volumes=[{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
        tolerations=[{"operator": "Exists"}],
        hostAliases=[{"ip": "10.0.0.1", "hostnames": ["a"]}],
    )
    assert shown(POD.validate(rich)) == []


def test_ephemeral_containers_come_later() -> None:
    early = pod(ephemeralContainers=[container(name="debug")])
    assert shown(POD.validate_create(early)) == ["spec.ephemeralContainers: Forbidden: cannot be set on create"]


def test_warnings_name_the_place() -> None:
    doubtful = pod(nodeSelector={"beta.kubernetes.io/os": "linux"}, **of_container(env=[{"name": "A"}, {"name": "A"}]))
    assert POD.warnings(doubtful) == [
        'spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead',
        'spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply',
    ]
