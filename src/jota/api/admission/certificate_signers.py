"""CertificateApproval, CertificateSigning, CertificateSubjectRestriction and ClusterTrustBundleAttest: who may approve, sign
and attest for which signer.

The verbs `approve`, `sign` and `attest` on `signers` named "<domain>/<signer>" or "<domain>/*"; nobody gets system:masters by a CSR.
"""

from __future__ import annotations

import base64
import binascii

from jota.api.admission.plugin import AdmissionAttributes, Plugin
from jota.api.filters.attributes import Attributes, Authorizer
from jota.api.filters.authz import decide
from jota.kinds.common import moment
from jota.kinds.kind import Kind, Object
from jota.kinds.shape import part, parts, text
from jota.meta import conditions
from jota.meta.errors import forbidden, forbidden_field, invalid, invalid_object
from jota.meta.resource import CSRS

CLOCK_SKEW = 300.0
"""Seconds between the beginning of a pod certificate and now."""
_CLIENT = "kubernetes.io/kube-apiserver-client"


class CertificateSigners(Plugin):
    asks = True

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    def handles(self, kind: Kind) -> bool:
        return kind.resource.group == CSRS.group

    async def judge(self, attrs: AdmissionAttributes) -> None:
        """Raises ApiError 403, 422."""
        new = attrs.object
        if new is None:
            return
        if attrs.kind.resource.plural == "podcertificaterequests":
            await self._pod_certificate(attrs, new, attrs.old or {})
            return
        if attrs.kind.resource.plural == "clustertrustbundles":
            await self._trust_bundle(attrs, new, attrs.old)
            return
        signer = text(part(attrs.old or new, "spec"), "signerName")
        if attrs.operation == "CREATE":
            _no_masters(attrs, new, signer)
        elif attrs.subresource == "approval":
            await self._require(attrs, signer, "approve")
        elif attrs.subresource == "status" and _signs(new, attrs.old or {}):
            await self._require(attrs, signer, "sign")

    async def _pod_certificate(self, attrs: AdmissionAttributes, new: Object, old: Object) -> None:
        """Who changes the status signs; a certificate begins now. Raises ApiError 422."""
        status = part(new, "status")
        if attrs.subresource != "status" or status == part(old, "status"):
            return
        signer, begins = text(part(old, "spec"), "signerName"), moment(text(status, "notBefore"))
        errors = []
        if not await self._may(attrs, signer, "sign"):
            detail = f'User "{attrs.user.name}" is not permitted to "sign" for signer "{signer}"'
            errors.append(forbidden_field("spec.signerName", detail))
        if begins is not None and abs(begins - attrs.now) >= CLOCK_SKEW:
            detail = "must be set to within 5 minutes of kube-apiserver's current time"
            errors.append(invalid("status.notBefore", text(status, "notBefore"), detail))
        if errors:
            raise invalid_object(attrs.kind.resource.kind, attrs.name, errors, CSRS.group)

    async def _trust_bundle(self, attrs: AdmissionAttributes, new: Object, old: Object | None) -> None:
        """Raises ApiError 403."""
        signer = text(part(new, "spec"), "signerName")
        if not signer or (old is not None and part(new, "spec") == part(old, "spec")):
            return
        if not await self._may(attrs, signer, "attest"):
            detail = f'user not permitted to attest for signerName "{signer}"'
            raise forbidden(attrs.kind.resource.plural, attrs.name, detail, CSRS.group)

    async def _may(self, attrs: AdmissionAttributes, signer: str, verb: str) -> bool:
        for name in (signer, signer.partition("/")[0] + "/*"):
            asked = Attributes(attrs.user, verb, CSRS.group, "*", "signers", name=name)
            if (await decide(self._authorizer, attrs.user, asked)).allowed:
                return True
        return False

    async def _require(self, attrs: AdmissionAttributes, signer: str, verb: str) -> None:
        if await self._may(attrs, signer, verb):
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
