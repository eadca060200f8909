"""Write and merge kubeconfig files (client-go's format): ours in, everything else left as it was."""

from __future__ import annotations

import base64
import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from jota.run.instance import Refused, write_file

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SECTIONS = ("clusters", "users", "contexts")


@dataclass(slots=True, frozen=True)
class Credentials:
    """What a client needs to reach one cluster as one user. PEM bytes."""

    server: str
    ca: bytes
    certificate: bytes
    key: bytes


def render(context: str, who: Credentials) -> bytes:
    """A kubeconfig with this one context."""
    return yaml.safe_dump(_merge({}, context, who), sort_keys=False).encode()


def read(path: Path) -> Credentials:
    """The credentials of a file that `render` wrote. Raises Refused when it is not there or not ours."""
    config = _read(path)
    try:
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        return Credentials(
            cluster["server"],
            base64.b64decode(cluster["certificate-authority-data"]),
            base64.b64decode(user["client-certificate-data"]),
            base64.b64decode(user["client-key-data"]),
        )
    except (KeyError, IndexError, TypeError) as error:
        raise Refused(f"{path} holds no credentials; is the server running? (jota status)") from error


def merge_into(path: Path, context: str, who: Credentials) -> None:
    """Add or replace our entries and make them current. The file ends with mode 0600 and its owner is kept.

    Raises Refused when the file is not a kubeconfig.
    """
    config = _merge(_read(path), context, who)
    _write(path, config)


def remove_from(path: Path, context: str) -> None:
    """Take our entries out again; a file that held nothing else is removed. Raises Refused."""
    if not path.exists():
        return
    config = _read(path)
    for section in _SECTIONS:
        config[section] = [e for e in config.get(section) or [] if e.get("name") != context]
    if config.get("current-context") == context:
        others = [e["name"] for e in config["contexts"]]
        config["current-context"] = others[0] if others else ""
    if any(config[s] for s in _SECTIONS):
        _write(path, config)
    else:
        path.resolve().unlink()


def target(asked: str | None) -> Path:
    """--kubeconfig, else the first of $KUBECONFIG, else ~/.kube/config of the invoking user (also under sudo)."""
    if asked:
        return Path(asked).absolute()
    listed = [p for p in os.environ.get("KUBECONFIG", "").split(os.pathsep) if p]
    if listed:
        return Path(listed[0]).absolute()
    return Path(_invoker().pw_dir if _invoker() else os.path.expanduser("~")) / ".kube" / "config"


def _invoker() -> Any:
    name = os.environ.get("SUDO_USER")
    if os.geteuid() == 0 and name:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            return None
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        config = yaml.load(path.read_text(), _Loader) or {}
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Refused(f"{path} is not YAML ({error}); mend it, or give another file with --kubeconfig") from error
    if not isinstance(config, dict) or not all(_is_section(config.get(s)) for s in _SECTIONS):
        raise Refused(f"{path} is not a kubeconfig; give another file with --kubeconfig")
    return config


def _is_section(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(e, dict) for e in value))


def _write(path: Path, config: dict[str, Any]) -> None:
    path = path.resolve()  # where it is a link (to a repository of settings, say), what it leads to is written
    existed = path.stat() if path.exists() else None
    made = [p for p in (path.parent,) if not p.exists()]
    write_file(path, yaml.safe_dump(config, sort_keys=False).encode(), 0o600)
    user = _invoker()
    if existed is not None:
        os.chown(path, existed.st_uid, existed.st_gid)
    elif user is not None and path.is_relative_to(user.pw_dir):
        for place in (*made, path):
            os.chown(place, user.pw_uid, user.pw_gid)


def _merge(config: dict[str, Any], context: str, who: Credentials) -> dict[str, Any]:
    def text(pem: bytes) -> str:
        return base64.b64encode(pem).decode()

    entries: dict[str, dict[str, Any]] = {
        "clusters": {"cluster": {"server": who.server, "certificate-authority-data": text(who.ca)}},
        "users": {"user": {"client-certificate-data": text(who.certificate), "client-key-data": text(who.key)}},
        "contexts": {"context": {"cluster": context, "user": context}},
    }
    config = {"apiVersion": "v1", "kind": "Config", "preferences": {}, **config}
    for section, entry in entries.items():
        kept = [e for e in config.get(section) or [] if e.get("name") != context]
        config[section] = [*kept, {"name": context, **entry}]
    config["current-context"] = context
    return config
