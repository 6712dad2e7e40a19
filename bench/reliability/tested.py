"""Rows that tests prove: the tests are run, and their counts are the figure."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from bench.reliability.row import NotRun, Outcome, Setting

_ROOT = Path(__file__).resolve().parents[2]
_TOOLS = Path(os.environ.get("OLLAMA_PROXY_TOOLS", str(Path.home() / ".cache/ollama-proxy/tools")))
EXAMPLES = "RELIABILITY_EXAMPLES"


@dataclass(frozen=True, slots=True)
class ProvenByTests:
    """Files or node ids, and how many examples Hypothesis draws for each property (0: as many as the test says).

    `with_long` runs those marked as long as well, unless the run is quick. What a test prints last is quoted.
    """

    nodes: Sequence[str]
    examples: int = 0
    quick_examples: int = 0
    with_long: bool = False

    def run(self, setting: Setting) -> Outcome:
        """For `Row.run`. Skipped tests do not count as passed, and all skipped is not run."""
        examples = setting.of(self.examples, self.quick_examples)
        report = setting.work / "junit.xml"
        limit_s = 600 if examples or self.with_long else 240
        marks = ("-m", "") if self.with_long and not setting.quick else ()
        command = [
            *(sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", "-p", "bench.reliability.more_examples"),
            *(f"--randomly-seed={setting.seed}", "-o", f"timeout={limit_s}", *marks, *self.nodes),
            *("-o", "junit_logging=system-out"),
        ]
        env = {
            **os.environ,
            "PYTHONPATH": f"{_ROOT / 'src'}{os.pathsep}{_ROOT}",
            "PATH": f"{_TOOLS / 'bin'}{os.pathsep}{os.environ['PATH']}",
            EXAMPLES: str(examples),
        }
        began_s = time.monotonic()
        done = subprocess.run(command, cwd=_ROOT, env=env, capture_output=True, text=True, check=False)
        took_s = time.monotonic() - began_s
        if not report.exists():
            raise NotRun(f"pytest ended with code {done.returncode}: {done.stdout.strip()[-300:]}")
        return _read(report, took_s, examples)


def _read(report: Path, took_s: float, examples: int) -> Outcome:
    suite = ElementTree.parse(report).getroot().find("testsuite")
    assert suite is not None
    counts = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")}
    bad = counts["failures"] + counts["errors"]
    passed = counts["tests"] - bad - counts["skipped"]
    if not passed and not bad:
        raise NotRun(f"all {counts['skipped']} tests were skipped: {_first_reason(suite)}")
    found = f"{passed} tests passed, {bad} failed"
    if counts["skipped"]:
        found += f", {counts['skipped']} skipped ({_first_reason(suite)})"
    if examples:
        found += f"; {examples:,} examples a property"
    found += "".join(f"; {words}" for words in _quote(suite))
    failed = [case.get("name", "") for case in suite.iter("testcase") if _is_bad(case)]
    if failed:
        found += f"; failed: {', '.join(failed[:5])}"
    figures = {"passed": passed, "failed": bad, "skipped": counts["skipped"], "took_s": round(took_s, 1)}
    return Outcome(not bad, found, figures)


def _quote(suite: ElementTree.Element) -> list[str]:
    """The last line that each test has printed."""
    told = [(case.findtext("system-out") or "").strip().splitlines() for case in suite.iter("testcase")]
    # Behind a ruled heading of pytest's own.
    return [lines[-1][:200] for lines in told if lines and not lines[-1].startswith("---")]


def _is_bad(case: ElementTree.Element) -> bool:
    return case.find("failure") is not None or case.find("error") is not None


def _first_reason(suite: ElementTree.Element) -> str:
    reason = next((one.get("message", "") for one in suite.iter("skipped")), "")
    return re.sub(r"\s+", " ", reason)[:120]
