"""Kubernetes' image references (k8s.io/apiserver/pkg/cel/library/image.go): a name in its parts, with Docker's defaults."""

from __future__ import annotations

import re

from jota.meta.cel.errors import CelError
from jota.meta.cel.functions import Function, traversal
from jota.meta.cel.library.network import holds
from jota.meta.cel.values import Image

_DOCKER = "index.docker.io"
_HOST = re.compile(r"(localhost|[a-zA-Z0-9][a-zA-Z0-9.-]*(\.[a-zA-Z0-9-]+|:[0-9]+)|\[[0-9a-fA-F:]+\])(:[0-9]+)?")
_PART = re.compile(r"[a-z0-9_./-]{2,255}")
_TAG = re.compile(r"[a-zA-Z0-9_.-]{1,128}")
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}")


def _image(text: str) -> Image:
    error = CelError(f"could not parse reference: {text}")
    name, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise error
    last = name.rpartition("/")[2]
    tag = ""
    if ":" in last:
        name, _, tag = name.rpartition(":")
        if not _TAG.fullmatch(tag):
            raise error
    first, slash, rest = name.partition("/")
    registry, repository = (first, rest) if slash and _HOST.fullmatch(first) else (_DOCKER, name)
    if not _PART.fullmatch(repository) or "//" in repository or repository[0] in "/" or repository[-1] in "/":
        raise error
    if registry in (_DOCKER, "docker.io") and "/" not in repository:
        registry, repository = _DOCKER, f"library/{repository}"
    return Image(registry, repository, "" if digest else tag or "latest", digest)


TABLE = [
    Function("image", "(string) image", _image, traversal(0)),
    Function("isImage", "(string) bool", holds(_image), traversal(0)),
    Function("containsDigest", "image.() bool", lambda i: bool(i.digest)),
    Function("registry", "image.() string", lambda i: i.registry),
    Function("repository", "image.() string", lambda i: i.repository),
    Function("identifier", "image.() string", lambda i: i.digest or i.tag),
    Function("tag", "image.() string", lambda i: i.tag),
    Function("digest", "image.() string", lambda i: i.digest),
]
