"""Validation of projected volumes: sources of five types in one directory, in which no path is taken twice."""

from __future__ import annotations

from collections.abc import Iterator

from jota.kinds.certificates import signers
from jota.kinds.core.pod.volume_files import downward, files, mode, own_path
from jota.kinds.labels import validate_selector
from jota.kinds.shape import Object, parts, strings, text
from jota.meta.errors import FieldError, forbidden_field, invalid, not_supported, required

SHORTEST_TOKEN = 600
KEY_TYPES = ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"]
CREDENTIAL_PATHS = ("credentialBundlePath", "keyPath", "certificateChainPath")


def projected(source: Object, path: str, errors: list[FieldError]) -> None:
    mode(source, "defaultMode", path, errors)
    taken: set[str] = set()
    for i, entry in enumerate(parts(source, "sources")):
        where = f"{path}.sources[{i}]"
        kinds = [key for key, value in entry.items() if isinstance(value, dict)]
        if len(kinds) != 1:
            detail = "may not specify more than 1 volume type per source" if kinds else ""
            errors.append(forbidden_field(where, detail) if kinds else required(where, "no projection specified"))
            continue
        kind, body, where = kinds[0], entry[kinds[0]], f"{where}.{kinds[0]}"
        if kind in ("secret", "configMap"):
            if not text(body, "name"):
                errors.append(required(f"{where}.name"))
            files(body, where, errors)
        elif kind == "downwardAPI":
            downward(body, where, errors)
        elif kind == "serviceAccountToken":
            _token(body, where, errors)
        elif kind == "clusterTrustBundle":
            _trust_bundle(body, where, errors)
        elif kind == "podCertificate":
            _certificate(body, where, errors)
        for target in _targets(kind, body):
            if target in taken:
                errors.append(invalid(path, target, "conflicting duplicate paths"))
            taken.add(target)


def _targets(kind: str, source: Object) -> Iterator[str]:
    """The paths that a source says it fills. (A token's does not count, as upstream.)"""
    if kind == "clusterTrustBundle":
        yield text(source, "path")
    for owner, fields in ((source, CREDENTIAL_PATHS), *((item, ("path",)) for item in parts(source, "items"))):
        yield from (target for field in fields if (target := text(owner, field)))


def _token(source: Object, path: str, errors: list[FieldError]) -> None:
    seconds = source.get("expirationSeconds")
    if type(seconds) is int:
        if seconds < SHORTEST_TOKEN:
            detail = "may not specify a duration less than 10 minutes"
            errors.append(invalid(f"{path}.expirationSeconds", seconds, detail))
        elif seconds > 1 << 32:
            detail = "may not specify a duration larger than 2^32 seconds"
            errors.append(invalid(f"{path}.expirationSeconds", seconds, detail))
    _path(source, "path", path, errors)


def _path(source: Object, field: str, path: str, errors: list[FieldError]) -> None:
    if not text(source, field):
        errors.append(required(f"{path}.{field}"))
    else:
        own_path(source[field], f"{path}.{field}", errors)


def _trust_bundle(source: Object, path: str, errors: list[FieldError]) -> None:
    """One bundle by its name, or what a signer's selector matches."""
    name, signer = source.get("name"), source.get("signerName")
    if name is not None and signer is not None:
        errors.append(invalid(path, source, "only one of name and signerName may be used"))
    elif name is not None:
        if not name:
            errors.append(required(f"{path}.name", "must be a valid object name"))
        mine = name.rpartition(":")[0].replace(":", "/")
        for problem in signers.bundle_name(name, mine):
            errors.append(invalid(f"{path}.name", name, f"not a valid clustertrustbundlename: {problem}"))
        if (selector := source.get("labelSelector")) is not None:
            errors.append(
                invalid(f"{path}.labelSelector", selector, "labelSelector must be unset if name is specified")
            )
    elif signer is not None:
        errors += signers.validate_signer(f"{path}.signerName", signer)
        errors += validate_selector(source.get("labelSelector"), f"{path}.labelSelector")
    else:
        errors.append(required(path, "either name or signerName must be specified"))
    _path(source, "path", path, errors)


def _certificate(source: Object, path: str, errors: list[FieldError]) -> None:
    signer = text(source, "signerName")
    errors += signers.validate_signer(f"{path}.signerName", signer)
    errors += signers.user_annotations(strings(source, "userAnnotations"), f"{path}.userAnnotations")
    if text(source, "keyType") not in KEY_TYPES:
        errors.append(not_supported(f"{path}.keyType", text(source, "keyType"), KEY_TYPES))
    seconds = source.get("maxExpirationSeconds")
    if type(seconds) is int:
        most = signers.longest(signer)
        if seconds < signers.SHORTEST:
            detail = f"if provided, maxExpirationSeconds must be >= {signers.SHORTEST}"
            errors.append(invalid(f"{path}.maxExpirationSeconds", seconds, detail))
        if seconds > most:
            detail = f"if provided, maxExpirationSeconds must be <= {most}"
            errors.append(invalid(f"{path}.maxExpirationSeconds", seconds, detail))
    given = [field for field in CREDENTIAL_PATHS if text(source, field)]
    for field in given:
        own_path(source[field], f"{path}.{field}", errors)
    if not given:
        errors.append(
            required(path, f"specify at least one of {CREDENTIAL_PATHS[0]}, keyPath, and certificateChainPath")
        )
