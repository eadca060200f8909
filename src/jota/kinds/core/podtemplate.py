"""PodTemplates: a pod template as an object of its own."""

from __future__ import annotations

from jota.kinds.common import NAME, labels_text, plain
from jota.kinds.core.pod.defaults import default_template
from jota.kinds.core.pod.validate import validate_template
from jota.kinds.kind import Kind
from jota.kinds.shape import Object, part, parts, strings, text
from jota.meta.resource import Resource


def _containers(field: str, template: Object) -> str:
    return ",".join(text(c, field) for c in parts(part(part(template, "template"), "spec"), "containers"))


KIND = Kind(
    Resource("", "v1", "podtemplates", "PodTemplate"),
    schema="io.k8s.api.core.v1.PodTemplate",
    singular="podtemplate",
    default=default_template,
    validate=lambda obj: validate_template(part(obj, "template"), "template"),
    returns_deleted=True,
    columns=(
        NAME,
        plain("Containers", lambda t, _now: _containers("name", t)),
        plain("Images", lambda t, _now: _containers("image", t)),
        plain("Pod Labels", lambda t, _now: labels_text(strings(part(part(t, "template"), "metadata"), "labels"))),
    ),
    generation=True,
)
