"""A8: every decoder under a fuzzer that follows what its inputs reach."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.reliability.fuzz import corpus
from bench.reliability.row import NotRun, Outcome, Row, Setting

_ROOT = Path(__file__).resolve().parents[3]
_ATHERIS = Path(os.environ.get("OLLAMA_PROXY_TOOLS", str(Path.home() / ".cache/ollama-proxy/tools"))) / "atheris"
_EXECUTED = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_COVERED = re.compile(r" cov: (\d+) ")
#: Read by name, since the targets import what is fuzzed.
_NAMED = re.compile(r"^def ([a-z]\w+)\(data: bytes\) -> None:", re.MULTILINE)
_INPUT_LIMIT_S, _MOST_BYTES, _MEMORY_MB = 20, 4096, 2048


def run(setting: Setting) -> Outcome:
    """Ten minutes a target, one after the other."""
    if not (_ATHERIS / "atheris").is_dir():
        raise NotRun("atheris is not here (bench/reliability/install.sh)")
    seconds = setting.of(600, 20)
    figures: dict[str, Any] = {"seconds_a_target": seconds}
    faults = []
    for name in _NAMED.findall((_ROOT / "bench/reliability/fuzz/targets.py").read_text()):
        executed, covered, fault = fuzz(setting, name, seconds)
        setting.say(f"{name}: {executed:,} inputs, {covered} places{', FAULT: ' + fault if fault else ''}")
        figures[name] = {"inputs": executed, "places": covered, "fault": fault}
        if fault:
            faults.append(f"{name}: {fault}")
    total = sum(one["inputs"] for one in figures.values() if isinstance(one, dict))
    count = len(figures) - 1
    found = f"{count} targets, {seconds} s each, {total:,} inputs: {len(faults)} undeclared errors"
    return Outcome(not faults, "; ".join([found, *faults])[:800], figures)


def fuzz(setting: Setting, name: str, seconds: int) -> tuple[int, int, str]:
    """Inputs that were tried, places that were reached, and the fault, in a line ("" when there is none)."""
    inputs, merged = setting.work / name, setting.work / f"{name}-merged"
    corpus.unpack(name, inputs)
    flags = [
        f"-max_total_time={seconds}",
        f"-seed={setting.seed}",
        f"-timeout={_INPUT_LIMIT_S}",
        f"-max_len={_MOST_BYTES}",
        f"-rss_limit_mb={_MEMORY_MB}",
        f"-artifact_prefix={setting.work}/{name}-",
        "-print_final_stats=1",
    ]
    done = _call(name, [*flags, str(inputs)])
    executed = _EXECUTED.search(done.stderr)
    covered = _COVERED.findall(done.stderr)
    fault = "" if done.returncode == 0 else _tell(done.stderr, setting.work, name)
    if not fault and not setting.quick:
        merged.mkdir()
        _call(name, ["-merge=1", f"-max_len={_MOST_BYTES}", str(merged), str(inputs)])
        corpus.keep(name, merged)
    return int(executed[1]) if executed else 0, int(covered[-1]) if covered else 0, fault


def _call(name: str, flags: list[str]) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(_ROOT / "src"), str(_ROOT), str(_ATHERIS)))}
    command = [sys.executable, "-m", "bench.reliability.fuzz", name, *flags]
    return subprocess.run(command, cwd=_ROOT, env=env, capture_output=True, text=True, errors="replace", check=False)


def _tell(log: str, work: Path, name: str) -> str:
    """The error and the input, so that it can be had again."""
    lines = [line for line in log.splitlines() if re.match(r"\w*(Error|Exception|Exit)\b|==\d+== ?ERROR", line.strip())]
    artifact = next((path for path in work.glob(f"{name}-*") if path.is_file()), None)
    data = artifact.read_bytes()[:300] if artifact else b""
    return f"{(lines or log.strip().splitlines()[-1:])[0][:200]} with {data!r}"


ROWS = (
    Row(
        "A8",
        "coverage-guided fuzzing of every decoder, framer, annotation parser and the config loader",
        "only the declared error, ever; 10 min a target; corpus kept",
        "atheris on each function of bench/reliability/fuzz/targets.py in a process of its own; the shortest inputs are"
        " kept in bench/reliability/fuzz/corpus",
        run,
    ),
)
