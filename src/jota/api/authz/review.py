"""What match conditions may name, with types: `request`, a SubjectAccessReviewSpec (k8s.io/apiserver/pkg/authorization/cel)."""

from __future__ import annotations

from jota.meta.cel.types import STRING, list_of, map_of, struct

_REQUIREMENT = {"key": STRING, "operator": STRING, "values": list_of(STRING)}
_RESOURCE = struct(
    "kubernetes.ResourceAttributes",
    {
        **dict.fromkeys(("namespace", "verb", "group", "version", "resource", "subresource", "name"), STRING),
        "fieldSelector": struct(
            "kubernetes.FieldSelectorAttributes",
            {
                "rawSelector": STRING,
                "requirements": list_of(struct("kubernetes.FieldSelectorRequirement", _REQUIREMENT)),
            },
        ),
        "labelSelector": struct(
            "kubernetes.LabelSelectorAttributes",
            {
                "rawSelector": STRING,
                "requirements": list_of(struct("kubernetes.LabelSelectorRequirement", _REQUIREMENT)),
            },
        ),
    },
)
REVIEW = struct(
    "kubernetes.SubjectAccessReviewSpec",
    {
        "resourceAttributes": _RESOURCE,
        "nonResourceAttributes": struct("kubernetes.NonResourceAttributes", dict.fromkeys(("path", "verb"), STRING)),
        "user": STRING,
        "groups": list_of(STRING),
        "extra": map_of(STRING, list_of(STRING)),
        "uid": STRING,
    },
)
