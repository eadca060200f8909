"""PodCertificateRequests: what a node asks for one of its pods. The spec never changes; the status ends once, as Issued,
Denied or Failed, and an issued chain must be what was asked for (upstream's certificates validation).
"""

from __future__ import annotations

import base64
import binascii
import re

from jota.kinds import conditions, names
from jota.kinds.certificates import signers
from jota.kinds.certificates.signers import LONGEST_OF_KUBERNETES, SHORTEST
from jota.kinds.common import AGE, NAME, moment, path_cell, plain
from jota.kinds.kind import Kind
from jota.kinds.numbers import IMMUTABLE
from jota.kinds.shape import Object, attach, number, part, parts, put_missing, strings, text
from jota.kinds.status import only_status
from jota.meta.errors import FieldError, invalid, not_supported, required, too_long
from jota.meta.resource import POD_CERTIFICATE_REQUESTS

ENDS = ["Denied", "Failed", "Issued"]
LARGEST_REQUEST, LARGEST_CHAIN = 10 << 10, 100 << 10
"""Bytes."""
REFRESH_MARGIN = 600.0
_CHAIN = "status.certificateChain"
_ADDRESS = re.compile(r'("[^"]+"|[^\s@<>()\[\],;:\\"]+)@[^\s@<>()\[\],;:\\"]+')


def default(request: Object) -> None:
    put_missing(attach(request, "spec"), "maxExpirationSeconds", LONGEST_OF_KUBERNETES)


def validate_create(request: Object) -> list[FieldError]:
    spec = part(request, "spec")
    signer = text(spec, "signerName")
    errors = signers.validate_signer("spec.signerName", signer)
    errors += signers.user_annotations(strings(spec, "unverifiedUserAnnotations"), "spec.unverifiedUserAnnotations")
    for kind in ("pod", "serviceAccount", "node"):
        name, uid = text(spec, f"{kind}Name"), text(spec, f"{kind}UID")
        errors += [invalid(f"spec.{kind}Name", name, problem) for problem in names.dns_subdomain(name)]
        if not uid:
            errors.append(invalid(f"spec.{kind}UID", uid, "must not be empty"))
        elif len(uid) > 128:
            errors.append(too_long(f"spec.{kind}UID", 128))
    seconds = number(spec, "maxExpirationSeconds")
    most = signers.longest(signer)
    if not SHORTEST <= seconds <= most:
        errors.append(invalid("spec.maxExpirationSeconds", seconds, f"must be in the range [{SHORTEST}, {most}]"))
    return errors + _signing_request(text(spec, "stubPKCS10Request"))


def _signing_request(encoded: str) -> list[FieldError]:
    path = "spec.stubPKCS10Request"
    if not encoded:
        return [required(path)]
    # reading certificates costs 50 ms to load: only who asks for them pays
    from jota.pki import pem

    try:
        der = base64.b64decode(encoded, validate=True)
        if len(der) > LARGEST_REQUEST:
            return [too_long(path, LARGEST_REQUEST)]
        found = pem.signing_request(der)
    except (ValueError, binascii.Error):
        return [_omitted(path, "must be a valid PKCS#10 certificate signing request")]
    if found.key_problem:
        return [_omitted(path, found.key_problem)]
    return [] if found.signed else [_omitted(path, "could not verify the signature of the request")]


def validate_update(new: Object, old: Object) -> list[FieldError]:
    spec = part(new, "spec")
    return [invalid("spec", spec, IMMUTABLE)] if spec != part(old, "spec") else []


# --- status --------------------------------------------------------------------------------------------------------------


def ended(request: Object) -> str:
    """Issued, Denied, Failed, or "" while it is open."""
    found = parts(part(request, "status"), "conditions")
    return next((text(c, "type") for c in found if text(c, "type") in ENDS and text(c, "status") == "True"), "")


def validate_status(new: Object, old: Object) -> list[FieldError]:
    """One known condition at most, and then the status is what that condition says. Its times are judged on admission."""
    status, was = part(new, "status"), part(old, "status")
    errors = _ends(status) + conditions.validate(status)
    if errors:
        return errors
    if ended(old):
        detail = "immutable after PodCertificateRequest is issued, denied, or failed"
        return [_omitted("status", detail)] if status != was else []
    end = ended(new)
    if not end:
        detail = 'status is immutable unless transitioning to "Issued", "Denied", or "Failed"'
        return [_omitted("status", detail)] if status != was else []
    if end != "Issued":
        others = [key for key, value in status.items() if key != "conditions" and value]
        detail = "non-condition status fields must be empty when denying or failing the PodCertificateRequest"
        return [_omitted("status", detail)] if others else []
    return _issued(part(new, "spec"), status)


