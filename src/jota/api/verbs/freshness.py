"""resourceVersion on reads: how fresh the answer must be, and how long to wait for it."""

from __future__ import annotations

from jota.api.resource import Engine
from jota.meta.errors import ApiError, FieldError, bad_request, too_large_resource_version

WAIT = 3.0
"""Seconds that a read waits for a revision that is not here yet (upstream's blockTimeout)."""
POLL = 0.05


def parse(text: str) -> int:
    """The number in a resourceVersion parameter; 0 for "" and "0". Raises ApiError 400."""
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise bad_request(f'Invalid value: "{text[:64]}": strconv.ParseUint: parsing "{text[:64]}": invalid syntax')
    return int(text)


async def not_older_than(engine: Engine, revision: int) -> None:
    """Wait until `revision` is visible. Raises ApiError 504 with cause ResourceVersionTooLarge."""
    store = engine.store
    if revision <= store.revision:
        return
    await store.sync()
    deadline = engine.clock.monotonic() + WAIT
    while revision > store.revision:
        if engine.clock.monotonic() >= deadline:
            raise too_large_resource_version(revision, store.revision)
        await engine.clock.sleep(POLL)


def check_match(params: dict[str, str], *, watch: bool) -> None:
    """Which combinations of resourceVersion, resourceVersionMatch, continue and sendInitialEvents are allowed.

    Raises ApiError 422 in the words of apimachinery's ValidateListOptions."""
    match, version = params.get("resourceVersionMatch", ""), params.get("resourceVersion", "")
    initial = "sendInitialEvents" in params
    if watch:
        if match and not initial:
            raise _refused("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided")
        if initial and match != "NotOlderThan":
            raise _refused("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
        return
    if initial:
        raise _refused("sendInitialEvents is forbidden for list", "sendInitialEvents")
    if not match:
        return
    if not version:
        raise _refused("resourceVersionMatch is forbidden unless resourceVersion is provided")
    if params.get("continue"):
        raise _refused("resourceVersionMatch is forbidden when continue is provided")
    if match not in ("NotOlderThan", "Exact"):
        supported = 'Unsupported value: supported values: "Exact", "NotOlderThan"'
        raise _refused(supported, forbidden=False)
    if match == "Exact" and version == "0":
        raise _refused('resourceVersionMatch "Exact" is forbidden for resourceVersion "0"')


def _refused(detail: str, field: str = "resourceVersionMatch", *, forbidden: bool = True) -> ApiError:
    cause = FieldError(
        "FieldValueForbidden" if forbidden else "FieldValueNotSupported",
        field,
        f"Forbidden: {detail}" if forbidden else detail,
    )
    text = f'ListOptions.meta.k8s.io "" is invalid: {field}: {cause.message}'
    return ApiError(422, "Invalid", text, group="meta.k8s.io", kind="ListOptions", causes=[cause])
