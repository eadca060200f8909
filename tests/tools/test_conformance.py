"""The runner of upstream's suite: what it makes of a version, of a directory, of a report."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from jota.runtime.embedded.images.content import Content
from jota.runtime.embedded.images.library import Library

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tools.conformance import archive  # noqa: E402
from tools.conformance.outcome import Outcome, page  # noqa: E402
from tools.conformance.suite import Suite, staged  # noqa: E402

REPORT = """<testsuites time="61.5"><testsuite>
<testcase name="[SynchronizedBeforeSuite]" status="passed"/>
<testcase name="[It] [sig-node] Pods should | run [Conformance] [sig-node, Conformance]" status="passed"/>
<testcase name="[It] [sig-node] Pods should | stop [Conformance] [Serial] [sig-node, Conformance]" status="failed">
<failure type="failed">it went on
and on</failure></testcase>
<testcase name="[It] [sig-apps] Other" status="skipped"/>
<testcase name="[It] [sig-apps] Third [sig-apps]" status="timedout"/>
</testsuite></testsuites>"""


@pytest.mark.parametrize("version", ["1.37.2", "v1.37", "v2.0.0", "v1.37.2-rc.1", "latest"])
def test_other_versions_are_refused(version: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="version"):
        Suite(tmp_path, version)


def test_staged_modules_come_from_where_they_are_published() -> None:
    module = "replace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n\tgithub.com/a/b => github.com/c/b v1.0.0\n)\n"
    assert staged(module, "v0.37.2") == (
        "replace (\n\tk8s.io/api => k8s.io/api v0.37.2\n\tgithub.com/a/b => github.com/c/b v1.0.0\n)\n"
    )


def test_a_directory_becomes_an_image_that_can_be_loaded(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "dev").mkdir(parents=True)
    (root / "dev/null").write_text("stays away")
    (root / "hello").write_text("hello")
    archive.write(tmp_path / "x.tar", ["example.org/x:1", "example.org/x:2"], root, {"Cmd": ["/hello"], "User": "7"})
    library = Library(Content(str(tmp_path / "store")))
    (image,) = library.load(str(tmp_path / "x.tar"))
    assert sorted(image.tags) == ["example.org/x:1", "example.org/x:2"]
    assert (image.cmd, image.user) == (["/hello"], "7")
    assert not (tmp_path / "x.layer").exists()


def test_a_report_is_counted_and_told(tmp_path: Path) -> None:
    (tmp_path / "junit.xml").write_text(REPORT)
    outcome = Outcome.read(tmp_path / "junit.xml")
    assert (outcome.passed, outcome.seconds) == (1, 61.5)
    assert outcome.failed == [
        ("[sig-node] Pods should | stop", "it went on"),
        ("[sig-apps] Third [sig-apps]", "timedout"),
    ]
    text = page(outcome, "v1.37.2", "a machine", "2026-11-27")
    assert "**1 of 3** pass" in text
    assert "| [sig-node] Pods should \\| stop | it went on |" in text
    assert "| [sig-apps] Third [sig-apps] | timedout |" in text
