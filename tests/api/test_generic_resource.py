"""The generic resource driver of the newer conformance tests, over a custom resource and plain built-in kinds.

Discovery, two watches by label, create strictly, get, update, status, every patch type, list, deletecollection; revisions only
grow, and both watches tell the same story in an order that makes sense.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from jota.pki.ca import CertificateAuthority, Subject, create_csr
from jota.testing.cluster import ApiServer, Watching

LABELS = {"run": "driver"}
SELECT = "labelSelector=run=driver"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ANY = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}

ADMISSION, MIGRATION = "admissionregistration.k8s.io/v1", "storagemigration.k8s.io/v1"
ROOT = CertificateAuthority.create("root", days=1, now=1.8e9)
TRUST = {"trustBundle": ROOT.certificate.decode()}
_SPOKEN = ("podName", "podUID", "serviceAccountName", "serviceAccountUID", "nodeName", "nodeUID")
ASKED = {
    **dict.fromkeys(_SPOKEN, "x"),
    "signerName": "example.com/s",
    "stubPKCS10Request": "".join(create_csr(Subject("x", ()))[0].decode().splitlines()[1:-1]),
}
SPEEDS = {"driverName": "a.b/c", "parameters": {"iops": "1"}}
TAINT = {"key": "a.b/c", "effect": "NoSchedule"}
WIDGETS = {"group": "example.com", "resource": "widgets"}
_RULE = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["secrets"]}
POLICY = {
    "matchConstraints": {"resourceRules": [_RULE]},
    "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}],
    "reinvocationPolicy": "Never",
}
BINDING = {"policyName": "it"}

CASES: list[tuple[str, str, str, bool, dict[str, Any], bool]] = [
    ("example.com/v1", "gizmos", "Gizmo", True, {"spec": {"a": 1}}, True),
    ("v1", "configmaps", "ConfigMap", True, {"data": {"a": "1"}}, False),
    ("v1", "secrets", "Secret", True, {"type": "Opaque"}, False),
    ("v1", "serviceaccounts", "ServiceAccount", True, {}, False),
    ("coordination.k8s.io/v1", "leases", "Lease", True, {"spec": {"leaseDurationSeconds": 5}}, False),
    ("rbac.authorization.k8s.io/v1", "roles", "Role", True, {"rules": []}, False),
    ("rbac.authorization.k8s.io/v1", "clusterroles", "ClusterRole", False, {"rules": []}, False),
    ("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy", True, {"spec": {"podSelector": {}}}, False),
    ("networking.k8s.io/v1", "ingressclasses", "IngressClass", False, {"spec": {"controller": "a.b/c"}}, False),
    ("node.k8s.io/v1", "runtimeclasses", "RuntimeClass", False, {"handler": "x"}, False),
    ("storage.k8s.io/v1", "storageclasses", "StorageClass", False, {"provisioner": "a.b/c"}, False),
    ("scheduling.k8s.io/v1", "priorityclasses", "PriorityClass", False, {"value": 5}, False),
    ("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget", True, {"spec": {"minAvailable": 1}}, True),
    ("certificates.k8s.io/v1", "clustertrustbundles", "ClusterTrustBundle", False, {"spec": TRUST}, False),
    ("certificates.k8s.io/v1", "podcertificaterequests", "PodCertificateRequest", True, {"spec": ASKED}, False),
    ("storage.k8s.io/v1", "volumeattributesclasses", "VolumeAttributesClass", False, SPEEDS, False),
    ("resource.k8s.io/v1", "devicetaintrules", "DeviceTaintRule", False, {"spec": {"taint": TAINT}}, False),
    (MIGRATION, "storageversionmigrations", "StorageVersionMigration", False, {"spec": {"resource": WIDGETS}}, False),
    (ADMISSION, "mutatingadmissionpolicies", "MutatingAdmissionPolicy", False, {"spec": POLICY}, False),
    (ADMISSION, "mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding", False, {"spec": BINDING}, False),
]


def definition() -> dict[str, Any]:
    schema = {"type": "object", "properties": {"spec": ANY, "status": ANY}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    version["subresources"] = {"status": {}}
    spec = {"group": "example.com", "scope": "Namespaced", "names": {"plural": "gizmos", "kind": "Gizmo"}}
    return {"metadata": {"name": "gizmos.example.com"}, "spec": {**spec, "versions": [version]}}


class Driver:
    def __init__(self, api: ApiServer, case: tuple[str, str, str, bool, dict[str, Any], bool]) -> None:
        self.api = api
        self.group_version, self.plural, self.kind, namespaced, self.body, self.status = case
        self.root = f"/apis/{self.group_version}" if "/" in self.group_version else f"/api/{self.group_version}"
        self.all = f"{self.root}/{self.plural}"
        self.path = f"{self.root}/namespaces/default/{self.plural}" if namespaced else self.all
        self.last = 0

    async def do(self, method: str, path: str, body: Any = b"", want: int = 200, **headers: str) -> dict[str, Any]:
        response = await self.api.request(method, path, body, **headers)
        data = response.body if isinstance(response.body, bytes) else b"".join(response.body)
        assert response.status == want, (method, path, data)
        found: dict[str, Any] = orjson.loads(data)
        return found

    def newer(self, obj: dict[str, Any]) -> dict[str, Any]:
        text = obj["metadata"]["resourceVersion"]
        assert text.isdigit()
        assert text[0] != "0"
        assert int(text) >= self.last
        self.last = int(text)
        return obj

    def fresh(self) -> dict[str, Any]:
        return {
            "apiVersion": self.group_version,
            "kind": self.kind,
            "metadata": {"name": "it", "labels": LABELS},
        } | self.body

    async def create(self) -> dict[str, Any]:
        return self.newer(await self.do("POST", f"{self.path}?fieldValidation=Strict", self.fresh(), 201))

    async def remove(self) -> None:
        await self.do("DELETE", f"{self.path}?{SELECT}")
        await self.do("GET", f"{self.path}/it", want=404)

    async def patch(self, type_: str, body: Any, query: str = "", sub: str = "") -> None:
        path = f"{self.path}/it{sub}{query}"
        obj = self.newer(await self.do("PATCH", path, body, content_type=f"application/{type_}"))
        assert obj["metadata"]["name"] == "it"

    async def run(self) -> None:
        served = await self.do("GET", self.root)
        assert self.plural in [r["name"] for r in served["resources"]]
        everywhere = Watching(self.api, f"{self.all}?watch=1&{SELECT}")
        async with everywhere as wide, Watching(self.api, f"{self.path}?watch=1&{SELECT}") as narrow:
            await self.steps()
            await self.api.settle()
            assert wide.names() == narrow.names()
            order = [t for t, _ in wide.names()]
        revisions = [int(o["metadata"]["resourceVersion"]) for t, o in wide.events if t != "BOOKMARK"]
        assert revisions == sorted(set(revisions))
        alive = False
        for type_ in order:
            assert (type_ == "ADDED") is not alive
            alive = type_ != "DELETED"
        assert not alive

    async def steps(self) -> None:
        made = await self.create()
        assert self.newer(await self.do("GET", f"{self.path}/it"))["metadata"]["uid"] == made["metadata"]["uid"]
        made["metadata"]["annotations"] = {"step": "update"}
        updated = self.newer(await self.do("PUT", f"{self.path}/it", made))
        assert int(updated["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
        await self.do("PUT", f"{self.path}/it", made | {"metadata": made["metadata"] | {"labels": {}}}, 409)
        if self.status:
            shown = await self.do("GET", f"{self.path}/it/status")
            shown["status"] = {**(shown.get("status") or {}), "observedGeneration": 1}
            await self.do("PUT", f"{self.path}/it/status", shown)
        await self.remove()
        merge = {"metadata": {"annotations": {"step": "merge"}}}
        config = self.fresh() | merge | {"metadata": self.fresh()["metadata"] | merge["metadata"]}
        steps: list[tuple[str, Any, str]] = [
            ("apply-patch+yaml", config, "?fieldManager=test-apply&force=true"),
            ("merge-patch+json", merge, ""),
            ("json-patch+json", [{"op": "add", "path": "/metadata/annotations", "value": {"step": "json"}}], ""),
        ]
        if self.group_version != "example.com/v1":
            steps.append(("strategic-merge-patch+json", merge, ""))
        for type_, body, query in steps:
            await self.create()
            await self.patch(type_, body, query)
            if self.status and type_ == "merge-patch+json":
                await self.patch(type_, {"status": {"observedGeneration": 2}}, sub="/status")
            found = await self.do("GET", f"{self.all}?{SELECT}")
            assert [i["metadata"]["name"] for i in found["items"]] == ["it"]
            await self.remove()


@pytest.mark.parametrize("case", CASES, ids=[c[1] for c in CASES])
def test_the_driver_over(case: tuple[str, str, str, bool, dict[str, Any], bool]) -> None:
    async def main() -> None:
        async with ApiServer() as api:
            driver = Driver(api, case)
            if case[0] == "example.com/v1":
                await driver.do("POST", CRDS, definition(), 201)
                await api.until(lambda: ("example.com", "v1", "gizmos") in api.api.served)
            await driver.run()

    asyncio.run(main())
