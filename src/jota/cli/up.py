"""`jota up`: returns when every node is Ready, with the kubeconfig merged, and says what to do next."""

from __future__ import annotations

import argparse
import os
import sys
import time

from jota.cli import authorization, controlplane
from jota.cli.common import AUTOSCALE_HELP, add_name, add_runtime_config, runtime_config, scaling
from jota.cli.identity import add_identity, passed_on
from jota.node.hollow.settings import MOST_NODES
from jota.run.instance import Instance, Refused, Registry
from jota.run.up import up


def add(parser: argparse.ArgumentParser) -> None:
    add_name(parser)
    parser.add_argument("--data-dir", help="where the cluster keeps its data (default: under /var/lib/jota)")
    parser.add_argument(
        "--kubeconfig", help="file to merge the credentials into (default: $KUBECONFIG or ~/.kube/config)"
    )
    parser.add_argument(
        "--nodes", type=int, help="nodes on this host; more than one: each in its own network namespace (default: 1)"
    )
    parser.add_argument("--hollow", type=int, metavar="N", help="simulate N nodes (and no real one, unless --nodes)")
    parser.add_argument("--autoscale", action="append", metavar="SETTING", help=AUTOSCALE_HELP)
    parser.add_argument("--bind", default="0.0.0.0", help="address that the API listens on (default: all)")
    add_runtime_config(parser)
    controlplane.add_control_plane(parser)
    add_identity(parser)
    authorization.add_authorization(parser)


def run(args: argparse.Namespace) -> int:
    if args.nodes is not None and not 0 <= args.nodes <= 200:
        raise Refused(f"--nodes {args.nodes}: give a number from 0 (no pods, API only) to 200")
    if args.hollow is not None and not 0 <= args.hollow <= MOST_NODES:
        raise Refused(f"--hollow {args.hollow}: give a number from 0 to {MOST_NODES}")
    runtime_config(args)
    begin = time.monotonic()
    instance = up(
        Registry.default(),
        args.name,
        data_dir=args.data_dir,
        config=args.kubeconfig,
        nodes=args.nodes,
        bind=args.bind,
        hollow=args.hollow,
        runtime_config=args.runtime_config,
        autoscale=scaling(args.autoscale) if args.autoscale else None,
        server_flags=[*controlplane.passed_on(args), *passed_on(args), *authorization.passed_on(args)],
        say=lambda text: print(text, file=sys.stderr),
    )
    print(_next_steps(instance, time.monotonic() - begin))
    return 0


def _next_steps(instance: Instance, took: float) -> str:
    nodes = f"{len(instance.nodes)} node{'s' * (len(instance.nodes) != 1)}"
    nodes += " and the hollow ones" if instance.hollow else ""
    nodes += " (autoscaled)" if instance.autoscaled else ""
    name = "" if instance.name == "jota" else f" --name {instance.name}"
    merged = f"{instance.kubeconfig} (context {instance.context})"
    environment = os.environ.get("KUBECONFIG", "")
    default = os.path.expanduser("~/.kube/config")
    export = "" if instance.kubeconfig in (environment, default) else f"  export KUBECONFIG={instance.kubeconfig}\n"
    return (
        f"cluster {instance.name} is up: {nodes} Ready in {took:.2f} s, API at https://127.0.0.1:{instance.api_port}\n"
        f"credentials are in {merged}\n\nnext:\n{export}"
        f"  kubectl get nodes\n  jota image load{name} IMAGE.tar\n  jota status{name}\n  jota down{name}"
    )
