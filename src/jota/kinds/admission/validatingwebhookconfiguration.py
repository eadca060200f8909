"""ValidatingWebhookConfigurations; admission/webhooks.py of the API server calls them."""

from __future__ import annotations

from jota.kinds.admission import expressions, webhooks
from jota.kinds.kind import Kind
from jota.meta.resource import Resource

KIND = Kind(
    Resource(
        "admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", False
    ),
    schema="io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration",
    singular="validatingwebhookconfiguration",
    categories=("api-extensions",),
    default=webhooks.default,
    validate=webhooks.validate,
    judge=expressions.changed(expressions.webhooks, "webhooks"),
    columns=webhooks.COLUMNS,
    generation=True,
)
