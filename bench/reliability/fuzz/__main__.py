"""One target under atheris, in a process of its own: `python -m bench.reliability.fuzz NAME [libFuzzer flags]`."""

from __future__ import annotations

import importlib
import sys
from typing import Any

#: By name: it is installed beside the suite's environment, and has no stubs.
atheris: Any = importlib.import_module("atheris")
with atheris.instrument_imports(include=["ollama_proxy"], enable_loader_override=False):
    from bench.reliability.fuzz.targets import TARGETS

if __name__ == "__main__":
    name = sys.argv.pop(1)
    # What libFuzzer starts, by way of a shell, where it wants a process beside this one: to merge inputs.
    sys.argv[0] = f"{sys.executable} -m bench.reliability.fuzz {name}"
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()
