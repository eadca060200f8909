"""DefaultIngressClass: an ingress that names no class gets the newest one that is marked as the default."""

from __future__ import annotations

from jota.api.admission.plugin import AdmissionAttributes, Plugin
from jota.kinds.kind import Kind
from jota.kinds.shape import attach, part, text
from jota.meta.resource import Resource

CLASSES = Resource("networking.k8s.io", "v1", "ingressclasses", "IngressClass", False)
INGRESSES = Resource("networking.k8s.io", "v1", "ingresses", "Ingress")
DEFAULT = "ingressclass.kubernetes.io/is-default-class"
_OLD_ANNOTATION = "kubernetes.io/ingress.class"


class DefaultIngressClass(Plugin):
    def handles(self, kind: Kind) -> bool:
        return kind.resource == INGRESSES

    def admit(self, attrs: AdmissionAttributes) -> None:
        ingress = attrs.object
        if attrs.operation != "CREATE" or ingress is None or attrs.subresource:
            return
        spec, annotations = part(ingress, "spec"), part(part(ingress, "metadata"), "annotations")
        if "ingressClassName" in spec or _OLD_ANNOTATION in annotations:
            return
        found = [c["metadata"] for c in attrs.registry.objects(CLASSES)]
        marked = [m for m in found if part(m, "annotations").get(DEFAULT) == "true"]
        marked.sort(key=lambda m: text(m, "name"))
        marked.sort(key=lambda m: text(m, "creationTimestamp"), reverse=True)
        if marked:
            attach(ingress, "spec")["ingressClassName"] = text(marked[0], "name")
