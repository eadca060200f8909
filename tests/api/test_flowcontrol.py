"""Priority and fairness: who is served when not all can be, told as stories on the real server."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.api.filters.attributes import COMPONENT, User
from jota.api.flowcontrol.flows import Flows
from jota.api.flowcontrol.keeper import condition, kept
from jota.api.flowcontrol.level import Flow, Level, Pool, Waiter
from jota.api.flowcontrol.limits import Limits, plan
from jota.api.flowcontrol.matching import read
from jota.api.flowcontrol.measure import Counts
from jota.api.flowcontrol.objects import AUTOUPDATE, FLOW_SCHEMAS, PRIORITY_LEVELS, flow_schemas, priority_levels
from jota.api.flowcontrol.shuffle import deal
from jota.api.flowcontrol.width import seats
from jota.api.path import parse
from jota.meta.errors import ApiError
from jota.meta.resource import CONFIGMAPS, LEASES
from jota.testing.cluster import ApiServer, Watching, story
from jota.testing.virtual import VirtualClock
from jota.wire.message import Response

CM = "/api/v1/namespaces/default/configmaps"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
ALICE = User("alice", groups=("system:authenticated",))
BOB = User("bob", groups=("system:authenticated",))
NODE = User("system:node:n1", groups=("system:nodes", "system:authenticated"))
ACCOUNT = User(
    "system:serviceaccount:kube-system:dns",
    groups=("system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"),
)


class Ticking(VirtualClock):
    """Each look at the clock costs a millisecond: a turn of the loop is full after a few requests."""

    ticks = 0

    def monotonic(self) -> float:
        self.ticks += 1
        return super().monotonic() + self.ticks / 1000


def header(response: Response, name: str) -> str:
    own = dict(line.split(": ", 1) for line in response.own.decode().splitlines())
    return {**dict(response.headers), **own}.get(name, "")


def level(name: str, shares: int, *, borrowing: int | None = None, queues: int = 0, length: int = 5) -> dict[str, Any]:
    response: dict[str, Any] = {"type": "Reject"}
    if queues:
        response = {"type": "Queue", "queuing": {"queues": queues, "handSize": 1, "queueLengthLimit": length}}
    limited: dict[str, Any] = {"nominalConcurrencyShares": shares, "limitResponse": response}
    if borrowing is not None:
        limited["borrowingLimitPercent"] = borrowing
    return {"metadata": {"name": name}, "spec": {"type": "Limited", "limited": limited}}


def schema(name: str, to: str, user: str, precedence: int = 10) -> dict[str, Any]:
    rule = {
        "subjects": [{"kind": "User", "user": {"name": user}}],
        "resourceRules": [
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": True}
        ],
    }
    spec = {"priorityLevelConfiguration": {"name": to}, "matchingPrecedence": precedence, "rules": [rule]}
    return {"metadata": {"name": name}, "spec": {**spec, "distinguisherMethod": {"type": "ByUser"}}}


# -- the objects


@story
async def test_every_cluster_has_upstreams_objects_and_none_dangles(api: ApiServer) -> None:
    await api.settle()
    levels = {o["metadata"]["name"]: o for o in (await api.client.list(PRIORITY_LEVELS))["items"]}
    names = "exempt catch-all system node-high leader-election workload-high workload-low global-default"
    assert set(levels) == set(names.split())
    assert levels["workload-low"]["spec"]["limited"]["nominalConcurrencyShares"] == 100
    schemas = (await api.client.list(FLOW_SCHEMAS))["items"]
    assert len(schemas) == len(list(flow_schemas()))
    for one in schemas:
        assert one["metadata"]["annotations"][AUTOUPDATE] == "true"
        (dangling,) = one["status"]["conditions"]
        assert (dangling["type"], dangling["status"], dangling["reason"]) == ("Dangling", "False", "Found")


@story
async def test_a_schema_whose_level_is_gone_dangles_and_is_passed_over(api: ApiServer) -> None:
    await api.client.create(FLOW_SCHEMAS, schema("mine", "nowhere", "alice"))
    await api.settle()
    found = await api.client.get(FLOW_SCHEMAS, "mine")
    (dangling,) = found["status"]["conditions"]
    assert (dangling["status"], dangling["reason"]) == ("True", "NotFound")
    assert "but there is no such object" in dangling["message"]
    target = parse("GET", CM, {})
    assert api.api.flows.classify(ALICE, target).level.limits.name == "global-default"
    await api.client.create(PRIORITY_LEVELS, level("nowhere", 10))
    await api.settle()
    assert (await api.client.get(FLOW_SCHEMAS, "mine"))["status"]["conditions"][0]["status"] == "False"
    assert api.api.flows.classify(ALICE, target).level.limits.name == "nowhere"


@story
async def test_mandatory_objects_come_back_and_suggested_ones_may_be_taken_over(api: ApiServer) -> None:
    await api.client.patch(PRIORITY_LEVELS, "catch-all", "", {"spec": {"limited": {"nominalConcurrencyShares": 500}}})
    await api.client.delete(FLOW_SCHEMAS, "exempt")
    mine = {"metadata": {"annotations": {AUTOUPDATE: "false"}}, "spec": {"limited": {"nominalConcurrencyShares": 7}}}
    await api.client.patch(PRIORITY_LEVELS, "workload-low", "", mine)
    await api.client.patch(PRIORITY_LEVELS, "system", "", {"spec": {"limited": {"nominalConcurrencyShares": 7}}})
    await api.settle()
    shares = {
        o["metadata"]["name"]: o["spec"].get("limited", {}).get("nominalConcurrencyShares")
        for o in (await api.client.list(PRIORITY_LEVELS))["items"]
    }
    assert (shares["catch-all"], shares["workload-low"], shares["system"]) == (5, 7, 30)
    assert (await api.client.get(FLOW_SCHEMAS, "exempt"))["spec"]["matchingPrecedence"] == 1


BUILT = {o["metadata"]["name"]: o for o in priority_levels()}


def stored(name: str, *, annotation: str | None, generation: int, shares: int) -> dict[str, Any]:
    annotations = {} if annotation is None else {AUTOUPDATE: annotation}
    spec = {**BUILT[name]["spec"]}
    spec["limited"] = {**spec["limited"], "nominalConcurrencyShares": shares}
    return {"metadata": {"name": name, "annotations": annotations, "generation": generation}, "spec": spec}


@pytest.mark.parametrize(
    ("annotation", "generation", "own", "written"),
    [
        ("true", 5, False, True),
        ("false", 1, True, False),
        (None, 1, False, True),
        (None, 2, True, True),  # only the annotation, now "false"
        ("nonsense", 2, True, True),
    ],
)
def test_whose_a_suggested_object_is(annotation: str | None, generation: int, own: bool, written: bool) -> None:
    existing = stored("system", annotation=annotation, generation=generation, shares=99)
    new = kept(existing, BUILT["system"])
    assert (new is not None) == written
    after = new or existing
    assert after["spec"]["limited"]["nominalConcurrencyShares"] == (99 if own else 30)
    assert after["metadata"]["annotations"][AUTOUPDATE] == ("false" if own else "true")
    assert kept(after, BUILT["system"]) is None


def test_the_shares_of_exempt_are_the_operators() -> None:
    existing = {**BUILT["exempt"], "spec": {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 9}}}
    new = kept(existing, BUILT["exempt"])
    assert new is not None
    assert new["spec"]["exempt"] == {"nominalConcurrencyShares": 9, "lendablePercent": 0}


def test_a_condition_keeps_others_and_its_time() -> None:
    other = {"type": "Mine", "status": "True"}
    first = condition({"status": {"conditions": [other]}}, "x", True, "then")
    assert first is not None
    assert first[0] == other
    assert condition({"status": {"conditions": first}}, "x", True, "later") is None
    renamed = condition({"status": {"conditions": first}}, "y", True, "later")
    assert renamed is not None
    assert renamed[1]["lastTransitionTime"] == "then"


# -- which flow


@pytest.mark.parametrize(
    ("user", "method", "path", "expected"),
    [
        (COMPONENT, "GET", CM, "exempt"),
        (User("anyone", groups=("system:unauthenticated",)), "GET", "/readyz", "probes"),
        (NODE, "PUT", f"{LEASE}/n1", "system-node-high"),
        (NODE, "PATCH", "/api/v1/nodes/n1/status", "system-node-high"),
        (NODE, "GET", "/api/v1/pods", "system-nodes"),
        (ACCOUNT, "PUT", f"{LEASE}/x", "system-leader-election"),
        (ACCOUNT, "GET", f"{CM}/x", "workload-leader-election"),
        (ACCOUNT, "DELETE", f"{CM}/x", "kube-system-service-accounts"),
        (User("system:kube-scheduler", groups=("system:authenticated",)), "GET", "/api/v1/pods", "kube-scheduler"),
        (User("system:serviceaccount:a:b", groups=("system:serviceaccounts",)), "GET", CM, "service-accounts"),
        (ALICE, "GET", CM, "global-default"),
        (ALICE, "GET", "/version", "global-default"),
        (User("ghost"), "GET", CM, "catch-all"),
    ],
)
def test_the_built_in_schemas_find_their_requests(user: User, method: str, path: str, expected: str) -> None:
    flows = Flows(600, VirtualClock())
    flows.configure(plan(priority_levels(), 600), [read(s) for s in flow_schemas()])
    flow = flows.classify(user, parse(method, path, {}))
    assert flow.counts.schema == expected
    assert flows.classify(user, parse(method, path, {})) is flow


def test_rules_about_namespaces_subresources_and_paths() -> None:
    def matches(rule: dict[str, Any], method: str, path: str) -> bool:
        subject = {"kind": "Group", "group": {"name": "system:authenticated"}}
        spec = {"priorityLevelConfiguration": {"name": "x"}, "rules": [{"subjects": [subject], **rule}]}
        return read({"metadata": {"name": "s"}, "spec": spec}).matches(ALICE, parse(method, path, {}))

    pods = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods/log"], "namespaces": ["a"]}
    assert matches({"resourceRules": [pods]}, "GET", "/api/v1/namespaces/a/pods/x/log")
    assert not matches({"resourceRules": [pods]}, "GET", "/api/v1/namespaces/a/pods/x")
    assert not matches({"resourceRules": [pods]}, "GET", "/api/v1/namespaces/b/pods/x/log")
    everywhere = {**pods, "verbs": ["*"], "resources": ["*"], "namespaces": ["*"]}
    assert not matches({"resourceRules": [everywhere]}, "GET", "/api/v1/pods")  # needs clusterScope
    paths = {"verbs": ["get"], "nonResourceURLs": ["/openapi/*", "/version"]}
    assert matches({"nonResourceRules": [paths]}, "GET", "/openapi/v3")
    assert not matches({"nonResourceRules": [paths]}, "GET", "/openapi")
    assert not matches({"nonResourceRules": [paths]}, "POST", "/version")


@given(st.text(max_size=20), st.integers(1, 128), st.integers(1, 128))
def test_a_hand_has_different_queues(user: str, queues: int, hand: int) -> None:
    dealt = deal("s", user, queues, hand)
    assert len(set(dealt)) == len(dealt) == min(hand, queues)
    assert all(0 <= q < queues for q in dealt)


@pytest.mark.parametrize(
    ("path", "stored", "expected"),
    [
        ("/api/v1/pods", 0, 1),
        ("/api/v1/pods", 101, 2),
        ("/api/v1/pods", 100_000, 10),
        ("/api/v1/pods?limit=50", 100_000, 1),
        ("/api/v1/pods?limit=50&labelSelector=a%3Db", 100_000, 10),
        ("/api/v1/pods?watch=1&resourceVersion=7", 100_000, 1),
        ("/api/v1/pods?watch=1", 100_000, 10),
        ("/api/v1/namespaces/a/pods/x", 100_000, 1),
    ],
)
def test_wide_lists_take_more_seats(path: str, stored: int, expected: int) -> None:
    from jota.api.path import parameters

    where, _, query = path.partition("?")
    params = parameters(query)
    assert seats(parse("GET", where, params), params, lambda: stored) == expected


# -- seats


def test_shares_become_seats_that_are_lent_and_borrowed() -> None:
    limits = plan(priority_levels(), 600)
    assert {n: v.nominal for n, v in limits.items()}["node-high"] == 98
    assert limits["workload-low"].nominal == 245
    assert limits["workload-low"].minimum == 25
    assert limits["workload-low"].maximum == 600
    assert limits["exempt"].exempt


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_seats_never_exceed_the_server_and_a_minimum_is_always_there(seed: int) -> None:
    """Any order of taking and giving back: the model check of lending and borrowing."""
    random = Random(seed)
    total = random.randint(20, 200)
    objects = [level(f"l{i}", random.randint(1, 50), borrowing=random.choice((None, 0, 50))) for i in range(4)]
    for obj in objects:
        obj["spec"]["limited"]["lendablePercent"] = random.choice((0, 30, 100))
    limits = plan(objects, total)
    pool = Pool(total - sum(v.minimum for v in limits.values()))
    levels = [Level(v, pool) for v in limits.values()]
    held: list[tuple[Level, int]] = []
    for _ in range(400):
        if held and random.random() < 0.45:
            one, width = held.pop(random.randrange(len(held)))
            one.give_back(width)
            continue
        one, width = random.choice(levels), random.randint(1, 10)
        if one.fits(width):
            one.take(width)
            held.append((one, width))
        else:
            assert one.used + width > one.limits.minimum, "what is its own was refused"
        slack = len(levels)  # shares are rounded up
        assert sum(v.used for v in levels) <= total + slack
        assert all(v.used <= v.limits.maximum for v in levels)
    for one, width in held:
        one.give_back(width)
    assert pool.free == total - sum(v.minimum for v in limits.values())


def test_flows_of_one_level_take_turns_by_seats() -> None:
    limits = Limits("l", "", False, 1, 1, 1, 8, 1, 100)
    one = Level(limits, Pool(0))
    loop = asyncio.new_event_loop()
    counts = Counts("s", "l")
    greedy, modest = Flow("", one, (0,), counts), Flow("", one, (1,), counts)
    for _ in range(20):
        assert one.enqueue(Waiter(greedy, 1, loop.create_future()))
    for _ in range(3):
        assert one.enqueue(Waiter(modest, 1, loop.create_future()))
    order = [one.serve().flow is modest for _ in range(23)]
    loop.close()
    assert sum(order[:6]) == 3, "three modest requests were not served among the first six"


# -- requests


@story
async def test_a_level_that_rejects_says_when_to_come_back(api: ApiServer) -> None:
    await api.client.create(PRIORITY_LEVELS, level("jail", 0, borrowing=0))
    await api.client.create(FLOW_SCHEMAS, schema("jail", "jail", "alice"))
    await api.settle()
    refused = await api.request("GET", CM, user=ALICE)
    assert refused.status == 429
    assert header(refused, "Retry-After") == "1"
    status = orjson.loads(refused.body)  # type: ignore[arg-type]
    assert (status["reason"], status["details"]["retryAfterSeconds"]) == ("TooManyRequests", 1)
    assert status["message"] == "Too many requests, please try again later."
    assert (await api.request("GET", CM, user=BOB)).status == 200
    text = (await api.request("GET", "/metrics")).body
    labels = b'{flow_schema="jail",priority_level="jail",reason="concurrency-limit"}'
    assert b"apiserver_flowcontrol_rejected_requests_total" + labels + b" 1" in text


def test_answers_tell_the_schema_and_the_level_by_uid() -> None:
    class Known:
        async def authenticate(self, request: object) -> User:
            return ALICE

    async def main() -> None:
        async with ApiServer(authenticator=Known()) as api:
            await api.settle()
            response = await api.request("GET", CM, user=None)
            found = await api.client.get(FLOW_SCHEMAS, "global-default")
            lower = await api.client.get(PRIORITY_LEVELS, "global-default")
            assert header(response, "X-Kubernetes-PF-FlowSchema-UID") == found["metadata"]["uid"]
            assert header(response, "X-Kubernetes-PF-PriorityLevel-UID") == lower["metadata"]["uid"]

    asyncio.run(main())


async def _slow(api: ApiServer) -> tuple[asyncio.Event, list[asyncio.Task[Response]]]:
    """Let alice have two seats and one queue of five, and hold every create at the store's door."""
    await api.client.create(PRIORITY_LEVELS, level("narrow", 0, borrowing=0, queues=1))
    await api.client.create(FLOW_SCHEMAS, schema("narrow", "narrow", "alice"))
    await api.settle()
    found = api.api.flows.levels["narrow"]
    found.requeue(Limits("narrow", "", False, 2, 2, 2, 1, 1, 5))
    go = asyncio.Event()
    create = api.api.engine.store.put

    async def held(key: str, value: bytes, *, expect: int | None = None, **more: Any) -> Any:
        if "/held" in key:
            await go.wait()
        return await create(key, value, expect=expect, **more)

    api.api.engine.store.put = held  # type: ignore[method-assign]
    bodies = [{"metadata": {"name": f"held{i}"}} for i in range(8)]
    tasks = [asyncio.ensure_future(api.request("POST", CM, b, user=ALICE)) for b in bodies]
    await api.settle()
    return go, tasks


