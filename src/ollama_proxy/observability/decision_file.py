"""Decisions in a file, one JSON object a line, for `ollama-proxy replay`; written in batches, away from requests."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections import deque
from pathlib import Path

from ollama_proxy.observability.decisions import Taken
from ollama_proxy.routing.record_lines import write_record

_log = logging.getLogger(__name__)

#: A file of this size makes way for a new one; one old one is kept beside it, under the same name and `.1`.
MAX_BYTES = 64_000_000
#: More than these wait only if the disk stands still or cannot keep up; then the oldest are dropped, and counted.
MOST_WAITING = 2000
_FLUSH_S = 1.0


class DecisionFile:
    """Appends records; queued on the event loop, written on other threads."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES, most_waiting: int = MOST_WAITING) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._waiting: deque[Taken] = deque()
        self._most_waiting = most_waiting
        self._writing = threading.Lock()
        self.dropped = 0
        #: Whether the last attempt to write failed; told once, not every second.
        self._broken = False

    def __len__(self) -> int:
        return len(self._waiting)

    def share(self) -> None:
        """Another process appends to the file as well, and sees to its size."""
        self._max_bytes = sys.maxsize

    def add(self, taken: Taken) -> None:
        """Queue one that has ended."""
        if len(self._waiting) >= self._most_waiting:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(taken)

    def flush(self) -> None:
        """Write what waits. What cannot be written is dropped and counted; the log says so once."""
        with self._writing:
            self._flush()

    async def run(self) -> None:
        """Write once a second; cancelled when there is nothing more to come."""
        while True:
            await asyncio.sleep(_FLUSH_S)
            if self._waiting:
                await asyncio.to_thread(self.flush)

    def _flush(self) -> None:
        lines = []
        while self._waiting:
            lines.append(write_record(self._waiting.popleft().make_record()) + b"\n")
        if not lines:
            return
        try:
            self._append(b"".join(lines))
        except OSError as error:
            self.dropped += len(lines)
            if not self._broken:
                _log.error("decisions cannot be recorded in %s: %s", self._path, error.strerror)
            self._broken = True
        else:
            self._broken = False

    def _append(self, data: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._path.open("ab") as file:
            full = file.tell() and file.tell() + len(data) > self._max_bytes
            if not full:
                file.write(data)
        if full:
            self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._path.write_bytes(data)
