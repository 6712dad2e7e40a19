"""Writing the ledger: rows queue up at no cost and are committed in batches by a thread of their own."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from ollama_proxy.energy.ledger.file import COLUMNS, open_for_writing
from ollama_proxy.energy.ledger.row import LedgerRow

#: Rows gather for so long; a kill loses no more than these.
BATCH_S = 1.0
_BATCH_ROWS = 1000
#: Rows that wait while the file cannot be written; beyond that the oldest are dropped, and counted.
MAX_WAITING = 50_000
_RETRY_S = 10.0
_DAY_S = 86_400.0
_CLEANED_EVERY_S = 3600.0
#: Old rows that are deleted at once, so that nobody waits long for the file.
_DELETED_ROWS = 5000

_INSERT = f"INSERT INTO requests ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
_DELETE = "DELETE FROM requests WHERE id IN (SELECT id FROM requests WHERE unix_s < ? LIMIT ?)"
_log = logging.getLogger(__name__)


class Ledger:
    """The one writer of a file. `unix_clock` tells what is too old to be kept."""

    def __init__(self, path: Path, *, retention_days: float = 365, unix_clock: Callable[[], float] = time.time) -> None:
        """Open or make the file and start the thread. Raises `LedgerError`."""
        self.path = path
        self.dropped = 0
        self._keep_s = retention_days * _DAY_S
        self._unix_clock = unix_clock
        self._cleaned_unix_s = float("-inf")
        self._connection = open_for_writing(path)
        self._waiting: deque[LedgerRow] = deque(maxlen=MAX_WAITING)
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._failing = False
        # A daemon, or a program that ends without closing would wait for it for ever.
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    def record(self, row: LedgerRow) -> None:
        """Queue a row; it is in the file within about a second. Never blocks, never raises."""
        if len(self._waiting) == MAX_WAITING:
            self.dropped += 1
        self._waiting.append(row)
        if not self._wake.is_set():
            self._wake.set()

    def flush(self) -> bool:
        """Write what waits, in this thread. False when the file cannot be written now: then it goes on waiting."""
        with self._lock:
            try:
                self._clean()
                while self._waiting:
                    self._write_batch()
            except sqlite3.Error as error:
                if not self._failing:
                    _log.error("the ledger %s cannot be written: %s; rows wait in memory", self.path, error)
                self._failing = True
                return False
        if self._failing:
            _log.info("the ledger %s can be written again; %d rows were lost", self.path, self.dropped)
        self._failing = False
        return True

    def close(self) -> None:
        """Write what waits and end the thread."""
        self._closing.set()
        self._wake.set()
        self._thread.join()
        self.flush()
        with self._lock:
            self._connection.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            self._closing.wait(BATCH_S)
            self._wake.clear()
            if not self.flush():
                self._closing.wait(_RETRY_S)
                self._wake.set()

    def _write_batch(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _BATCH_ROWS))]
        size = len(batch)
        while batch:
            try:
                self._insert(batch[:size])
            except sqlite3.Error:
                self._waiting.extendleft(reversed(batch))
                raise
            except (ValueError, OverflowError) as error:
                if size > 1:
                    size = 1
                    continue
                # A row with what no column takes would hold up all that come after it.
                self.dropped += 1
                _log.error("a row of the ledger cannot be written and is lost: %s", error)
            del batch[:size]

    def _insert(self, rows: Sequence[LedgerRow]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.executemany(_INSERT, map(msgspec.structs.astuple, rows))
            self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _clean(self) -> None:
        now_unix_s = self._unix_clock()
        if now_unix_s < self._cleaned_unix_s + _CLEANED_EVERY_S:
            return
        while self._connection.execute(_DELETE, (now_unix_s - self._keep_s, _DELETED_ROWS)).rowcount:
            pass
        self._cleaned_unix_s = now_unix_s
