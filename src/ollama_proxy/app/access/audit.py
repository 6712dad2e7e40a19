"""The audit log: who changed what, when, and how it ended. A line of JSON an act; no key, no body, no prompt.

A line is one write to a file that is only added to, so that a kill tears none apart and two programs may write at once.
"""

from __future__ import annotations

import getpass
import logging
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ollama_proxy.config.key_file import state_folder
from ollama_proxy.net.bodies.go_json import GoType, read_as
from ollama_proxy.net.bodies.go_syntax import GoError
from ollama_proxy.net.http1.exchange import Exchange

_log = logging.getLogger(__name__)

_MOST_CHARS = 200


class Act(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line. `who` is a key's name, or for the command line the user's; `where` the address it came from."""

    time: str
    who: str
    where: str
    action: str
    target: str = ""
    outcome: str = ""


class AuditLog:
    """Adds lines to a file of its owner's. One that cannot be written is said once, and stops nobody."""

    def __init__(self, path: Path, unix_clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._unix_clock = unix_clock
        self._told = False

    def write(self, who: str, where: str, action: str, target: str, outcome: str) -> None:
        """One act."""
        clock = datetime.fromtimestamp(self._unix_clock(), UTC).isoformat(timespec="milliseconds")
        act = Act(clock, who or "anybody", where, action[:_MOST_CHARS], target[:_MOST_CHARS], outcome)
        line = msgspec.json.encode(act) + b"\n"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(handle, line)
            finally:
                os.close(handle)
        except OSError as error:
            if not self._told:
                self._told = True
                _log.error("the audit log %s cannot be written: %s", self._path, error.strerror)


#: What a body may say of what an act is about. It is read as Ollama does, or the log would name another model.
_NAMES = ("model", "name", "source", "destination", "mode")
_NAMED = GoType("act", "struct", fields=dict.fromkeys(_NAMES, GoType("string", "string")))


def name_target(exchange: Exchange) -> str:
    """What an act is about: the models that its body names, a mode, or the end of the path."""
    try:
        found = read_as(exchange.body, _NAMED) or {}
    except GoError:
        found = {}
    names = [found[name] for name in _NAMES if found.get(name)]
    return " ".join(names) or exchange.path.rpartition(b"/")[2].decode("utf-8", "replace")


def audit_path(configured: str, environ: Mapping[str, str]) -> Path:
    """Where it is: as configured, else `ollama-proxy/audit.jsonl` in the user's state folder."""
    return Path(configured) if configured else state_folder(environ) / "audit.jsonl"


def name_user() -> str:
    """Who runs this program."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
