"""What a run leaves behind: docs/benchmarks.md with its plots and results, or the same in another folder."""

from __future__ import annotations

import json
from pathlib import Path

from bench.plots import PLOTS, draw_plot
from bench.report import render_report
from bench.results import Results

_TITLE = """\
# Benchmarks

Written by `bin/bench --write-docs`; `bin/bench` alone prints the same. A mock upstream and the load program share a
core, the participant has the other to itself; participants take turns in every round. Ratios within one run can be
trusted, the microseconds belong to this machine. How it works: `bench/`.
"""


def write_documents(results: Results, machine: dict[str, str], rounds: int, folder: Path) -> Path:
    """Write `benchmarks.md`, `benchmarks/*.svg` and `benchmarks/results.json`; returns the first."""
    beside = folder / "benchmarks"
    beside.mkdir(parents=True, exist_ok=True)
    pictures = []
    for plot in PLOTS:
        if text := draw_plot(plot, results):
            (beside / plot.file).write_text(text)
            pictures.append(f"![{plot.title}](benchmarks/{plot.file})")
    document = {"machine": machine, "rounds": rounds, **results.as_document()}
    (beside / "results.json").write_text(json.dumps(document, indent=1) + "\n")
    page = folder / "benchmarks.md"
    page.write_text("\n".join([_TITLE, *pictures, "", *render_report(results, machine, rounds)]))
    return page
