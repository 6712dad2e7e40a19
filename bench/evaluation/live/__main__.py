"""The command: `bin/evaluate --live`, with the options below."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from bench.evaluation.live.experiment import run_experiment
from bench.evaluation.live.page import judge, render_goals, render_page
from bench.evaluation.live.stage import Broken
from bench.evaluation.provenance import describe
from bench.evaluation.workload import PARTS, find_workloads
from bench.participant import Unavailable
from ollama_proxy.lab.simulation.traces import TraceError

_ROOT = Path(__file__).resolve().parents[3]


def main() -> int:
    """0, or 1 where something that was to agree does not, or 2 where nothing could be run."""
    asked = _parse_arguments()
    began_s = time.monotonic()
    try:
        workload = next(iter(find_workloads(asked.requests, asked.seed).values()))
        arrivals = workload.arrive(1, asked.rate, "default")
        minutes = arrivals[-1].at_s / asked.speed / 60
        print(f"{workload.title}: {len(arrivals)} requests in {minutes:.1f} minutes and a bit", file=sys.stderr)
        with tempfile.TemporaryDirectory() as work:
            found = run_experiment(arrivals, asked.speed, asked.keep or Path(work))
    except (TraceError, Broken, Unavailable) as error:
        print(f"evaluate --live: {error}", file=sys.stderr)
        return 2
    print("\n".join(render_goals(found)))
    if asked.into:
        facts = {
            "command": f"`bin/evaluate --live --requests {asked.requests} --rate {asked.rate:g} "
            f"--speed {asked.speed:g} --seed {asked.seed}`",
            "workload": f"the first {len(arrivals)} rows of slice 1/{PARTS} of {workload.title}, "
            f"{asked.rate:g} a minute, {arrivals[-1].at_s / 60:.0f} minutes long, wishes of the default mix"
            + (f"; SHA-256 {workload.sha256}" if workload.sha256 else ""),
            "policy": found.policy,
            **{name: value for name, value in describe(()).items() if name in ("commit", "versions", "machine")},
            "load average at the end": f"{found.load:.1f}",
            "took": f"{(time.monotonic() - began_s) / 60:.1f} minutes",
        }
        page = asked.into / "evaluation-live.md"
        page.write_text(render_page(found, facts))
        print(f"written: {page}")
    return 0 if all(holds for *_, holds in judge(found)) else 1


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bin/evaluate --live", description="Do proxy and simulator agree?")
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--rate", type=float, default=5.0, help="requests a minute of life's time")
    parser.add_argument("--speed", type=float, default=20.0, help="how many times faster than life")
    parser.add_argument("--seed", type=int, default=1, help="of wishes and generated workloads")
    parser.add_argument("--into", type=Path, default=_ROOT / "docs", help="write evaluation-live.md there")
    parser.add_argument("--keep", type=Path, help="leave logs and recorded decisions in this folder, which is empty")
    asked = parser.parse_args()
    if asked.requests < 2 or asked.rate <= 0 or asked.speed < 1:
        parser.error("--requests: at least 2; --rate: above 0; --speed: at least 1")
    return asked


if __name__ == "__main__":
    sys.exit(main())
