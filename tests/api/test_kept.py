"""The Service `kubernetes` and its endpoints come back when somebody deletes or changes them: pods find the API by them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from jota.api import kept
from jota.api.config import ApiConfig
from jota.meta.errors import ApiError
from jota.meta.resource import ENDPOINTS, ENDPOINTSLICES, SERVICES, Resource
from jota.testing.cluster import ApiServer
from jota.wire.message import Request, Response

KINDS = (SERVICES, ENDPOINTS, ENDPOINTSLICES)
CONFIG = ApiConfig(advertise_address="192.0.2.1", advertise_port=6443)


async def gone(api: ApiServer, resource: Resource) -> bool:
    try:
        await api.client.get(resource, "kubernetes", "default")
    except ApiError as error:
        assert error.code == 404
        return True
    return False


def told(tale: Callable[[ApiServer], Awaitable[None]]) -> Callable[[], None]:
    async def main() -> None:
        async with ApiServer(config=CONFIG) as api:
            await tale(api)

    def test() -> None:
        asyncio.run(main())

    test.__name__ = tale.__name__
    return test


@told
async def test_what_is_deleted_comes_back(api: ApiServer) -> None:
    before = {r: await api.client.get(r, "kubernetes", "default") for r in KINDS}
    for resource in KINDS:
        await api.client.delete_collection(resource, "default")
        assert await gone(api, resource)
    await api.advance(kept.EVERY + 1)
    for resource in KINDS:
        again, was = await api.client.get(resource, "kubernetes", "default"), before[resource]
        assert again["metadata"]["uid"] != was["metadata"]["uid"]
        for field in {*was} - {"metadata"}:
            assert again[field] == was[field], (resource, field)
    assert before[SERVICES]["spec"]["clusterIP"] == "10.96.0.1"


@told
async def test_endpoints_that_were_led_astray_are_set_right_and_others_left_alone(api: ApiServer) -> None:
    right = (await api.client.get(ENDPOINTS, "kubernetes", "default"))["subsets"]
    await api.client.patch(ENDPOINTS, "kubernetes", "default", {"subsets": [{"addresses": [{"ip": "192.0.2.66"}]}]})
    await api.client.patch(SERVICES, "kubernetes", "default", {"metadata": {"labels": {"mine": "x"}}})
    await api.advance(kept.EVERY + 1)
    assert (await api.client.get(ENDPOINTS, "kubernetes", "default"))["subsets"] == right
    assert (await api.client.get(SERVICES, "kubernetes", "default"))["metadata"]["labels"]["mine"] == "x"


@told
async def test_nothing_is_written_or_asked_while_all_is_there(api: ApiServer) -> None:
    async def count(path: str) -> float:
        text = bytes((await api.request("GET", "/metrics")).body).decode()  # type: ignore[arg-type]
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if path in line and "total{" in line)

    revision = api.store.revision
    asked = await count('resource="endpoints"')
    await api.advance(10 * kept.EVERY)
    assert api.store.revision == revision
    assert await count('resource="endpoints"') == asked


@pytest.mark.parametrize("resource", KINDS)
def test_a_failure_is_told_and_tried_again(
    resource: Resource, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with ApiServer(config=CONFIG) as api:
            await api.client.delete(resource, "kubernetes", "default")

            async def refuses(_: Request) -> Response:
                raise RuntimeError("full")

            with monkeypatch.context() as patch:
                patch.setattr(api.api, "handle", refuses)
                await api.advance(kept.EVERY + 1)
            assert "the Service kubernetes could not be kept up: full" in caplog.text
            assert await gone(api, resource)
            await api.advance(kept.EVERY + 1)
            assert not await gone(api, resource)

    asyncio.run(main())
