"""Image references: text from a pod comes in, a normalised Reference goes out.

Rules are those of the distribution project: a first path component with a dot, a colon or "localhost" is a registry,
everything else lives on docker.io (single names under library/), and a name without tag or digest means :latest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from jota.runtime.protocol import RuntimeFault

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}")
_ID = re.compile(r"(?:sha256:)?[a-f0-9]{64}")


@dataclass(slots=True, frozen=True)
class Reference:
    """A normalised image name."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        return f"{self.registry}/{self.repository}"

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """Raises RuntimeFault(InvalidImageName) with the offending text."""
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise _invalid(text)
    head, slash, tail = rest.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost"):
        registry, path = head, tail
    else:
        registry, path = "docker.io", rest
    path, colon, tag = path.partition(":")
    if registry in ("index.docker.io", "docker.io"):
        registry = "docker.io"
        path = path if "/" in path else f"library/{path}"
    good = _DOMAIN.fullmatch(registry) and _PATH.fullmatch(path) and len(path) <= 255
    if not good or (colon and not _TAG.fullmatch(tag)):
        raise _invalid(text)
    return Reference(registry, path, tag or ("" if digest else "latest"), digest)


def is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    """True for the digest form that the content store keeps (sha256)."""
    return _DIGEST.fullmatch(text) is not None


def _invalid(text: str) -> RuntimeFault:
    return RuntimeFault("InvalidImageName", f'couldn\'t parse image name "{text}": invalid reference format')