@story
async def test_two_work_five_wait_one_is_refused_and_all_who_wait_are_served(api: ApiServer) -> None:
    go, tasks = await _slow(api)
    narrow = api.api.flows.levels["narrow"]
    assert (narrow.executing, narrow.waiting) == (2, 5)
    assert [t.result().status for t in tasks if t.done()] == [429]
    assert (
        await api.request("POST", CM, {"metadata": {"name": "held-not"}}, query="dryRun=All", user=BOB)
    ).status == 201
    go.set()
    statuses = sorted([(await t).status for t in tasks])
    assert statuses == [201] * 7 + [429]
    assert (narrow.executing, narrow.used, narrow.waiting) == (0, 0, 0)
    text = (await api.request("GET", "/metrics")).body
    assert b'request_wait_duration_seconds_count{flow_schema="narrow",priority_level="narrow",execute="true"} 5' in text


@story
async def test_who_goes_away_while_waiting_leaves_no_trace(api: ApiServer) -> None:
    go, tasks = await _slow(api)
    narrow = api.api.flows.levels["narrow"]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert (narrow.executing, narrow.used, narrow.waiting) == (0, 0, 0)
    go.set()
    assert (await api.request("POST", CM, {"metadata": {"name": "after"}}, user=ALICE)).status == 201


