"""CertificateApproval, CertificateSigning and CertificateSubjectRestriction: who may approve and sign for which signer.

The verbs `approve` and `sign` on `signers` named "<domain>/<signer>" or "<domain>/*"; nobody gets system:masters by a CSR.
"""

from __future__ import annotations

import base64
import binascii

from jota.api.admission.plugin import AdmissionAttributes, Plugin
from jota.api.filters.attributes import Attributes, Authorizer
from jota.kinds.kind import Kind, Object
from jota.kinds.shape import part, parts, text
from jota.meta import conditions
from jota.meta.errors import forbidden
from jota.meta.resource import CSRS

_CLIENT = "kubernetes.io/kube-apiserver-client"


class CertificateSigners(Plugin):
    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    def handles(self, kind: Kind) -> bool:
        return kind.resource == CSRS

    def validate(self, attrs: AdmissionAttributes) -> None:
        """Raises ApiError 403."""
        new = attrs.object
        if new is None:
            return
        signer = text(part(attrs.old or new, "spec"), "signerName")
        if attrs.operation == "CREATE":
            _no_masters(attrs, new, signer)
        elif attrs.subresource == "approval":
            self._require(attrs, signer, "approve")
        elif attrs.subresource == "status" and _signs(new, attrs.old or {}):
            self._require(attrs, signer, "sign")

    def _require(self, attrs: AdmissionAttributes, signer: str, verb: str) -> None:
        for name in (signer, signer.partition("/")[0] + "/*"):
            asked = Attributes(attrs.user, verb, CSRS.group, "*", "signers", name=name)
            if self._authorizer.authorize(attrs.user, asked)[0]:
                return
        detail = f'user not permitted to {verb} requests with signerName "{signer}"'
        raise forbidden(CSRS.plural, attrs.name, detail, CSRS.group)


def _signs(new: Object, old: Object) -> bool:
    after, before = part(new, "status"), part(old, "status")
    if text(after, "certificate") != text(before, "certificate"):
        return True
    failed = (conditions.find(parts(status, "conditions"), "Failed") for status in (after, before))
    return next(failed) != next(failed)


def _no_masters(attrs: AdmissionAttributes, csr: Object, signer: str) -> None:
    if signer != _CLIENT:
        return
    from jota.pki.ca import BadRequest, read_csr

    try:
        subject = read_csr(base64.b64decode(text(part(csr, "spec"), "request")))
    except (BadRequest, binascii.Error):
        return  # the kind's own rules have refused it already, or its signer will
    if "system:masters" in subject.organisations:
        detail = f"use of {_CLIENT} signer with system:masters group is not allowed"
        raise forbidden(CSRS.plural, attrs.name, detail, CSRS.group)
