"""ClusterTrustBundles: trust anchors for pods. The bundle is read when it changes; a bundle of a signer carries its name."""

from __future__ import annotations

from jota.kinds.certificates.signers import bundle_name, validate_signer
from jota.kinds.common import NAME, path_cell, plain
from jota.kinds.kind import Kind
from jota.kinds.numbers import IMMUTABLE
from jota.kinds.shape import Object, meta, part, text
from jota.meta.errors import FieldError, invalid, too_long
from jota.meta.resource import CLUSTER_TRUST_BUNDLES

LARGEST = 1 << 20
"""Bytes of spec.trustBundle."""
_PATH = "spec.trustBundle"


def validate(bundle: Object) -> list[FieldError]:
    name, signer = text(meta(bundle), "name"), text(part(bundle, "spec"), "signerName")
    errors = [invalid("metadata.name", name, problem) for problem in bundle_name(name, signer)]
    if signer:
        errors += validate_signer("spec.signerName", signer)
    return errors


def validate_create(bundle: Object) -> list[FieldError]:
    return validate_bundle(text(part(bundle, "spec"), "trustBundle"))


def validate_update(new: Object, old: Object) -> list[FieldError]:
    spec, was = part(new, "spec"), part(old, "spec")
    errors = []
    if text(spec, "trustBundle") != text(was, "trustBundle"):
        errors += validate_bundle(text(spec, "trustBundle"))
    if text(spec, "signerName") != text(was, "signerName"):
        errors.append(invalid("spec.signerName", text(spec, "signerName"), IMMUTABLE))
    return errors


def validate_bundle(bundle: str) -> list[FieldError]:
    """At least one certificate of an authority, none twice, and nothing else."""
    if len(bundle.encode()) > LARGEST:
        return [too_long(_PATH, LARGEST)]
    # reading certificates costs 50 ms to load: only who brings bundles pays
    from jota.pki import pem

    errors: list[FieldError] = []
    seen: dict[bytes, list[int]] = {}
    for i, block in enumerate(pem.blocks(bundle)):
        problem = ""
        if block.type != "CERTIFICATE":
            problem = f"has bad block type: {block.type}"
        elif block.headers:
            problem = "has PEM block headers"
        else:
            try:
                problem = "" if pem.certificate(block.der).authority else "does not have the CA bit set"
            except ValueError:
                problem = "does not parse as X.509"
        if problem:
            errors.append(_omitted(f"entry {i} {problem}"))
        seen.setdefault(block.der, []).append(i)
    if errors:
        return errors
    if not seen:
        return [_omitted("at least one trust anchor must be provided")]
    shown = (" ".join(map(str, at)) for at in seen.values() if len(at) > 1)
    return [_omitted(f"duplicate trust anchor (indices [{indices}])") for indices in shown]


def _omitted(detail: str) -> FieldError:
    return invalid(_PATH, "<value omitted>", detail)


KIND = Kind(
    CLUSTER_TRUST_BUNDLES,
    schema="io.k8s.api.certificates.v1.ClusterTrustBundle",
    singular="clustertrustbundle",
    validate=validate,
    validate_create=validate_create,
    validate_update=validate_update,
    columns=(NAME, plain("SignerName", path_cell("spec", "signerName", missing="<none>"))),
    selectable={"spec.signerName": lambda bundle: text(part(bundle, "spec"), "signerName")},
    name_rule="path-segment",
)
