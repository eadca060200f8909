"""Upstream's test programs, built from the public Go modules. In: a version. Out: a directory of binaries. Next: images.py.

k8s.io/kubernetes takes its staging modules from its own tree, which its published module lacks; they are published on their own
as v0.N.P of its v1.N.P, and replace directives put them back.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

PROGRAMS = {
    "agnhost": "./test/images/agnhost",
    "nnp": "./test/images/nonewprivs",
    "regression-issue-74839": "./test/images/regression-issue-74839",
    "ginkgo": "github.com/onsi/ginkgo/v2/ginkgo",
}
_STAGED = re.compile(r"^(\s*)(k8s\.io/[a-z0-9-]+) => \./staging/\S+", re.M)
_VERSION = "k8s.io/component-base/version"


def staged(module: str, version: str) -> str:
    """A go.mod whose staging modules are the published ones."""
    return _STAGED.sub(rf"\1\2 => \2 {version}", module)


class Suite:
    """The source tree and what was built of it."""

    def __init__(self, cache: Path, version: str) -> None:
        """`version`: of Kubernetes, as in v1.37.2. Raises ValueError on another form."""
        match = re.fullmatch(r"v1\.(\d+)\.(\d+)", version)
        if match is None:
            raise ValueError(f"version: {version!r} is not of the form v1.37.2")
        self.version, self._minor, self._staged = version, match[1], f"v0.{match[1]}.{match[2]}"
        self.source, self.bin = cache / "kubernetes", cache / "bin"
        self.test = self.bin / "e2e.test"

    def build(self) -> None:
        """Fetch and compile what is not there yet. Raises CalledProcessError."""
        self.bin.mkdir(parents=True, exist_ok=True)
        if not self.source.exists():
            self._fetch()
        for name, package in PROGRAMS.items():
            if not (self.bin / name).exists():
                print(f"building {name}", flush=True)
                self._go("build", "-o", str(self.bin / name), package, static=True)
        if not (self.bin / "kube-sample-apiserver").exists():
            print("building kube-sample-apiserver", flush=True)
            self._sample_apiserver()
        if not self.test.exists():
            print("building e2e.test (the longest)", flush=True)
            facts = {"gitVersion": self.version, "gitMajor": "1", "gitMinor": self._minor}
            flags = " ".join(f"-X {_VERSION}.{name}={value}" for name, value in facts.items())
            self._go("test", "-c", "-vet=off", "-ldflags", f"{flags} -s -w", "-o", str(self.test), "./test/e2e")

    def images(self) -> list[str]:
        """The references of all images that the suite may use."""
        done = subprocess.run([self.test, "--list-images"], capture_output=True, text=True, check=True)
        return [line for line in done.stdout.splitlines() if "/" in line and ":" in line]

    def _fetch(self) -> None:
        done = subprocess.run(
            ["go", "mod", "download", "-json", f"k8s.io/kubernetes@{self.version}"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        shutil.copytree(json.loads(done.stdout)["Dir"], self.source)
        for path in (self.source, *self.source.rglob("*")):
            path.chmod(path.stat().st_mode | 0o200)
        shutil.rmtree(self.source / "vendor", ignore_errors=True)
        for name in ("go.work", "go.work.sum"):
            (self.source / name).unlink(missing_ok=True)
        module = self.source / "go.mod"
        module.write_text(staged(module.read_text(), self._staged))

    def _sample_apiserver(self) -> None:
        place = self.source.parent / "sample"
        place.mkdir(exist_ok=True)
        (place / "go.mod").write_text("module sample\n")
        self._go("get", f"k8s.io/sample-apiserver@{self._staged}", at=place)
        self._go(
            "build", "-o", str(self.bin / "kube-sample-apiserver"), "k8s.io/sample-apiserver", static=True, at=place
        )

    def _go(self, *words: str, static: bool = False, at: Path | None = None) -> None:
        env = {"CGO_ENABLED": "0"} if static else {}
        command = ["env", *(f"{k}={v}" for k, v in env.items()), "go", words[0], "-mod=mod", *words[1:]]
        if words[0] == "get":
            command.remove("-mod=mod")
        subprocess.run(command, cwd=at or self.source, check=True)
