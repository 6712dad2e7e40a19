"""Logs: for people on a terminal, one JSON object a line otherwise. Prompts, keys and headers never come here.

The line a request leaves is queued as a small value on the hot path and formatted in batches off it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO

import msgspec

_FLUSH_S = 0.1


class RequestRecord(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What one request's line says. Times in milliseconds, energy in joules."""

    time_unix_s: float
    request_id: str
    way_in: str
    model: str
    result: str
    backend: str = ""
    attempts: int = 0
    ttft_ms: float | None = None
    total_ms: float | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    tokens_counted: bool = False
    joules: float | None = None
    energy_kind: str = ""
    reason: str = ""
    error: str = ""
    stand_in: bool = False
    #: The name of the key, never the key.
    key: str = ""


def set_up_logging(level: str, stream: TextIO = sys.stderr) -> None:
    """Send the standard library's logging to `stream` in the form that fits it."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_PeopleFormatter() if stream.isatty() else _JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


class _PeopleFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        clock = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        text = f"{clock} {record.levelname.lower():7} {record.getMessage()}"
        return text + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        document = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(document).decode()


class RequestLog:
    """Writes request lines in batches. `enabled=False` drops them at the door."""

    def __init__(self, stream: TextIO = sys.stderr, *, enabled: bool = True) -> None:
        self._stream = stream
        self.enabled = enabled
        self._format: Callable[[RequestRecord], str] = format_for_people if stream.isatty() else format_as_json
        self._waiting: list[tuple[Any, ...]] = []

    def write(self, *fields: Any) -> None:
        """Queue the fields of a `RequestRecord`, in order; its line is out within a tenth of a second."""
        if not self.enabled:
            return
        if not self._waiting:
            asyncio.get_running_loop().call_later(_FLUSH_S, self.flush)
        self._waiting.append(fields)

    def flush(self) -> None:
        """Write what waits."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            write_line = self._format
            self._stream.write("".join([write_line(RequestRecord(*fields)) for fields in waiting]))
            self._stream.flush()


def format_as_json(record: RequestRecord) -> str:
    """One JSON object and its line end."""
    second, fraction = divmod(record.time_unix_s, 1)
    # The record's first member is its time in seconds; the line has it as text instead, and in front.
    _, _, rest = _encode(record).partition(b",")
    return _LINE % (_clock_text(int(second)), fraction * 1e6, rest.decode())


_LINE = '{"time":"%s.%06d+00:00","level":"info","logger":"request",%s\n'
_encode = msgspec.json.Encoder().encode


@lru_cache(maxsize=16)
def _clock_text(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def format_for_people(record: RequestRecord) -> str:
    """One readable line and its end."""
    clock = datetime.fromtimestamp(record.time_unix_s).strftime("%H:%M:%S")
    key = f" by {record.key}" if record.key else ""
    head = f"{clock} {record.result:7} {record.way_in}{key} {record.model} -> {record.backend or '-'}"
    parts = [_attempts(record.attempts)] if record.attempts != 1 else []
    if record.ttft_ms is not None:
        parts.append(f"first token {record.ttft_ms:.0f} ms")
    if record.output_tokens is not None and record.total_ms is not None:
        about = "~" if record.tokens_counted else ""
        parts.append(f"{about}{record.output_tokens} tokens in {record.total_ms / 1000:.2f} s")
    if record.joules is not None:
        parts.append(f"{record.joules:.3g} J {record.energy_kind}")
    why = record.error or record.reason
    return f"{head} ({', '.join(parts)}) {why} [{record.request_id}]\n"


def _attempts(count: int) -> str:
    return f"{count} attempts" if count else "no attempt"
