"""MutatingWebhookConfigurations; admission/webhooks.py of the API server calls them."""

from __future__ import annotations

from jota.kinds.admission import expressions, webhooks
from jota.kinds.kind import Kind
from jota.kinds.shape import Object, parts, put_missing
from jota.meta.resource import Resource


def default(config: Object) -> None:
    webhooks.default(config)
    for hook in parts(config, "webhooks"):
        put_missing(hook, "reinvocationPolicy", "Never")


KIND = Kind(
    Resource(
        "admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", False
    ),
    schema="io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration",
    singular="mutatingwebhookconfiguration",
    categories=("api-extensions",),
    default=default,
    validate=webhooks.validate,
    judge=expressions.changed(expressions.webhooks, "webhooks"),
    columns=webhooks.COLUMNS,
    generation=True,
)
