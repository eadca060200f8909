"""Validation of pods and pod templates (pkg/apis/core/validation), with upstream's paths, reasons and sentences.

In: a defaulted object. Out: errors. `validate_pod_spec` is shared with every workload's template. Next: update.py.
"""

from __future__ import annotations

from jota.kinds import labels
from jota.kinds.core.pod.containers import validate_containers
from jota.kinds.shape import Object, meta, part, text
from jota.meta.errors import FieldError, not_supported, required

RESTART_POLICIES = ["Always", "Never", "OnFailure"]
DNS_POLICIES = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"]


def validate_pod(pod: Object) -> list[FieldError]:
    return validate_pod_spec(part(pod, "spec"), "spec")


def validate_template(template: Object, path: str, extra_volumes: tuple[str, ...] = ()) -> list[FieldError]:
    errors = labels.validate_labels(meta(template).get("labels"), f"{path}.labels")
    return errors + validate_pod_spec(part(template, "spec"), f"{path}.spec")


def validate_pod_spec(spec: Object, path: str) -> list[FieldError]:
    errors = validate_containers(spec, path)
    restart = text(spec, "restartPolicy")
    if not restart:
        errors.append(required(f"{path}.restartPolicy"))
    elif restart not in RESTART_POLICIES:
        errors.append(not_supported(f"{path}.restartPolicy", restart, RESTART_POLICIES))
    dns = text(spec, "dnsPolicy")
    if dns and dns not in DNS_POLICIES:
        errors.append(not_supported(f"{path}.dnsPolicy", dns, DNS_POLICIES))
    return errors
