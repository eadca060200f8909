"""Run Kubernetes' own end-to-end suite against a fresh two-node cluster and say what passed.

    sudo .venv/bin/python -m tools.conformance                    all conformance tests: half an hour on two cores
    sudo .venv/bin/python -m tools.conformance --focus StatefulSet --processes 4

Needs Go, a C compiler and debootstrap. What was built is kept under --cache and used again.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tools.conformance.images import Images
from tools.conformance.outcome import Outcome, page
from tools.conformance.suite import Suite

NAME = "conformance"
SERIAL = r"\[Serial\]"
NEEDED = ("go", "gcc", "debootstrap", "kubectl")
POLICY = Path(__file__).with_name("nothing-is-pulled.yaml")
_JOTA = [sys.executable, "-m", "jota.cli.main"]


def main() -> int:
    options = _options()
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        print(
            f"conformance: needs root and {', '.join(NEEDED)}; missing: {', '.join(missing) or 'root'}", file=sys.stderr
        )
        return 2
    suite = Suite(options.cache, options.version)
    suite.build()
    archives, unknown = Images(options.cache, suite).make(suite.images())
    print(f"{len(archives)} images; of others the tests will fail: {', '.join(sorted(unknown))}")
    kubeconfig = options.cache / "kubeconfig"
    _jota("up", "--name", NAME, "--nodes", "2", "--kubeconfig", str(kubeconfig))
    try:
        _jota("image", "load", "--name", NAME, *map(str, archives))
        subprocess.run(["kubectl", "--kubeconfig", kubeconfig, "apply", "-f", POLICY], check=True)
        outcome = Outcome()
        for serial in (False, True):
            outcome.add(_run(suite, options, kubeconfig, serial))
    finally:
        if not options.keep:
            _jota("down", "--name", NAME, "--purge")
    for name, why in sorted(outcome.failed):
        print(f"FAILED {name}\n       {why}")
    print(f"{outcome.passed} passed, {len(outcome.failed)} failed, {outcome.seconds:.0f} s")
    if options.write:
        when = time.strftime("%Y-%m-%d")
        machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
        options.write.write_text(page(outcome, options.version, machine, when))
    return int(bool(outcome.failed))


def _run(suite: Suite, options: argparse.Namespace, kubeconfig: Path, serial: bool) -> Outcome:
    """The tests that may run beside each other, or those that may not. The log is kept beside the report."""
    reports = options.cache / ("serial" if serial else "parallel")
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir(parents=True)
    focus = f"({options.focus}).*{SERIAL}|{SERIAL}.*({options.focus})" if serial else options.focus
    skips = [text for text in (options.skip, "" if serial else SERIAL) if text]
    command: list[str | Path] = [
        suite.bin / "ginkgo", f"--procs={1 if serial else options.processes}", f"--focus={focus}",
        *(f"--skip={text}" for text in skips), "--no-color", "--timeout=6h", "--keep-going", suite.test, "--",
        "--provider=skeleton", "--disable-log-dump", f"--report-dir={reports}", f"--kubeconfig={kubeconfig}",
        "--num-nodes=2", "--allowed-not-ready-nodes=0",
    ]  # fmt: skip
    print(f"running; the log is {reports / 'log'}", flush=True)
    with (reports / "log").open("wb") as log:
        subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False)
    return Outcome.read(reports / "junit_01.xml")


def _jota(*words: str) -> None:
    subprocess.run([*_JOTA, *words], check=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.conformance", description=__doc__.split("\n")[0])
    parser.add_argument("--version", default="v1.37.2", help="of Kubernetes (default: %(default)s)")
    parser.add_argument(
        "--focus", default=r"\[Conformance\]", help="regular expression: which tests (default: %(default)s)"
    )
    parser.add_argument("--skip", default="", help="regular expression: which not")
    parser.add_argument("--processes", type=int, default=8, help="tests at once (default: %(default)s)")
    parser.add_argument(
        "--cache", type=Path, default=Path.home() / ".cache/jota-conformance", help="default: %(default)s"
    )
    parser.add_argument("--keep", action="store_true", help="leave the cluster up")
    parser.add_argument("--write", type=Path, help="write the outcome as a Markdown page")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
