"""What a route says of itself besides who handles it. A bare handler is a route for `infer` that gets whole bodies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from .http1.exchange import Exchange

Permission = Literal["infer", "models", "admin"]


class Route:
    """A handler, the permission its requests need, and whether it takes their bodies as they come.

    A route that streams gets its exchange with the head; the body comes through `Exchange.take_body`, without a limit
    of size.
    """

    __slots__ = ("_handle", "permission", "streams")

    def __init__(
        self, handle: Callable[[Exchange], None], permission: Permission = "infer", *, streams: bool = False
    ) -> None:
        self._handle = handle
        self.permission = permission
        self.streams = streams

    def __call__(self, exchange: Exchange) -> None:
        """Serve one exchange."""
        self._handle(exchange)
