"""Defaults of pods and pod templates, as Kubernetes fills them in on every write (pkg/apis/core/v1/defaults.go).

In: a decoded pod or template, changed in place. Out: the same, idempotently; controllers hash the result, so it must match
upstream field by field. Templates get less than pods: requests from limits, host ports and service links are a pod's own.
Next: validate.py.
"""

from __future__ import annotations

from jota.kinds.core.pod.volumes import default_volumes, pull_policy
from jota.kinds.core.pod.whole import default_whole
from jota.kinds.quantities import canonical_resources, canonical_text
from jota.kinds.shape import Object, attach, part, parts, put_missing, text


def default_pod(pod: Object) -> None:
    """Everything a stored pod has: template defaults and what belongs to pods alone."""
    spec = attach(pod, "spec")
    default_pod_spec(spec)
    put_missing(spec, "enableServiceLinks", True)
    for key in ("initContainers", "containers"):
        for container in parts(spec, key):
            _requests_from_limits(container)
            if spec.get("hostNetwork") is True:
                _host_ports(container)
    if spec.get("hostNetwork") is True:
        for container in parts(spec, "ephemeralContainers"):
            _host_ports(container)
    if spec.get("resources"):
        default_whole(spec)


def default_template(owner: Object, key: str = "template") -> None:
    """The pod template under owner[key] (a workload's spec, or a PodTemplate itself)."""
    template = attach(owner, key)
    attach(template, "metadata")
    default_pod_spec(attach(template, "spec"))


def default_pod_spec(spec: Object) -> None:
    put_missing(spec, "dnsPolicy", "ClusterFirst")
    put_missing(spec, "restartPolicy", "Always")
    put_missing(spec, "terminationGracePeriodSeconds", 30)
    put_missing(spec, "schedulerName", "default-scheduler")
    put_missing(spec, "securityContext", {})
    _account_aliases(spec)
    for key in ("initContainers", "containers", "ephemeralContainers"):
        for container in parts(spec, key):
            _container(container, ephemeral=key == "ephemeralContainers")
    if spec.get("volumes"):
        default_volumes(spec)
    if spec.get("overhead"):
        canonical_resources(spec, "overhead")
    if spec.get("resources"):
        canonical_resources(part(spec, "resources"), "limits", "requests")


def _account_aliases(spec: Object) -> None:
    """`serviceAccount` is the deprecated name of `serviceAccountName`: both are shown, the new one wins."""
    name = text(spec, "serviceAccountName") or text(spec, "serviceAccount")
    if name:
        spec["serviceAccountName"] = spec["serviceAccount"] = name


def _container(container: Object, ephemeral: bool) -> None:
    put_missing(container, "resources", {})
    put_missing(container, "terminationMessagePath", "/dev/termination-log")
    put_missing(container, "terminationMessagePolicy", "File")
    if not container.get("imagePullPolicy"):
        container["imagePullPolicy"] = pull_policy(text(container, "image"))
    if container["resources"]:
        canonical_resources(part(container, "resources"), "limits", "requests")
    for port in parts(container, "ports"):
        put_missing(port, "protocol", "TCP")
    for variable in parts(container, "env"):
        if "valueFrom" in variable:
            _env_source(part(variable, "valueFrom"))
    for key in ("livenessProbe", "readinessProbe", "startupProbe"):
        if key in container:
            _probe(part(container, key))
    if "lifecycle" in container:
        lifecycle = part(container, "lifecycle")
        for moment in ("postStart", "preStop"):
            _http_get(part(part(lifecycle, moment), "httpGet"))


def _env_source(source: Object) -> None:
    field = part(source, "fieldRef")
    if field:
        put_missing(field, "apiVersion", "v1")
    resource = part(source, "resourceFieldRef")
    if resource:
        put_missing(resource, "divisor", "0")
        resource["divisor"] = canonical_text(resource["divisor"])
    file = part(source, "fileKeyRef")
    if file:
        put_missing(file, "optional", False)


def _probe(probe: Object) -> None:
    if not probe:
        return
    for key, value in (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)):
        if not probe.get(key):
            probe[key] = value
    _http_get(part(probe, "httpGet"))
    grpc = part(probe, "grpc")
    if grpc:
        put_missing(grpc, "service", "")


def _http_get(action: Object) -> None:
    if action:
        if not action.get("path"):
            action["path"] = "/"
        if not action.get("scheme"):
            action["scheme"] = "HTTP"


def _requests_from_limits(container: Object) -> None:
    """A limit without a request asks for as much (SetDefaults_Pod); pods only, so that templates stay as written."""
    resources = part(container, "resources")
    limits = part(resources, "limits")
    if limits:
        requests = attach(resources, "requests")
        for name, amount in limits.items():
            requests.setdefault(name, amount)


def _host_ports(container: Object) -> None:
    for port in parts(container, "ports"):
        if not port.get("hostPort") and port.get("containerPort"):
            port["hostPort"] = port["containerPort"]
