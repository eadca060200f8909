"""`jota status [-o json]`: an instance's processes, addresses and files."""

from __future__ import annotations

import argparse
import json

from jota.cli.common import add_name
from jota.run.instance import Registry
from jota.run.up import describe


def add(parser: argparse.ArgumentParser) -> None:
    add_name(parser)
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    registry = Registry.default()
    text = describe(registry.get(args.name))
    if args.output == "json":
        print(text)
        return 0
    facts = json.loads(text)
    print(f"cluster     {facts['name']} ({'running' if facts['running'] else 'stopped'})")
    print(f"API         {facts['server']}")
    print(f"kubeconfig  {facts['kubeconfig']} (context {facts['context']})")
    print(f"data        {facts['dataDir']}")
    others = [n for n in registry.names() if n != args.name]
    if others:
        print(f"others      {', '.join(others)}")
    print(f"\n{'ROLE':<12}{'NODE':<24}{'PID':>8}{'RSS MB':>9}")
    for process in facts["processes"]:
        print(f"{process['role']:<12}{process['node'] or '-':<24}{process['pid']:>8}{process['rss'] / 1e6:>9.1f}")
    return 0 if facts["running"] else 1
