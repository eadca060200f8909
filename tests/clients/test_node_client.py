"""The npm client @kubernetes/client-node: objects, informer, generic objects, exec. Installed into the test's directory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from jota.testing.host import IMAGE, HostCluster

pytestmark = [pytest.mark.clients, pytest.mark.kernel]
PACKAGE = "@kubernetes/client-node@1"
SCRIPT = Path(__file__).with_name("node_client.mjs")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where node finds the package."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("npm and node are not installed")
    where = tmp_path_factory.mktemp("node")
    command = [npm, "install", "--no-audit", "--no-fund", "--no-save", PACKAGE]
    try:
        done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("the npm registry does not answer in time")
    if done.returncode:
        pytest.skip(f"the package cannot be installed: {done.stderr[-300:]}")
    shutil.copy(SCRIPT, where)
    return where


def test_a_program_in_javascript(
    directory: Path, cluster: HostCluster, namespace: Callable[[HostCluster], str]
) -> None:
    where = namespace(cluster)
    done = subprocess.run(
        ["node", SCRIPT.name, where, IMAGE],
        cwd=directory,
        env={**os.environ, **cluster.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    steps = {line["step"]: line["value"] for line in map(json.loads, done.stdout.splitlines())}
    assert steps == {
        "replaced": {"k": "2"},
        "patched": {"k": "2", "l": "3"},
        "missing": 404,
        "informer": ["add i", "update i", "delete i"],
        "generic": ["Deployment", 0],
        "scale": 0,
        "exec": ["got word", "Failure", "3"],
    }
