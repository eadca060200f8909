"""The service proxy of one node: keeps one nftables table equal to what services.py wants.

Comes in: the full list of `ServicePort`s, as often as it changes. Goes out: one transaction with the difference. The
first transaction after a start replaces whatever a former agent left, atomically: there is no moment without service,
and clients' affinity is kept. A table that someone else emptied or deleted is noticed and written anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from jota.net import conntrack, names, services, sys
from jota.net.protocol import ServicePort
from jota.net.service_table import create_commands, schema_chain, table_body
from jota.net.services import Change, Compiler

T = TypeVar("T")
log = logging.getLogger(__name__)

_CLOSE_WAIT = "net/netfilter/nf_conntrack_tcp_timeout_close_wait"
_HALF_CLOSED = 3600
"""Seconds for which a half-closed connection may be silent (kube-proxy's default); the kernel forgets it after a minute, and
what comes then finds no translation and is reset."""


class NftServiceProxy:
    """ServiceProxy on nftables. See protocol.ServiceProxy. One `apply` at a time."""

    def __init__(self, *, instance: str, node: str, service_cidr: str, pod_cidrs: Sequence[str]) -> None:
        """`pod_cidrs`: all the cluster's pods (sources that keep their address); `service_cidr`: ClusterIPs, of the first range;
        those of others are known by their routes over the service link.

        Must be made and used in the node's own network namespace.
        """
        self._table = names.table(instance, "services")
        self._body = table_body(pod_cidrs, service_cidr, names.service_link(instance))
        self._compiler = Compiler(node)
        self._known = False
        """Does the kernel hold what the compiler thinks? Not before the first write, nor after one that failed."""
        self._nft: sys.Nft | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="jota-nft")

    async def apply(self, ports: list[ServicePort]) -> None:
        """Raises sys.NftError, sys.NetworkFault; then nothing changed in nftables, and the next call starts anew."""
        await self._do(lambda: self._apply(ports))

    async def check(self) -> bool:
        """Is the table still there, with our fixed part? If not, the next `apply` writes it whole. Call now and then."""
        standing = await self._do(self._stands)
        if not standing:
            self._known = False
        return standing

    async def close(self) -> None:
        """Let go; services go on working without us."""
        nft, self._nft = self._nft, None
        if nft is not None:
            await self._do(nft.close)
        self._worker.shutdown(wait=True)

    async def shutdown(self) -> None:
        """Remove the table."""
        await self._do(lambda: self._open().run(f"table ip {self._table} {{ }}\ndelete table ip {self._table}"))
        self._known = False
        await self.close()

    async def _do(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, function)

    # --- on the worker thread

    def _open(self) -> sys.Nft:
        if self._nft is None:
            self._nft = sys.Nft()
        return self._nft

    def _apply(self, ports: list[ServicePort]) -> None:
        change = self._compiler.update(ports)
        flows = change.flows
        if not self._known or not self._write_change(change):
            self._write_whole()
            flows = self._compiler.desired.flows
        conntrack.sweep(flows)

    def _write_change(self, change: Change) -> bool:
        text = services.commands(change, self._table)
        self._known = False
        try:
            if text:
                self._open().run(text)
        except sys.NftError as error:
            log.warning("the service table is not as we left it, writing it whole: %s", error)
            return False
        self._known = True
        return True

    def _write_whole(self) -> None:
        filling = services.load(self._compiler.desired, self._table)
        if self._stands():
            emptied = [f"flush map ip {self._table} {name}" for name in services.MAPS if name != "hairpin"]
            emptied.append(f"flush set ip {self._table} hairpin")
            text = "\n".join([*emptied, filling])
        else:
            text = create_commands(self._table, self._body) + "\n" + filling
        self._open().run(text)
        self._known = True
        _be_patient()

    def _stands(self) -> bool:
        try:
            self._open().run(f"list chain ip {self._table} {schema_chain(self._body)}")
        except sys.NftError:
            return False
        return True


def _be_patient() -> None:
    """Once the table stands, which is when the kernel has connection tracking. A machine that says no keeps its own time."""
    held = sys.read_sysctl(_CLOSE_WAIT)
    try:
        if held and int(held) < _HALF_CLOSED:
            sys.ensure_sysctl(_CLOSE_WAIT, str(_HALF_CLOSED))
            log.info("net.netfilter.nf_conntrack_tcp_timeout_close_wait was %s and is %d now", held, _HALF_CLOSED)
    except sys.NetworkFault as fault:
        log.warning("services: half-closed connections that are silent for %s s are cut: %s", held, fault)
