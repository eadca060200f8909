"""What upstream's suite said. In: its JUnit report. Out: counts, failures, a Markdown page."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

_LABELS = re.compile(
    r"\s*\[(It|Conformance|NodeConformance|Serial|Slow|Privileged:ClusterAdmin|MinimumKubeletVersion:[\d.]+)\]"
)


@dataclass(slots=True)
class Outcome:
    passed: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    """(test, first line of why)."""
    seconds: float = 0.0

    @classmethod
    def read(cls, report: Path) -> Outcome:
        """Raises FileNotFoundError when the suite did not get as far as a report."""
        out = cls()
        root = ElementTree.parse(report).getroot()
        out.seconds = float(root.get("time", 0))
        for case in root.iter("testcase"):
            if not case.get("name", "").startswith("[It]"):
                continue
            status = case.get("status")
            if status == "passed":
                out.passed += 1
            elif status != "skipped":
                failure = case.find("failure")
                text = (failure.text or "") if failure is not None else str(status)
                out.failed.append((_short(case.get("name", "")), text.strip().partition("\n")[0][:200]))
        return out

    def add(self, other: Outcome) -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.seconds += other.seconds


def _short(name: str) -> str:
    return re.sub(r"\s*\[sig-[^\]]*,[^\]]*\]$", "", _LABELS.sub("", name)).strip()


def page(outcome: Outcome, version: str, machine: str, when: str) -> str:
    total = outcome.passed + len(outcome.failed)
    lines = [
        "# Upstream's conformance tests",
        "",
        f"Kubernetes {version}: **{outcome.passed} of {total}** pass, in {outcome.seconds / 60:.0f} minutes, on two nodes of one"
        f" machine ({machine}), {when}.",
        "",
        "Made by `python -m tools.conformance --write docs/conformance.md`, which needs Go, a C compiler, debootstrap and root.",
        "The test images are made from Debian's packages and upstream's sources, since the originals are based on other",
        "distributions; nothing is pulled (a MutatingAdmissionPolicy turns pull policy Always into IfNotPresent).",
        "",
    ]
    if outcome.failed:
        lines += ["| what fails | why |", "|---|---|"]
        for name, text in sorted(outcome.failed):
            lines.append(f"| {name.replace('|', chr(92) + '|')} | {text.replace('|', chr(92) + '|')} |")
        lines.append("")
    return "\n".join(lines)
