"""Lifecycle hooks: postStart and preStop by exec, HTTP, TCP or sleep. In: the handler. Out: "" or why it failed.

Hooks run at least once; a failed postStart ends the container, a failed preStop is only told. Next: worker.py.
"""

from __future__ import annotations

from jota.aio.clock import Clock
from jota.node.model import Object
from jota.node.probes import http, tcp
from jota.node.probes.target import port_number
from jota.runtime.protocol import Runtime, RuntimeFault

FOREVER = 10 * 365 * 86_400.0


async def run(
    handler: Object, container: Object, container_id: str, ip: str, runtime: Runtime, clock: Clock, limit: float
) -> str:
    """Carry out one handler within `limit` seconds."""
    try:
        if action := handler.get("exec"):
            code, out, err = await runtime.exec_sync(container_id, action.get("command") or [], limit)
            text = (out + err).decode("utf-8", "replace").strip()
            return "" if code == 0 else f"command {action.get('command')} exited with {code}: {text[:512]}"
        if action := handler.get("httpGet"):
            host, port = action.get("host") or ip, port_number(container, action["port"])
            status, body = await http.get(action, host, port, limit)
            return "" if 200 <= status < 400 else f"HTTP {status}: {body[:256]}"
        if action := handler.get("tcpSocket"):
            return await tcp.connect(action.get("host") or ip, port_number(container, action["port"]), limit)
        if action := handler.get("sleep"):
            await clock.sleep(min(float(action.get("seconds", 0)), limit))
            return ""
    except TimeoutError:
        return f"did not finish within {limit:.0f} s"
    except (RuntimeFault, OSError, ValueError) as e:
        return str(e)
    return f"unsupported handler: {', '.join(handler) or 'empty'}"
