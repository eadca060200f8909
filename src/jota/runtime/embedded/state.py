"""What is known of sandboxes and containers, as files: written by the engine, read back by the next agent.

`sandboxes/<id>/sandbox.json`, `containers/<id>/container.json` (ours), `run.json` and `exit.json` (the supervisor's).
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from typing import Any, Literal

from jota.aio import files
from jota.runtime.protocol import Container, ContainerSpec, Device, Mount, Resources, Sandbox, SandboxSpec, Security


@dataclass(slots=True)
class Record:
    """A container: what was asked, and what became of it."""

    id: str
    sandbox_id: str
    pod_uid: str
    spec: ContainerSpec
    image_ref: str
    stop_signal: int
    created_at: float
    log_path: str
    argv0: str = ""
    run: dict[str, Any] | None = None
    """pid, start_time, started_at."""
    end: dict[str, Any] | None = None
    """code, signal, finished_at, reason, oom, message."""


class State:
    """Files below `root`, with everything also in memory."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.sandboxes: dict[str, Sandbox] = {}
        self.containers: dict[str, Record] = {}

    def sandbox_dir(self, id: str) -> str:
        return f"{self.root}/sandboxes/{id}"

    def container_dir(self, id: str) -> str:
        return f"{self.root}/containers/{id}"

    def load(self) -> None:
        """Read everything. What was cut off while being made (no record yet) is removed by the engine's start."""
        for name in ("sandboxes", "containers"):
            os.makedirs(f"{self.root}/{name}", mode=0o700, exist_ok=True)
            os.chmod(f"{self.root}/{name}", 0o700)  # root file systems are mounted below: not for other users
        self.sandboxes.clear()
        self.containers.clear()
        for id in os.listdir(f"{self.root}/sandboxes"):
            value = read_json(f"{self.sandbox_dir(id)}/sandbox.json")
            if value is not None:
                self.sandboxes[id] = _sandbox(value)
        for id in os.listdir(f"{self.root}/containers"):
            value = read_json(f"{self.container_dir(id)}/container.json")
            if value is not None:
                self.containers[id] = _record(value)
                self.refresh(id)

    def refresh(self, id: str) -> None:
        """Take up what the supervisor wrote."""
        record = self.containers[id]
        record.run = read_json(f"{self.container_dir(id)}/run.json") or record.run
        record.end = read_json(f"{self.container_dir(id)}/exit.json") or record.end

    def save_sandbox(self, sandbox: Sandbox) -> None:
        files.replace(f"{self.sandbox_dir(sandbox.id)}/sandbox.json", json.dumps(asdict(sandbox)).encode())
        self.sandboxes[sandbox.id] = sandbox

    def save_container(self, record: Record) -> None:
        value = asdict(record)
        value.pop("run"), value.pop("end")
        files.replace(f"{self.container_dir(record.id)}/container.json", json.dumps(value).encode())
        self.containers[record.id] = record

    def save_end(self, id: str, end: dict[str, Any]) -> None:
        """An end that the supervisor does not see: the start failed."""
        files.replace(f"{self.container_dir(id)}/exit.json", json.dumps(end).encode())
        self.containers[id].end = end

    def forget_sandbox(self, id: str) -> None:
        self.sandboxes.pop(id, None)
        shutil.rmtree(self.sandbox_dir(id), ignore_errors=True)

    def forget_container(self, id: str) -> None:
        self.containers.pop(id, None)
        shutil.rmtree(self.container_dir(id), ignore_errors=True)


def read_json(path: str) -> dict[str, Any] | None:
    try:
        with open(path, "rb") as file:
            value = json.loads(file.read())
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _sandbox(value: dict[str, Any]) -> Sandbox:
    spec = {**value["spec"], "resources": Resources(**value["spec"]["resources"])}
    return Sandbox(**{**value, "spec": SandboxSpec(**spec)})


def _record(value: dict[str, Any]) -> Record:
    spec = {
        **value["spec"],
        "mounts": [Mount(**mount) for mount in value["spec"]["mounts"]],
        "devices": [Device(**device) for device in value["spec"]["devices"]],
        "resources": Resources(**value["spec"]["resources"]),
        "security": Security(**value["spec"]["security"]),
        "env": [(key, text) for key, text in value["spec"]["env"]],
    }
    return Record(**{**value, "spec": ContainerSpec(**spec)})


def container(record: Record, directory: str, writable: str) -> Container:
    """The contract's view. Pure."""
    state: Literal["created", "running", "exited", "unknown"] = "created"
    run, end = record.run or {}, record.end
    if end is not None:
        state = "exited"
    elif run:
        state = "running"
    out = Container(
        id=record.id,
        sandbox_id=record.sandbox_id,
        pod_uid=record.pod_uid,
        name=record.spec.name,
        attempt=record.spec.attempt,
        image=record.spec.image,
        image_ref=record.image_ref,
        state=state,
        created_at=record.created_at,
        started_at=float(run.get("started_at", 0.0)),
        pid=0 if end is not None else int(run.get("pid", 0)),
        log_path=record.log_path,
        root=f"{directory}/rootfs",
        writable=writable,
        labels=record.spec.labels,
    )
    if end is not None:
        out.exit_code, out.signal = int(end["code"]), int(end["signal"])
        out.finished_at, out.message = float(end["finished_at"]), str(end.get("message", ""))
        out.reason = _reason(end)
    return out


def _reason(end: dict[str, Any]) -> str:
    if end["reason"]:
        return str(end["reason"])
    if end["oom"] and end["code"]:
        return "OOMKilled"
    return "Error" if end["code"] else "Completed"
