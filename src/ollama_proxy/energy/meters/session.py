"""The end of a command with all that it started: its process group, and whatever else belongs to its session.

A process of another user, as `sudo` starts one, cannot be killed. Then the session is not over, and whoever began it
must know, or it would begin one more each time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

#: What is killed is gone at once; so long it is waited for.
_PATIENCE_S = 0.5
_STEP_S = 0.01
_DEAD = (b"Z", b"X")


def end_session(process: subprocess.Popen[bytes], patience_s: float = _PATIENCE_S) -> bool:
    """Kill the session that a process leads, nobody having waited for it yet; whether that was possible.

    The leader is waited for only when all the others are gone: until then its number means this session and no other.
    """
    until_s = time.monotonic() + patience_s
    while True:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        others = list(_find_members(process.pid))
        for pid in others:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not others and _has_ended(process.pid):
            process.wait()
            return True
        if time.monotonic() >= until_s:
            return False
        time.sleep(_STEP_S)


def _has_ended(pid: int) -> bool:
    """Whether a child is over, which stays to be waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _find_members(leader: int) -> Iterator[int]:
    """Those that live in a leader's session, itself left out. Where there is no `/proc`, nobody is found."""
    for folder in Path("/proc").glob("[0-9]*"):
        if folder.name == str(leader):
            continue
        with contextlib.suppress(OSError):
            # Behind the name, which may have brackets of its own: state, parent, group, session.
            state, _, _, session, *_ = (folder / "stat").read_bytes().rpartition(b")")[2].split()
            if int(session) == leader and state not in _DEAD:
                yield int(folder.name)
