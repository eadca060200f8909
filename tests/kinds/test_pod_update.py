"""What may change in a pod, and through which endpoint."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from kinds_build import changed, container, kind, pod, shown

from jota.kinds.core.pod import resize, update
from jota.kinds.core.pod.qos import qos_class

POD = kind("pods")
TOLERATION = {"key": "a", "operator": "Exists", "effect": "NoExecute"}
OLD = pod(
    tolerations=[TOLERATION],
    activeDeadlineSeconds=100,
    containers=[container(resources={"limits": {"cpu": "1", "memory": "1Gi"}})],
)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.containers.0.image", "nginx:2"),
        ("spec.activeDeadlineSeconds", 50),
        ("spec.tolerations", [{**TOLERATION, "tolerationSeconds": 5}, {"operator": "Exists"}]),
        ("metadata.labels", {"a": "b"}),
    ],
)
def test_allowed(path: str, value: Any) -> None:
    assert POD.validate_update(changed(OLD, path, value), OLD) == []


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("spec.nodeName", "n2", "changed: spec.nodeName"),
        ("spec.containers.0.command", ["sh"], "changed: spec.containers[0].command"),
        ("spec.containers", [], "spec.containers: Forbidden: pod updates may not add or remove containers"),
        ("spec.tolerations", [], "existing toleration can not be modified except its tolerationSeconds"),
        ("spec.activeDeadlineSeconds", 200, "must be less than or equal to previous value"),
        ("spec.activeDeadlineSeconds", None, "must not update from a positive integer to nil value"),
        ("spec.schedulingGates", [{"name": "x/y"}], "only deletion is allowed, but found new scheduling gate 'x/y'"),
        ("spec.containers.0.resources.limits.cpu", "2", "changed: spec.containers[0].resources"),
    ],
)
def test_refused(path: str, value: Any, problem: str) -> None:
    (error,) = shown(POD.validate_update(changed(OLD, path, value), OLD))
    assert error.endswith(problem)


MIRROR = "kubernetes.io/config.mirror"


@pytest.mark.parametrize(
    ("before", "after", "verb"),
    [
        ({}, {MIRROR: "x"}, "add"),
        ({MIRROR: "x"}, {}, "remove or update"),
        ({MIRROR: "x"}, {MIRROR: "y"}, "remove or update"),
    ],
)
def test_a_pod_is_a_mirror_for_life(before: Any, after: Any, verb: str) -> None:
    old = changed(OLD, "metadata.annotations", before)
    (error,) = shown(POD.validate_update(changed(old, "metadata.annotations", after), old))
    assert error == f"metadata.annotations[{MIRROR}]: Forbidden: may not {verb} mirror pod annotation"


def test_a_mirror_pod_is_bound_from_the_start() -> None:
    mirror = changed(OLD, "metadata.annotations", {MIRROR: "x"})
    (error,) = shown(POD.validate(mirror))
    assert (
        error
        == f"metadata.annotations[{MIRROR}]: Required value: must set spec.nodeName if mirror pod annotation is set"
    )
    assert POD.validate(changed(mirror, "spec.nodeName", "n1")) == []


def test_a_gated_pod_may_choose_its_node_more_narrowly() -> None:
    gated = pod(schedulingGates=[{"name": "x/y"}], nodeSelector={"a": "b"})
    assert POD.validate_update(changed(gated, "spec.nodeSelector", {"a": "b", "c": "d"}), gated) == []
    wider = POD.validate_update(changed(gated, "spec.nodeSelector", {"c": "d"}), gated)
    assert [e.field for e in wider] == ["spec.nodeSelector"]


def test_ephemeral_containers_are_added_through_their_own_endpoint() -> None:
    wanted = changed(OLD, "spec.ephemeralContainers", [container(name="debug")])
    plain = copy.deepcopy(wanted)
    POD.prepare_update(plain, OLD)
    assert "ephemeralContainers" not in plain["spec"]

    wanted["spec"]["hostname"] = "sneaked-in"
    update.prepare_ephemeral(wanted, OLD)
    assert "hostname" not in wanted["spec"]
    assert update.validate_ephemeral(wanted, OLD) == []

    gone = changed(wanted, "spec.ephemeralContainers", [])
    (error,) = shown(update.validate_ephemeral(gone, wanted))
    assert 'existing ephemeral containers "debug" may not be removed' in error


def test_resize_takes_only_resources() -> None:
    wanted = changed(OLD, "spec.containers.0.resources", {"limits": {"cpu": "2", "memory": "1Gi"}})
    wanted["spec"]["containers"][0]["image"] = "sneaked-in"
    resize.prepare_resize(wanted, OLD)
    POD.default(wanted)
    assert wanted["spec"]["containers"][0]["image"] == "nginx:1"
    assert wanted["spec"]["containers"][0]["resources"]["limits"]["cpu"] == "2"
    assert resize.validate_resize(wanted, OLD) == []


def test_resize_keeps_the_class_of_service() -> None:
    burstable = changed(OLD, "spec.containers.0.resources.requests.cpu", "500m")
    assert [e.message for e in resize.validate_resize(burstable, OLD)] == [
        'Invalid value: "Burstable": Pod QOS Class may not change as a result of resizing'
    ]


@pytest.mark.parametrize(
    ("resources", "wanted"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}, "Burstable"),
        ({"limits": {"cpu": "0"}}, "BestEffort"),
        ({"limits": {"example.com/gpu": "1"}}, "BestEffort"),
    ],
)
def test_qos_class(resources: dict[str, Any], wanted: str) -> None:
    assert qos_class(pod(containers=[container(resources=resources)])["spec"]) == wanted


def test_creation_sets_the_status() -> None:
    new = {**pod(), "status": {"phase": "Running", "podIP": "1.2.3.4"}}
    POD.prepare_create(new)
    assert new["status"] == {"phase": "Pending", "qosClass": "BestEffort"}


@pytest.mark.parametrize(
    ("spec", "phase", "asked", "seconds"),
    [
        ({"nodeName": "n"}, "Running", None, 30),
        ({"nodeName": "n"}, "Running", 5, 5),
        ({"nodeName": "n"}, "Running", 0, 0),
        ({"nodeName": "n"}, "Running", -7, 1),
        ({"nodeName": "n", "terminationGracePeriodSeconds": -7}, "Running", None, 1),
        ({}, "Pending", None, 0),
        ({"nodeName": "n"}, "Succeeded", 30, 0),
    ],
)
def test_grace_of_a_delete(spec: dict[str, Any], phase: str, asked: int | None, seconds: int) -> None:
    assert POD.grace is not None
    assert POD.grace({**pod(**spec), "status": {"phase": phase}}, asked) == seconds


def ended(code: int) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": code}}}], "qosClass": "BestEffort"}


@pytest.mark.parametrize(
    ("policy", "code", "allowed"),
    [("Never", 1, False), ("OnFailure", 0, False), ("OnFailure", 1, True), ("Always", 0, True)],
)
def test_what_has_ended_for_good_stays_ended(policy: str, code: int, allowed: bool) -> None:
    old = {**pod(restartPolicy=policy), "status": ended(code)}
    new = {**old, "status": {"containerStatuses": [{"name": "c", "state": {"running": {}}}]}}
    assert (POD.validate_status(new, old) == []) is allowed
    POD.prepare_status(new, old)
    assert new["status"]["qosClass"] == "BestEffort"


@pytest.mark.parametrize(
    ("status", "wrong"),
    [
        ({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}, {}),
        (
            {"podIPs": [{"ip": "x"}]},
            {"status.podIPs[0]": "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"},
        ),
        (
            {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]},
            {"status.podIPs": "may specify no more than one IP for each IP family"},
        ),
        ({"hostIP": "10.0.0.1", "hostIPs": [{"ip": "10.0.0.1"}]}, {}),
        ({"hostIPs": [{"ip": "10.0.0.1"}]}, {"status.hostIPs[0].ip": "must be equal to `hostIP`"}),
        ({"podIP": "old", "podIPs": [{"ip": "old"}], "nominatedNodeName": "Old"}, {}),
        ({"nominatedNodeName": "n.example"}, {}),
        (
            {"nominatedNodeName": "N"},
            {
                "status.nominatedNodeName": "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, "
                "'-' or '.', and must start and end with an alphanumeric character"
            },
        ),
    ],
)
def test_addresses_and_nodes_that_a_status_names(status: dict[str, Any], wrong: dict[str, str]) -> None:
    old = {**pod(), "status": {"podIPs": [{"ip": "old"}], "nominatedNodeName": "Old"}}
    new = {**old, "status": status}
    POD.prepare_status(new, old)
    errors = POD.validate_status(new, old)
    assert [e.field for e in errors] == list(wrong)
    assert all(text in e.message for e, text in zip(errors, wrong.values(), strict=True))


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"podIP": "10.0.0.1"}, {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]}),
        ({"podIPs": [{"ip": "10.0.0.1"}]}, {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]}),
        (
            {"podIP": "10.0.0.2", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]},
            {"podIP": "10.0.0.2", "podIPs": [{"ip": "10.0.0.2"}]},
        ),
        ({"phase": "Running"}, {"phase": "Running"}),
    ],
)
def test_the_older_field_of_a_pods_addresses_counts(sent: dict[str, Any], kept: dict[str, Any]) -> None:
    new = {**pod(), "status": dict(sent)}
    POD.prepare_status(new, pod())
    assert {key: new["status"][key] for key in kept} == kept
    assert new["status"].get("podIPs") == kept.get("podIPs")
