"""Tier 0 of the conformance suite, its generic resource driver: every built-in kind through the same life.

Discovery lists it; watches, cluster-wide and in a namespace, see each step once and in order; create with Strict
validation, get, update, status, the four patches, lists by label, deletion of a collection.
"""

from __future__ import annotations

import base64
import copy
from dataclasses import replace
from typing import Any

import orjson
import pytest

from jota.api.config import ApiConfig
from jota.kinds.kind import Kind
from jota.kinds.status import only_status
from jota.kinds.table import KINDS
from jota.pki.ca import CertificateAuthority, Subject, create_csr
from jota.testing.cluster import ApiServer, Watching

Object = dict[str, Any]
LABELS = {"a": "b"}
SELECTOR = {"matchLabels": LABELS}
POD = {"containers": [{"name": "c", "image": "i"}]}
TEMPLATE = {"metadata": {"labels": LABELS}, "spec": POD}
ROLE = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"}
HOOK = {
    "name": "h.example.com",
    "clientConfig": {"url": "https://example.com/h"},
    "sideEffects": "None",
    "admissionReviewVersions": ["v1"],
    "rules": [{"apiGroups": ["x.example.com"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["xs"]}],
}
SCALER = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}, "maxReplicas": 3}
SIZE = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
MICRO = "2026-01-01T00:00:00.000000Z"
EVENT_TIMES = {"reportingController": "c", "reportingInstance": "i", "action": "Act", "reason": "R", "type": "Normal"}
REQUEST = base64.b64encode(b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n").decode()

ROOT = CertificateAuthority.create("root", days=1, now=1.8e9).certificate.decode()
STUB = "".join(create_csr(Subject("x", ()))[0].decode().splitlines()[1:-1])
CONDITION = {
    "type": "Denied",
    "status": "True",
    "reason": "R",
    "message": "m",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}
ASKED = ("podName", "podUID", "serviceAccountName", "serviceAccountUID", "nodeName", "nodeUID")

BODIES: dict[str, Object] = {
    "apiregistration.k8s.io/v1/apiservices": {
        "spec": {"group": "driven.example.com", "version": "v1", "groupPriorityMinimum": 10, "versionPriority": 10}
    },
    "v1/configmaps": {"data": {"k": "v"}},
    "v1/endpoints": {"subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}]},
    "v1/events": {
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "reason": "R",
        "type": "Normal",
    },
    "v1/limitranges": {"spec": {"limits": [{"type": "Container", "default": {"cpu": "1"}}]}},
    "v1/namespaces": {},
    "v1/nodes": {"spec": {"podCIDR": "10.9.0.0/24"}},
    "v1/persistentvolumes": {
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}
    },
    "v1/persistentvolumeclaims": {"spec": SIZE},
    "v1/pods": {"spec": POD},
    "v1/podtemplates": {"template": TEMPLATE},
    "v1/replicationcontrollers": {"spec": {"selector": LABELS, "template": TEMPLATE}},
    "v1/resourcequotas": {"spec": {"hard": {"count/things.example.com": "5"}}},
    "v1/secrets": {"stringData": {"k": "v"}},
    "v1/services": {"spec": {"ports": [{"port": 80}]}},
    "v1/serviceaccounts": {},
    "apps/v1/controllerrevisions": {"revision": 1, "data": {"x": "y"}},
    "apps/v1/daemonsets": {"spec": {"selector": SELECTOR, "template": TEMPLATE}},
    "apps/v1/deployments": {"spec": {"selector": SELECTOR, "template": TEMPLATE}},
    "apps/v1/replicasets": {"spec": {"selector": SELECTOR, "template": TEMPLATE}},
    "apps/v1/statefulsets": {"spec": {"serviceName": "s", "selector": SELECTOR, "template": TEMPLATE}},
    "events.k8s.io/v1/events": {
        **EVENT_TIMES,
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
        "eventTime": MICRO,
    },
    "autoscaling/v2/horizontalpodautoscalers": {"spec": SCALER},
    "autoscaling/v1/horizontalpodautoscalers": {"spec": SCALER},
    "batch/v1/cronjobs": {
        "spec": {
            "schedule": "*/1 * * * *",
            "jobTemplate": {"spec": {"template": {"spec": {**POD, "restartPolicy": "Never"}}}},
        }
    },
    "batch/v1/jobs": {"spec": {"template": {"spec": {**POD, "restartPolicy": "Never"}}}},
    "certificates.k8s.io/v1/certificatesigningrequests": {
        "spec": {"request": REQUEST, "signerName": "example.com/s", "usages": ["client auth"]}
    },
    "certificates.k8s.io/v1/clustertrustbundles": {"spec": {"trustBundle": ROOT}},
    "certificates.k8s.io/v1/podcertificaterequests": {
        "spec": {**dict.fromkeys(ASKED, "x"), "signerName": "example.com/s", "stubPKCS10Request": STUB}
    },
    "networking.k8s.io/v1/ingresses": {"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}},
    "networking.k8s.io/v1/ingressclasses": {"spec": {"controller": "example.com/c"}},
    "networking.k8s.io/v1/ipaddresses": {
        "spec": {"parentRef": {"resource": "services", "name": "s", "namespace": "d"}}
    },
    "networking.k8s.io/v1/networkpolicies": {"spec": {"podSelector": {}}},
    "networking.k8s.io/v1/servicecidrs": {"spec": {"cidrs": ["10.77.0.0/24"]}},
    "policy/v1/poddisruptionbudgets": {"spec": {"minAvailable": 1, "selector": SELECTOR}},
    "rbac.authorization.k8s.io/v1/clusterroles": {"rules": []},
    "rbac.authorization.k8s.io/v1/clusterrolebindings": {"roleRef": ROLE, "subjects": []},
    "rbac.authorization.k8s.io/v1/roles": {"rules": []},
    "rbac.authorization.k8s.io/v1/rolebindings": {"roleRef": ROLE, "subjects": []},
    "admissionregistration.k8s.io/v1/mutatingwebhookconfigurations": {"webhooks": [HOOK]},
    "admissionregistration.k8s.io/v1/validatingwebhookconfigurations": {"webhooks": [HOOK]},
    "admissionregistration.k8s.io/v1/validatingadmissionpolicies": {
        "spec": {
            "matchConstraints": {"resourceRules": HOOK["rules"]},
            "validations": [{"expression": "true"}],
        }
    },
    "admissionregistration.k8s.io/v1/validatingadmissionpolicybindings": {
        "spec": {"policyName": "none", "validationActions": ["Deny"]}
    },
    "admissionregistration.k8s.io/v1/mutatingadmissionpolicies": {
        "spec": {
            "matchConstraints": {"resourceRules": HOOK["rules"]},
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}],
            "reinvocationPolicy": "Never",
        }
    },
    "admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings": {"spec": {"policyName": "none"}},
    "storage.k8s.io/v1/csidrivers": {"spec": {"attachRequired": False}},
    "storage.k8s.io/v1/csinodes": {"spec": {"drivers": []}},
    "storage.k8s.io/v1/csistoragecapacities": {"storageClassName": "s", "capacity": "1Gi"},
    "storage.k8s.io/v1/storageclasses": {"provisioner": "example.com/p"},
    "storage.k8s.io/v1/volumeattributesclasses": {"driverName": "example.com", "parameters": {"iops": "1"}},
    "storage.k8s.io/v1/volumeattachments": {
        "spec": {"attacher": "example.com", "nodeName": "n", "source": {"persistentVolumeName": "v"}}
    },
    "scheduling.k8s.io/v1/priorityclasses": {"value": 7},
    "coordination.k8s.io/v1/leases": {"spec": {"holderIdentity": "me", "renewTime": MICRO}},
    "coordination.k8s.io/v1beta1/leasecandidates": {
        "spec": {
            "leaseName": "l",
            "binaryVersion": "1.37.0",
            "emulationVersion": "1.36.0",
            "strategy": "OldestEmulationVersion",
        }
    },
    "lifecycle.k8s.io/v1alpha1/evictionrequests": {
        "spec": {"target": {"pod": {"name": "p", "uid": "u"}}, "requester": "example.com/r", "intent": "Eviction"}
    },
    "lifecycle.k8s.io/v1alpha1/evictions": {"spec": {"target": {"pod": {"name": "p", "uid": "u"}}}},
    "node.k8s.io/v1/runtimeclasses": {"handler": "h"},
    "discovery.k8s.io/v1/endpointslices": {
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.1"]}],
        "ports": [],
    },
    "flowcontrol.apiserver.k8s.io/v1/flowschemas": {
        "spec": {"priorityLevelConfiguration": {"name": "exempt"}, "matchingPrecedence": 100}
    },
    "flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations": {
        "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}
    },
    "storagemigration.k8s.io/v1/storageversionmigrations": {"spec": {"resource": {"resource": "configmaps"}}},
    "resource.k8s.io/v1/devicetaintrules": {"spec": {"taint": {"key": "a", "effect": "None"}}},
    "scheduling.k8s.io/v1beta1/podgroups": {"spec": {"schedulingPolicy": {"gang": {"minCount": 2}}}},
    "scheduling.k8s.io/v1beta1/workloads": {
        "spec": {"podGroupTemplates": [{"name": "workers", "schedulingPolicy": {"basic": {}}}]}
    },
    "resource.k8s.io/v1/deviceclasses": {"spec": {}},
    "resource.k8s.io/v1/resourceclaims": {
        "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c.example.com"}}]}}
    },
    "resource.k8s.io/v1/resourceclaimtemplates": {
        "spec": {"spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c.example.com"}}]}}}
    },
    "resource.k8s.io/v1beta1/resourceclaims": {
        "spec": {"devices": {"requests": [{"name": "r", "deviceClassName": "c.example.com"}]}}
    },
    "resource.k8s.io/v1beta1/resourceclaimtemplates": {
        "spec": {"spec": {"devices": {"requests": [{"name": "r", "deviceClassName": "c.example.com"}]}}}
    },
    "resource.k8s.io/v1/resourceslices": {
        "spec": {
            "driver": "d.example.com",
            "nodeName": "n",
            "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
        }
    },
}
NAMED = {"ipaddresses": "192.0.2.77", "apiservices": "v1.driven.example.com"}
ALIVE = {"customresourcedefinitions"}
"""Written by the server itself meanwhile: their stories are elsewhere."""
STORED = [kind for kind in KINDS if kind.resource.plural not in ALIVE]


