"""The ledger's file: where it lies, its tables, its version."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from ollama_proxy.energy.ledger.row import LedgerRow

#: Counted up with each change of the tables.
VERSION = 1
#: "OCPL", so that another program's database is not taken for a ledger.
_APPLICATION_ID = 0x4F43504C
_WAIT_S = 5.0

COLUMNS = LedgerRow.__struct_fields__
_TABLES = (
    """CREATE TABLE requests (
        id INTEGER PRIMARY KEY,
        request_id TEXT NOT NULL, unix_s REAL NOT NULL,
        model TEXT NOT NULL, backend TEXT NOT NULL, key TEXT NOT NULL, way_in TEXT NOT NULL, outcome TEXT NOT NULL,
        prompt_tokens INTEGER, output_tokens INTEGER,
        marginal_j REAL, full_j REAL, plus_minus_j REAL, kind TEXT NOT NULL,
        seconds REAL NOT NULL, static_j REAL
    )""",
    "CREATE INDEX requests_by_time ON requests (unix_s)",
)


class LedgerError(Exception):
    """A file that cannot be used as a ledger; the text says why and what to do."""


def default_path(environ: Mapping[str, str]) -> Path:
    """`ollama-proxy/ledger.sqlite` in the user's state folder (XDG_STATE_HOME, else ~/.local/state)."""
    state = environ.get("XDG_STATE_HOME", "")
    folder = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return folder / "ollama-proxy" / "ledger.sqlite"


def open_for_writing(path: Path) -> sqlite3.Connection:
    """The ledger at `path`, made where there is none, readable by its owner only. Raises `LedgerError`.

    A write-ahead log survives a kill at any instant: what was committed is there, what was not is not.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _refuse_what_is_no_file(path)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        # Only the holder of the writer's lock uses it, whichever thread that is.
        connection = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise LedgerError(f"the ledger {path} cannot be opened: {error}") from None
    try:
        _check(connection, path)  # before anything is changed
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        # Two programs may make the same new file at once; the second finds it made.
        connection.execute("BEGIN IMMEDIATE")
        if not _check(connection, path):
            for table in _TABLES:
                connection.execute(table)
            connection.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={VERSION}")
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        connection.close()
        raise LedgerError(f"the ledger {path} cannot be used: {error}") from None
    except LedgerError:
        connection.close()
        raise
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection | None:
    """The ledger at `path`, beside a writer if there is one; None where there is none yet. Raises `LedgerError`."""
    try:
        if not path.exists():
            return None
        _refuse_what_is_no_file(path)
        connection = _connect(path)
    except (OSError, sqlite3.Error) as error:
        raise LedgerError(f"the ledger {path} cannot be opened: {error}") from None
    try:
        if _check(connection, path):
            return connection
    except sqlite3.Error as error:
        connection.close()
        raise LedgerError(f"the ledger {path} cannot be read: {error}") from None
    except LedgerError:
        connection.close()
        raise
    connection.close()
    return None


def _refuse_what_is_no_file(path: Path) -> None:
    """Whoever opens a pipe waits for its other end, and SQLite would wait for ever. Raises `LedgerError`."""
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "a pipe, a socket or a device"
        raise LedgerError(f"{path} is {what} and no ledger; name a file")


def _connect(path: Path) -> sqlite3.Connection:
    """For reading only. Where nothing may be written, no log can be made beside the file; without one nobody writes,
    and the file is read as it lies."""
    place = f"file:{quote(str(path))}"
    connection = sqlite3.connect(f"{place}?mode=ro", uri=True, timeout=_WAIT_S)
    try:
        connection.execute("PRAGMA user_version").fetchall()
    except sqlite3.OperationalError:
        if os.access(path.parent, os.W_OK, effective_ids=True) or path.with_name(f"{path.name}-wal").exists():
            return connection
        connection.close()
        connection = sqlite3.connect(f"{place}?mode=ro&immutable=1", uri=True)
    return connection


def _check(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the file is a ledger; False if it is empty. Raises `LedgerError` for anything else."""
    [[application]] = connection.execute("PRAGMA application_id").fetchall()
    [[version]] = connection.execute("PRAGMA user_version").fetchall()
    [[tables]] = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchall()
    if not tables and not application:
        return False
    if application != _APPLICATION_ID:
        raise LedgerError(f"{path} is a database of another program; name another file in energy.ledger_path")
    if version > VERSION:
        raise LedgerError(
            f"the ledger {path} has version {version}, and this program knows {VERSION} at most: it was written by a "
            "newer one; update this program, or name another file in energy.ledger_path"
        )
    return True
