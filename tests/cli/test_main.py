"""The command itself: usage, exit statuses, and faults without tracebacks."""

from __future__ import annotations

import argparse
import errno

import pytest

from jota.cli import main as module
from jota.cli.main import COMMANDS, main
from jota.run import doctor
from jota.run.instance import Refused


def run(error: BaseException | None) -> int:
    def act(_: argparse.Namespace) -> int:
        if error is not None:
            raise error
        return 0

    return module._run(argparse.Namespace(command="up", run=act))


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (None, 0, ""),
        (Refused("do this instead"), 1, "jota up: do this instead"),
        (BaseExceptionGroup("g", [ExceptionGroup("h", [Refused("inner")])]), 1, "jota up: inner"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/etc/x"),
            1,
            "/etc/x: permission denied; run it with sudo",
        ),
        (OSError(errno.ENOSPC, "No space left on device", "/d/f"), 1, "/d/f: No space left on device; make room"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 0, ""),
    ],
)
def test_how_faults_end(
    error: BaseException | None, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(error) == status
    assert said in capsys.readouterr().err


def test_a_fault_of_the_program_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run(ZeroDivisionError())
    with pytest.raises(ExceptionGroup):
        run(ExceptionGroup("g", [ValueError()]))


@pytest.mark.parametrize("command", ["server", "up"])
def test_a_group_version_that_there_is_not(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--name", "never-made", "--runtime-config", "aps/v1=true"]) == 1
    assert f"jota {command}: --runtime-config aps/v1: this server has no API group aps" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert COMMANDS[command] in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("arguments", [[], ["fly"], ["up", "--nodes", "many"], ["up", "--color"]])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_doctor_names_a_remedy_for_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    monkeypatch.setattr(doctor.ctypes.util, "find_library", lambda _: None)
    monkeypatch.setattr(doctor.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(doctor, "_lines", lambda _: [])
    failed = {c.name: c for c in doctor.missing()}
    assert {"root", "crun or runc", "nftables", "nsenter", "control groups", "overlayfs"} <= set(failed)
    assert all(c.remedy and c.needed_for and c.found for c in failed.values())
    assert failed["root"].remedy == "run the command with sudo"