def label_of(kind: Kind) -> str:
    return f"{kind.resource.api_version}/{kind.resource.plural}"


def body_of(kind: Kind) -> Object | None:
    """Beta and alpha versions take what the stable one takes, where there is one."""
    return BODIES.get(label_of(kind)) or BODIES.get(label_of(replace(kind, resource=kind.stored)))


class Driver:
    """One kind's life; remembers what watches must have seen."""

    def __init__(self, api: ApiServer, kind: Kind) -> None:
        self.api, self.kind, self.resource = api, kind, kind.resource
        self.namespace = "default" if kind.resource.namespaced else ""
        self.name = NAMED.get(kind.resource.plural, "driven")
        self.where = kind.resource.path(self.namespace)
        self.one = kind.resource.path(self.namespace, self.name)
        self.expected: list[str] = []
        self.version = 0

    def body(self) -> Object:
        metadata = {"name": self.name, "labels": {"driven": "yes"}}
        head = {"apiVersion": self.resource.api_version, "kind": self.resource.kind, "metadata": metadata}
        return copy.deepcopy({**head, **(body_of(self.kind) or {})})

    async def ask(
        self, method: str, path: str, body: Any = b"", media: str = "application/json", **query: str
    ) -> Object:
        text = "&".join(f"{k}={v}" for k, v in query.items())
        response = await self.api.request(method, path, body, query=text, content_type=media)
        data = response.body if isinstance(response.body, bytes) else b"".join(response.body)
        assert response.status in (200, 201), (method, path, body, data)
        return dict(orjson.loads(data))

    def newer(self, obj: Object) -> Object:
        text = obj["metadata"]["resourceVersion"]
        assert text == str(int(text))
        assert int(text) > self.version, "a write made no newer version"
        self.version = int(text)
        return obj

    async def create(self) -> Object:
        self.expected.append("ADDED")
        return self.newer(await self.ask("POST", self.where, self.body(), fieldValidation="Strict"))

    async def clear(self) -> None:
        """Delete by label; what waits for something (a namespace) is let go."""
        if "deletecollection" in self.kind.verbs:
            await self.ask("DELETE", self.where, labelSelector="driven%3Dyes")
        else:
            await self.ask("DELETE", self.one)
        response = await self.api.request("GET", self.one)
        if response.status == 200:
            left = orjson.loads(response.body)  # type: ignore[arg-type]
            if self.resource.plural == "namespaces":
                self.expected.append("MODIFIED")
                left["spec"]["finalizers"] = []
                await self.ask("PUT", f"{self.one}/finalize", left)
            else:
                assert left["metadata"]["deletionTimestamp"]
                self.expected.append("MODIFIED")
                left["metadata"]["finalizers"] = []
                await self.ask("PUT", self.one, left)
        self.expected.append("DELETED")

    async def life(self) -> None:
        made = await self.create()
        assert await self.ask("GET", self.one) == made
        made["metadata"]["annotations"] = {"updated": "yes"}
        updated = self.newer(await self.ask("PUT", self.one, made))
        self.expected.append("MODIFIED")
        assert updated["metadata"]["annotations"]["updated"] == "yes"
        same = await self.ask("PUT", self.one, updated)
        assert same["metadata"]["resourceVersion"] == updated["metadata"]["resourceVersion"], (
            "an update without a change"
        )
        if self.kind.status:
            await self.status()
        await self.clear()

    async def status(self) -> None:
        shown = await self.ask("GET", f"{self.one}/status")
        shown["metadata"].setdefault("annotations", {})["by-status"] = "yes"
        alone = self.kind.prepare_status is only_status
        if alone:
            shown["status"] = {"conditions": [CONDITION]}
        done = self.newer(await self.ask("PUT", f"{self.one}/status", shown))
        self.expected.append("MODIFIED")
        assert ("by-status" in done["metadata"]["annotations"]) is not alone
        assert not alone or done["status"]["conditions"] == [CONDITION]

    async def patched(self, media: str) -> None:
        await self.create()
        query = {}
        change: Any = {"metadata": {"annotations": {"patched": "yes"}}}
        if "json-patch" in media:
            change = [{"op": "add", "path": "/metadata/annotations", "value": {"patched": "yes"}}]
        elif "apply" in media:
            change = {**self.body(), "metadata": {"name": self.name, **change["metadata"]}}
            query = {"fieldManager": "test-apply", "force": "true"}
        done = self.newer(await self.ask("PATCH", self.one, change, media, **query))
        self.expected.append("MODIFIED")
        assert done["metadata"]["annotations"]["patched"] == "yes", media
        again = await self.ask("PATCH", self.one, change, media, **query)
        assert again["metadata"]["resourceVersion"] == done["metadata"]["resourceVersion"], f"{media} without a change"
        await self.clear()


