"""The provider `exec` with real commands: the contract, and commands that fail, hang, babble and lie."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from jota.autoscaler.provider import Machine, ProviderFault
from jota.autoscaler.providers.exec import AT_ONCE, ExecProvider
from jota.autoscaler.settings import GroupSettings
from jota.testing.host import until

HONEST = f"""#!{sys.executable}
import json, pathlib, sys
asked = json.load(sys.stdin)
state = pathlib.Path(__file__).with_name("state")
made = state.read_text().split() if state.exists() else []
with open(pathlib.Path(__file__).with_name("calls"), "a") as calls:
    print(json.dumps([sys.argv[1:], asked]), file=calls)
if sys.argv[1] == "list":
    print(json.dumps({{"machines": [{{"name": n, "created": 1700000000.5}} for n in made]}}))
elif sys.argv[1] == "create":
    state.write_text(" ".join(dict.fromkeys([*made, sys.argv[2]])))
else:
    state.write_text(" ".join(n for n in made if n != sys.argv[2]))
"""


def provider(place: Path, script: str, timeout: float = 20.0) -> ExecProvider:
    path = place / "machines"
    path.write_text(script if script.startswith("#!") else f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)

    async def join() -> dict[str, str]:
        return {"server": "https://192.0.2.1:6443", "token": "abcdef.secret"}

    return ExecProvider(GroupSettings("big", "exec", 0, 3, (str(path),), timeout), join)


def fault(
    place: Path, script: str, call: Callable[[ExecProvider], Awaitable[Any]], timeout: float = 20.0
) -> ProviderFault:
    async def run() -> ProviderFault:
        with pytest.raises(ProviderFault) as caught:
            await call(provider(place, script, timeout))
        return caught.value

    return asyncio.run(run())


def listing(place: Path, answer: str) -> str:
    return str(fault(place, f"cat <<'E'\n{answer}\nE", lambda p: p.machines()))


def test_machines_are_made_listed_and_removed_and_every_call_may_be_repeated(tmp_path: Path) -> None:
    async def story() -> None:
        machines = provider(tmp_path, HONEST)
        assert await machines.machines() == []
        await machines.create("big-0")
        await machines.create("big-0")
        assert await machines.machines() == [Machine("big-0", "running", "", 1700000000.5)]
        await machines.delete("big-0")
        await machines.delete("big-0")
        assert await machines.machines() == []

    asyncio.run(story())
    calls = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
    words, asked = calls[1]
    assert words == ["create", "big-0"]
    join = {"server": "https://192.0.2.1:6443", "token": "abcdef.secret"}
    assert asked == {"version": 1, "verb": "create", "group": "big", "name": "big-0", "min": 0, "max": 3, "join": join}
    assert "join" not in calls[0][1], "a token is made only when a machine is"


def test_many_machines_are_made_a_few_at_a_time(tmp_path: Path) -> None:
    script = f"""case $1 in