@story
async def test_a_change_of_settings_serves_those_who_already_wait(api: ApiServer) -> None:
    go, tasks = await _slow(api)
    await api.client.delete(PRIORITY_LEVELS, "narrow")
    await api.settle()
    assert (await api.request("GET", CM, user=ALICE)).status == 200, "classified anew"
    go.set()
    assert sorted([(await t).status for t in tasks]) == [201] * 7 + [429]


@story
async def test_a_wide_request_that_waits_fits_into_a_level_that_was_narrowed(api: ApiServer) -> None:
    """Else it would hold up all who wait behind it, until its time is over."""
    flows = Flows(20, api.clock)

    def configure(maximum: int) -> None:
        limits = Limits("l", "", False, maximum, maximum, maximum, 1, 1, 100)
        flows.configure({"l": limits, "catch-all": Limits("catch-all", "", False, 1, 1, 1, 1, 1, 100)}, [])

    configure(10)
    flow = Flow("", flows.levels["l"], (0,), Counts("s", "l"))
    assert flows.enter(flow, 8, 0.0)
    wide = asyncio.ensure_future(flows.wait(flow, 8, 100.0))
    modest = asyncio.ensure_future(flows.wait(flow, 1, 100.0))
    await api.settle()
    configure(3)
    flows.give_back(flow, 8)
    await api.settle()
    assert wide.done(), "it waits for seats that there are not"
    taken = await wide
    assert taken == 3
    flows.give_back(flow, taken)
    assert await modest == 1
    flows.give_back(flow, 1)
    assert (flows.levels["l"].used, flows.executing()) == (0, 0)


