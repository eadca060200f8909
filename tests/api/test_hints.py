"""Clear beyond upstream: what was probably meant, and what an object refers to that is not there. Warnings, never refusals."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from jota.api.filters.attributes import User
from jota.api.hints import pods
from jota.api.registry import Registry
from jota.meta.resource import CONFIGMAPS, DEPLOYMENTS, PODS, SECRETS, SERVICES, Resource
from jota.testing.cluster import ApiServer, story
from jota.wire.message import Response

Object = dict[str, Any]
ANN = User("ann", groups=("system:masters", "system:authenticated"))
RBAC = "rbac.authorization.k8s.io"
CRONJOBS = Resource("batch", "v1", "cronjobs", "CronJob")
STATEFUL = Resource("apps", "v1", "statefulsets", "StatefulSet")
CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
INGRESSES = Resource("networking.k8s.io", "v1", "ingresses", "Ingress")
SCALERS = Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
BINDINGS = Resource(RBAC, "v1", "rolebindings", "RoleBinding")
DEFINITIONS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False)


def said(response: Response) -> list[str]:
    quoted = [v for k, v in response.headers if k == "Warning"]
    return [v.removeprefix("299 - ")[1:-1].replace('\\"', '"') for v in quoted]


async def write(
    api: ApiServer, resource: Resource, spec: Object, name: str = "x", *, user: User = ANN, **more: Any
) -> list[str]:
    """Create it as somebody from outside; the warnings that came back."""
    body = {"metadata": {"name": name}, **({"spec": spec} if spec else {}), **more}
    response = await api.request("POST", resource.path("default"), body, user=user)
    assert response.status == 201, response.body
    return said(response)


def template(labels: Object | None = None, **spec: Any) -> Object:
    containers = spec.pop("containers", [{"name": "c", "image": "i"}])
    return {"metadata": {"labels": labels or {"app": "web"}}, "spec": {"containers": containers, **spec}}


def deployment(labels: Object | None = None, **spec: Any) -> Object:
    return {"selector": {"matchLabels": labels or {"app": "web"}}, "template": template(labels, **spec)}


# --- what was meant ------------------------------------------------------------------------------------------------------


@story
async def test_unknown_fields(api: ApiServer) -> None:
    body = {"metadata": {"name": "d"}, "spec": {**deployment(), "replicaz": 1}}
    strict = await api.request("POST", f"{DEPLOYMENTS.path('default')}?fieldValidation=Strict", body)
    assert strict.status == 400
    message = orjson.loads(strict.body)["message"]
    assert message.endswith('strict decoding error: unknown field "spec.replicaz"'), "as upstream, to the letter"
    hint = '"spec.replicaz": did you mean "spec.replicas"?'
    assert said(strict) == [hint]
    warned = await api.request("POST", DEPLOYMENTS.path("default"), body)
    assert (warned.status, said(warned)) == (201, ['unknown field "spec.replicaz"', hint])
    patched = await api.request(
        "PATCH",
        f"{DEPLOYMENTS.path('default')}/d",
        {"spec": {"template": {"spec": {"containers": [{"name": "c", "imagePulPolicy": "Never"}]}}}},
        content_type="application/strategic-merge-patch+json",
    )
    at = "spec.template.spec.containers[0]"
    assert said(patched) == [
        f'unknown field "{at}.imagePulPolicy"',
        f'"{at}.imagePulPolicy": did you mean "{at}.imagePullPolicy"?',
    ]


@story
async def test_unknown_fields_of_custom_resources(api: ApiServer) -> None:
    size = {"type": "object", "properties": {"size": {"type": "integer"}}}
    version = {"name": "v1", "served": True, "storage": True}
    version["schema"] = {"openAPIV3Schema": {"type": "object", "properties": {"spec": size}}}
    names = {"plural": "widgets", "kind": "Widget", "singular": "widget", "listKind": "WidgetList"}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    await api.client.create(DEFINITIONS, {"metadata": {"name": "widgets.example.com"}, "spec": spec})
    await api.settle()
    path = "/apis/example.com/v1/namespaces/default/widgets"
    body = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"sise": 1}}
    refused = await api.request("POST", f"{path}?fieldValidation=Strict", body)
    assert (refused.status, said(refused)) == (400, ['"spec.sise": did you mean "spec.size"?'])
    applied = await api.request("PATCH", f"{path}/w?fieldManager=me", body, content_type="application/apply-patch+yaml")
    assert (applied.status, said(applied)) == (400, ['"spec.sise": did you mean "spec.size"?'])


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/apis/apps/v1beta1/deployments", "apps/v1beta1 deployments is not served: did you mean apps/v1 deployments?"),
        (
            "/apis/extensions/v1/ingresses",
            "extensions/v1 ingresses is not served: did you mean networking.k8s.io/v1 ingresses?",
        ),
        ("/apis/apps/v1/deployment", "apps/v1 deployment is not served: did you mean apps/v1 deployments?"),
        ("/api/v1/pod", "v1 pod is not served: did you mean v1 pods?"),
        ("/api/v1/qqqqqq", ""),
    ],
)
def test_paths_that_are_not_served(path: str, hint: str) -> None:
    @story
    async def run(api: ApiServer) -> None:
        answer = await api.request("GET", path)
        assert orjson.loads(answer.body)["message"] == "the server could not find the requested resource"
        assert (answer.status, said(answer)) == (404, [hint] if hint else [])

    run()


@story
async def test_values_that_are_not_supported(api: ApiServer) -> None:
    spec = {**deployment(containers=[{"name": "c", "image": "i", "imagePullPolicy": "always"}])}
    body = {"metadata": {"name": "d"}, "spec": {**spec, "strategy": {"type": "RollingUpdat"}}}
    refused = await api.request("POST", DEPLOYMENTS.path("default"), body)
    assert refused.status == 422
    assert sorted(said(refused)) == [
        'spec.strategy.type "RollingUpdat": did you mean "RollingUpdate"?',
        'spec.template.spec.containers[0].imagePullPolicy "always": did you mean "Always"?',
    ]


# --- what is not there -----------------------------------------------------------------------------------------------------

ENVIRONMENT = [
    {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "there", "key": "k"}}},
    {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "there", "key": "other"}}},
    {"name": "C", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "k"}}},
    {"name": "D", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "k", "optional": True}}},
]


@story
async def test_what_a_template_refers_to(api: ApiServer) -> None:
    await api.client.create(CONFIGMAPS, {"metadata": {"name": "there"}, "data": {"k": "v"}}, "default")
    container = {"name": "c", "image": "i", "env": ENVIRONMENT, "envFrom": [{"configMapRef": {"name": "gone"}}]}
    volumes = [
        {"name": "a", "secret": {"secretName": "gone"}},
        {"name": "b", "configMap": {"name": "gone", "optional": True}},
        {"name": "d", "persistentVolumeClaim": {"claimName": "gone"}},
    ]
    spec = deployment(
        containers=[container],
        volumes=volumes,
        imagePullSecrets=[{"name": "registry"}],
        serviceAccountName="robot",
        priorityClassName="urgent",
    )
    at, waits = "spec.template.spec", "containers that need it do not start until it does"
    refused = "its pods are refused until it does"
    there = 'does not exist in namespace "default"'
    found = await write(api, DEPLOYMENTS, spec)
    assert found == [
        f'{at}.serviceAccountName: ServiceAccount "robot" {there}: {refused}',
        f'{at}.priorityClassName: PriorityClass "urgent" does not exist: {refused}',
        f'{at}.volumes[0].secret.secretName: Secret "gone" {there}: {waits}',
        f'{at}.volumes[2].persistentVolumeClaim.claimName: PersistentVolumeClaim "gone" {there}: '
        "the pods stay Pending until it does",
        f'{at}.containers[0].envFrom[0].configMapRef.name: ConfigMap "gone" {there}: {waits}',
        f'{at}.containers[0].env[1].valueFrom.configMapKeyRef.key: ConfigMap "there" has no key "other": {waits}',
        f'{at}.containers[0].env[2].valueFrom.secretKeyRef.name: Secret "gone" {there}: {waits}',
        f'{at}.imagePullSecrets[0]: Secret "registry" {there}: images that need it cannot be pulled',
    ]


@story
async def test_who_is_told_and_when(api: ApiServer) -> None:
    spec = {"containers": [{"name": "c", "image": "i", "envFrom": [{"secretRef": {"name": "gone"}}]}]}
    warning = 'spec.containers[0].envFrom[0].secretRef.name: Secret "gone" does not exist in namespace "default": '
    assert (await write(api, PODS, spec))[0].startswith(warning)
    assert await write(api, PODS, spec, "y", user=User("system:apiserver", groups=("system:masters",))) == []
    path = f"{PODS.path('default')}/x"
    labelled = await api.request(
        "PATCH", path, {"metadata": {"labels": {"a": "b"}}}, user=ANN, content_type="application/merge-patch+json"
    )
    assert (labelled.status, said(labelled)) == (200, []), "what was said once is not said at every change"
    await api.client.create(SECRETS, {"metadata": {"name": "gone"}}, "default")
    assert await write(api, PODS, spec, "z") == []


@story
async def test_a_plain_pod_has_nothing_to_be_told(api: ApiServer) -> None:
    assert await write(api, PODS, {"containers": [{"name": "c", "image": "i"}]}) == []
    assert await write(api, DEPLOYMENTS, deployment()) == []


@story
async def test_services(api: ApiServer) -> None:
    ports = [{"containerPort": 8080, "name": "http"}]
    await api.client.create(
        DEPLOYMENTS,
        {"metadata": {"name": "web"}, "spec": deployment(containers=[{"name": "c", "image": "i", "ports": ports}])},
        "default",
    )
    fine = [{"name": "a", "port": 80, "targetPort": "http"}, {"name": "b", "port": 81, "targetPort": 8080}]
    assert await write(api, SERVICES, {"selector": {"app": "web"}, "ports": fine}, "fine") == []
    wrong = [{"name": "a", "port": 80, "targetPort": "htp"}, {"name": "b", "port": 9090}]
    assert await write(api, SERVICES, {"selector": {"app": "web"}, "ports": wrong}, "wrong") == [
        'spec.ports[0].targetPort: no container of Deployment web has a port named "htp" (declared: 8080 (http)): it leads nowhere',
        "spec.ports[1].targetPort: no container of Deployment web declares port 9090 (declared: 8080 (http))",
    ]
    near = {"selector": {"app": "wbe"}, "ports": [{"port": 80}]}
    assert await write(api, SERVICES, near, "near") == [
        "spec.selector: no pod has app=wbe; Deployment web has app=web: did you mean that?"
    ]
    early = {"selector": {"app": "not-yet-there"}, "ports": [{"port": 80}]}
    assert await write(api, SERVICES, early, "early") == []


@pytest.mark.parametrize(
    ("resource", "spec", "words"),
    [
        (
            CLAIMS,
            {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
                "storageClassName": "fast",
            },
            ['spec.storageClassName: StorageClass "fast" does not exist: the claim stays Pending until it does'],
        ),
        (
            SCALERS,
            {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}, "maxReplicas": 3},
            [
                'spec.scaleTargetRef.name: Deployment "d" does not exist in namespace "default": there is nothing to scale until it does'
            ],
        ),
        (
            INGRESSES,
            {
                "ingressClassName": "nginx",
                "defaultBackend": {"service": {"name": "web", "port": {"number": 80}}},
                "tls": [{"secretName": "cert"}],
            },
            [
                'spec.ingressClassName: IngressClass "nginx" does not exist: nobody serves this Ingress until it does',
                'spec.tls[0].secretName: Secret "cert" does not exist in namespace "default": its hosts have no certificate until it does',
                'spec.defaultBackend.service.name: Service "web" does not exist in namespace "default": its requests fail until it does',
            ],
        ),
        (
            CRONJOBS,
            {
                "schedule": "* * * * *",
                "jobTemplate": {
                    "spec": {
                        "template": {
                            "spec": {
                                **template()["spec"],
                                "restartPolicy": "Never",
                                "imagePullSecrets": [{"name": "s"}],
                            }
                        }
                    }
                },
            },
            [
                'spec.jobTemplate.spec.template.spec.imagePullSecrets[0]: Secret "s" does not exist in namespace "default": '
                "images that need it cannot be pulled"
            ],
        ),
        (
            STATEFUL,
            {**deployment(), "serviceName": "db"},
            [
                'spec.serviceName: Service "db" does not exist in namespace "default": the pods have no names in DNS until it does'
            ],
        ),
    ],
)
def test_what_other_kinds_refer_to(resource: Resource, spec: Object, words: list[str]) -> None:
    @story
    async def run(api: ApiServer) -> None:
        assert await write(api, resource, spec) == words

    run()


@story
async def test_role_bindings(api: ApiServer) -> None:
    subjects = [
        {"kind": "ServiceAccount", "name": "robot", "namespace": "default"},
        {"kind": "ServiceAccount", "name": "secret", "namespace": "elsewhere"},
    ]
    ref = {"apiGroup": RBAC, "kind": "Role", "name": "reader"}
    assert await write(api, BINDINGS, {}, roleRef=ref, subjects=subjects) == [
        'roleRef.name: Role "reader" does not exist in namespace "default": the binding grants nothing until it does',
        'subjects[0].name: ServiceAccount "robot" does not exist in namespace "default": nobody has these rights until it does',
    ]


@story
async def test_dry_runs_tell_and_odd_objects_do_not_break_it(api: ApiServer) -> None:
    spec = deployment(imagePullSecrets=[{"name": "s"}])
    body = {"metadata": {"name": "d"}, "spec": spec}
    dry = await api.request("POST", f"{DEPLOYMENTS.path('default')}?dryRun=All", body, user=ANN)
    assert len(said(dry)) == 1
    many = [{"name": f"s{i}"} for i in range(100)]
    assert len(await write(api, DEPLOYMENTS, deployment(imagePullSecrets=many), "many")) == 8
    assert await write(api, SERVICES, {"ports": [{"port": 1}]}, "plain") == []


@pytest.mark.parametrize(
    ("selector", "decoded", "words"),
    [({"app": "a7"}, 1, 0), ({"app": "elsewhere"}, 0, 0), ({"app": "a17"}, 40, 1)],
    ids=["found", "nothing like it", "pods that declare no such port"],
)
def test_a_service_costs_little_where_there_are_many_workloads(
    selector: Object, decoded: int, words: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all that it does not select, nothing but labels is read."""
    counted: list[str] = []
    decode = Registry.decoded

    def noted(resource: Resource, entry: Any) -> Object:
        counted.append(entry.key)
        return decode(resource, entry)

    @story
    async def run(api: ApiServer) -> None:
        ports = [{"containerPort": 80}]
        for n in range(40):
            labels = {"app": f"a{n % 10}"}
            spec = deployment(labels, containers=[{"name": "c", "image": "i", "ports": ports}])
            await api.client.create(DEPLOYMENTS, {"metadata": {"name": f"d{n}"}, "spec": spec}, "default")
            bare = {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 1}]}]}
            await api.client.create(
                PODS, {"metadata": {"name": f"p{n}", "labels": {"app": "a17"}}, "spec": bare}, "default"
            )
        monkeypatch.setattr(Registry, "decoded", staticmethod(noted))
        assert len(await write(api, SERVICES, {"selector": selector, "ports": [{"port": 80}]})) == words
        assert len(counted) == decoded

    run()


def test_what_pods_of_one_shape_refer_to_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Object] = []
    find = pods.pod

    def noted(obj: Object) -> Any:
        asked.append(obj)
        return find(obj)

    monkeypatch.setattr(pods, "pod", noted)

    @story
    async def run(api: ApiServer) -> None:
        key = {"configMapKeyRef": {"name": "settings", "key": "k"}}
        spec = {"containers": [{"name": "c", "image": "i", "env": [{"name": "A", "valueFrom": key}]}]}
        gone = 'ConfigMap "settings" does not exist in namespace "default": containers that need it do not start until it does'
        for n in range(3):
            assert await write(api, PODS, spec, f"a{n}") == [
                f"spec.containers[0].env[0].valueFrom.configMapKeyRef.name: {gone}"
            ]
        await api.client.create(CONFIGMAPS, {"metadata": {"name": "settings"}, "data": {"other": ""}}, "default")
        assert "has no key" in (await write(api, PODS, spec, "b"))[0], "the cluster is looked at each time"
        await api.client.patch(CONFIGMAPS, "settings", "default", {"data": {"k": "v"}})
        assert await write(api, PODS, spec, "c") == []
        assert len(asked) == 1

    run()
