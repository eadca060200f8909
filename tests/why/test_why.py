"""Causal chains, on the real API server: each story breaks something and asks why; both languages say the same."""

from __future__ import annotations

import asyncio
import string
from typing import Any

import pytest

from jota.meta.resource import CONFIGMAPS, EVENTS, NAMESPACES, NODES, PODS, SECRETS, SERVICES, Resource
from jota.testing.cluster import ApiServer
from jota.why.explain import explain, find_kind
from jota.why.finding import Finding
from jota.why.texts import EXIT_CODES, TEXTS, say
from jota.why.world import World


def pod(name: str, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    containers = spec.pop("containers", [{"name": "c", "image": "x"}])
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": {"containers": containers, **spec}}


async def node(api: ApiServer, name: str, cpu: str = "2", **spec: Any) -> None:
    status = {
        "allocatable": {"cpu": cpu, "memory": "1Gi", "pods": "10"},
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    await api.client.create(NODES, {"metadata": {"name": name}, "spec": spec, "status": status})


async def why(api: ApiServer, what: str) -> list[Finding]:
    word, _, name = what.partition("/")
    known = find_kind(word)
    assert known is not None
    world = World(api.client, "default", api.clock.now())
    found = await explain(world, known[0], known[1], name)
    for finding in found:
        for language in ("en", "ko"):
            assert say(finding.code, finding.facts, language)[0]
    return found


def codes(found: list[Finding]) -> list[str]:
    return [f.code for f in found]


def ask(story: Any) -> None:
    async def run() -> None:
        async with ApiServer() as api:
            await story(api)

    asyncio.run(run())


async def unschedulable(api: ApiServer, name: str) -> None:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/2 nodes are available",
    }
    await api.client.patch(PODS, name, "default", {"status": {"conditions": [condition]}}, subresource="status")


async def running(api: ApiServer, name: str, on: str, **container: Any) -> None:
    await api.client.create(PODS, {"target": {"kind": "Node", "name": on}}, "default", "binding", name)
    status = {
        "phase": "Running",
        "containerStatuses": [{"name": "c", "image": "x", "imageID": "", "restartCount": 0, **container}],
    }
    await api.client.patch(PODS, name, "default", {"status": status}, subresource="status")


def test_too_big_for_every_node_and_short_of_room() -> None:
    async def story(api: ApiServer) -> None:
        await node(api, "small", "1")
        await node(api, "large", "4")
        big = [{"name": "c", "image": "x", "resources": {"requests": {"cpu": "9"}}}]
        await api.client.create(PODS, pod("huge", containers=big), "default")
        await unschedulable(api, "huge")
        found = await why(api, "pod/huge")
        assert codes(found) == ["unscheduled", "too-big"]
        assert found[1].facts["node"] == "large"
        assert "largest node, large, has only 4" in say(found[1].code, found[1].facts, "en")[0]

        most = [{"name": "c", "image": "x", "resources": {"requests": {"cpu": "3"}}}]
        await api.client.create(PODS, pod("first", containers=most), "default")
        await running(api, "first", "large", ready=True, state={"running": {}})
        await api.client.create(PODS, pod("second", containers=most), "default")
        await unschedulable(api, "second")
        found = await why(api, "po/second")
        assert codes(found) == ["unscheduled", "short-of"]
        assert (found[1].facts["free"], found[1].facts["missing"]) == ("1", "2")

    ask(story)


@pytest.mark.parametrize(
    ("spec", "node_spec", "expected"),
    [
        ({"nodeSelector": {"disk": "ssd"}}, {}, ["unscheduled", "no-label"]),
        ({}, {"unschedulable": True}, ["unscheduled", "cordoned"]),
        ({}, {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}, ["unscheduled", "tainted"]),
        ({"schedulingGates": [{"name": "later"}]}, {}, ["gated"]),
    ],
)
def test_placement_obstacles(spec: dict[str, Any], node_spec: dict[str, Any], expected: list[str]) -> None:
    async def story(api: ApiServer) -> None:
        await node(api, "a", **node_spec)
        await api.client.create(PODS, pod("p", **spec), "default")
        await unschedulable(api, "p")
        assert codes(await why(api, "pod/p")) == expected

    ask(story)


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


CRASH = {"lastState": {"terminated": {"exitCode": 127, "message": "sh: foo: not found"}}}


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        (waiting("ImagePullBackOff", "no such host"), ["image", "image-absent", "image-always"]),
        ({"restartCount": 3, **waiting("CrashLoopBackOff"), **CRASH}, ["crash", "said"]),
        ({"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}, ["oom"]),
        ({"ready": False, "state": {"running": {}}}, ["unready-quiet"]),
        (waiting("CreateContainerConfigError", 'configmap "settins" not found'), ["config", "config-absent-near"]),
        (waiting("CreateContainerConfigError", 'secret "zzz" not found'), ["config", "config-absent"]),
    ],
)
def test_container_troubles(container: dict[str, Any], expected: list[str]) -> None:
    async def story(api: ApiServer) -> None:
        await node(api, "a")
        await api.client.create(CONFIGMAPS, {"metadata": {"name": "settings"}}, "default")
        await api.client.create(SECRETS, {"metadata": {"name": "other"}}, "default")
        await api.client.create(PODS, pod("p"), "default")
        await running(api, "p", "a", **container)
        assert codes(await why(api, "pod/p")) == expected

    ask(story)


def test_a_service_whose_selector_matches_nothing_names_the_nearest_pod() -> None:
    async def story(api: ApiServer) -> None:
        await api.client.create(PODS, pod("web-1", {"app": "web"}), "default")
        spec = {"selector": {"app": "webb"}, "ports": [{"port": 80}]}
        await api.client.create(SERVICES, {"metadata": {"name": "s"}, "spec": spec}, "default")
        found = await why(api, "svc/s")
        assert codes(found) == ["no-match-near"]
        assert found[0].facts["near"] == "pod/web-1"

        spec = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}
        await api.client.create(SERVICES, {"metadata": {"name": "t"}, "spec": spec}, "default")
        assert codes(await why(api, "service/t")) == ["no-port"]

    ask(story)


