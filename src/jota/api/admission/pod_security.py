"""PodSecurity: namespaces choose a level by label, and pods keep to it (kinds/core/pod/standards.py has the rules).

`pod-security.kubernetes.io/enforce` refuses pods; `warn` warns and `audit` notes, for pods and for the templates of workloads.
A namespace that is given a stricter level is told which of its pods break it.
"""

from __future__ import annotations

import re
from typing import ClassVar

from jota.api.admission.plugin import AdmissionAttributes, Plugin
from jota.kinds.core.pod.standards import LEVELS, violations
from jota.kinds.kind import Kind, Object
from jota.kinds.shape import deep, part, parts
from jota.meta.errors import FieldError, forbidden, invalid, invalid_object
from jota.meta.resource import NAMESPACES, PODS, Resource

PREFIX = "pod-security.kubernetes.io/"
MODES = ("enforce", "audit", "warn")
TEMPLATES: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "podtemplates"): ("template",),
    ("", "replicationcontrollers"): ("spec", "template"),
    ("apps", "replicasets"): ("spec", "template"),
    ("apps", "deployments"): ("spec", "template"),
    ("apps", "statefulsets"): ("spec", "template"),
    ("apps", "daemonsets"): ("spec", "template"),
    ("batch", "jobs"): ("spec", "template"),
    ("batch", "cronjobs"): ("spec", "jobTemplate", "spec", "template"),
}
_VERSION = re.compile(r"latest|v1\.(0|[1-9][0-9]*)")
_MOST_NAMED = 10


class PodSecurity(Plugin):
    looks_at: ClassVar[tuple[Resource, ...] | None] = (NAMESPACES,)
    apart: ClassVar[bool] = True

    def handles(self, kind: Kind) -> bool:
        resource = kind.resource
        return resource in (PODS, NAMESPACES) or (resource.group, resource.plural) in TEMPLATES

    def minds(self, attrs: AdmissionAttributes) -> bool:
        if attrs.kind.resource != PODS:
            return attrs.kind.resource == NAMESPACES or bool(_chosen(attrs))
        return _annotations(attrs.object) != _annotations(attrs.old) and bool(_chosen(attrs))

    def validate(self, attrs: AdmissionAttributes) -> None:
        """Raises ApiError 403 (a pod), 422 (a namespace with labels of no level)."""
        obj = attrs.object
        if obj is None or attrs.subresource not in ("", "ephemeralcontainers"):
            return
        if attrs.kind.resource == NAMESPACES:
            _namespace(attrs, obj)
            return
        labels = _chosen(attrs)
        if not labels:
            return
        if attrs.kind.resource == PODS:
            if attrs.old is None or _matters(obj, attrs.old):
                _judge(attrs, labels, part(obj, "metadata"), part(obj, "spec"), MODES)
            return
        template = deep(obj, *TEMPLATES[(attrs.kind.resource.group, attrs.kind.resource.plural)])
        if part(template, "spec"):
            _judge(attrs, labels, part(template, "metadata"), part(template, "spec"), ("audit", "warn"))


def _chosen(attrs: AdmissionAttributes) -> Object:
    """The labels of the object's namespace, when some of them choose a level."""
    namespace = attrs.registry.look(NAMESPACES, "", attrs.namespace)
    labels = part(part(namespace or {}, "metadata"), "labels")
    return labels if any(PREFIX + mode in labels for mode in MODES) else {}


def _level(labels: Object, mode: str) -> str:
    level = labels.get(PREFIX + mode, "privileged")
    return str(level) if level in LEVELS else "restricted"


def _shown(labels: Object, mode: str) -> str:
    """ "restricted:latest"."""
    return f"{_level(labels, mode)}:{labels.get(f'{PREFIX}{mode}-version', 'latest')}"


def _judge(attrs: AdmissionAttributes, labels: Object, metadata: Object, spec: Object, modes: tuple[str, ...]) -> None:
    for mode in modes:
        broken = violations(_level(labels, mode), metadata, spec)
        if not broken:
            continue
        if mode == "enforce":
            detail = f'violates PodSecurity "{_shown(labels, mode)}": {broken}'
            raise forbidden(attrs.kind.resource.plural, attrs.name, detail)
        said = f'would violate PodSecurity "{_shown(labels, mode)}": {broken}'
        if mode == "audit":
            attrs.audit[PREFIX + "audit-violations"] = said
        elif said not in attrs.warnings:
            attrs.warnings.append(said)


def _matters(new: Object, old: Object) -> bool:
    """Updates that change nothing but images cannot break a level (and must not hold up what runs)."""
    same = _without_images(part(new, "spec")) == _without_images(part(old, "spec"))
    return not same or _annotations(new) != _annotations(old)


def _annotations(obj: Object | None) -> Object:
    return part(part(obj or {}, "metadata"), "annotations")


def _without_images(spec: Object) -> Object:
    lists = {f: [{**c, "image": ""} for c in parts(spec, f)] for f in ("containers", "initContainers")}
    return {**spec, **lists, "tolerations": None, "activeDeadlineSeconds": None}


def _namespace(attrs: AdmissionAttributes, namespace: Object) -> None:
    labels = part(part(namespace, "metadata"), "labels")
    before = part(part(attrs.old or {}, "metadata"), "labels")
    errors = _wrong_labels(labels)
    if errors:
        raise invalid_object("Namespace", attrs.name, errors)
    if attrs.old is None or _shown(labels, "enforce") == _shown(before, "enforce"):
        return
    level = _level(labels, "enforce")
    if LEVELS.index(level) <= LEVELS.index(_level(before, "enforce")):
        return
    by_text: dict[str, list[str]] = {}
    for pod in attrs.registry.objects(PODS, attrs.name):
        broken = violations(level, part(pod, "metadata"), part(pod, "spec"))
        if broken:
            by_text.setdefault(broken, []).append(pod["metadata"]["name"])
    if by_text:
        what = f'the new PodSecurity enforce level "{_shown(labels, "enforce")}"'
        attrs.warnings.append(f'existing pods in namespace "{attrs.name}" violate {what}')
        for broken, names in sorted(by_text.items(), key=lambda item: item[1])[:_MOST_NAMED]:
            more = f" (and {len(names) - 1} other pod{'s' if len(names) > 2 else ''})" if len(names) > 1 else ""
            reasons = ", ".join(r.partition(" (")[0] for r in re.split(r"(?<=\)), ", broken))
            attrs.warnings.append(f"{min(names)}{more}: {reasons}")


def _wrong_labels(labels: Object) -> list[FieldError]:
    errors = []
    for mode in MODES:
        for label, fine, detail in (
            (PREFIX + mode, lambda v: v in LEVELS, "must be one of privileged, baseline, restricted"),
            (f"{PREFIX}{mode}-version", _VERSION.fullmatch, 'must be "latest" or "v1.x"'),
        ):
            if label in labels and not fine(str(labels[label])):
                errors.append(invalid(f"metadata.labels[{label}]", labels[label], detail))
    return errors
