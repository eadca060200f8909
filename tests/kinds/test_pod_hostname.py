"""spec.hostnameOverride: a name of its own kind, that goes with no other."""

from __future__ import annotations

from typing import Any

import pytest
from kinds_build import kind, pod

POD = kind("pods")
SUBDOMAIN = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters"


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ({"hostnameOverride": "over.there"}, ""),
        ({"hostnameOverride": "Over"}, f'Invalid value: "Over": {SUBDOMAIN}'),
        (
            {"hostnameOverride": "a", "setHostnameAsFQDN": True},
            "Forbidden: may not be specified when setHostnameAsFQDN is true",
        ),
        ({"hostnameOverride": "a", "hostNetwork": True}, "Forbidden: may not be specified when hostNetwork is true"),
        ({"hostnameOverride": "a" * 65}, "Too long: may not be more than 64 bytes"),
    ],
)
def test_the_name_that_overrides(spec: dict[str, Any], error: str) -> None:
    found = [f"{e.field}: {e.message}" for e in POD.validate(pod(**spec))]
    assert len(found) == bool(error)
    assert all(f.startswith(f"spec.hostnameOverride: {error}") for f in found)
