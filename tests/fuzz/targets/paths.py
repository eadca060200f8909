"""Paths of requests: what is remembered of one (api/path.py) says of another what reading it anew says."""

from __future__ import annotations

from typing import Any

from jota.api import path
from jota.meta.errors import ApiError
from targets import kit

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
_PODS = b"/api/v1/namespaces/default/pods"
SEEDS = [
    kit.MARK.join(
        (
            b"\0" + _PODS,
            b"\0" + _PODS + b"/a",
            b"\0" + _PODS + b"/b",
            b"\0" + _PODS + b"/b/status",
            b"\0" + _PODS + b"/c/status",
        )
    ),
    kit.MARK.join(
        (
            b"\4/apis/apps/v1/deployments/a",
            b"\4/apis/apps/v1/deployments/",
            b"\4/apis/apps/v1/deployments",
            b"\4/apis/apps/v1/",
        )
    ),
    kit.MARK.join(
        (b"\2/api/v1/namespaces/a/finalize", b"\2/api/v1/namespaces/b/finalize", b"\2/api/v1/namespaces/finalize/b")
    ),
    kit.MARK.join(
        (
            b"\0" + _PODS + b"/a",
            b"\0" + _PODS + b"/a%2fb",
            b"\0" + _PODS + b"/a//b",
            b"\0" + _PODS + b"/a/proxy/x",
            b"\0" + _PODS + b"/a/proxy/",
        )
    ),
    kit.MARK.join(
        (
            b"\0/api/v1/watch/pods/a",
            b"\0/api/v1/pods?watch=1",
            b"\0/api/v1/pods/a?watch=0&fieldSelector=x",
            b"\0/api/v1/pods/b",
        )
    ),
    kit.MARK.join(
        (
            b"\6/api/v1/nodes/n/proxy/a",
            b"\0/api/v1/nodes/n/proxy",
            b"\0/api/v1/nodes/m/proxy",
            b"\0/api/v1/nodes/proxy/m",
        )
    ),
]
WORDS = [
    kit.MARK,
    kit.edit(1, 1, b"a"),
    b"/namespaces/",
    b"/proxy/",
    b"/watch/",
    b"//",
    b"%2f",
    b"/status",
    b"?watch=",
    b"/api/v1/",
    b"/apis/",
]
_KNOWN: tuple[dict[Any, Any], ...] = (path._collections, path._objects, path._subresources, path._kin)


def _parsed(method: str, where: str, query: str) -> tuple[Any, ...]:
    try:
        params = path.parameters(query)
        target = path.parse(method, where, params)
    except ApiError as error:
        kit.refused(error)
        return (error.code, error.message)
    return (*_said(target), _said(target.kin) if target.kin else None, params)


def _said(target: path.Target) -> tuple[Any, ...]:
    return tuple(getattr(target, name) for name in target.__struct_fields__ if name != "kin")


def check(data: bytes) -> None:
    asked = []
    for each in kit.edited(data):
        where, _, query = each[1:].decode("latin-1").partition("?")
        asked.append((METHODS[(each[:1] or b"\0")[0] % len(METHODS)], where, query))
    anew = []
    for one in asked:
        for known in _KNOWN:
            known.clear()
        anew.append(_parsed(*one))
    for known in _KNOWN:
        known.clear()
    remembering = [_parsed(*one) for one in asked + asked]
    assert remembering == anew + anew, (asked, remembering, anew)
