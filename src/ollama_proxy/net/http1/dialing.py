"""Opens connections: by name, by address or by Unix socket, with or without TLS.

A name may have several addresses, some of them dead. They are tried by RFC 8305, families in turn, each a quarter of
a second after the one before or as soon as that has failed; the first to answer wins. uvloop has no such thing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain, zip_longest
from typing import Any, TypeVar

import msgspec

from ollama_proxy.domain.errors import FailureKind
from ollama_proxy.net.task import spawn

_NEXT_ADDRESS_S = 0.25

P = TypeVar("P", bound=asyncio.BaseProtocol)
#: Family and socket address, as `getaddrinfo` gives them.
Address = tuple[int, Any]


class Origin(msgspec.Struct, frozen=True):
    """Where an upstream listens: host and port, or a Unix socket whose server is called by the host."""

    host: str
    port: int
    tls: bool = False
    unix_path: str = ""

    @property
    def authority(self) -> str:
        """The Host header's value; the default port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


async def dial(origin: Origin, make: Callable[[], P], tls: ssl.SSLContext | None) -> P:
    """Connect; the protocol. Raises `OSError`, `ssl.SSLError`, `UnicodeError`."""
    loop = asyncio.get_running_loop()
    name = origin.host if tls is not None else None
    if origin.unix_path:
        _, protocol = await loop.create_unix_connection(make, origin.unix_path, ssl=tls, server_hostname=name)
        return protocol
    if _is_address(origin.host):
        _, protocol = await loop.create_connection(make, origin.host, origin.port, ssl=tls)
        return protocol
    found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    winner = await connect_first(interleave([(family, address) for family, _, _, _, address in found]))
    _, protocol = await loop.create_connection(make, sock=winner, ssl=tls, server_hostname=name)
    return protocol


@lru_cache(maxsize=1024)
def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def interleave(addresses: Sequence[Address]) -> list[Address]:
    """Families in turn, the resolver's first one first, its order kept within each (RFC 8305, 4)."""
    first = [one for one in addresses if one[0] == addresses[0][0]]
    others = [one for one in addresses if one[0] != addresses[0][0]]
    return [one for one in chain.from_iterable(zip_longest(first, others)) if one is not None]


async def connect_first(addresses: Sequence[Address], delay_s: float = _NEXT_ADDRESS_S) -> socket.socket:
    """A socket connected to the first address that answers. Raises the `OSError` that says most of why none did."""
    waiting = deque(addresses)
    running: set[asyncio.Task[socket.socket | OSError]] = set()
    errors: list[OSError] = []
    try:
        while waiting or running:
            if waiting:
                running.add(spawn(_connect(waiting.popleft()), "connect to one of several addresses"))
            done, running = await asyncio.wait(
                running, timeout=delay_s if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            winner = _sort(done, errors)
            if winner is not None:
                return winner
    finally:
        for task in running:
            task.add_done_callback(_close_late)
            task.cancel()
    raise next((error for error in errors if not isinstance(error, ConnectionRefusedError)), errors[0])


async def _connect(address: Address) -> socket.socket | OSError:
    family, where = address
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setblocking(False)
        await asyncio.get_running_loop().sock_connect(one, where)
    except OSError as error:
        one.close()
        return error
    except BaseException:
        one.close()
        raise
    return one


def _sort(done: set[asyncio.Task[socket.socket | OSError]], errors: list[OSError]) -> socket.socket | None:
    winner = None
    for task in done:
        result = task.result()
        if isinstance(result, OSError):
            errors.append(result)
        elif winner is None:
            winner = result
        else:
            result.close()
    return winner


def _close_late(task: asyncio.Task[socket.socket | OSError]) -> None:
    """An attempt that was through before it could be called off."""
    if not task.cancelled() and isinstance(result := task.result(), socket.socket):
        result.close()


def describe_os_error(error: OSError) -> tuple[FailureKind, str]:
    """Failure kind and clause of an error while connecting."""
    if isinstance(error, ConnectionRefusedError):
        return FailureKind.REFUSED, "connection refused"
    if isinstance(error, FileNotFoundError):
        return FailureKind.REFUSED, "nothing listens: the socket file does not exist"
    return FailureKind.UNREACHABLE, (error.strerror or str(error) or "unreachable").lower()[:120]
