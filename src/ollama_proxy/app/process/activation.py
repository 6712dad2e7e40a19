"""Listening sockets that a service manager opened (`LISTEN_FDS`): it holds them while the program is exchanged."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping, MutableMapping

from ollama_proxy.app.process.ports import CannotListen, Place, Sockets
from ollama_proxy.config.checks import is_loopback

_log = logging.getLogger(__name__)

_FIRST_FD = 3
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def take_activated(places: Mapping[str, Place], environ: MutableMapping[str, str] = os.environ) -> Sockets:
    """The sockets that were handed to this process, by the place they stand for: by their names (`http`, `grpc`,
    `prometheus`), else by their ports. Forgets the variables, so that no child takes them for its own.

    Raises `CannotListen` for one that is open to others although the configuration listens for this machine only.
    """
    pid, count, named = [environ.pop(name, "") for name in _VARIABLES]
    if pid != str(os.getpid()) or not count.isdigit():
        return {}
    names = named.split(":") if named else []
    found: dict[Place, list[socket.socket]] = {}
    for number in range(int(count)):
        one = socket.socket(fileno=_FIRST_FD + number)
        name = _find_name(one, names[number] if number < len(names) else "", places)
        if not name:
            _log.warning("socket %d of the service manager is none of %s; it is closed", number, ", ".join(places))
            one.close()
            continue
        one.set_inheritable(False)
        one.setblocking(False)
        address = one.getsockname()[0]
        if is_loopback(places[name].host) and not is_loopback(address):
            raise CannotListen(
                f"the service manager listens on {address} ({name}), which is open to others, and server.host says "
                f"{places[name].host}; make them the same"
            )
        found.setdefault(places[name], []).append(one)
    return found


def _find_name(one: socket.socket, name: str, places: Mapping[str, Place]) -> str:
    """What a socket is for; "" for what cannot be accepted on."""
    listens = one.type == socket.SOCK_STREAM and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if not listens or one.family not in (socket.AF_INET, socket.AF_INET6):
        return ""
    if name in places:
        return name
    port = one.getsockname()[1]
    return next((known for known, place in places.items() if place.port == port), "")