@story
async def test_a_wait_in_the_queue_is_part_of_the_requests_own_time(api: ApiServer) -> None:
    go, tasks = await _slow(api)
    tasks[2].cancel()
    await api.settle()
    late = await api.request("GET", CM, query="timeout=20ms", user=ALICE)
    assert late.status == 429
    go.set()
    await asyncio.wait(tasks)
    assert api.api.flows.levels["narrow"].waiting == 0


@story
async def test_a_watch_holds_its_seats_only_for_its_beginning(api: ApiServer) -> None:
    await api.client.create(CONFIGMAPS, {"metadata": {"name": "a"}}, "default")
    found = api.api.flows.levels["global-default"]
    response = await api.request("GET", CM, query="watch=1", user=ALICE)
    assert found.used == 1
    del response  # never run: the client was gone before it began
    assert found.used == 0
    async with Watching(api, f"{CM}?watch=1&allowWatchBookmarks=true") as watching:
        assert watching.names() == [("ADDED", "a")]
        assert (found.used, found.executing) == (0, 0)


def test_a_flood_of_one_user_keeps_neither_nodes_nor_controllers_nor_others_waiting() -> None:
    """400 lists of one user arrive at once, then a node's lease, a controller and another user. Told by order alone."""

    async def main() -> None:
        async with ApiServer(clock=Ticking()) as api:
            lease = {"metadata": {"name": "n1"}, "spec": {"holderIdentity": "n1"}}
            await api.client.create(LEASES, lease, "kube-node-lease")
            done: list[str] = []

            async def ask(who: str, user: User, method: str, path: str, body: Any = b"", **more: str) -> int:
                response = await api.request(method, path, body, user=user, **more)
                done.append(f"{who} {response.status}")
                return response.status

            async with asyncio.TaskGroup() as group:
                for _ in range(400):
                    group.create_task(ask("flood", ALICE, "GET", CM))
                merge = "application/merge-patch+json"
                patch = {"spec": {"renewTime": "2026-01-01T00:00:00.000000Z"}}
                group.create_task(ask("node", NODE, "PATCH", f"{LEASE}/n1", patch, content_type=merge))
                group.create_task(ask("controller", COMPONENT, "GET", CM))
                group.create_task(ask("other", BOB, "GET", CM))
            waited = {who: done.index(f"{who} 200") for who in ("node", "controller", "other")}
            served = done.count("flood 200")
            # 400 came, 300 places are in the flood's hand of queues: the rest is told to come back, nobody else is
            assert served >= 300
            assert done.count("flood 429") == 400 - served
            before = {who: done[:at].count("flood 200") for who, at in waited.items()}
            assert before["controller"] <= 10, before
            assert before["node"] <= 60, before
            assert before["other"] <= 60, before
            for one in api.api.flows.levels.values():
                assert (one.used, one.waiting) == (0, 0)

    asyncio.run(main())


