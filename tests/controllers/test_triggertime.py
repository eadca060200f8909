"""The time at which what endpoints show began to change: the tracker by itself, then in the objects of a real service."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jota.aio.clock import rfc3339
from jota.controllers.endpoints import EndpointsController
from jota.controllers.endpointslice import EndpointSliceController
from jota.controllers.triggertime import ANNOTATION, TriggerTimes, mark
from jota.controllers.views import Pod
from jota.meta.resource import ENDPOINTS, ENDPOINTSLICES, PODS, SERVICES
from jota.testing.cluster import ApiServer

from .builders import pod
from .stories import running

Object = dict[str, Any]
T0 = 1_700_000_000


def at(seconds: int) -> str:
    return rfc3339(T0 + seconds)


def changed_at(name: str, seconds: int | None) -> Pod:
    """A pod whose condition Ready is of this moment; None: it has none."""
    found = pod(name, ready=True)
    condition = found.ready_condition
    assert condition is not None
    condition.lastTransitionTime = None if seconds is None else at(seconds)
    return found


def service(made: int = 0) -> Object:
    return {"metadata": {"name": "web", "namespace": "ns", "creationTimestamp": at(made)}}


def test_the_first_look_says_when_the_service_was_made() -> None:
    times = TriggerTimes()
    assert times.of_all("k", service(5), [changed_at("a", 3), changed_at("b", 9)]) == at(5)
    assert times.of_all("k", service(5), [changed_at("a", 3), changed_at("b", 9)]) == "", "nothing has changed"


def test_the_earliest_change_counts_and_one_that_goes_back_does_not() -> None:
    times = TriggerTimes()
    times.of_all("k", service(), [changed_at("a", 1), changed_at("b", 2)])
    assert times.of_all("k", service(), [changed_at("a", 8), changed_at("b", 7), changed_at("c", 9)]) == at(7)
    assert times.of_all("k", service(), [changed_at("a", 5), changed_at("b", 7)]) == ""
    assert times.of_all("k", service(), [changed_at("c", 9)]) == at(9), "it was gone, and is back"


def test_another_service_of_the_name_and_one_that_is_gone() -> None:
    times = TriggerTimes()
    times.of_all("k", service(1), [])
    assert times.of_all("k", service(20), [changed_at("a", 30)]) == at(20)
    times.forget("k")
    assert times.of_all("k", service(40), [changed_at("a", 30)]) == at(40)


LOOKS = st.lists(st.dictionaries(st.sampled_from("abcde"), st.one_of(st.none(), st.integers(0, 20)), max_size=5))


@given(LOOKS, st.sets(st.integers(0, 9)))
def test_a_look_at_what_changed_says_what_one_at_all_says(looks: list[dict[str, int | None]], whole: set[int]) -> None:
    naive, quick = TriggerTimes(), TriggerTimes()
    before: dict[str, int | None] = {}
    for number, now in enumerate(looks):
        pods = {name: changed_at(name, when) for name, when in now.items()}
        expected = naive.of_all("k", service(), pods.values())
        changed = {n for n in {*before, *now} if n not in now or n not in before or now[n] != before[n]}
        partly = number and number not in whole
        assert expected == (
            quick.of_changed("k", changed, pods.get) if partly else quick.of_all("k", service(), pods.values())
        )
        before = now


def test_an_old_time_is_taken_away_and_other_annotations_stay() -> None:
    meta: Object = {"annotations": {"mine": "1", ANNOTATION: at(1)}}
    mark(meta, at(2))
    assert meta["annotations"] == {"mine": "1", ANNOTATION: at(2)}
    mark(meta, "")
    assert meta["annotations"] == {"mine": "1"}
    bare: Object = {}
    mark(bare, "")
    assert bare == {}


async def said(api: ApiServer) -> set[str | None]:
    """What the service's Endpoints and its slices say."""
    found = [await api.client.get(ENDPOINTS, "web", "ns"), *(await api.client.list(ENDPOINTSLICES, "ns"))["items"]]
    return {(one["metadata"].get("annotations") or {}).get(ANNOTATION) for one in found}


async def ready(api: ApiServer, name: str, value: bool, since: float, ip: str) -> None:
    condition = {"type": "Ready", "status": str(value), "lastTransitionTime": rfc3339(since)}
    status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [condition]}
    await api.client.patch(PODS, name, "ns", {"status": status}, type="merge", subresource="status")


def test_endpoints_and_slices_say_when_their_pods_changed() -> None:
    async def story() -> None:
        async with running(EndpointsController, EndpointSliceController) as api:
            spec = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
            made = await api.client.create(SERVICES, {"metadata": {"name": "web"}, "spec": spec}, "ns")
            await api.advance(5)
            assert await said(api) == {made["metadata"]["creationTimestamp"]}
            for name in ("a", "b"):
                template = {"metadata": {"name": name, "labels": {"app": "web"}}}
                body = {"nodeName": "n1", "containers": [{"name": "c", "image": "x"}]}
                await api.client.create(PODS, {**template, "spec": body}, "ns")
            await api.advance(5)
            earlier = api.clock.now() - 3
            await ready(api, "a", True, earlier, "10.0.0.1")
            await ready(api, "b", True, earlier + 2, "10.0.0.2")
            await api.advance(5)
            assert rfc3339(earlier) in await said(api) or rfc3339(earlier + 2) in await said(api)
            later = api.clock.now()
            await ready(api, "b", False, later, "10.0.0.2")
            await api.advance(5)
            assert await said(api) == {rfc3339(later)}
            # what is not a change of readiness takes the time away: nothing says when it began
            await api.client.patch(SERVICES, "web", "ns", {"metadata": {"labels": {"team": "x"}}})
            await api.advance(5)
            assert await said(api) == {None}

    asyncio.run(story())