def test_things_that_are_well_or_absent() -> None:
    async def story(api: ApiServer) -> None:
        await node(api, "a")
        await api.client.create(PODS, pod("fine"), "default")
        await running(api, "fine", "a", ready=True, state={"running": {}})
        ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        await api.client.patch(PODS, "fine", "default", ready, subresource="status")
        found = await why(api, "pod/fine")
        assert [f.level for f in found] == ["good"]
        assert codes(await why(api, "pod/fina")) == ["absent-near"]
        assert codes(await why(api, "ns/default")) == ["healthy"]
        assert codes(await why(api, "node/a")) == ["healthy"]

    ask(story)


def test_what_is_being_deleted_names_its_finalizers() -> None:
    async def story(api: ApiServer) -> None:
        made = pod("held")
        made["metadata"]["finalizers"] = ["example.com/keep"]
        await api.client.create(PODS, made, "default")
        await api.client.delete(PODS, "held", "default", grace=0)
        assert codes(await why(api, "pod/held")) == ["terminating-finalizers"]
        await api.client.create(NAMESPACES, {"metadata": {"name": "old"}})
        await api.client.delete(NAMESPACES, "old")
        assert codes(await why(api, "ns/old")) == ["terminating-finalizers"]

    ask(story)


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("code", sorted(TEXTS))
def test_both_languages_say_the_same(code: str) -> None:
    text = TEXTS[code]
    assert placeholders(text.en) == placeholders(text.ko)
    assert placeholders(text.fix_en) == placeholders(text.fix_ko)
    assert bool(text.fix_en) == bool(text.fix_ko)


def test_exit_codes_have_both_languages() -> None:
    for english, korean in EXIT_CODES.values():
        assert english != korean


def test_devices_that_are_not_ready() -> None:
    async def story(api: ApiServer) -> None:
        await node(api, "n")
        made = await api.client.create(PODS, pod("gpu", nodeName="n"), "default")
        text = 'Failed to prepare dynamic resources: resourceclaim "c": DRA driver a.io is not registered on this node'
        event = {
            "metadata": {"name": "gpu.1", "namespace": "default"},
            "involvedObject": {"kind": "Pod", "name": "gpu", "namespace": "default", "uid": made["metadata"]["uid"]},
            "reason": "FailedPrepareDynamicResources",
            "message": text,
            "type": "Warning",
        }
        await api.client.create(EVENTS, event, "default")
        found = await why(api, "pod/gpu")
        assert codes(found)[0] == "devices"
        assert found[0].facts["message"] == text

    ask(story)


