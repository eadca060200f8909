"""What `jota up` is told about audit log and scheduler holds for its server, also after a restart that is told nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from jota.testing.host import HostCluster

POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, verbs: [get, list, watch]}
- {level: Request, resources: [{group: "", resources: [pods]}]}
- {level: Metadata}
"""
SCHEDULER = """
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles: [{schedulerName: default-scheduler}, {schedulerName: packed}]
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec: {schedulerName: packed, containers: [{name: a, image: a}], tolerations: [{operator: Exists}]}
"""


def test_audit_log_and_scheduler_profiles_of_a_cluster(make_cluster: Callable[[str], HostCluster]) -> None:
    cluster = make_cluster("cp")
    policy, profiles = cluster.directory / "policy.yaml", cluster.directory / "scheduler.yaml"
    policy.write_text(POLICY)
    profiles.write_text(SCHEDULER)
    cluster.up("--hollow", "1", "--audit-policy", str(policy), "--scheduler-config", str(profiles))
    _schedule(cluster, "one")
    cluster.down()
    cluster.up()
    _schedule(cluster, "two")
    noted = [event for event in _noted(cluster) if event["objectRef"]["resource"] == "pods"]
    created = [event for event in noted if event["verb"] == "create" and "subresource" not in event["objectRef"]]
    assert [event["requestObject"]["metadata"]["name"] for event in created] == ["one", "two"]
    assert {event["verb"] for event in _noted(cluster)}.isdisjoint({"get", "list", "watch"})


def _schedule(cluster: HostCluster, name: str) -> None:
    cluster.kubectl("create", "-f", "-", input=POD.replace("NAME", name))
    cluster.kubectl("wait", "--for=condition=PodScheduled", f"pod/{name}", "--timeout=30s")


def _noted(cluster: HostCluster) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (cluster.data / "logs" / "audit.log").read_text().splitlines()]
