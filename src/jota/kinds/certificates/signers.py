"""Names of signers, "<domain>/<path>" (upstream's `ValidateSignerName`), and what else those who name one have in common:
kinds of this group, and the volumes of pods.
"""

from __future__ import annotations

from jota.kinds import names
from jota.meta.errors import FieldError, invalid, required, too_long
from jota.meta.names import ANNOTATIONS_LIMIT

SHORTEST, LONGEST, LONGEST_OF_KUBERNETES = 3600, 7862400, 86400
"""Seconds that a pod's certificate may be valid; kubernetes.io's own signers stay below a day."""
_LONGEST_DOMAIN, _LONGEST = 253, 571


def validate_signer(path: str, name: str) -> list[FieldError]:
    if not name:
        return [required(path)]
    domain, slash, rest = name.partition("/")
    if not slash or "/" in rest:
        detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        return [invalid(path, name, detail)]
    if len(domain) > _LONGEST_DOMAIN:
        return [too_long(path, _LONGEST_DOMAIN)]
    errors: list[FieldError] = []
    labels = domain.split(".")
    for label in labels:
        errors += [invalid(path, domain, f'validating label "{label}": {p}') for p in names.dns_label(label)]
    if len(labels) < 2:
        errors.append(invalid(path, domain, "should be a domain with at least two segments separated by dots"))
    for label in rest.split("."):
        errors += [invalid(path, rest, f'validating label "{label}": {p}') for p in names.dns_label(label)]
    if len(name) > _LONGEST:
        errors.append(too_long(path, _LONGEST))
    return errors


def longest(signer: str) -> int:
    """Seconds that a pod's certificate of this signer may be valid at most."""
    domain = signer.partition("/")[0]
    return LONGEST_OF_KUBERNETES if domain == "kubernetes.io" or domain.endswith(".kubernetes.io") else LONGEST


def bundle_name(name: str, signer: str) -> list[str]:
    """What is wrong with the name of a ClusterTrustBundle of this signer ("": of none)."""
    if not signer:
        if ":" in name:
            return ['ClusterTrustBundle without signer name must not have ":" in its name']
        return list(names.dns_subdomain(name))
    prefix = signer.replace("/", ":") + ":"
    if not name.startswith(prefix):
        return [f"ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"]
    return list(names.dns_subdomain(name.removeprefix(prefix)))


def user_annotations(given: dict[str, str], path: str) -> list[FieldError]:
    """What a pod tells the signer of its certificate."""
    errors: list[FieldError] = []
    for key in given:
        problems = names.qualified_name(key.lower())
        if not problems and "/" not in key:
            problems = ('must be a domain-prefixed key (such as "acme.io/foo")',)
        errors += [invalid(path, key, problem) for problem in problems]
    if sum(len(k.encode()) + len(v.encode()) for k, v in given.items()) > ANNOTATIONS_LIMIT:
        errors.append(too_long(path, ANNOTATIONS_LIMIT))
    return errors
