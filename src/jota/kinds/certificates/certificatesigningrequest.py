"""CertificateSigningRequests. Who asks is written by the API; approval and the certificate go through subresources."""

from __future__ import annotations

import base64
import binascii
import json

from jota.kinds.common import AGE, NAME, NONE, human_duration, path_cell, plain
from jota.kinds.kind import Kind
from jota.kinds.shape import Object, part, parts, text, texts
from jota.meta.errors import FieldError, forbidden_field, invalid, required
from jota.meta.resource import CSRS

REQUESTS = ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
"""Types of PEM blocks; the second is what older tools write."""
SHORTEST_SECONDS = 600
_CERTIFICATE = "status.certificate"


def validate(csr: Object) -> list[FieldError]:
    spec = part(csr, "spec")
    errors: list[FieldError] = []
    if not _is_request(text(spec, "request")):
        errors.append(invalid("spec.request", text(spec, "request"), "PEM block type must be CERTIFICATE REQUEST"))
    usages = texts(spec, "usages")
    if not usages:
        errors.append(required("spec.usages"))
    signer = text(spec, "signerName")
    if not signer:
        errors.append(required("spec.signerName"))
    elif "/" not in signer.strip("/"):
        detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        errors.append(invalid("spec.signerName", signer, detail))
    seconds = spec.get("expirationSeconds")
    if type(seconds) is int and seconds < SHORTEST_SECONDS:
        errors.append(
            invalid("spec.expirationSeconds", seconds, "may not specify a duration less than 600 seconds (10 minutes)")
        )
    return errors + _validate_conditions(part(csr, "status"))


def _is_request(encoded: str) -> bool:
    """The first PEM block counts; what stands before it does not: openssl and people write what they like there."""
    from jota.pki import pem

    try:
        found = pem.blocks(base64.b64decode(encoded).decode("latin-1"))
    except (ValueError, binascii.Error):
        return False
    return bool(found) and found[0].type in REQUESTS


def _validate_conditions(status: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    conditions = parts(status, "conditions")
    types = {text(c, "type") for c in conditions}
    for i, condition in enumerate(conditions):
        if not text(condition, "type"):
            errors.append(required(f"status.conditions[{i}].type"))
        if text(condition, "type") in ("Approved", "Denied", "Failed") and text(condition, "status") != "True":
            where = f"status.conditions[{i}].status"
            detail = f'Approved, Denied and Failed conditions may only be "True", not "{text(condition, "status")}"'
            errors.append(invalid(where, text(condition, "status"), detail))
    if {"Approved", "Denied"} <= types:
        errors.append(invalid("status.conditions", "Denied", "Approved and Denied conditions are mutually exclusive"))
    return errors


def validate_status(new: Object, old: Object) -> list[FieldError]:
    """Writes through /status: a signer gives its certificate once, and decides nothing (that is /approval's)."""
    status, was = part(new, "status"), part(old, "status")
    errors: list[FieldError] = []
    for type_ in ("Approved", "Denied"):
        had, has = ([c for c in parts(one, "conditions") if text(c, "type") == type_] for one in (was, status))
        if bool(had) != bool(has):
            word = "remove" if had else "add"
            errors.append(forbidden_field("status.conditions", f'updates may not {word} a condition of type "{type_}"'))
    certificate, given = text(status, "certificate"), text(was, "certificate")
    if certificate == given:
        return errors
    if given:
        errors.append(forbidden_field(_CERTIFICATE, "updates may not modify existing certificate content"))
    elif problem := _certificates_problem(certificate):
        errors.append(invalid(_CERTIFICATE, "<certificate data>", problem))
    return errors


def _certificates_problem(encoded: str) -> str:
    """Why this is not PEM blocks of certificates and nothing else; "" when it is."""
    from jota.pki import pem  # loads what reads certificates: only who asks for one, or signs, pays

    try:
        found = pem.blocks(base64.b64decode(encoded).decode("latin-1"))
    except ValueError:
        return "must be base64"
    if not found:
        return "must contain at least one CERTIFICATE PEM block"
    for block in found:
        if block.type != "CERTIFICATE":
            return "only CERTIFICATE PEM blocks are allowed, found " + json.dumps(block.type)
        if block.headers:
            return "no PEM block headers are permitted"
        try:
            pem.certificate(block.der)
        except ValueError:
            return "found CERTIFICATE PEM block that is no certificate"
    return ""


def prepare_update(new: Object, old: Object) -> None:
    """What is asked for never changes."""
    if "spec" in old:
        new["spec"] = old["spec"]


def _condition(csr: Object, _now: float) -> str:
    status = part(csr, "status")
    types = {text(c, "type") for c in parts(status, "conditions")}
    word = "Denied" if "Denied" in types else "Approved" if "Approved" in types else "Pending"
    return word + (",Failed" if "Failed" in types else "") + (",Issued" if text(status, "certificate") else "")


def _duration(csr: Object, _now: float) -> str:
    seconds = part(csr, "spec").get("expirationSeconds")
    return human_duration(seconds) if type(seconds) is int else NONE


KIND = Kind(
    CSRS,
    schema="io.k8s.api.certificates.v1.CertificateSigningRequest",
    singular="certificatesigningrequest",
    short_names=("csr",),
    validate=validate,
    validate_status=validate_status,
    prepare_update=prepare_update,
    columns=(
        NAME,
        AGE,
        plain("SignerName", path_cell("spec", "signerName", missing="")),
        plain("Requestor", path_cell("spec", "username", missing="")),
        plain("RequestedDuration", _duration),
        plain("Condition", _condition),
    ),
    selectable={"spec.signerName": lambda csr: text(part(csr, "spec"), "signerName")},
    status=True,
    subresources=("approval",),
    name_rule="path-segment",
)