def test_rejections_are_no_server_error_for_a_client() -> None:
    async def main() -> None:
        async with ApiServer() as api:
            await api.client.create(PRIORITY_LEVELS, level("jail", 0, borrowing=0))
            await api.client.create(FLOW_SCHEMAS, schema("jail", "jail", "alice"))
            await api.settle()
            with pytest.raises(ApiError) as refused:
                await api.client_for(ALICE).get(CONFIGMAPS, "x", "default")
            assert (refused.value.code, refused.value.reason) == (429, "TooManyRequests")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"type": "Exempt"}, "spec.type"),
        ({"limited": None}, "spec.limited"),
        ({"exempt": {}}, "spec.exempt"),
        ({"limited": {"lendablePercent": 101, "limitResponse": {"type": "Reject"}}}, "spec.limited.lendablePercent"),
        ({"limited": {"limitResponse": {"type": "Drop"}}}, "spec.limited.limitResponse.type"),
        ({"limited": {"limitResponse": {"type": "Queue"}}}, "spec.limited.limitResponse.queuing"),
        (
            {"limited": {"limitResponse": {"type": "Queue", "queuing": {"queues": 4, "handSize": 5}}}},
            "spec.limited.limitResponse.queuing.handSize",
        ),
    ],
)
def test_a_level_that_makes_no_sense_is_refused(change: dict[str, Any], field: str) -> None:
    async def main() -> None:
        async with ApiServer() as api:
            obj = level("mine", 10)
            with pytest.raises(ApiError) as refused:
                await api.client.create(PRIORITY_LEVELS, {**obj, "spec": {**obj["spec"], **change}})
            assert refused.value.code == 422
            assert field in [cause.field for cause in refused.value.causes]

    asyncio.run(main())