def test_nothing_of_the_other_language_is_left_when_a_node_is_not_there() -> None:
    async def story(api: ApiServer) -> None:
        await api.client.create(PODS, pod("lost", nodeName="nowhere"), "default")
        assert codes(await why(api, "pod/lost")) == ["node-absent"]
        await api.client.create(NODES, {"metadata": {"name": "new"}})
        assert codes(await why(api, "node/new")) == ["node-silent"]
        await api.client.create(PODS, pod("early", nodeName="new"), "default")
        assert codes(await why(api, "pod/early")) == ["node-silent"]

    ask(story)


def test_a_probe_that_fails_says_how() -> None:
    async def story(api: ApiServer) -> None:
        await node(api, "a")
        made = await api.client.create(PODS, pod("slow"), "default")
        await running(api, "slow", "a", state={"running": {}}, ready=False)
        about = {"kind": "Pod", "name": "slow", "namespace": "default", "uid": made["metadata"]["uid"]}
        event = {"metadata": {"name": "slow.1"}, "involvedObject": about, "reason": "Unhealthy", "message": "HTTP 503"}
        await api.client.create(EVENTS, event, "default")
        (found,) = await why(api, "pod/slow")
        assert (found.code, found.facts["message"]) == ("unready", "HTTP 503")

    ask(story)


def test_a_pod_that_waits_for_its_claims_says_what_is_the_matter_with_them() -> None:
    async def story(api: ApiServer) -> None:
        await node(api, "a")
        claims = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        for name, more in (("data", {"storageClassName": "nope"}), ("other", {"volumeName": "gone"})):
            await api.client.create(claims, {"metadata": {"name": name}, "spec": {**spec, **more}}, "default")

        async def waits_for(name: str) -> list[str]:
            volume = {"name": "v", "persistentVolumeClaim": {"claimName": name}}
            await api.client.create(PODS, pod(f"for-{name}", volumes=[volume]), "default")
            await unschedulable(api, f"for-{name}")
            return codes(await why(api, f"pod/for-{name}"))

        assert await waits_for("data") == ["unscheduled", "no-class"]
        assert await waits_for("dats") == ["unscheduled", "claim-absent-near"]
        assert await waits_for("nothing-alike") == ["unscheduled", "claim-absent"]
        assert await waits_for("other") == ["unscheduled", "volume-absent"]

    ask(story)


def near(kind: str, labels: dict[str, str], key: str = "kubernetes.io/hostname", **more: Any) -> dict[str, Any]:
    term = {"topologyKey": key, "labelSelector": {"matchLabels": labels}, **more}
    return {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}


