"""The proxy with a watch on its event loop: `python -m bench.reliability.watched FILE [the proxy's own flags]`.

Every few milliseconds a timer notes how late it is; what it found is written at the end, in milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import uvloop

from ollama_proxy.cli.start import main
from ollama_proxy.lab.histogram import Histogram

_EVERY_S = 0.005
#: What is read and built at the start holds up nobody.
_START_S = 3.0
_run = uvloop.run


def run_watched(work: Coroutine[Any, Any, Any]) -> Any:
    """In place of `uvloop.run`."""
    lag = Histogram()

    async def beside() -> Any:
        loop = asyncio.get_running_loop()
        due_s = 0.0

        def tick() -> None:
            nonlocal due_s
            now_s = loop.time()
            lag.record(now_s - due_s)
            due_s = now_s + _EVERY_S
            loop.call_at(due_s, tick)

        def begin() -> None:
            nonlocal due_s
            due_s = loop.time() + _EVERY_S
            loop.call_at(due_s, tick)

        loop.call_later(_START_S, begin)
        return await work

    try:
        return _run(beside())
    finally:
        found = lag.describe_ms((("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)))
        _file.write_text(json.dumps({"lag_ms": found, "count": lag.count}))


if __name__ == "__main__":
    _file = Path(sys.argv.pop(1))
    uvloop.run = run_watched  # type: ignore[assignment]  # the one way in, whatever the proxy's own loop
    main()
