"""`jota agent`: one node in the foreground. On a further machine: jota agent --server URL --token TOKEN."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from jota.run import doctor, pidfile
from jota.run.instance import DEFAULT_NAME, Refused, Registry, host_address, host_name
from jota.run.tokens import JoinToken, parse


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--server", metavar="URL", help="the API, e.g. https://10.0.0.5:6443")
    parser.add_argument(
        "--token", help="join token (jota token create, on the server); not needed after the first time"
    )
    parser.add_argument("--token-stdin", action="store_true", help="read the join token from standard input")
    parser.add_argument("--node", default=host_name(), help="this node's name (default: %(default)s)")
    parser.add_argument("--address", help="this node's IPv4 address (default: that of the default route)")
    parser.add_argument("--data-dir", help="where the node keeps its state (default: under /var/lib/jota)")
    parser.add_argument("--images", help="content store for images (default: the host's)")
    parser.add_argument("--kubelet-port", type=int, default=10250)
    parser.add_argument(
        "--name", default=DEFAULT_NAME, help="name for this node's cgroups, links and tables (default: %(default)s)"
    )
    parser.add_argument(
        "--remove",
        action="store_true",
        help="stop being a node: remove its pods, network and identity from this machine",
    )
    parser.add_argument("--pid-file", help=argparse.SUPPRESS)
    parser.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    failed = doctor.missing()
    if failed:
        lines = [f"  {c.name}: {c.found} (needed for {c.needed_for}); {c.remedy}" for c in failed]
        raise Refused("this machine cannot be a node yet:\n" + "\n".join(lines))
    registry = Registry.default()
    directory = Path(args.data_dir).absolute() if args.data_dir else registry.home / "agents" / args.node
    if args.remove:
        return _remove(args, directory)
    if not args.server:
        raise Refused("--server URL is missing; jota token create, on the server, shows what to run here")
    import uvloop

    from jota.run.agent import AgentPlan
    from jota.run.agent import run as run_agent

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    plan = AgentPlan(
        instance=args.name,
        server=args.server,
        node=args.node,
        address=args.address or host_address(),
        directory=directory,
        images=Path(args.images) if args.images else registry.images,
        kubelet_port=args.kubelet_port,
        token=_token(args),
    )
    pid_file = Path(args.pid_file) if args.pid_file else directory / "agent.pid"
    with pidfile.held(pid_file, f"the agent of node {args.node}", args.ready_fd) as own:
        uvloop.run(run_agent(plan, own.announce))
    return 0


def _remove(args: argparse.Namespace, directory: Path) -> int:
    from jota.run.down import leave

    if not directory.exists():
        raise Refused(
            f"{directory} does not exist: there is no node {args.node} here; name it with --node or --data-dir"
        )
    leave(args.name, args.node, directory)
    print(f"node {args.node} is removed from this machine; in the cluster: kubectl delete node {args.node}")
    return 0


def _token(args: argparse.Namespace) -> JoinToken | None:
    if args.token_stdin:
        import jota.pki.ca  # noqa: F401 - joining needs it (a tenth of a second), and the token comes once the server is up
    text = sys.stdin.readline() if args.token_stdin else args.token or ""
    return parse(text) if text.strip() else None
