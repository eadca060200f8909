"""The Pod Security Standards: what each level refuses, in upstream's words; labels, warnings, audit."""

from __future__ import annotations

from typing import Any

import pytest

from jota.kinds.core.pod.standards import violations
from jota.meta.errors import ApiError
from jota.meta.resource import DEPLOYMENTS, NAMESPACES, PODS
from jota.testing.cluster import ApiServer, story

LABEL = "pod-security.kubernetes.io/"
SAFE = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
BARE = (
    'allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), '
    'unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), '
    'runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), '
    'seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")'
)


def spec(context: dict[str, Any] | None = None, container: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"containers": [{"name": "c", "image": "i", "securityContext": context or {}, **(container or {})}], **more}


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (spec(), ""),
        (spec({"privileged": True}), 'privileged (container "c" must not set securityContext.privileged=true)'),
        (spec(hostNetwork=True, hostPID=True), "host namespaces (hostNetwork=true, hostPID=true)"),
        (spec(volumes=[{"name": "v", "hostPath": {}}]), 'hostPath volumes (volume "v")'),
        (spec(container={"ports": [{"hostPort": 80}]}), 'hostPort (container "c" uses hostPort 80)'),
        (
            spec({"capabilities": {"add": ["NET_ADMIN", "CHOWN"]}}),
            'non-default capabilities (container "c" must not include "NET_ADMIN" in securityContext.capabilities.add)',
        ),
        (
            spec({"procMount": "Unmasked"}),
            'procMount (container "c" must not set securityContext.procMount to "Unmasked")',
        ),
        (
            spec(securityContext={"seccompProfile": {"type": "Unconfined"}}),
            'seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")',
        ),
        (spec(securityContext={"sysctls": [{"name": "kernel.msgmax"}]}), "forbidden sysctls (kernel.msgmax)"),
        (
            spec({"seLinuxOptions": {"type": "super_t", "user": "u"}}),
            'seLinuxOptions (container "c" set forbidden securityContext.seLinuxOptions: type "super_t"; '
            "user may not be set)",
        ),
        (
            spec({"windowsOptions": {"hostProcess": True}}),
            'hostProcess (container "c" must not set securityContext.windowsOptions.hostProcess=true)',
        ),
    ],
)
def test_baseline(broken: dict[str, Any], words: str) -> None:
    assert violations("baseline", {}, broken) == words
    assert violations("privileged", {}, broken) == ""


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (spec(SAFE), ""),
        (spec(), BARE),
        (spec({**SAFE, "runAsUser": 0}), 'runAsUser=0 (container "c" must not set runAsUser=0)'),
        (
            spec(SAFE, volumes=[{"name": "v", "hostPath": {}}, {"name": "w", "emptyDir": {}}]),
            'restricted volume types (volume "v" uses restricted volume type "hostPath")',
        ),
        (
            spec({**SAFE, "runAsNonRoot": False}),
            'runAsNonRoot != true (container "c" must not set securityContext.runAsNonRoot=false)',
        ),
        (
            spec(
                {k: SAFE[k] for k in ("allowPrivilegeEscalation", "capabilities")},
                securityContext={k: SAFE[k] for k in ("runAsNonRoot", "seccompProfile")},
            ),
            "",
        ),
    ],
)
def test_restricted(broken: dict[str, Any], words: str) -> None:
    assert violations("restricted", {}, broken) == words


async def namespace(api: ApiServer, **modes: str) -> None:
    labels = {LABEL + mode: level for mode, level in modes.items()}
    await api.client.create(NAMESPACES, {"metadata": {"name": "ns", "labels": labels}})


def warnings(response: Any) -> list[str]:
    return [value for name, value in response.headers if name == "Warning"]


@story
async def test_enforce_refuses_pods_and_lets_their_owners_be(api: ApiServer) -> None:
    await namespace(api, enforce="restricted", warn="restricted")
    with pytest.raises(ApiError) as caught:
        await api.client.create(PODS, {"metadata": {"name": "p"}, "spec": spec()}, "ns")
    assert caught.value.message == f'pods "p" is forbidden: violates PodSecurity "restricted:latest": {BARE}'
    await api.client.create(PODS, {"metadata": {"name": "p"}, "spec": spec(SAFE)}, "ns")
    await api.client.patch(PODS, "p", "ns", {"metadata": {"labels": {"a": "b"}}})
    late = {"name": "d", "image": "i"}
    with pytest.raises(ApiError, match="violates PodSecurity"):
        await api.client.patch(
            PODS, "p", "ns", {"spec": {"ephemeralContainers": [late]}}, subresource="ephemeralcontainers"
        )
    template = {"metadata": {"labels": {"a": "b"}}, "spec": spec()}
    body = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}
    made = await api.request("POST", DEPLOYMENTS.path("ns"), body)
    assert made.status == 201
    (said,) = warnings(made)
    assert said.startswith(
        '299 - "would violate PodSecurity \\"restricted:latest\\": allowPrivilegeEscalation != false'
    )


@story
async def test_a_stricter_level_names_the_pods_that_break_it(api: ApiServer) -> None:
    await namespace(api)
    for name in ("a", "b"):
        await api.client.create(PODS, {"metadata": {"name": name}, "spec": spec(hostNetwork=True)}, "ns")
    patch = {"metadata": {"labels": {LABEL + "enforce": "baseline"}}}
    said = warnings(
        await api.request("PATCH", "/api/v1/namespaces/ns", patch, content_type="application/merge-patch+json")
    )
    assert said == [
        '299 - "existing pods in namespace \\"ns\\" violate the new PodSecurity enforce level \\"baseline:latest\\""',
        '299 - "a (and 1 other pod): host namespaces"',
    ]


@story
async def test_labels_of_no_level_are_refused(api: ApiServer) -> None:
    with pytest.raises(ApiError, match="must be one of privileged, baseline, restricted") as caught:
        await namespace(api, enforce="lenient")
    assert caught.value.code == 422
    with pytest.raises(ApiError, match=r'must be "latest" or "v1\.x"'):
        await namespace(api, **{"warn-version": "2"})
