"""Free ports on 127.0.0.1, below those that the kernel gives to clients; two runs at once do not choose alike."""

from __future__ import annotations

import socket
from random import SystemRandom

from bench.participant import Unavailable

_LOWEST, _HIGHEST = 10_000, 32_000  # Linux gives clients 32768 and more, unless told otherwise
_TRIES = 200
_dice = SystemRandom()


def find_ports(count: int) -> int:
    """The first of so many free ports in a row. Raises Unavailable."""
    for _ in range(_TRIES):
        first = _dice.randrange(_LOWEST, _HIGHEST - count)
        if all(_is_free(port) for port in range(first, first + count)):
            return first
    raise Unavailable(f"no {count} free ports in a row between {_LOWEST} and {_HIGHEST}")


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
