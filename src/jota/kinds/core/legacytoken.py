"""Tokens of a ServiceAccount that are kept in a Secret, as Kubernetes had them before bound ones: they last as long as both do.

Who makes such a Secret (type kubernetes.io/service-account-token, the account in an annotation) has it filled by
`controllers/serviceaccounttoken.py`; `api/tokens.py` accepts what is in it, `api/legacyuses.py` notes that it was used, and
`controllers/legacytokencleaner.py` ends what nobody uses (KEP-2799). Pure.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from jota.kinds.kind import Object

ISSUER = "kubernetes/serviceaccount"
_FACT = "kubernetes.io/serviceaccount/"
LAST_USED = "kubernetes.io/legacy-token-last-used"
INVALID_SINCE = "kubernetes.io/legacy-token-invalid-since"
"""Labels of the Secret; a day in UTC each (2026-11-27)."""
TRACKING, SINCE = "kube-apiserver-legacy-service-account-token-tracking", "since"
"""The ConfigMap in kube-system whose `since` says from which day on every use is noted."""


def claims(namespace: str, account: str, uid: str, secret: str) -> dict[str, Any]:
    """What upstream puts into such a token: no audience, and no end."""
    return {
        "iss": ISSUER,
        f"{_FACT}namespace": namespace,
        f"{_FACT}secret.name": secret,
        f"{_FACT}service-account.name": account,
        f"{_FACT}service-account.uid": uid,
        "sub": f"system:serviceaccount:{namespace}:{account}",
    }


def facts(found: dict[str, Any]) -> Object | None:
    """The claims of such a token in the form of bound ones (their `kubernetes.io`), the Secret without a uid; None when one is
    missing, or is no text."""
    names = ("namespace", "secret.name", "service-account.name", "service-account.uid")
    values = [found.get(_FACT + name) for name in names]
    if not all(isinstance(value, str) and value for value in values):
        return None
    namespace, secret, account, uid = values
    return {"namespace": namespace, "serviceaccount": {"name": account, "uid": uid}, "holder": {"name": secret}}


def day(seconds: float) -> str:
    """Of epoch seconds."""
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
