"""The benches' framework: what is met and missed, what is printed, and that every bench can be listed and run by name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from bench import protobuf, report  # noqa: E402
from bench.figure import Figure, median, percentile  # noqa: E402
from bench.schedulerperf import engine  # noqa: E402
from bench.schedulerperf.workloads import WORKLOADS, Nodes, Pods  # noqa: E402
from bench.table import NAMES, Bench, load  # noqa: E402

LESS = Figure(name="delay", value=5, unit="ms", target=10, peer="etcd", peer_value=20, why="never seen")
MORE = Figure(name="rate", value=50, unit="requests/s", better="more", target=100, why="one core; more cores mend it")


@pytest.mark.parametrize(
    ("figure", "met", "ratio"),
    [
        (LESS, True, 4.0),
        (MORE, False, None),
        (Figure(name="a", value=1, unit="s"), None, None),
        (Figure(name="a", value=30, unit="x", better="more", peer="p", peer_value=10), None, 3.0),
        (Figure(name="a", value=100, unit="x", target=100), True, None),
    ],
)
def test_targets_and_ratios(figure, met, ratio):
    assert (figure.met, figure.ratio) == (met, ratio)


def test_percentiles_are_of_the_nearest_rank():
    assert percentile([5, 1, 3, 2, 4], 50) == median([5, 1, 3, 2, 4]) == 3
    assert percentile(range(1, 101), 99) == 99
    assert percentile([7], 99) == 7


def test_the_page_explains_what_was_missed_and_says_what_was_not_measured():
    bench = Bench("one", "A title", "How it is measured.", lambda: [])
    results = [report.Result(bench, [LESS, MORE]), report.Result(bench, [], "no etcd on this machine")]
    page = report.as_markdown(results, "python -m bench --all")
    assert "| delay | 5 ms | <= 10 met | 20 (etcd) | 4x |" in page
    assert "| rate | 50 requests/s | >= 100 MISSED |  |  |" in page
    assert "**rate** missed its target of 100 requests/s: one core; more cores mend it." in page
    assert "never seen" not in page
    assert "Not measured: no etcd on this machine." in page
    rows = report.as_json(results)
    assert [r.get("ratio") for r in rows] == [4.0, None, None]
    assert rows[2]["skipped"] == "no etcd on this machine"
    assert "one: delay" in report.as_text(results[0])


@pytest.mark.parametrize("name", NAMES)
def test_every_bench_has_a_title_a_method_and_a_run(name):
    bench = load(name)
    assert bench.title
    assert bench.method
    assert callable(bench.run)


def test_the_command_lists_benches_and_refuses_unknown_ones():
    command = [sys.executable, "-m", "bench"]
    listed = subprocess.run([*command, "--list"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(NAMES)
    wrong = subprocess.run([*command, "nothing"], cwd=ROOT, capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "no bench is called nothing" in wrong.stderr


def test_messages_come_back_as_they_were_encoded():
    message = {1: "text", 2: 300, 3: {1: b"\x00\xff", 4: [1, 2, 0]}, 18: ["a", "b"]}
    found = protobuf.decode(protobuf.encode(message))
    assert found[1] == [b"text"]
    assert found[2] == [300]
    assert protobuf.decode(found[3][0]) == {1: [b"\x00\xff"], 4: [1, 2, 0]}
    assert found[18] == [b"a", b"b"]
    with pytest.raises(ValueError, match="wire type 1"):
        protobuf.decode(b"\x09" + b"\x00" * 8)


def test_json_output_is_one_document():
    text = json.dumps(report.as_json([report.Result(load("scheduler"), [MORE])]))
    assert json.loads(text)[0]["met"] is False


def _workload(part):
    return next(w for w in WORKLOADS if part in w.name)


@pytest.mark.parametrize(
    "name",
    [
        "SchedulingBasic/5000Nodes_10000Pods",
        "SchedulingCSIPVs",
        "SchedulingWhileGated",
        "DefaultTopologySpreading",
        "PreemptionAsync",
    ],
)
def test_scheduler_workloads_bind_every_measured_pod(name):
    workload = _workload(name).scaled(0.002)
    result = engine.run(workload)
    assert result.pods == workload.measured
    assert result.rate > 0


def test_scheduler_workloads_demand_five_times_upstreams_floor():
    assert len({w.name for w in WORKLOADS}) == len(WORKLOADS)
    for workload in WORKLOADS:
        assert workload.demanded >= max(2_000, 5 * (workload.floor or 0))
        assert workload.measured


def test_a_workload_is_scaled_in_nodes_and_pods():
    small = _workload("SchedulingRequiredPodAntiAffinityWithNSSelector").scaled(0.01)
    nodes = [s for s in small.steps if isinstance(s, Nodes)]
    pods = [s for s in small.steps if isinstance(s, Pods)]
    assert [n.count for n in nodes] == [60]
    assert [(p.count, p.spread_over) for p in pods] == [(40, 1), (20, 0)]