create) echo + >> {tmp_path}/log; sleep 0.1; echo - >> {tmp_path}/log;;
list) printf '{{"machines": ['; for n in $(seq 20); do printf '{{"name": "big-%s"}},' $n; done; echo '{{"name": "x"}}]}}';;
esac"""

    async def story() -> None:
        machines = provider(tmp_path, script)
        async with asyncio.TaskGroup() as tasks:
            for n in range(1, 21):
                tasks.create_task(machines.create(f"big-{n}"))

    asyncio.run(story())
    depth = deepest = 0
    for line in (tmp_path / "log").read_text().split():
        depth += 1 if line == "+" else -1
        deepest = max(deepest, depth)
    assert 1 < deepest <= AT_ONCE


def test_failures_are_told_in_the_commands_own_words(tmp_path: Path) -> None:
    told = fault(tmp_path, "echo one >&2; echo 'out of machines' >&2; exit 3", lambda p: p.machines())
    assert str(told) == "machines list: out of machines (exit status 3)"
    told = fault(
        tmp_path, """echo '{"error": "no quota left", "code": "QUOTA_EXCEEDED"}'; exit 1""", lambda p: p.create("big-0")
    )
    assert (str(told), told.code) == ("machines create: no quota left (exit status 1)", "QUOTA_EXCEEDED")
    assert (
        str(fault(tmp_path, "kill -9 $$", lambda p: p.machines()))
        == "machines list: it said nothing (ended by signal 9)"
    )


def test_a_command_that_is_not_there_or_not_a_program(tmp_path: Path) -> None:
    group = GroupSettings("big", "exec", 0, 3, (str(tmp_path / "gone"),))

    async def run(group: GroupSettings) -> str:
        with pytest.raises(ProviderFault) as caught:
            await ExecProvider(group, dict).machines()  # type: ignore[arg-type]
        return str(caught.value)

    assert asyncio.run(run(group)) == f"{tmp_path}/gone cannot be run: No such file or directory"
    (tmp_path / "text").write_text("x")
    plain = GroupSettings("big", "exec", 0, 3, (str(tmp_path / "text"),))
    assert asyncio.run(run(plain)) == f"{tmp_path}/text cannot be run: Permission denied"


def test_a_hanging_command_is_killed_with_its_children(tmp_path: Path) -> None:
    script = f"sh -c 'echo $$ > {tmp_path}/child; exec sleep 1000' & echo $$ > {tmp_path}/self; wait"
    told = fault(tmp_path, script, lambda p: p.machines(), timeout=1.0)
    assert (str(told), told.code) == ("machines list: no answer within 1 s; it was killed", "timeout")
    for name in ("self", "child"):
        pid = int((tmp_path / name).read_text())
        until(lambda pid=pid: not _alive(pid), 5, f"{name} is killed")


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def test_what_a_command_leaves_behind_delays_nobody(tmp_path: Path) -> None:
    """It keeps the command's output open, as a daemon started from a script does."""

    async def story() -> None:
        script = f"sleep 1000 & echo $! > {tmp_path}/left\n" + """echo '{"machines": []}'"""
        assert await provider(tmp_path, script).machines() == []

    asyncio.run(story())
    os.kill(int((tmp_path / "left").read_text()), 9)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("", 'it must answer {"machines": [...]}'),
        ("{}", 'it must answer {"machines": [...]}'),
        ("[]", "its answer is not a JSON object: '[]\\n'"),
        ("big-0", "its answer is not a JSON object: 'big-0\\n'"),
        ("[" * 100_000, "its answer is not a JSON object: "),
        ('{"machines": ["big-0"]}', "a machine must be an object, not 'big-0'"),
        ('{"machines": [{}]}', "name None cannot be the name of a node"),
        ('{"machines": [{"name": "../etc"}]}', "name '../etc' cannot be the name of a node"),
        ('{"machines": [{"name": "a", "node": 3}]}', "node 3 cannot be the name of a node"),
        ('{"machines": [{"name": "a"}, {"name": "a"}]}', "a is listed twice"),
        (
            '{"machines": [{"name": "a", "state": "sleepy"}]}',
            "state 'sleepy' is none of creating, running, deleting, failed",
        ),
        ('{"machines": [{"name": "a", "created": "today"}]}', "created 'today' is not a time in seconds since 1970"),
        ('{"machines": [{"name": "a", "created": true}]}', "created True is not a time"),
    ],
    ids=lambda text: text[:24],
)
def test_bad_answers_are_told_in_words(tmp_path: Path, answer: str, words: str) -> None:
    assert words in listing(tmp_path, answer)


def test_an_endless_answer_is_cut_off(tmp_path: Path) -> None:
    told = fault(tmp_path, "head -c 3000000 /dev/zero", lambda p: p.machines())
    assert str(told) == "machines list: its answer is longer than 1048576 bytes"


def test_a_command_that_lies_is_found_out(tmp_path: Path) -> None:
    empty = """echo '{"machines": []}'"""
    told = fault(tmp_path, empty, lambda p: p.create("big-0"))
    assert str(told) == "machines create: says that it made big-0, but does not list it"
    still = """echo '{"machines": [{"name": "big-0"}]}'"""
    told = fault(tmp_path, still, lambda p: p.delete("big-0"))
    assert str(told) == "machines delete: says that it removed big-0, but lists it as running"
