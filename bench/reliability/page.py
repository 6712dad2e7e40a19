"""The page for people: a table of what was asked, what was found, and how; then what was not run, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bench.reliability.report import Report, Result
from bench.reliability.row import Row

_INTRODUCTION = """\
# Reliability: what is promised, and what was found

Each row is a check with a figure to reach. `bin/reliability` runs them against the proxy as its users start it, over
emulated devices (`ollama-proxy lab up`), a fault proxy (`ollama-proxy lab fault --listen ... --upstream ...`) and
open-loop load (`ollama-proxy lab load`), all on this machine. Rows that the test suite proves run those tests and
quote their counts. `holds` and `misses` are about the figure as it stands; a row that was not run says so. Durations
are those of the machine below with whatever else ran on it. The load average is told with each row: where it is far
above the number of cores, a miss of a row in milliseconds may be the machine's.

```
bin/reliability                 every row (hours: fuzzing alone takes ten minutes a target)
bin/reliability --quick         every row in small
bin/reliability B1 C1           some rows; the results of the others are kept
bin/reliability --list          what there is
bin/reliability --write-docs    this page anew, after the rows named, or from the kept results when none is
```
"""


def render_page(rows: Sequence[Row], report: Report) -> str:
    """The whole page in Markdown."""
    return "\n".join(
        [
            _INTRODUCTION,
            *_count(rows, report),
            "",
            "| row | check | figure to reach | found | verdict |",
            "|---|---|---|---|---|",
            *(_render_row(row, report.results.get(row.id)) for row in rows),
            "",
            "## How each row is run",
            "",
            *_render_how(rows, report),
            "",
            "## Not run, and why",
            "",
            *_render_missing(rows, report),
            "",
            "## Where",
            "",
            *(f"- {name}: {fact}" for name, fact in report.machine.items()),
            "",
        ]
    )


def _count(rows: Sequence[Row], report: Report) -> Iterator[str]:
    states = [result.state for row in rows if (result := report.results.get(row.id))]
    missing = len(rows) - states.count("holds") - states.count("misses")
    yield f"{len(rows)} rows: {states.count('holds')} hold, {states.count('misses')} miss, {missing} were not run."


def _render_row(row: Row, result: Result | None) -> str:
    state = "not run" if result is None else result.state
    found = "-" if result is None or result.state == "not run" else result.found
    verdict = f"**{state}**" if state == "misses" else state
    if result is not None and result.quick and state != "not run":
        verdict += " (quick run)"
    return f"| {row.id} | {_cell(row.check)} | {_cell(row.target)} | {_cell(found)} | {verdict} |"


def _render_how(rows: Iterable[Row], report: Report) -> Iterator[str]:
    for row in rows:
        result = report.results.get(row.id)
        if result is None or result.state == "not run":
            continue
        where = (
            f"{result.at}, commit {result.commit}, seed {result.seed}, {result.took_s:.0f} s, load {result.load:.1f}"
        )
        short = f" Not in it: {row.short_of}." if row.short_of else ""
        yield f"- **{row.id}** {row.how}.{short} ({where})"


def _render_missing(rows: Iterable[Row], report: Report) -> Iterator[str]:
    for row in rows:
        result = report.results.get(row.id)
        if result is None:
            yield f"- **{row.id}** {row.check}: never run here."
        elif result.state == "not run":
            yield f"- **{row.id}** {row.check}: {result.found}."


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
