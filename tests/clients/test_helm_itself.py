"""The real helm, where there is one on PATH: a chart with a definition, hooks, a volume, a lookup and a test, by its whole life."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jota.testing.host import IMAGE, HostCluster

pytestmark = [
    pytest.mark.clients,
    pytest.mark.kernel,
    pytest.mark.timeout(120),
    pytest.mark.skipif(shutil.which("helm") is None, reason="there is no helm on PATH"),
]

DEFINITION = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: kites.helm.jota.test}
spec:
  group: helm.jota.test
  scope: Namespaced
  names: {plural: kites, singular: kite, kind: Kite}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {
    spec: {type: object, properties: {length: {type: integer}}}}}}}]
"""

TEMPLATES = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      volumes: [{name: data, persistentVolumeClaim: {claimName: web}}]
      containers:
      - name: web
        image: {{ .Values.image }}
        command: [sh, -c, 'mkdir -p /www; echo hello > /www/index.html; exec httpd -f -p 8080 -h /www']
        ports: [{name: http, containerPort: 8080}]
        volumeMounts: [{name: data, mountPath: /data}]
        readinessProbe: {httpGet: {path: {{ .Values.path }}, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: web}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: web}
data:
  replicas: {{ .Values.replicas | quote }}
  here: {{ (lookup "v1" "Namespace" "" .Release.Namespace).metadata.name | default "nobody" | quote }}
  budgets: {{ .Capabilities.APIVersions.Has "policy/v1/PodDisruptionBudget" | quote }}
---
apiVersion: helm.jota.test/v1
kind: Kite
metadata: {name: web}
spec: {length: 3}
---
apiVersion: batch/v1
kind: Job
metadata: {name: before, annotations: {helm.sh/hook: "pre-install,pre-upgrade", helm.sh/hook-delete-policy: before-hook-creation}}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: {{ .Values.image }}, command: ["true"]}]}}}
---
apiVersion: v1
kind: Pod
metadata: {name: asks, annotations: {helm.sh/hook: test, helm.sh/hook-delete-policy: before-hook-creation}}
spec: {restartPolicy: Never, containers: [{name: c, image: {{ .Values.image }}, command: [wget, -qO-, http://web/]}]}
"""


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    where = tmp_path / "web"
    (where / "templates").mkdir(parents=True)
    (where / "crds").mkdir()
    (where / "Chart.yaml").write_text("{apiVersion: v2, name: web, version: 1.0.0}\n")
    (where / "values.yaml").write_text(f"{{replicas: 1, path: /, image: '{IMAGE}'}}\n")
    (where / "crds" / "kite.yaml").write_text(DEFINITION)
    (where / "templates" / "all.yaml").write_text(TEMPLATES)
    return where


def test_a_release_by_its_whole_life(
    cluster: HostCluster, namespace: Callable[[HostCluster], str], chart: Path
) -> None:
    where = namespace(cluster)

    def helm(*words: str, check: bool = True) -> Any:
        return cluster.run("helm", "--namespace", where, *words, check=check)

    def live(kind: str) -> Any:
        return json.loads(cluster.kubectl("--namespace", where, "get", kind, "web", "-o", "json"))

    def history() -> list[str]:
        return [r["status"] for r in json.loads(helm("history", "web", "-o", "json").stdout)]

    helm("install", "web", str(chart), "--wait", "--wait-for-jobs", "--timeout=40s")
    assert live("configmap")["data"] == {"replicas": "1", "here": where, "budgets": "true"}
    assert live("kite")["spec"] == {"length": 3}
    assert live("deployment")["status"]["readyReplicas"] == 1
    assert "hello" in helm("test", "web", "--logs", "--timeout=40s").stdout
    assert "length: 3" in helm("upgrade", "web", str(chart), "--dry-run=server").stdout

    cluster.kubectl("--namespace", where, "annotate", "deployment", "web", "by=hand")
    helm("upgrade", "--install", "--atomic", "web", str(chart), "--set=replicas=2", "--timeout=40s")
    assert (live("deployment")["spec"]["replicas"], live("configmap")["data"]["replicas"]) == (2, "2")
    assert live("deployment")["metadata"]["annotations"]["by"] == "hand"

    failed = helm("upgrade", "--atomic", "web", str(chart), "--set=path=/missing", "--timeout=3s", check=False)
    assert "has been rolled back due to" in failed.stderr, "Helm 3 and 4 name the flag differently"
    assert live("deployment")["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["httpGet"]["path"] == "/"
    assert history() == ["superseded", "superseded", "failed", "deployed"]
    helm("rollback", "web", "1", "--wait", "--timeout=40s")
    assert live("configmap")["data"]["replicas"] == "1"
    assert history()[-1] == "deployed"
    helm("uninstall", "web", "--wait", "--timeout=40s")
    assert cluster.kubectl("--namespace", where, "get", "deployment,service,pvc,kite", "-o", "name") == ""
    assert json.loads(helm("list", "-o", "json").stdout) == []
    cluster.kubectl("delete", "crd", "kites.helm.jota.test")


def test_a_release_that_a_secret_cannot_hold_is_refused(
    plane: HostCluster, namespace: Callable[[HostCluster], str], chart: Path
) -> None:
    where = namespace(plane)
    shutil.rmtree(chart / "crds")
    (chart / "noise").write_bytes(b"".join(i.to_bytes(4, "big") for i in range(0, 2**32, 15_000)))
    text = (
        'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: big}\nbinaryData: {k: {{ .Files.Get "noise" | b64enc }}}\n'
    )
    (chart / "templates" / "all.yaml").write_text(text)
    refused = plane.run("helm", "--namespace", where, "install", "big", str(chart), check=False)
    assert refused.returncode != 0
    assert "Too long: may not be more than 1048576 bytes" in refused.stderr
