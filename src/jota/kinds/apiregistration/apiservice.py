"""APIServices: a group version and the server that answers for it, this one ("Local") or a Service in the cluster.

In: the object as plain JSON. Out: defaults, errors, columns. What becomes of one is api/aggregation's.
"""

from __future__ import annotations

import base64
import binascii

from jota.kinds import names
from jota.kinds.common import AGE, NAME, plain
from jota.kinds.kind import Kind
from jota.kinds.shape import Object, meta, number, part, parts, put_missing, text
from jota.kinds.status import only_status
from jota.meta import conditions
from jota.meta.errors import FieldError, invalid, not_supported, required
from jota.meta.resource import Resource

APISERVICES = Resource("apiregistration.k8s.io", "v1", "apiservices", "APIService", False)
AVAILABLE = "Available"
LOCAL = ("True", "Local", "Local APIServices are always available")
"""Status, reason and message of the condition of a group version that this server serves itself."""
_MOST_GROUP, _MOST_VERSION = 20000, 1000
_STATUSES = ["True", "False", "Unknown"]


def service_of(apiservice: Object) -> Object:
    """spec.service; empty for a local one."""
    return part(part(apiservice, "spec"), "service")


def is_local(apiservice: Object) -> bool:
    return not isinstance(part(apiservice, "spec").get("service"), dict)


def is_available(apiservice: Object) -> bool:
    return conditions.is_true(parts(part(apiservice, "status"), "conditions"), AVAILABLE)


def default(apiservice: Object) -> None:
    if not is_local(apiservice):
        put_missing(service_of(apiservice), "port", 443)


def prepare_create(apiservice: Object) -> None:
    """Local ones are available from the first moment: nobody has to look (upstream's strategy)."""
    status, reason, message = LOCAL
    now = text(meta(apiservice), "creationTimestamp")
    found = conditions.set([], AVAILABLE, status, now=now, reason=reason, message=message)
    apiservice["status"] = {"conditions": found} if is_local(apiservice) else {}


def validate(apiservice: Object) -> list[FieldError]:
    spec = part(apiservice, "spec")
    group, version, name = text(spec, "group"), text(spec, "version"), text(meta(apiservice), "name")
    errors: list[FieldError] = []
    if name != f"{version}.{group}":
        errors.append(invalid("metadata.name", name, f'must be `spec.version+"."+spec.group`: "{version}.{group}"'))
    if not group and version != "v1":
        errors.append(required("spec.group", "only v1 may have an empty group and it better be legacy kube"))
    if group:
        errors += [invalid("spec.group", group, detail) for detail in names.dns_subdomain(group)]
    errors += [invalid("spec.version", version, detail) for detail in names.dns_1035_label(version)]
    for field, most in (("groupPriorityMinimum", _MOST_GROUP), ("versionPriority", _MOST_VERSION)):
        value = number(spec, field)
        if not 0 < value <= most:
            errors.append(invalid(f"spec.{field}", value, f"must be positive and less than {most}"))
    return errors + (_local(spec) if is_local(apiservice) else _remote(spec))


def _local(spec: Object) -> list[FieldError]:
    errors = []
    if text(spec, "caBundle"):
        size = f"{_size(text(spec, 'caBundle'))} bytes"
        errors.append(invalid("spec.caBundle", size, "local APIServices may not have a caBundle"))
    if spec.get("insecureSkipTLSVerify") is True:
        detail = "local APIServices may not have insecureSkipTLSVerify"
        errors.append(invalid("spec.insecureSkipTLSVerify", True, detail))
    return errors


def _remote(spec: Object) -> list[FieldError]:
    service = part(spec, "service")
    errors = [required(f"spec.service.{field}") for field in ("namespace", "name") if not text(service, field)]
    if spec.get("insecureSkipTLSVerify") is True and text(spec, "caBundle"):
        errors.append(invalid("spec.insecureSkipTLSVerify", True, "may not be true if caBundle is present"))
    return errors


def _size(encoded: str) -> int:
    try:
        return len(base64.b64decode(encoded))
    except binascii.Error:
        return len(encoded)


def validate_status(new: Object, _old: Object) -> list[FieldError]:
    found = parts(part(new, "status"), "conditions")
    return [
        not_supported(f"status.conditions[{i}].status", c.get("status"), _STATUSES)
        for i, c in enumerate(found)
        if c.get("status") not in _STATUSES
    ]


def _service(apiservice: Object, _now: float) -> str:
    service = service_of(apiservice)
    return "Local" if is_local(apiservice) else f"{text(service, 'namespace')}/{text(service, 'name')}"


def _available(apiservice: Object, _now: float) -> str:
    found = conditions.find(parts(part(apiservice, "status"), "conditions"), AVAILABLE) or {}
    status, reason = text(found, "status") or "Unknown", text(found, "reason")
    return f"{status} ({reason})" if reason and status != "True" else status


KIND = Kind(
    APISERVICES,
    schema="io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService",
    singular="apiservice",
    categories=("api-extensions",),
    default=default,
    prepare_create=prepare_create,
    prepare_status=only_status,
    validate=validate,
    validate_status=validate_status,
    columns=(
        NAME,
        plain("Service", _service, about="The reference to the service that hosts this API endpoint."),
        plain("Available", _available, about="Whether this service is available."),
        AGE,
    ),
    status=True,
    unconditional_update=False,
    name_rule="path-segment",
)
