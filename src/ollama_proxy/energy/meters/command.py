"""A command that prints a number: for every meter that nobody here has heard of."""

from __future__ import annotations

import logging
import os
import re
import select
import subprocess
import time
from pathlib import Path

from ollama_proxy.domain.metering import DISCOVERED, MeterOptions, Reading, Source
from ollama_proxy.energy.meters.choice import describe_configured
from ollama_proxy.energy.meters.session import end_session
from ollama_proxy.energy.meters.unit import to_reading

_log = logging.getLogger("ollama_proxy.meters")
_LIMIT_BYTES = 4096
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


class CommandFailedError(Exception):
    """The command gave no number; the text says why."""


class CommandMeter:
    """The first number that a command prints, in W or J. It runs without a shell, and not longer than `timeout_s`.

    What takes too long is killed with all that it started. Where that is not allowed, no second is started beside it.
    """

    blocks = True

    def __init__(self, root: Path = Path("/"), options: MeterOptions = DISCOVERED) -> None:
        self._options = options
        self.min_period_s = options.interval_s
        covers = f"what {options.command[0] if options.command else 'the command'} tells"
        self._source = describe_configured(options, "command", "other", covers)
        #: One that cannot be killed, and whether that was said.
        self._left: subprocess.Popen[bytes] | None = None
        self._told = False

    def describe(self) -> tuple[Source, ...]:
        """The command; whether it works is known only by running it."""
        return (self._source,)

    def read(self, now_s: float, active: bool = True) -> tuple[Reading, ...]:
        """Its figure. Raises `CommandFailedError` or `OSError`."""
        if self._left is not None and not end_session(self._left, 0.0):
            raise CommandFailedError("the one that was started before still runs and cannot be killed")
        self._left = None
        text = self._run()
        found = _NUMBER.search(text)
        if found is None:
            raise CommandFailedError(f"it printed no number: {text[:40]!r}")
        value = float(found.group())
        if value < 0:
            raise CommandFailedError("its number is negative")
        try:
            return (to_reading(self._source, value, self._options.unit, now_s),)
        except ValueError as error:
            raise CommandFailedError(str(error)) from None

    def _run(self) -> str:
        """The first of what it prints; what talks without end has said enough."""
        command, timeout_s = self._options.command, self._options.timeout_s
        until_s = time.monotonic() + timeout_s
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
        assert process.stdout is not None
        try:
            output, complete = _read_output(process.stdout.fileno(), until_s)
            status = process.wait(max(0.0, until_s - time.monotonic())) if complete else 0
        except (TimeoutError, subprocess.TimeoutExpired):
            raise CommandFailedError(f"it took longer than {timeout_s:g} s") from None
        finally:
            process.stdout.close()
            if process.returncode is None and not end_session(process):
                self._leave(process)
        if status:
            raise CommandFailedError(f"it ended with status {status}")
        return output.decode("utf-8", "replace")

    def _leave(self, process: subprocess.Popen[bytes]) -> None:
        self._left = process
        if not self._told:
            self._told = True
            _log.warning(
                "%s took too long and cannot be killed, as it or what it started runs as another user; it is started "
                "again when it has ended. Let it end by itself in time, for example with: timeout %g ...",
                self._options.command[0],
                self._options.timeout_s,
            )


def _read_output(descriptor: int, until_s: float) -> tuple[bytes, bool]:
    """What was printed, and whether that is all. Raises `TimeoutError`."""
    output = b""
    while len(output) < _LIMIT_BYTES:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, until_s - time.monotonic()))
        if not ready:
            raise TimeoutError
        piece = os.read(descriptor, _LIMIT_BYTES)
        if not piece:
            return output, True
        output += piece
    return output, False
