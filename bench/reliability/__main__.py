"""The command: `bin/reliability [ROW ...] [--quick] [--seed S] [--write-docs] [--json FILE] [--list]`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path

from bench.evaluation.provenance import read_commit
from bench.machine import describe_machine
from bench.reliability.page import render_page
from bench.reliability.report import Report, Result, State
from bench.reliability.row import NotRun, Row, Setting
from bench.reliability.rows import ROWS

_ROOT = Path(__file__).resolve().parents[2]
_DOCS = _ROOT / "docs"


def main() -> int:
    """0, or 1 where a row misses its figure, or 2 for a row that is not there."""
    asked = _parse_arguments()
    if asked.list:
        print("\n".join(f"{row.id:<4} {row.check}" for row in ROWS.values()))
        return 0
    unknown = [name for name in asked.rows if name not in ROWS]
    if unknown:
        print(f"reliability: no row {', '.join(unknown)}; there are {', '.join(ROWS)}", file=sys.stderr)
        return 2
    report = Report.read(asked.json)
    names = asked.rows or ([] if asked.write_docs else list(ROWS))
    missed = False
    for name in names:
        result = run_row(ROWS[name], asked.seed, asked.quick)
        missed = missed or result.state == "misses"
        report = Report.read(asked.json)  # as others have left it, who run other rows meanwhile
        report.results[result.id] = result
        report.machine = {fact: value for fact, value in describe_machine().items() if fact not in ("load", "date")}
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        report.write(asked.json)  # at once: a run takes hours
    if names:
        say(f"report: {asked.json}")
    if asked.write_docs:
        page = _DOCS / "reliability.md"
        page.write_text(render_page(list(ROWS.values()), report))
        say(f"written: {page}")
    return 1 if missed else 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bin/reliability", description="Does it keep what it promises?")
    parser.add_argument("rows", nargs="*", metavar="ROW", help="such as B1; all unless told")
    parser.add_argument("--quick", action="store_true", help="every count and duration in small")
    parser.add_argument("--seed", type=int, default=1, help="of everything drawn")
    parser.add_argument("--json", type=Path, default=_DOCS / "reliability.json", help="the report, kept and added to")
    parser.add_argument("--write-docs", action="store_true", help="write docs/reliability.md")
    parser.add_argument("--list", action="store_true", help="name the rows")
    return parser.parse_args()


def run_row(row: Row, seed: int, quick: bool) -> Result:
    """Run one row, print its progress and verdict. A fault of the row's own is a miss that says so."""
    say(f"== {row.id} {row.check} (seed {seed}{', quick' if quick else ''})")
    began_s, load = time.monotonic(), os.getloadavg()[0]
    state: State
    with tempfile.TemporaryDirectory(prefix=f"reliability-{row.id}-") as folder:
        try:
            outcome = row.run(Setting(seed, quick, Path(folder), lambda line: say(f"   {line}")))
            state, found, figures = "holds" if outcome.holds else "misses", outcome.found, outcome.figures
        except NotRun as reason:
            state, found, figures = "not run", str(reason), {}
        except Exception as error:  # noqa: BLE001  # one row must not end the others
            traceback.print_exc()
            state, found, figures = "misses", f"the check itself failed: {type(error).__name__}: {error}"[:400], {}
    took_s = time.monotonic() - began_s
    say(f"== {row.id} {state}: {found} ({took_s:.1f} s)")
    at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Result(row.id, state, found, seed, quick, round(took_s, 1), at, read_commit(), round(load, 2), figures)


def say(line: str) -> None:
    """Progress and verdicts, at once."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
