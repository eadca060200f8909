"""CONNECT: exec, attach, port-forward and proxy, shown to validating webhooks and policies before a stream is opened.

A WebSocket begins with a GET, but who may only look opens no stream: all but proxies need `create` (upstream since 1.35).
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from jota.api.call import Call
from jota.api.filters import creation
from jota.kinds.kind import Object

if TYPE_CHECKING:
    from jota.api.resource import Engine

_OPTIONS = {
    "exec": "ExecOptions",
    "attach": "AttachOptions",
    "portforward": "PortForwardOptions",
    "proxy": "ProxyOptions",
}
_STREAMS = ("exec", "attach", "portforward")
_FLAGS = ("stdin", "stdout", "stderr", "tty")


async def admit(engine: Engine, call: Call) -> None:
    """Raises ApiError when somebody refuses."""
    subresource, kind = call.target.subresource, call.served.kind
    if subresource in _STREAMS and call.target.verb != "create":
        await creation.require(engine, call)
    if subresource not in _OPTIONS or not engine.webhooks.concern(kind):
        return
    attrs = engine.attributes(call, "CONNECT", options(call), None, subresource)
    await engine.webhooks.validate(attrs, call.warn)


def options(call: Call) -> Object:
    """The request's query as the options object that upstream shows, e.g. a PodExecOptions."""
    subresource = call.target.subresource
    shown: Object = {"kind": call.served.resource.kind + _OPTIONS[subresource], "apiVersion": "v1"}
    if subresource == "proxy":
        return {**shown, "path": call.target.rest or "/"}
    for key, value in parse_qsl(call.request.query, keep_blank_values=True):
        if key == "command":
            shown.setdefault("command", []).append(value)
        elif key == "ports":
            shown.setdefault("ports", []).extend(int(p) for p in value.split(",") if p.isascii() and p.isdigit())
        elif key in _FLAGS:
            shown[key] = value.lower() in ("1", "t", "true")
        elif key == "container":
            shown[key] = value
    return shown
