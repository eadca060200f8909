"""Names of signers, which several kinds of this group carry: "<domain>/<path>" (upstream's `ValidateSignerName`)."""

from __future__ import annotations

from jota.kinds import names
from jota.meta.errors import FieldError, invalid, required, too_long

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
