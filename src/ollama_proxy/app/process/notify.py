"""What a service manager is told of the process (`sd_notify`): a datagram to the socket it has named, if it has."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping

READY = "READY=1"
STOPPING = "STOPPING=1"


def notify(*states: str, environ: Mapping[str, str] = os.environ) -> None:
    """Send assignments such as `READY=1`. Without a manager, or one that does not listen, nothing happens."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    # An abstract name is written with an at sign.
    name = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender, contextlib.suppress(OSError):
        sender.setblocking(False)
        sender.sendto("\n".join(states).encode(), name)


def reloading() -> tuple[str, str]:
    """That a reload begins now; `READY` ends it."""
    return "RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"
