"""Listening sockets that outlast whoever accepts on them, so that this can be exchanged while nobody is refused."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable, Sequence

_BACKLOG = 2048
_UNSENT_BYTES = 64 * 1024
_NOTSENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)
#: A name may stand for addresses that this machine does not have, such as `::1` where IPv6 is off.
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def open_sockets(host: str, port: int) -> list[socket.socket]:
    """Listen at every address of a host, all with the same port. Raises `OSError`.

    Who connects from now on waits until somebody accepts.
    """
    found: list[socket.socket] = []
    problem: OSError | None = None
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            bound = found[0].getsockname()[1] if found else port
            try:
                found.append(_open(family, kind, protocol, (address[0], bound, *address[2:])))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                problem = error
    except BaseException:
        close_all(found)
        raise
    if not found:
        raise problem or OSError(errno.EADDRNOTAVAIL, "the host has no address")
    return found


def _open(family: int, kind: int, protocol: int, address: tuple[object, ...]) -> socket.socket:
    one = socket.socket(family, kind, protocol)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.setblocking(False)
        one.bind(address)
        one.listen(_BACKLOG)
    except BaseException:
        one.close()
        raise
    return one


def _bound_unsent(listening: socket.socket) -> None:
    """Have the system take no more for a client than what can soon be sent, or megabytes of a stream lie there before
    it shows that nobody reads. Connections inherit it.
    """
    if _NOTSENT_LOWAT is not None and listening.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            listening.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, _UNSENT_BYTES)


def close_all(sockets: Sequence[socket.socket]) -> None:
    """Close this process's hold on them."""
    for one in sockets:
        one.close()


class Listener:
    """Accepts on sockets that belong to somebody else."""

    def __init__(self, factory: Callable[[], asyncio.BaseProtocol], sockets: Sequence[socket.socket]) -> None:
        self._factory = factory
        self._sockets = sockets
        self._servers: list[asyncio.Server] = []
        #: Whether clients are shown a certificate.
        self.tls = False

    async def accept(self, tls: ssl.SSLContext | None) -> None:
        """Begin, or go on with another certificate."""
        loop = asyncio.get_running_loop()
        before, self._servers = self._servers, []
        self.tls = tls is not None
        for one in self._sockets:
            own = one.dup()
            _bound_unsent(own)
            server = await loop.create_server(self._factory, sock=own, backlog=_BACKLOG, ssl=tls)
            self._servers.append(server)
        for server in before:
            server.close()

    def stop(self) -> None:
        """Accept no more. Who still connects waits, as long as anybody holds the sockets."""
        for server in self._servers:
            with contextlib.suppress(OSError):
                server.close()
        self._servers = []
