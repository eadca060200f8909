"""Whether an extension server can be asked at all, from the Service and its endpoints. Pure; upstream's order and words.

In: the reference in an APIService and what it leads to. Out: a verdict, or None when only asking the server will tell.
"""

from __future__ import annotations

from typing import NamedTuple

from jota.api import backends
from jota.kinds.kind import Object
from jota.kinds.shape import number, part, text


class Verdict(NamedTuple):
    """The condition Available."""

    status: str
    reason: str
    message: str


PASSED = Verdict("True", "Passed", "all checks passed")


def failed_discovery(problem: str) -> Verdict:
    return Verdict("False", "FailedDiscoveryCheck", problem)


def judge(reference: Object, service: Object | None, slices: list[Object]) -> Verdict | None:
    namespace, name, port = text(reference, "namespace"), text(reference, "name"), number(reference, "port", 443)
    where = f'service/{name} in "{namespace}"'
    if service is None:
        return Verdict("False", "ServiceNotFound", f"{where} is not present")
    if text(part(service, "spec"), "type") == "ExternalName":
        return None
    declared = backends.service_port(service, port)
    if declared is None:
        return Verdict("False", "ServicePortError", f"{where} is not listening on port {port}")
    if not slices:
        return Verdict("False", "EndpointsNotFound", f"cannot find endpointslices for {where}")
    if not backends.ready(slices, text(declared, "name")):
        named = f'have no addresses with port name "{text(declared, "name")}"'
        return Verdict("False", "MissingEndpoints", f"endpointslices for {where} {named}")
    return None
