"""APIServices of our own group versions and of definitions; what an APIService may say."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import orjson
import pytest

from jota.aio.clock import SystemClock
from jota.api.aggregation import autoregister, tls
from jota.kinds.apiextensions.crd import CRDS
from jota.kinds.apiregistration.apiservice import APISERVICES, KIND
from jota.meta import conditions
from jota.meta.errors import ApiError
from jota.meta.resource import NAMESPACES
from jota.pki.ca import CertificateAuthority
from jota.testing.cluster import ApiServer, story
from jota.testing.extension import GROUP, VERSION

from .world import FLUNDERS, NAME, Object, World, apiservice, flunder, told


@story
async def test_this_servers_own_group_versions_are_registered(api: ApiServer) -> None:
    listed = {s["metadata"]["name"]: s for s in (await api.client.list(APISERVICES))["items"]}
    assert {"v1.", "v1.apps", "v2.autoscaling"} <= set(listed)
    assert "v1beta1.metrics.k8s.io" not in listed, "free for a metrics server"
    assert "v1.apiregistration.k8s.io" not in listed
    core = listed["v1."]
    assert core["spec"] == {"version": "v1", "groupPriorityMinimum": 18000, "versionPriority": 1}
    assert core["metadata"]["labels"] == {autoregister.LABEL: "onstart"}
    (condition,) = core["status"]["conditions"]
    assert (condition["status"], condition["reason"]) == ("True", "Local")
    table = await api.request("GET", APISERVICES.path(), accept="application/json;as=Table;g=meta.k8s.io;v=v1")
    rows = {r["cells"][0]: r["cells"] for r in orjson.loads(b"".join(table.body))["rows"]}  # type: ignore[arg-type]
    assert rows["v1.apps"] == ["v1.apps", "Local", "True", "0s"]


@story
async def test_a_start_sets_right_what_was_changed_and_removes_what_is_no_longer_built_in(api: ApiServer) -> None:
    await api.client.patch(APISERVICES, "v1.apps", patch={"spec": {"groupPriorityMinimum": 5}})
    await api.client.delete(APISERVICES, "v1.batch")
    old = apiservice(group="gone.k8s.io", version="v1", service=None)
    old["metadata"]["labels"] = {autoregister.LABEL: "onstart"}
    await api.client.create(APISERVICES, old)
    await api.settle()
    assert (await api.client.get(APISERVICES, "v1.apps"))["spec"]["groupPriorityMinimum"] == 5, "until the next start"
    names = {s["metadata"]["name"] for s in (await api.client.list(APISERVICES))["items"]}
    assert "v1.batch" not in names
    assert "v1.gone.k8s.io" in names
    again = ApiServer(clock=api.clock, store=api.store)
    await again.api.start()
    listed = {s["metadata"]["name"]: s for s in (await again.client.list(APISERVICES))["items"]}
    assert listed["v1.apps"]["spec"]["groupPriorityMinimum"] == 17800
    assert "v1.batch" in listed
    assert "v1.gone.k8s.io" not in listed
    await again.api.close()


def definition(group: str, version: str) -> Object:
    names = {"plural": "flunders", "kind": "Flunder"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    versions = [{"name": version, "served": True, "storage": True, "schema": schema}]
    return {
        "metadata": {"name": f"flunders.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": versions},
    }


@story
async def test_definitions_come_and_go_with_their_apiservices(api: ApiServer) -> None:
    await api.client.create(CRDS, definition("example.com", "v1"))
    await api.settle()
    found = await api.client.get(APISERVICES, "v1.example.com")
    assert (found["spec"]["groupPriorityMinimum"], found["spec"]["versionPriority"]) == (1000, 100)
    assert found["metadata"]["labels"] == {autoregister.LABEL: "true"}
    # somebody who takes it over is set right again, as long as the label says that it is ours
    await api.client.patch(APISERVICES, "v1.example.com", patch={"spec": {"service": {"namespace": "a", "name": "b"}}})
    await api.settle()
    assert "service" not in (await api.client.get(APISERVICES, "v1.example.com"))["spec"]
    await api.client.delete(CRDS, "flunders.example.com")
    await api.settle()
    with pytest.raises(ApiError):
        await api.client.get(APISERVICES, "v1.example.com")


@told
async def test_who_registered_a_group_version_by_hand_keeps_it_before_a_definition(w: World) -> None:
    await w.register()
    await w.becomes("True", "Passed")
    await w.api.client.create(CRDS, definition(GROUP, VERSION))
    await w.api.settle()
    assert "service" in (await w.api.client.get(APISERVICES, NAME))["spec"]
    await w.api.client.create(FLUNDERS, flunder("f"), "default")
    assert ("default", "f") in w.extension.flunders
    await w.api.client.delete(APISERVICES, NAME)
    await w.api.until(lambda: w.api.api.registry.get(APISERVICES, "", NAME) is not None)
    assert (await w.api.client.list(FLUNDERS, "default"))["items"] == [], "now the definition's own"


@story
async def test_a_metrics_server_takes_over_and_gives_back(api: ApiServer) -> None:
    name, path = "v1beta1.metrics.k8s.io", "/apis/metrics.k8s.io/v1beta1/nodes"
    assert (await api.request("GET", path)).status == 200
    service = {"namespace": "kube-system", "name": "metrics-server"}
    spec = {"group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100}
    spec |= {"service": service, "insecureSkipTLSVerify": True}
    await api.client.create(APISERVICES, {"metadata": {"name": name}, "spec": spec})
    await api.settle()
    assert (await api.request("GET", path)).status == 503, "registered, and not there yet"
    again = ApiServer(clock=api.clock, store=api.store)
    await again.api.start()
    assert (await again.client.get(APISERVICES, name))["spec"]["service"]["name"] == "metrics-server"
    await again.api.close()
    await api.client.delete(APISERVICES, name)
    await api.settle()
    assert (await api.request("GET", path)).status == 200


def test_plan_of_registrations() -> None:
    want = autoregister.wanted(
        [("apps", "v1"), ("unknown.io", "v1"), ("apiregistration.k8s.io", "v1")], [("c.io", "v1")]
    )
    assert set(want) == {"v1.apps", "v1.c.io"}

    def have(label: str, **spec: Any) -> Object:
        return {"metadata": {"name": "n", "labels": {autoregister.LABEL: label} if label else {}}, "spec": spec}

    def steps(desired: Object | None, current: Object | None, *, old: bool = False, synced: bool = False) -> str:
        names, done = frozenset(["n"] if old else []), frozenset(["n"] if synced else [])
        found = autoregister.plan({"n": desired} if desired else {}, {"n": current} if current else {}, names, done)
        return "".join(c for c, some in zip("cud", (found.create, found.update, found.delete), strict=True) if some)

    once, always = have("onstart", a=1), have("true", a=1)
    for desired, current, wanted_ in (
        (None, None, ""),
        (once, None, "c"),
        (always, None, "c"),
        (None, have(""), ""),
        (once, have(""), ""),
        (always, have(""), ""),
        (None, have("onstart"), ""),
        (once, have("onstart"), ""),
        (None, have("true"), "d"),
        (once, have("true"), "u"),
        (always, have("true"), "u"),
        (always, have("true", a=1), ""),
    ):
        assert steps(desired, current) == wanted_, (desired, current)
    assert steps(None, have("onstart"), old=True) == "d"
    assert steps(once, have("onstart"), old=True) == "u"
    assert steps(once, have("onstart"), old=True, synced=True) == ""
    assert steps(once, None, synced=True) == ""
    assert steps(always, None, synced=True) == "c"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"metadata": {"name": "x"}},
            'metadata.name: Invalid value: "x": must be `spec.version+"."+spec.group`: "v1.g.io"',
        ),
        ({"spec": {"group": "", "version": "v2"}}, "spec.group: Required value: only v1 may have an empty group"),
        ({"spec": {"group": "G_"}}, 'spec.group: Invalid value: "G_"'),
        ({"spec": {"version": "1"}}, 'spec.version: Invalid value: "1"'),
        (
            {"spec": {"groupPriorityMinimum": 20001}},
            "spec.groupPriorityMinimum: Invalid value: 20001: must be positive",
        ),
        (
            {"spec": {"versionPriority": 0}},
            "spec.versionPriority: Invalid value: 0: must be positive and less than 1000",
        ),
        ({"spec": {"service": {"name": "s"}}}, "spec.service.namespace: Required value"),
        (
            {"spec": {"insecureSkipTLSVerify": True, "caBundle": "YQ=="}},
            "spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present",
        ),
        (
            {"spec": {"service": None, "caBundle": "YWJj"}},
            'spec.caBundle: Invalid value: "3 bytes": local APIServices may not have a caBundle',
        ),
        (
            {"spec": {"service": None, "insecureSkipTLSVerify": True}},
            "spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify",
        ),
    ],
)
def test_what_an_apiservice_may_not_say(change: Object, message: str) -> None:
    given = apiservice(group="g.io", version="v1")
    KIND.default(given)
    assert given["spec"]["service"]["port"] == 443
    assert KIND.validate(given) == []
    for key, value in change.items():
        given[key] = given[key] | value
    found = [f"{e.field}: {e.message}" for e in KIND.validate(given)]
    assert any(message in f for f in found), found


def test_columns() -> None:
    cells = [c.cell(apiservice(), 0.0) for c in KIND.columns[1:3]]
    assert cells == ["wardle/api", "Unknown"]
    failed = {"status": {"conditions": [{"type": "Available", "status": "False", "reason": "MissingEndpoints"}]}}
    assert KIND.columns[2].cell({**apiservice(), **failed}, 0.0) == "False (MissingEndpoints)"


@told
async def test_a_namespace_does_not_end_while_a_group_version_cannot_be_seen(w: World) -> None:
    from random import Random

    from jota.client.informers import Informers
    from jota.controllers.controller import Context, ControllerConfig
    from jota.controllers.namespace import NamespaceController

    await w.register()
    await w.becomes("True", "Passed")
    await w.api.client.create(NAMESPACES, {"metadata": {"name": "end"}})
    await w.api.client.create(FLUNDERS, flunder("f"), "end")
    await w.endpoints(False)
    await w.becomes("False", "MissingEndpoints")
    informers = Informers(w.api.client, w.api.clock)
    controller = NamespaceController(Context(w.api.client, w.api.clock, ControllerConfig(), informers, Random(0)))
    running = [asyncio.ensure_future(informers.run()), asyncio.ensure_future(controller.run())]
    await w.api.client.delete(NAMESPACES, "end")

    def condition() -> Object:
        found = w.api.api.registry.get(NAMESPACES, "", "end") or {}
        return conditions.find((found.get("status") or {}).get("conditions"), "NamespaceDeletionDiscoveryFailure") or {}

    await w.api.until(lambda: condition().get("status") == "True", within=10)
    assert condition()["reason"] == "DiscoveryFailed"
    assert f"{GROUP}/{VERSION}" in condition()["message"]
    await w.endpoints(True)
    await w.api.until(lambda: w.api.api.registry.get(NAMESPACES, "", "end") is None, within=20)
    assert w.extension.flunders == {}, "deleted there, through discovery"
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def test_contexts_of_replaced_bundles_are_not_kept_for_ever() -> None:
    contexts, now = tls.Contexts(None), SystemClock().now()
    authority = CertificateAuthority(CertificateAuthority.create("one", days=1, now=now)).certificate_pem
    bundles = [base64.b64encode(authority + b"\n" * n).decode() for n in range(20)]
    probe = contexts.context("", insecure=True)
    for bundle in bundles:
        one = contexts.context(bundle, insecure=False)
        assert contexts.context(bundle, insecure=False) is one
        assert contexts.context("", insecure=True) is probe, "what is in use stays"
    assert len(contexts._kept) <= tls.MOST
