"""`jota doctor`: what this machine has and lacks, with the command that mends it."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from jota.run.doctor import checks


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    results = checks()
    if args.output == "json":
        print(json.dumps([asdict(c) for c in results], indent=2))
    else:
        for check in results:
            print(f"{'ok  ' if check.ok else 'MISS'}  {check.name:<26}{check.found}")
            if not check.ok:
                print(f"      needed for {check.needed_for}; {check.remedy}")
    return 0 if all(c.ok for c in results) else 1
