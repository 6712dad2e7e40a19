"""Runs the product with a profiler in it: `profiled.py FILE ARGUMENTS...`.

SIGUSR1 turns it on, SIGUSR2 turns it off and writes FILE; so neither the start nor the end is in it.
"""

from __future__ import annotations

import cProfile
import os
import signal
import sys
from pathlib import Path

from ollama_proxy.cli.start import main


def run() -> None:
    """As the console script would."""
    file = Path(sys.argv[1])
    sys.argv[1:2] = []
    profile = cProfile.Profile()

    def write() -> None:
        profile.disable()
        beside = file.with_suffix(".part")
        profile.dump_stats(beside)
        os.replace(beside, file)

    signal.signal(signal.SIGUSR1, lambda *_: profile.enable())
    signal.signal(signal.SIGUSR2, lambda *_: write())
    main()


if __name__ == "__main__":
    run()
