"""What a route says of itself besides who handles it. A bare handler is a route for `infer` that gets whole bodies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ollama_proxy.domain.caller import Permission

from .http1.exchange import Exchange


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


Methods = Mapping[bytes, Callable[[Exchange], None]]


class _ByHeader(Route):
    """A route for requests with a certain header in front of the one for those without."""

    __slots__ = ("_mark", "_marked")

    def __init__(self, mark: bytes, marked: Callable[[Exchange], None], plain: Callable[[Exchange], None]) -> None:
        super().__init__(plain, plain.permission if isinstance(plain, Route) else "infer")
        self._mark = mark
        self._marked = marked

    def __call__(self, exchange: Exchange) -> None:
        handle = self._handle if exchange.header(self._mark) is None else self._marked
        handle(exchange)


def lay_routes(apis: Iterable[Any]) -> tuple[dict[bytes, Methods], dict[bytes, Methods]]:
    """The routes of several APIs by exact path, and those by prefix.

    An API may have `marked` ones besides, exact or prefixes: they get those requests to another API's route of that
    path that carry the header `mark`.
    """
    routes: dict[bytes, Methods] = {path: methods for api in apis for path, methods in api.routes.items()}
    prefixes: dict[bytes, Methods] = {path: methods for api in apis for path, methods in api.prefixes.items()}
    for api in apis:
        for path, methods in getattr(api, "marked", {}).items():
            for table in (routes, prefixes):
                if path in table:
                    over = {
                        method: _ByHeader(api.mark, handle, table[path][method])
                        for method, handle in methods.items()
                        if method in table[path]
                    }
                    table[path] = {**table[path], **over}
    return routes, prefixes