PATCHES = ("strategic-merge-patch+json", "merge-patch+json", "json-patch+json", "apply-patch+yaml")


def test_every_kind_is_driven() -> None:
    missing = {label_of(kind) for kind in STORED if body_of(kind) is None}
    assert not missing, "give these kinds a body"


async def _no_conditions() -> None:
    """FlowSchemas get no condition here: every version is the driver's own."""


@pytest.mark.parametrize("kind", [k for k in STORED if body_of(k) is not None], ids=label_of)
def test_the_generic_driver(kind: Kind) -> None:
    import asyncio

    async def main() -> None:
        async with ApiServer(config=ApiConfig(runtime_config={"api/all": True})) as api:
            driver = Driver(api, kind)
            api.api.flow_keeper.conditions = _no_conditions  # type: ignore[method-assign] # another writer of a status
            group = f"/apis/{kind.resource.api_version}" if kind.resource.group else "/api/v1"
            listed = await driver.ask("GET", group)
            assert kind.resource.plural in [r["name"] for r in listed["resources"]]
            label = "labelSelector=driven%3Dyes"
            everywhere = kind.resource.path("")
            async with (
                Watching(api, f"{everywhere}?watch=1&{label}") as wide,
                Watching(api, f"{driver.where}?watch=1&{label}") as narrow,
            ):
                await driver.life()
                for media in PATCHES:
                    await driver.patched(f"application/{media}")
                await driver.create()
                for where in (driver.where, everywhere):
                    found = (await driver.ask("GET", where, labelSelector="driven%3Dyes"))["items"]
                    assert [o["metadata"]["name"] for o in found] == [driver.name]
                await driver.clear()
                await api.settle()
                for watching in (wide, narrow):
                    assert [t for t, _ in watching.events] == driver.expected
                    versions = [int(o["metadata"]["resourceVersion"]) for _, o in watching.events]
                    assert versions == sorted(set(versions))

    asyncio.run(main())
