"""The probes of one pod: a task per probe and container. In: running containers. Out: settled results through `settled`.

Upstream's rules: startup holds the others back; a result settles after successThreshold or failureThreshold equal outcomes in
a row; liveness and startup begin as passing, readiness as failing. Jota's readiness and startup probes begin at once (with
initialDelaySeconds 0) and are retried quickly until the first success, so that a pod is ready when its process is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from jota.aio.clock import Clock
from jota.node.model import Object, Observed, parts
from jota.node.plan import post_start
from jota.node.probes import grpc, http, tcp
from jota.node.probes.target import port_number
from jota.runtime.protocol import Runtime, RuntimeFault

KINDS = ("startup", "liveness", "readiness")
Settled = Callable[[str, str, bool], None]
"""(container id, kind, passed)"""
Tell = Callable[[str, str, str], None]
"""(container name, reason, message): a warning, Unhealthy or ProbeWarning."""
FIRST_RETRIES = (0.02, 0.05, 0.1, 0.2, 0.5)
"""Seconds between the first attempts of a probe that has not passed yet; they do not count as failures."""
TEXT_LIMIT = 512


class Prober:
    """Starts and ends probe tasks as containers come and go."""

    def __init__(
        self, runtime: Runtime, clock: Clock, random: Random, group: asyncio.TaskGroup, settled: Settled, tell: Tell
    ) -> None:
        self._runtime, self._clock, self._random, self._group = runtime, clock, random, group
        self._settled, self._tell = settled, tell
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._passed: set[str] = set()
        """Ids of containers whose startup probe has passed."""
        self._host_ip = ""

    def update(self, pod: Object, seen: Observed, host_ip: str, hooked: dict[str, str], stopping: bool) -> None:
        """Probe exactly the running containers. While the pod stops only readiness goes on."""
        ip = host_ip if pod["spec"].get("hostNetwork") else seen.ip
        wanted: dict[tuple[str, str], tuple[Object, Object]] = {}
        for p in parts(pod):
            c = next((c for c in seen.of(p.name) if c.state == "running"), None)
            if c is None or p.role in ("init", "ephemeral") or (post_start(p) and hooked.get(c.id) != ""):
                continue
            for kind in KINDS:
                probe = p.spec.get(f"{kind}Probe")
                if probe and (kind == "readiness" or not stopping) and self._due(p.spec, c.id, kind):
                    wanted[c.id, kind] = (p.spec, probe)
        for key in [k for k in self._tasks if k not in wanted]:
            self._tasks.pop(key).cancel()
        for key, (container, probe) in wanted.items():
            if key not in self._tasks:
                started = next(c.started_at for c in seen.containers if c.id == key[0])
                work = self._run(container, probe, key[0], key[1], ip, started)
                self._tasks[key] = self._group.create_task(work, name=f"{key[1]} probe {container['name']}")

    def _due(self, container: Object, container_id: str, kind: str) -> bool:
        if kind == "startup":
            return container_id not in self._passed
        return not container.get("startupProbe") or container_id in self._passed

    def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    async def _run(self, container: Object, probe: Object, cid: str, kind: str, ip: str, started: float) -> None:
        period = float(probe.get("periodSeconds") or 10)
        need = int(probe.get("successThreshold") or 1), int(probe.get("failureThreshold") or 3)
        initial = float(probe.get("initialDelaySeconds") or 0)
        if kind == "liveness":
            # A check at the very start of a process only tells that it is starting.
            initial = max(initial, min(period, 1.0)) if initial == 0 else initial
        await self._clock.sleep(max(0.0, started + initial - self._clock.now()))
        good = bad = tries = 0
        held: bool | None = None
        while True:
            failure = await self._once(container, probe, cid, kind, ip)
            if failure is None:
                good, bad = good + 1, 0
            elif held is None and kind != "liveness" and tries < len(FIRST_RETRIES):
                await self._clock.sleep(FIRST_RETRIES[tries])
                tries += 1
                continue
            else:
                good, bad = 0, bad + 1
                self._tell(container["name"], "Unhealthy", f"{kind.capitalize()} probe failed: {failure}")
            if good >= need[0] and held is not True:
                held = True
                self._settle(cid, kind, True)
            elif bad >= need[1] and held is not False:
                held = False
                self._settle(cid, kind, False)
            if kind == "startup" and held is not None:
                return
            await self._clock.sleep(period)

    def _settle(self, cid: str, kind: str, passed: bool) -> None:
        if kind == "startup" and passed:
            self._passed.add(cid)
        self._settled(cid, kind, passed)

    async def _once(self, container: Object, probe: Object, cid: str, kind: str, ip: str) -> str | None:
        """None when the check passed, else why not."""
        timeout = float(probe.get("timeoutSeconds") or 1)
        try:
            return await self._check(container, probe, cid, kind, ip, timeout) or None
        except TimeoutError:
            if probe.get("exec"):
                return (
                    f"command timed out: {' '.join(probe['exec'].get('command') or [])!r} timed out after {timeout:g}s"
                )
            return f"context deadline exceeded (no answer within {timeout:g}s)"
        except (RuntimeFault, OSError, ValueError) as e:
            return str(e)

    async def _check(self, container: Object, probe: Object, cid: str, kind: str, ip: str, timeout: float) -> str:
        if action := probe.get("exec"):
            code, out, err = await self._runtime.exec_sync(cid, action.get("command") or [], timeout)
            text = (out + err).decode("utf-8", "replace")[:TEXT_LIMIT]
            return "" if code == 0 else text or f"command exited with code {code}"
        if action := probe.get("httpGet"):
            port = port_number(container, action["port"])
            status, body = await http.get(action, action.get("host") or ip, port, timeout)
            if 300 <= status < 400:  # it leads elsewhere, where nobody looked: the kubelet lets that pass, and says so
                text = f"{kind.capitalize()} probe warning: Probe terminated redirects, Response body: {body}"
                self._tell(container["name"], "ProbeWarning", text)
            return "" if 200 <= status < 400 else f"HTTP probe failed with statuscode: {status}"
        if action := probe.get("tcpSocket"):
            return await tcp.connect(action.get("host") or ip, port_number(container, action["port"]), timeout)
        if action := probe.get("grpc"):
            return await grpc.check(ip, int(action["port"]), action.get("service") or "", timeout)
        return f"unsupported probe: {', '.join(probe)}"
