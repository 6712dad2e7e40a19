"""The decision alone, in a process of its own: see bench/decisions.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from bench.participants.ours import SOURCE
from bench.process import SERVER_CORE, Failed, pin
from bench.stage import Found, Stage

_ROOT = Path(__file__).resolve().parents[2]
_LIMIT_S = 60.0


class Decision:
    """Fleets of several sizes, at which one request is sent and another ends before each decision, as under load."""

    name = "decision"
    dialect = ""
    expected_s = 3.0

    def run(self, stage: Stage) -> Found:
        """`us_4` and so on; `unchanged_us_4` for a fleet that stays as it is."""
        env = {**os.environ, "PYTHONPATH": f"{SOURCE / 'src'}{os.pathsep}{_ROOT}"}
        command = pin([sys.executable, "-P", "-m", "bench.decisions"], SERVER_CORE)
        try:
            result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=_LIMIT_S, check=True)
        except subprocess.CalledProcessError as error:
            raise Failed(f"decision: {error.stderr.strip()[-300:]}") from error
        except subprocess.TimeoutExpired as error:
            raise Failed(f"decision: {error}") from error
        found: Found = json.loads(result.stdout)
        return found