def _ends(status: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    known = 0
    for i, condition in enumerate(parts(status, "conditions")):
        at, type_, value = f"status.conditions[{i}]", text(condition, "type"), text(condition, "status")
        if type_ not in ENDS:
            errors.append(not_supported(f"{at}.type", type_, ["Issued", "Denied", "Failed"]))
            continue
        known += 1
        if known > 1:
            detail = 'There may be at most one condition with type "Issued", "Denied", or "Failed"'
            errors.append(invalid(f"{at}.type", type_, detail))
        if value != "True":
            errors.append(not_supported(f"{at}.status", value, ["True"]))
    return errors


def _issued(spec: Object, status: Object) -> list[FieldError]:
    from jota.pki import pem

    chain = text(status, "certificateChain")
    if len(chain.encode()) > LARGEST_CHAIN:
        return [too_long(_CHAIN, LARGEST_CHAIN)]
    found = pem.blocks(chain)
    if not found:
        return [invalid(_CHAIN, chain, "issued certificate chain must contain at least one certificate")]
    if any(block.type != "CERTIFICATE" for block in found):
        return [invalid(_CHAIN, chain, "issued certificate chain must consist entirely of CERTIFICATE PEM blocks")]
    try:
        leaf = pem.certificate(found[0].der)
    except ValueError:
        return [invalid(_CHAIN, chain, "leaf certificate does not parse as valid X.509")]
    errors = _names(leaf)
    try:
        if pem.signing_request(base64.b64decode(text(spec, "stubPKCS10Request"))).public_key != leaf.public_key:
            detail = "leaf certificate was not issued to the requested public key"
            return [*errors, invalid(_CHAIN, chain, detail)]
    except (ValueError, binascii.Error):
        return [*errors, _omitted("spec.stubPKCS10Request", "must be a valid PKCS#10 certificate signing request")]
    errors += _times(spec, status, leaf.not_before, leaf.not_after)
    if errors:
        return errors
    for block in found[1:]:
        try:
            pem.certificate(block.der)
        except ValueError:
            return [invalid(_CHAIN, chain, "intermediate certificate does not parse as valid X.509")]
    return []


def _names(leaf: object) -> list[FieldError]:
    errors: list[FieldError] = []
    for name in getattr(leaf, "dns_names", ()):
        if not name:
            errors.append(invalid(_CHAIN, name, "leaf certificate should not contain empty DNSName"))
        if ".." in name:
            errors.append(invalid(_CHAIN, name, "leaf certificate's DNSName should not contain '..'"))
        if name.startswith(".") or name.endswith("."):
            errors.append(invalid(_CHAIN, name, "leaf certificate's DNSName should not start or end with '.'"))
    for address in getattr(leaf, "emails", ()):
        if not _ADDRESS.fullmatch(address):
            errors.append(invalid(_CHAIN, address, "leaf certificate should not contain invalid EmailAddress"))
    return errors


def _times(spec: Object, status: Object, begins: float, ends: float) -> list[FieldError]:
    texts = {key: text(status, key) for key in ("notBefore", "notAfter", "beginRefreshAt")}
    within = "must be present and in the range [notbefore+10min, notafter-10min]"
    consistent = "must be present and consistent with the issued certificate"
    missing = [key for key, value in texts.items() if moment(value) is None]
    if missing:
        return [required(f"status.{key}", within if key == "beginRefreshAt" else consistent) for key in missing]
    if moment(texts["notBefore"]) != begins:
        detail = "must be set to the NotBefore time encoded in the leaf certificate"
        return [invalid("status.notBefore", texts["notBefore"], detail)]
    if moment(texts["notAfter"]) != ends:
        detail = "must be set to the NotAfter time encoded in the leaf certificate"
        return [invalid("status.notAfter", texts["notAfter"], detail)]
    lifetime, most = ends - begins, number(spec, "maxExpirationSeconds")
    if lifetime < SHORTEST:
        return [invalid(_CHAIN, f"{lifetime:.0f}s", "leaf certificate lifetime must be >= 1 hour")]
    if lifetime > most:
        detail = f"leaf certificate lifetime must be <= spec.maxExpirationSeconds ({most})"
        return [invalid(_CHAIN, f"{lifetime:.0f}s", detail)]
    refresh = moment(texts["beginRefreshAt"]) or 0.0
    if refresh < begins + REFRESH_MARGIN:
        detail = "must be at least 10 minutes after status.notBefore"
        return [invalid("status.beginRefreshAt", texts["beginRefreshAt"], detail)]
    if refresh > ends - REFRESH_MARGIN:
        detail = "must be at least 10 minutes before status.notAfter"
        return [invalid("status.beginRefreshAt", texts["beginRefreshAt"], detail)]
    return []


def _omitted(path: str, detail: str) -> FieldError:
    """Upstream leaves values out that would only fill the screen."""
    return FieldError("FieldValueInvalid", path, f"Invalid value: {detail}")


KIND = Kind(
    POD_CERTIFICATE_REQUESTS,
    schema="io.k8s.api.certificates.v1.PodCertificateRequest",
    singular="podcertificaterequest",
    default=default,
    validate_create=validate_create,
    validate_update=validate_update,
    validate_status=validate_status,
    prepare_status=only_status,
    columns=(
        NAME,
        plain("PodName", path_cell("spec", "podName", missing="")),
        plain("ServiceAccountName", path_cell("spec", "serviceAccountName", missing="")),
        plain("NodeName", path_cell("spec", "nodeName", missing="")),
        plain("SignerName", path_cell("spec", "signerName", missing="")),
        plain("State", lambda request, _now: ended(request) or "Pending"),
        AGE,
    ),
    selectable={
        "spec.signerName": lambda request: text(part(request, "spec"), "signerName"),
        "spec.podName": lambda request: text(part(request, "spec"), "podName"),
        "spec.nodeName": lambda request: text(part(request, "spec"), "nodeName"),
    },
    status=True,
)