def affine(key: str, operator: str, *values: str) -> dict[str, Any]:
    term = {"matchExpressions": [{"key": key, "operator": operator, **({"values": list(values)} if values else {})}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    return {"affinity": {"nodeAffinity": required}}


def spread(key: str) -> dict[str, Any]:
    rule = {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
    return {"topologySpreadConstraints": [rule]}


PORT = {"containers": [{"name": "c", "image": "x", "ports": [{"containerPort": 80, "hostPort": 80}]}]}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (affine("disk", "In", "ssd"), ["no-affine-node"]),
        (affine("cores", "Gt", "8"), ["no-affine-node"]),
        (affine("cores", "Gt", "2"), []),
        (affine("disk", "DoesNotExist"), []),
        (near("podAffinity", {"app": "nobody"}), ["affinity-nobody"]),
        (near("podAffinity", {"app": "p"}), []),
        (near("podAffinity", {"app": "there"}), []),
        (near("podAffinity", {"app": "there"}, namespaces=["elsewhere"]), ["affinity-nobody"]),
        (near("podAffinity", {"app": "x"}, namespaceSelector={"matchLabels": {"a": "b"}}), []),
        (near("podAntiAffinity", {"app": "there"}), ["anti-affinity"]),
        (near("podAntiAffinity", {"app": "there"}, "zone"), []),
        (near("podAntiAffinity", {"app": "nobody"}), []),
        (spread("zone"), ["no-topology"]),
        (spread("kubernetes.io/hostname"), []),
        (PORT, ["host-port"]),
    ],
)
def test_neighbours_and_affinity_are_named(spec: dict[str, Any], expected: list[str]) -> None:
    async def story(api: ApiServer) -> None:
        await node(api, "a")
        labels = {"kubernetes.io/hostname": "a", "cores": "4"}
        await api.client.patch(NODES, "a", "", {"metadata": {"labels": labels}})
        await api.client.create(PODS, pod("there", {"app": "there"}, **PORT), "default")
        await running(api, "there", "a", ready=True, state={"running": {}})
        await api.client.create(PODS, pod("p", {"app": "p"}, **spec), "default")
        await unschedulable(api, "p")
        assert codes(await why(api, "pod/p")) == ["unscheduled", *expected]

    ask(story)


def meta(name: str) -> dict[str, Any]:
    return {"name": name, "namespace": "default"}


def test_what_keeps_a_budget_from_letting_pods_go() -> None:
    async def story(api: ApiServer) -> None:
        budgets = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
        spec = {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}
        await api.client.create(budgets, {"metadata": meta("b"), "spec": spec})

        async def counted(
            healthy: int, needed: int, expected: int, allowed: int, reason: str = "InsufficientPods"
        ) -> str:
            status = {"currentHealthy": healthy, "desiredHealthy": needed, "expectedPods": expected}
            now = "2026-01-01T00:00:00Z"
            said = {
                "type": "DisruptionAllowed",
                "status": "False",
                "reason": reason,
                "message": "",
                "lastTransitionTime": now,
            }
            patch = {"status": {**status, "disruptionsAllowed": allowed, "conditions": [said]}}
            await api.client.patch(budgets, "b", "default", patch, subresource="status")
            (code,) = codes(await why(api, "pdb/b"))
            return code

        assert await counted(0, 0, 0, 0) == "budget-nobody"
        assert await counted(3, 3, 3, 0) == "budget-never"
        assert await counted(2, 2, 3, 0) == "budget-spent"
        assert await counted(3, 2, 3, 1) == "healthy"
        assert await counted(3, 2, 3, 0, "SyncFailed") == "budget-unknown"

    ask(story)


def test_cron_jobs_jobs_of_others_and_daemons_without_nodes() -> None:
    async def story(api: ApiServer) -> None:
        crons, jobs = Resource("batch", "v1", "cronjobs", "CronJob"), Resource("batch", "v1", "jobs", "Job")
        template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}}
        spec = {"schedule": "0 0 1 1 *", "concurrencyPolicy": "Forbid", "jobTemplate": {"spec": {"template": template}}}
        await api.client.create(crons, {"metadata": meta("c"), "spec": spec})
        assert codes(await why(api, "cj/c")) == ["healthy"]
        active = {"status": {"active": [{"kind": "Job", "name": "c-1", "namespace": "default"}]}}
        await api.client.patch(crons, "c", "default", active, subresource="status")
        assert codes(await why(api, "cronjob/c")) == ["cron-forbid"]
        await api.client.patch(crons, "c", "default", {"spec": {"suspend": True}})
        assert codes(await why(api, "cronjob/c")) == ["suspended"]
        other = {"managedBy": "example.com/queue", "template": template}
        await api.client.create(jobs, {"metadata": meta("j"), "spec": other})
        assert codes(await why(api, "job/j")) == ["managed-by"]
        daemons = Resource("apps", "v1", "daemonsets", "DaemonSet")
        labels = {"a": "b"}
        pods = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
        body = {"selector": {"matchLabels": labels}, "template": pods}
        await api.client.create(daemons, {"metadata": meta("d"), "spec": body})
        none = dict.fromkeys(
            ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady"), 0
        )
        await api.client.patch(daemons, "d", "default", {"status": none}, subresource="status")
        assert codes(await why(api, "ds/d")) == ["daemon-nowhere"]

    ask(story)
