"""ServiceAccounts: identities of pods. Tokens are made by the subresource /token."""

from __future__ import annotations

from jota.kinds.common import AGE, NAME, plain
from jota.kinds.kind import Kind, Nothing
from jota.kinds.shape import parts
from jota.meta.resource import SERVICEACCOUNTS

KIND = Kind(
    SERVICEACCOUNTS,
    schema="io.k8s.api.core.v1.ServiceAccount",
    singular="serviceaccount",
    short_names=("sa",),
    returns_deleted=True,
    columns=(
        NAME,
        plain(
            "Secrets",
            lambda account, _now: len(parts(account, "secrets")),
            about="How many secrets are listed.",
        ),
        AGE,
    ),
    subresources=("token",),
    relabelled_from=Nothing,
)
