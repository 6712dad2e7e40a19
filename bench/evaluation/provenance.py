"""What the evaluation was made with, so that somebody else can have the same figures."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import ollama_proxy
from bench.evaluation.workload import PARTS, Workload
from bench.machine import read_processor

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("highspy", "numpy", "msgspec")


def describe(workloads: Iterable[Workload]) -> dict[str, str]:
    """Facts in words."""
    facts = {
        "commit": read_commit(),
        "versions": ", ".join(
            [
                f"ollama-proxy {ollama_proxy.__version__}",
                f"Python {platform.python_version()}",
                *(f"{name} {version(name)}" for name in _PACKAGES),
            ]
        ),
        "machine": f"{read_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "load average as it began (G8 is timed then)": f"{os.getloadavg()[0]:.2f}",
    }
    for one in workloads:
        facts[f"workload `{one.name}`"] = (
            f"{one.title}: {PARTS} slices of {len(one.take(1)):,} requests, seed {one.seed}"
            + (f", SHA-256 {one.sha256}" if one.sha256 else "")
        )
    return facts


def digest_source() -> str:
    """Of all Python files that the figures depend on; workers read them while the evaluation runs."""
    digest = hashlib.sha256()
    for folder in ("src", "bench"):
        for path in sorted((_ROOT / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def read_commit() -> str:
    """The commit, and whether the tree holds more than it says."""
    try:
        commit = _run("rev-parse", "--short=12", "HEAD")
        changed = _run("status", "--porcelain", "--", "src", "bench")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + (", with changes that are not committed" if changed else "")


def _run(*words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(_ROOT), *words], capture_output=True, text=True, check=True, timeout=20
    ).stdout.strip()