@story
async def test_a_schema_that_makes_no_sense_is_refused(api: ApiServer) -> None:
    broken = schema("mine", "system", "alice")
    rule = broken["spec"]["rules"][0]
    rule["subjects"] += [{"kind": "Robot"}, {"kind": "ServiceAccount", "serviceAccount": {"name": "x"}}]
    rule["resourceRules"] += [{"verbs": ["*", "get"], "apiGroups": ["*"], "resources": []}]
    broken["spec"]["distinguisherMethod"]["type"] = "ByMood"
    with pytest.raises(ApiError) as refused:
        await api.client.create(FLOW_SCHEMAS, broken)
    assert {cause.field for cause in refused.value.causes} >= {
        "spec.distinguisherMethod.type",
        "spec.rules[0].subjects[1].kind",
        "spec.rules[0].subjects[2].serviceAccount.namespace",
        "spec.rules[0].resourceRules[1].verbs",
        "spec.rules[0].resourceRules[1].resources",
        "spec.rules[0].resourceRules[1].namespaces",
    }


@story
async def test_a_watch_at_another_api_server_holds_no_seat_here(api: ApiServer) -> None:
    """Not even until the other one answers: it may never do so, and seats are for those whom this server serves."""

    class Remote:
        async def serve(self, request: object, user: User) -> Response:
            assert found.used == 0

            async def forever(writer: object) -> None:
                await asyncio.Event().wait()

            return Response(200, [], stream=forever)

    found = api.api.flows.levels["global-default"]
    api.api.aggregation.route = lambda target: Remote()  # type: ignore[method-assign, assignment, return-value]
    response = await api.request("GET", "/apis/others.example.com/v1/things", query="watch=1", user=ALICE)
    assert response.stream is not None
    assert found.used == 0
