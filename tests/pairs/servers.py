"""The upstream servers of the pair table: each kind of backend, real where one can run, else the lab's emulation."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.ollama import find_gguf


@contextmanager
def llama_cpp(*, own_template: bool = False) -> Iterator[str]:
    """The address of llama.cpp's own server with SmolLM2, called `smollm2:135m`; with the template of its file it does
    not think, nor call tools."""
    command = [sys.executable, str(Path(__file__).with_name("llama_server.py")), str(find_gguf()), "smollm2:135m"]
    command += ["own"] if own_template else []
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **pipes, text=True) as child:  # type: ignore[call-overload]
        try:
            yield next(line.strip() for line in child.stdout if line.startswith("http"))
        finally:
            child.stdin.close()
            child.wait(20)


def backend(kind: str, endpoint: str, **more: Any) -> dict[str, Any]:
    """A backend's entry in the file."""
    return {"id": "only", "type": kind, "endpoint": endpoint, **more}
