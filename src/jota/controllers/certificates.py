"""Certificates: approves the requests that nodes may make for themselves, and signs what is approved.

In: CertificateSigningRequests. Out: the Approved condition and status.certificate. Three signers are ours:
kube-apiserver-client-kubelet (who the node is), kubelet-serving (what its own server shows), and kube-apiserver-client (who
a user is), which nobody approves but an administrator. `judge` and `misused` are pure.
"""

from __future__ import annotations

import base64
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, ClassVar

from jota.aio.clock import parse_rfc3339
from jota.controllers import conditions
from jota.controllers.controller import Context, Controller, own
from jota.meta.errors import ApiError
from jota.meta.resource import CSRS

if TYPE_CHECKING:
    from jota.pki.ca import Subject

Object = dict[str, Any]

CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
SERVING = "kubernetes.io/kubelet-serving"
USER = "kubernetes.io/kube-apiserver-client"
NODE_USER, NODE_GROUP, BOOTSTRAP_GROUP = "system:node:", "system:nodes", "system:bootstrappers"
_COMMON_USAGES = frozenset({"digital signature", "key encipherment"})
_OWN_USAGE = {CLIENT: "client auth", SERVING: "server auth"}
_UNASKED = "AutoApproved"
"""The reason of an approval that is ours."""
KEEP = {"pending": 86400.0, "approved": 3600.0, "denied": 3600.0}
"""Seconds after which requests are deleted (as upstream's cleaner)."""


def judge(spec: Object, subject: Subject, reserved: Collection[str] = ()) -> str:
    """ "" when the requester may have this certificate, else why not (upstream's rules for these signers). `reserved`: names and
    addresses of the API server, which no node may have."""
    if wrong := unfit(spec, subject):
        return wrong
    itself = spec.get("username") == subject.common_name and NODE_GROUP in (spec.get("groups") or [])
    if spec["signerName"] == SERVING:
        if not subject.dns_names and not {*subject.ip_addresses} - {*reserved}:
            return "a serving certificate needs a DNS name or an address of its own"
        node = subject.common_name.removeprefix(NODE_USER)
        for name in subject.dns_names:
            if (name != node and not name.startswith(node + ".")) or name in reserved:
                return f"{name} is not a name of the node"
        return "" if itself else "a node may ask only for itself"
    if itself or BOOTSTRAP_GROUP in (spec.get("groups") or []):
        return ""
    return "the requester is neither this node nor a bootstrap token"


def unfit(spec: Object, subject: Subject) -> str:
    """ "" when this is a kubelet's certificate of the kind that its signer signs, whoever asks and whoever approved, else why not
    (ValidateKubeletServingCSR, ValidateKubeletClientCSR)."""
    signer, usages = spec["signerName"], set(spec.get("usages") or ())
    if _OWN_USAGE[signer] not in usages or usages - _COMMON_USAGES - {_OWN_USAGE[signer]}:
        return f"usages {sorted(usages)} do not fit {signer}"
    if subject.organisations != (NODE_GROUP,) or not subject.common_name.startswith(NODE_USER):
        return "the subject must be a node: O=system:nodes, CN=system:node:<name>"
    if subject.common_name == NODE_USER:
        return "the node has no name"
    if signer == SERVING:
        hosts = subject.dns_names or subject.ip_addresses
        return "" if hosts else "a serving certificate needs a DNS name or an address"
    return "a client certificate names no hosts" if subject.dns_names or subject.ip_addresses else ""


def misused(usages: list[str]) -> str:
    """ "" when USER may sign for these usages, else why not (upstream's words)."""
    for usage in usages:
        if usage not in _COMMON_USAGES and usage != "client auth":
            return f"invalid usage for client certificate: {usage}"
    return "" if "client auth" in usages else "missing required usage for client certificate: client auth"


def outdated(csr: Object, now: float) -> bool:
    """It has been answered, or ignored, long enough."""
    meta, status = csr["metadata"], csr.get("status") or {}
    conds = {c["type"] for c in status.get("conditions") or ()}
    state = "denied" if conds & {"Denied", "Failed"} else "approved" if "Approved" in conds else "pending"
    return now - parse_rfc3339(meta["creationTimestamp"]) > KEEP[state]


class CertificateController(Controller):
    name: ClassVar[str] = "certificates"
    resync: ClassVar[float] = 1800.0

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.requests = self.watch(CSRS, own)

    async def reconcile(self, key: str) -> float | None:
        csr = self.requests.get(key)
        if csr is None:
            return None
        if outdated(csr, self.clock.now()):
            await self._delete(csr)
            return None
        if csr["spec"]["signerName"] not in (CLIENT, SERVING, USER) or self.config.signer is None:
            return None
        conds = (csr.get("status") or {}).get("conditions") or []
        if conditions.find(conds, "Denied") or conditions.find(conds, "Failed"):
            return None
        if not conditions.find(conds, "Approved"):
            if csr["spec"]["signerName"] != USER:
                await self._approve(key, csr, conds)
        elif not (csr.get("status") or {}).get("certificate"):
            await self._sign(key, csr)
        return None

    async def _approve(self, key: str, csr: Object, conds: list[Object]) -> None:
        from jota.pki.ca import BadRequest, read_csr

        try:
            subject = read_csr(base64.b64decode(csr["spec"]["request"]))
            refused = judge(csr["spec"], subject, self.config.reserved)
        except BadRequest as e:
            refused = str(e)
        if refused:
            return  # not for us to allow; an administrator still may
        text = "Auto approving the client certificate of a node that asked for itself, or joins by a bootstrap token."
        if csr["spec"]["signerName"] == SERVING:
            text = "Auto approving the serving certificate that a node asked for itself."
        after = conditions.put(conds, "Approved", "True", _UNASKED, text, self.clock.now())
        changed = {**csr, "status": {**(csr.get("status") or {}), "conditions": after}}
        self.wrote(key, self.requests, await self.client.update(CSRS, changed, "approval"))

    async def _sign(self, key: str, csr: Object) -> None:
        from jota.pki.ca import BadRequest, read_csr

        spec, status = csr["spec"], csr.get("status") or {}
        days = min(self.config.certificate_days, (spec.get("expirationSeconds") or float("inf")) / 86400)
        serving = spec["signerName"] == SERVING
        approved = conditions.find(status.get("conditions") or [], "Approved") or {}
        try:
            request = base64.b64decode(spec["request"])
            user = spec["signerName"] == USER
            if wrong := misused(spec.get("usages") or []) if user else unfit(spec, read_csr(request)):
                raise BadRequest(wrong)
            pem = self.config.signer.sign_csr(
                request,
                days=days,
                client=not serving,
                server=serving,
                now=self.clock.now(),
                without=self.config.reserved if approved.get("reason") == _UNASKED else (),
            )
        except BadRequest as e:
            conds = status.get("conditions") or []
            failed = conditions.put(conds, "Failed", "True", "SignerValidationFailure", str(e), self.clock.now())
            status = {**status, "conditions": failed}
        else:
            status = {**status, "certificate": base64.b64encode(pem).decode()}
        self.wrote(key, self.requests, await self.client.update(CSRS, {**csr, "status": status}, "status"))

    async def _delete(self, csr: Object) -> None:
        try:
            await self.client.delete(CSRS, csr["metadata"]["name"], uid=csr["metadata"]["uid"])
        except ApiError as e:
            if e.code != 404:
                raise
