"""`python -m bench`: run benches by name, print their figures; with `--all --write FILE` rewrite the page of figures.

python -m bench --list
python -m bench NAME... [--json]
python -m bench --all [--json] [--write docs/benchmarks.md]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from bench import report
from bench.figure import Skipped
from bench.table import NAMES, load


def main() -> int:
    args = _arguments()
    if args.list:
        for name in NAMES:
            print(f"{name:<14} {load(name).title}")
        return 0
    results = []
    for name in NAMES if args.all else args.names:
        result = _one(name)
        results.append(result)
        if not args.json:
            print(report.as_text(result), end="\n\n", flush=True)
    if args.json:
        print(json.dumps(report.as_json(results), indent=2))
    if args.write:
        Path(args.write).write_text(report.as_markdown(results, _command()))
        print(f"wrote {args.write}", file=sys.stderr)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Jota, beside its peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure (see --list)")
    parser.add_argument("--list", action="store_true", help="name the benches")
    parser.add_argument("--all", action="store_true", help="run every bench")
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    parser.add_argument("--write", metavar="FILE", help="write the figures as a Markdown page")
    args = parser.parse_args()
    unknown = [n for n in args.names if n not in NAMES]
    if unknown:
        parser.error(f"no bench is called {unknown[0]}; there are: {', '.join(NAMES)}")
    if not (args.list or args.all or args.names):
        parser.error("name a bench, or give --all or --list")
    return args


def _one(name: str) -> report.Result:
    bench = load(name)
    print(f"bench {name}: {bench.title}", file=sys.stderr, flush=True)
    begin = time.monotonic()
    try:
        return report.Result(bench, bench.run())
    except Skipped as skipped:
        return report.Result(bench, [], str(skipped))
    finally:
        print(f"bench {name}: took {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)


def _command() -> str:
    return " ".join(["python -m bench", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
