"""The command: `bin/evaluate [--quick] [--requests N] [--seed S] [--into FOLDER]`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.evaluation import goals, survey
from bench.evaluation.case import Case
from bench.evaluation.crew import Task, find_differences, run_cases
from bench.evaluation.goals import speed
from bench.evaluation.page import render_page
from bench.evaluation.pictures import write_pictures
from bench.evaluation.provenance import describe, digest_source
from bench.evaluation.results import Results
from bench.evaluation.tables import render_goals
from bench.evaluation.workload import PARTS, Workload, find_workloads
from ollama_proxy.lab.simulation.traces import TraceError

_ROOT = Path(__file__).resolve().parents[2]
_REQUESTS, _QUICK_REQUESTS = 1500, 150
#: Every so-manieth run is made once more, to see whether it comes out the same.
_AGAIN = 20


def main() -> int:
    """0, or 1 where a run came out differently the second time, or the program was changed meanwhile."""
    asked = parse_arguments()
    try:
        workloads = find_workloads(asked.requests, asked.seed)
        return evaluate(asked, workloads)
    except TraceError as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    """`requests` and `into` are filled in."""
    parser = argparse.ArgumentParser(prog="bin/evaluate", description="Does the routing reach its goals?")
    parser.add_argument(
        "--quick", action="store_true", help=f"{_QUICK_REQUESTS} requests a slice, no page: a smoke run"
    )
    parser.add_argument("--requests", type=int, help=f"of each slice; {_REQUESTS:,} unless told")
    parser.add_argument("--seed", type=int, default=1, help="of wishes, device noise and generated workloads")
    parser.add_argument("--into", type=Path, help="write evaluation.md and images/ there instead of docs/")
    asked = parser.parse_args(words)
    asked.requests = asked.requests or (_QUICK_REQUESTS if asked.quick else _REQUESTS)
    if asked.requests < PARTS:
        parser.error("--requests: at least 3")
    asked.into = asked.into or (None if asked.quick else _ROOT / "docs")
    return asked


def evaluate(asked: argparse.Namespace, workloads: dict[str, Workload]) -> int:
    """Run everything, print the goals, write the page."""
    began_s, source = time.monotonic(), digest_source()
    first, facts = next(iter(workloads)), describe(workloads.values())
    say(f"Workloads: {', '.join(one.title for one in workloads.values())}")
    taken_us = speed.measure(0.1 if asked.quick else 1.0)  # before the cores are busy
    tasks = plan(list(workloads))
    found = run_cases(tasks, asked.requests, asked.seed, show_progress("runs"))
    sample = tasks[::_AGAIN]
    different = find_differences(sample, found, asked.requests, asked.seed, show_progress("again"))
    if digest_source() != source:
        say("The program was changed while it ran: the figures are those of no version. Nothing was written.")
        return 1
    results = Results(found)
    judged = goals.judge(results, first)
    lines = sorted([*judged, *speed.judge(taken_us)], key=lambda line: line.goal)
    print("\n".join(render_goals(lines)))
    if asked.into:
        facts |= {
            "runs": f"{len(results)}, of which {len(sample)} were made twice, in other processes with other hash seeds:"
            f" {len(sample) - len(different)} of them came out the same to the last bit",
            "digest of all figures": f"`{results.digest()}` (nine digits of each; no clock is in them)",
            "took": f"{(time.monotonic() - began_s) / 60:.1f} minutes",
        }
        pictures = write_pictures(results, workloads[first], asked.into / "images")
        page = asked.into / "evaluation.md"
        page.write_text(render_page(results, lines, workloads, facts, pictures))
        print(f"written: {page}")
    for case in different:
        say(f"came out differently: {case}")
    return 1 if different else 0


def plan(workloads: list[str]) -> list[Task]:
    """Every run once, on each slice, with its bound where anybody wants it."""
    wanted: dict[Task, None] = {}
    bounds: dict[Case, bool] = {}
    for case, has_bound in [*goals.list_tasks(workloads[0]), *survey.list_tasks(workloads)]:
        bounds[case] = bounds.get(case, False) or has_bound
    for case, has_bound in bounds.items():
        for part in range(1, PARTS + 1):
            wanted[case.on(part), has_bound] = None
    return list(wanted)


def show_progress(what: str) -> Callable[[int, int], None]:
    """On standard error: a line that is overwritten on a terminal, every tenth part elsewhere."""

    def show(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{what} {done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)
        elif done == total or done * 10 // total > (done - 1) * 10 // total:
            say(f"{what} {done}/{total}")

    return show


def say(line: str) -> None:
    """The goals have standard output to themselves."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
