"""The scheduler through API and store: upstream's scheduler_perf workloads, each beside the floor of upstream's CI

API server (authentication, RBAC, admission), durable store (SQLite, fsync before every answer) and scheduler run in one
process, as in `jota server` without its controllers; the load generator and the watch that counts bindings are clients in the
same process and share its core: over TLS from a process of its own, a request costs the server more than the generator saves
it. As in upstream's harness each pod is posted by a request of its own and named by the server, 256 at a time (upstream: 30
threads); `--alike N` has them made as a ReplicaSet makes its pods instead, N by one request within the process. Nodes are API
objects without agents. Measured is the rate from the first creation of the measured pods until the last one is seen bound;
every node is looked at for every pod. The claim and the volume of a pod are written with their status just before it, within
the measured time, as upstream does. Upstream's floors are the thresholds of its CI (kubernetes test/integration/scheduler_perf),
on its machines, with sampled nodes. `python -m bench.schedulerperf --help` runs single workloads, or smaller ones.
"""

from __future__ import annotations

from bench.figure import Figure
from bench.schedulerperf import engine
from bench.schedulerperf.workloads import WORKLOADS, Workload


def run() -> list[Figure]:
    return [figure(w) for w in WORKLOADS]


def figure(workload: Workload) -> Figure:
    result = engine.run_alone(workload)
    return Figure(
        name=workload.name,
        value=result.rate,
        unit="pods/s",
        better="more",
        target=workload.demanded,
        peer="upstream's CI floor" if workload.floor else "",
        peer_value=workload.floor,
        published=workload.floor is not None,
        note=f"{result.pods:,} pods in {result.seconds:.2f} s, {result.cpu / result.pods * 1e6:.0f} us of processor time each",
        why=workload.why,
    )
