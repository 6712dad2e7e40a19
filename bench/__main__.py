"""The command: `bin/bench [--quick] [--only A,B] [--measures X,Y] [--rounds N] [--write-docs]`, `bin/bench profile`,
`bin/bench soak`."""

from __future__ import annotations

import argparse
import fcntl
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

from bench.documents import write_documents
from bench.machine import describe_machine, read_ticks, stolen_share
from bench.measures import NAMES
from bench.participant import Unavailable
from bench.participants import PARTICIPANTS
from bench.participants.debian import install_program
from bench.process import Failed
from bench.programs import build_programs, find_ghz
from bench.report import render_report
from bench.results import Results
from bench.rounds import Run, install_all

_ROOT = Path(__file__).resolve().parents[1]
_TOOLS = Path.home() / ".cache/ollama-proxy/bench"
_QUICK_PARTICIPANTS = ("direct", "nginx", "haproxy", "vllm-router", "ours", "grpc-go", "grpcio-aio")
_QUICK_LEFT_OUT = ("streams-2000",)
_DESCRIPTORS = 20_000
PROFILES = (
    "unary",
    "stream",
    "stream-400",
    "translated",
    "translated-back",
    "translated-anthropic",
    "grpc",
    "grpc-stream",
    "grpc-health",
)


def main() -> int:
    """Parse, measure or profile."""
    asked = parse_arguments()
    raise_descriptor_limit()
    try:
        if asked.what == "profile":
            from bench.profiling import print_profile  # noqa: PLC0415  # reads --source when it is imported

            return print_profile(asked.kind, asked.tools)
        if asked.what == "soak":
            from bench.soak import run_soak  # noqa: PLC0415  # as above

            return run_soak(asked.requests, asked.streams, asked.tools)
        return measure(asked)
    except (Unavailable, Failed) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1


def parse_arguments() -> argparse.Namespace:
    """Names are checked here, so that a typing error costs no minutes."""
    parser = argparse.ArgumentParser(
        prog="bin/bench", description="What a request costs, through us and through others."
    )
    parser.add_argument("what", nargs="?", choices=("run", "profile", "soak"), default="run")
    parser.add_argument("kind", nargs="?", choices=PROFILES, default="unary", help="of the profile")
    parser.add_argument("--requests", type=int, default=1_000_000, help="of the soak")
    parser.add_argument("--streams", type=int, default=10_000, help="of the soak")
    parser.add_argument("--quick", action="store_true", help="fewer participants, short rounds: under five minutes")
    parser.add_argument("--only", type=_names(PARTICIPANTS), help=f"participants: {','.join(PARTICIPANTS)}")
    parser.add_argument("--measures", type=_names(NAMES), help=f"measures: {','.join(NAMES)}")
    parser.add_argument("--rounds", type=int, help="5 unless told")
    parser.add_argument("--write-docs", action="store_true", help="write docs/benchmarks.md, its plots and results")
    parser.add_argument("--into", type=Path, help="write the same into another folder")
    parser.add_argument("--tools", type=Path, default=_TOOLS, help=f"where participants are installed: {_TOOLS}")
    parser.add_argument("--source", type=Path, default=_ROOT, help="another tree of this repository to measure as ours")
    asked = parser.parse_args()
    os.environ["OLLAMA_PROXY_BENCH_SOURCE"] = str(asked.source.resolve())
    return asked


def _names(known: Iterable[str]) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not one of {', '.join(known)}")
        return [name for name in known if name in names]

    return read


def raise_descriptor_limit() -> None:
    """2,000 streams are 2,000 connections at the client and as many upstream, in one process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def measure(asked: argparse.Namespace) -> int:
    """Install, plan, run, report."""
    began_s = time.monotonic()
    results = Results()
    lock = take_lock(asked.tools)
    programs, ghz = build_programs(asked.tools), install_grpc_tools(asked.tools)
    machine, ticks = describe_machine(), read_ticks()
    say("Participants:")
    names = asked.only or (list(_QUICK_PARTICIPANTS) if asked.quick else list(PARTICIPANTS))
    installed = install_all([name for name in names if name in PARTICIPANTS], asked.tools, say, results)
    measures = asked.measures or [name for name in NAMES if not (asked.quick and name in _QUICK_LEFT_OUT)]
    rounds = asked.rounds or (3 if asked.quick else 5)
    scale = 0.5 if asked.quick else 1.0
    run = Run(installed, measures, rounds, scale, asked.tools, programs, ghz, say, results)
    say(f"Plan: {rounds} rounds, about {run.expected_s() / 60:.0f} minutes.")
    run.go()
    machine["load at the end"] = describe_machine()["load"]
    machine["stolen by the hypervisor"] = f"{stolen_share(ticks, read_ticks()):.1%}"
    machine["minutes"] = f"{(time.monotonic() - began_s) / 60:.1f}"
    print("\n".join(render_report(results, machine, rounds)))
    for folder in filter(None, (_ROOT / "docs" if asked.write_docs else None, asked.into)):
        print(f"written: {write_documents(results, machine, rounds, folder)}")
    lock.close()
    return 0 if results.values else 1


def install_grpc_tools(tools: Path) -> str:
    """The path of ghz. Without it or h2load the measures of gRPC fail, by name, and the others go on."""
    try:
        install_program("h2load", "nghttp2-client")
        return find_ghz(tools)
    except Unavailable as error:
        say(f"gRPC will not be measured: {error}")
        return "ghz"


def take_lock(tools: Path) -> IO[str]:
    """Held until it is closed. Two runs at once do not disturb each other's ports, but each other's figures."""
    tools.mkdir(parents=True, exist_ok=True)
    lock = (tools / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        say("Another bench is running: the figures of both will be off.")
    return lock


def say(line: str) -> None:
    """Progress; the report has standard output to itself."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
