"""What every start tells: how long it took, and what the server holds before its first request."""

from __future__ import annotations

import time

from bench.process import Failed
from bench.stage import Found, Stage

_SETTLED_S = 0.3


class Start:
    """Everything installed, files in the page cache."""

    name = "start"
    dialect = "openai"
    expected_s = 0.0

    def run(self, stage: Stage) -> Found:
        """`seconds` from exec to the first answer."""
        return {"seconds": stage.start_s}


class Memory:
    """Idle, a moment after the first answer."""

    name = "memory"
    dialect = "openai"
    expected_s = _SETTLED_S

    def run(self, stage: Stage) -> Found:
        """`rss_mb` and `pss_mb`, children included."""
        if stage.server is None:
            raise Failed("nobody runs")
        time.sleep(_SETTLED_S)
        memory = stage.server.memory()
        return {"rss_mb": memory.rss_kb / 1024, "pss_mb": memory.pss_kb / 1024}
