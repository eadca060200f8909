"""`python -m bench.schedulerperf [NAME...] [--scale 0.1]`: single workloads, by any part of their name, at any size."""

from __future__ import annotations

import argparse
import cProfile
import pstats
import sys

from bench.schedulerperf import engine
from bench.schedulerperf.workloads import WORKLOADS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.schedulerperf", description="Run scheduler_perf workloads.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a part of the workload's name; none: all")
    parser.add_argument("--scale", type=float, default=1.0, help="multiply all counts of nodes and pods (default 1)")
    parser.add_argument(
        "--alike", type=int, default=1, metavar="N", help="make N pods by one request, as a ReplicaSet does"
    )
    parser.add_argument("--profile", action="store_true", help="print where the time goes")
    parser.add_argument("--list", action="store_true", help="name the workloads")
    args = parser.parse_args()
    chosen = [w for w in WORKLOADS if not args.names or any(n.lower() in w.name.lower() for n in args.names)]
    if not chosen:
        parser.error(f"no workload's name has {args.names[0]} in it; see --list")
    for workload in chosen:
        if args.list:
            print(workload.name)
            continue
        profile = cProfile.Profile() if args.profile else None
        sized = workload.scaled(args.scale) if args.scale != 1 else workload
        result = engine.run(sized, profile, args.alike) if profile else engine.run_alone(sized, args.alike)
        floor = f"floor {workload.floor:.0f}, {result.rate / workload.floor:.1f}x" if workload.floor else "no floor"
        each = result.cpu / result.pods * 1e6
        print(
            f"{workload.name:<75} {result.rate:7.0f} pods/s (target {workload.demanded:.0f}; {floor}) {each:4.0f} us CPU each",
            flush=True,
        )
        if profile is not None:
            pstats.Stats(profile, stream=sys.stdout).sort_stats("tottime").print_stats(35)
    return 0


if __name__ == "__main__":
    sys.exit(main())
