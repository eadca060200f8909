"""Machines of a command: any program that can list, make and remove them. The contract, version 1:

    COMMAND list            -> {"machines": [{"name": "big-0", "state": "running", "node": "...", "created": 1.7e9}, ...]}
    COMMAND create NAME     make a machine whose node registers as NAME (jota agent --server URL --token TOKEN --node NAME)
    COMMAND delete NAME     remove it

Standard input: one JSON object with version, verb, group, name, min, max and, for create, join (server, token). Standard
output: one JSON object, or nothing (not for list). `state` is creating, running, deleting or failed (with a `message`);
everything but the name may be left out. Exit status 0: done, or done before: each call may be repeated. Anything else: failed,
with {"error": "words", "code": "WORD"} or words on standard error. A call that takes longer than the group's timeout is killed
with its children. What `create` made must be in the next list, what `delete` removed must not be, or be `deleting`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
from collections.abc import Awaitable, Callable
from typing import IO, Any

from jota.autoscaler.provider import STATES, Machine, ProviderFault, Template
from jota.autoscaler.settings import GroupSettings
from jota.meta.names import dns_subdomain

VERSION = 1
MOST_OUTPUT = 1 << 20
MOST_MACHINES = 20_000
AT_ONCE = 8
"""Machines of one group that are made or removed at the same time."""
Join = Callable[[], Awaitable[dict[str, str]]]
"""Gives what a new machine needs to join: {"server": URL, "token": join token}."""


class ExecProvider:
    def __init__(self, group: GroupSettings, join: Join) -> None:
        self._group, self._join = group, join
        self.prefix = f"{group.name}-"
        self._free = asyncio.Semaphore(AT_ONCE)

    async def first(self) -> int:
        return 0

    async def template(self) -> Template:
        return self._group.template

    async def machines(self) -> list[Machine]:
        answer = await self._run("list")
        try:
            return _machines(answer)
        except ValueError as error:
            raise ProviderFault(f"{self._what('list')}: {error}", "badAnswer") from error

    async def create(self, name: str) -> None:
        async with self._free:
            await self._run("create", name, join=await self._join())
            listed = await self.machines()
        if not any(m.name == name for m in listed):
            raise ProviderFault(f"{self._what('create')}: says that it made {name}, but does not list it", "badAnswer")

    async def delete(self, name: str) -> None:
        async with self._free:
            await self._run("delete", name)
            listed = await self.machines()
        left = next((m for m in listed if m.name == name), None)
        if left is not None and left.state != "deleting":
            text = f"says that it removed {name}, but lists it as {left.state}"
            raise ProviderFault(f"{self._what('delete')}: {text}", "badAnswer")

    def _what(self, verb: str) -> str:
        return f"{os.path.basename(self._group.command[0])} {verb}"

    async def _run(self, verb: str, name: str = "", **more: Any) -> Any:
        """The answer, decoded; None when there is none. Raises ProviderFault."""
        group = self._group
        given = {
            "version": VERSION,
            "verb": verb,
            "group": group.name,
            "name": name,
            "min": group.min,
            "max": group.max,
        }
        # Files, not pipes: a process that the command leaves behind may hold its output open for as long as it likes.
        with tempfile.TemporaryFile() as request, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            request.write(json.dumps(given | more).encode())
            request.seek(0)
            status = await self._status([*group.command, verb, *([name] if name else [])], verb, request, out, err)
            return self._answer(verb, status, _content(out), _content(err))

    async def _status(self, words: list[str], verb: str, given: IO[bytes], out: IO[bytes], err: IO[bytes]) -> int:
        try:
            process = await asyncio.create_subprocess_exec(
                *words, stdin=given, stdout=out, stderr=err, start_new_session=True, cwd="/"
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ProviderFault(f"{words[0]} cannot be run: {reason}", "cannotRun") from error
        try:
            async with asyncio.timeout(self._group.timeout):
                return await process.wait()
        except TimeoutError:
            text = f"{self._what(verb)}: no answer within {self._group.timeout:g} s; it was killed"
            raise ProviderFault(text, "timeout") from None
        finally:
            if process.returncode is None:
                _kill(process.pid)
                await process.wait()

    def _answer(self, verb: str, status: int, out: bytes, err: bytes) -> Any:
        what, said = self._what(verb), err.decode(errors="replace").strip().splitlines()
        if len(out) > MOST_OUTPUT:
            raise ProviderFault(f"{what}: its answer is longer than {MOST_OUTPUT} bytes", "badAnswer")
        try:
            answer = json.loads(out) if out.strip() else None
        except (ValueError, RecursionError):
            answer = ...
        if status:
            told = answer if isinstance(answer, dict) else {}
            words = str(told.get("error") or (said[-1] if said else "it said nothing"))[:500]
            how = f"exit status {status}" if status > 0 else f"ended by signal {-status}"
            raise ProviderFault(f"{what}: {words} ({how})", str(told.get("code") or "cloudProviderError")[:63])
        if answer is ... or not (answer is None or isinstance(answer, dict)):
            raise ProviderFault(
                f"{what}: its answer is not a JSON object: {out[:80].decode(errors='replace')!r}", "badAnswer"
            )
        return answer


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read(MOST_OUTPUT + 1)


def _kill(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it ended just now


def _machines(answer: Any) -> list[Machine]:
    """Raises ValueError with what is wrong."""
    listed = answer.get("machines") if isinstance(answer, dict) else None
    if not isinstance(listed, list):
        raise ValueError('it must answer {"machines": [...]}')
    if len(listed) > MOST_MACHINES:
        raise ValueError(f"{len(listed)} machines are more than {MOST_MACHINES}")
    found: dict[str, Machine] = {}
    for entry in listed:
        machine = _machine(entry)
        if machine.name in found:
            raise ValueError(f"{machine.name} is listed twice")
        found[machine.name] = machine
    return list(found.values())


def _machine(entry: Any) -> Machine:
    if not isinstance(entry, dict):
        raise ValueError(f"a machine must be an object, not {entry!r}")
    name, node, state = entry.get("name"), entry.get("node", ""), entry.get("state", "running")
    for key, text in (("name", name), ("node", node)):
        if not isinstance(text, str) or ((text or key == "name") and dns_subdomain(text)):
            raise ValueError(f"{key} {text!r} cannot be the name of a node")
    if state not in STATES:
        raise ValueError(f"{name}: state {state!r} is none of {', '.join(STATES)}")
    created, message = entry.get("created", 0), entry.get("message", "")
    if isinstance(created, bool) or not isinstance(created, int | float) or not 0 <= created < 1e11:
        raise ValueError(f"{name}: created {created!r} is not a time in seconds since 1970")
    assert isinstance(name, str)
    assert isinstance(node, str)
    return Machine(name, state, node, float(created), str(message)[:500])
