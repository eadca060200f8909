"""When a DeviceTaintRule's taint was added, or its effect was changed: the server's time, unless the writer gives another.

Upstream does this in its defaults and its strategy; fact sheets know no clock.
"""

from __future__ import annotations

from jota.aio.clock import rfc3339
from jota.api.admission.plugin import AdmissionAttributes, Plugin
from jota.kinds.kind import Kind
from jota.kinds.shape import deep, text


class DeviceTaint(Plugin):
    def handles(self, kind: Kind) -> bool:
        return (kind.resource.group, kind.resource.plural) == ("resource.k8s.io", "devicetaintrules")

    def admit(self, attrs: AdmissionAttributes) -> None:
        taint, was = deep(attrs.object or {}, "spec", "taint"), deep(attrs.old or {}, "spec", "taint")
        if not taint or attrs.subresource:
            return
        same_time = text(taint, "timeAdded") == text(was, "timeAdded")
        if not text(taint, "timeAdded") or (was and same_time and text(taint, "effect") != text(was, "effect")):
            taint["timeAdded"] = rfc3339(attrs.now)
