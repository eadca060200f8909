"""CertificateSigningRequests carry who sent them: spec.username, uid, groups and extra are the server's to write."""

from __future__ import annotations

from jota.api.admission.plugin import AdmissionAttributes, Plugin
from jota.kinds.kind import Kind
from jota.kinds.shape import attach
from jota.meta.resource import CSRS


class CertificateRequest(Plugin):
    def handles(self, kind: Kind) -> bool:
        return kind.resource == CSRS

    def admit(self, attrs: AdmissionAttributes) -> None:
        if attrs.operation != "CREATE" or attrs.object is None:
            return
        spec, user = attach(attrs.object, "spec"), attrs.user
        for field in ("username", "uid", "groups", "extra"):
            spec.pop(field, None)
        spec["username"] = user.name
        if user.uid:
            spec["uid"] = user.uid
        if user.groups:
            spec["groups"] = list(user.groups)
        if user.extra:
            spec["extra"] = {key: list(values) for key, values in user.extra.items()}
