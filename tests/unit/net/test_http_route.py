"""Routes of several APIs in one table, some of them for requests with a certain header only."""

from __future__ import annotations

from typing import Any

from ollama_proxy.net.http_route import Route, lay_routes


class Exchange:
    def __init__(self, **headers: str) -> None:
        self.headers = headers
        self.handled_by = ""

    def header(self, name: bytes) -> str | None:
        return self.headers.get(name.decode())


def by(name: str) -> Any:
    def handle(exchange: Any) -> None:
        exchange.handled_by = name

    return handle


class Plain:
    routes = {b"/models": {b"GET": Route(by("plain"), "models"), b"POST": by("plain post")}}  # noqa: RUF012
    prefixes = {b"/models/": {b"GET": by("plain one")}}  # noqa: RUF012


class Marked:
    routes = {b"/messages": {b"POST": by("message")}}  # noqa: RUF012
    prefixes: dict[bytes, Any] = {}  # noqa: RUF012
    mark = b"version"
    marked = {  # noqa: RUF012
        b"/models": {b"GET": by("marked"), b"PUT": by("nobody's")},
        b"/models/": {b"GET": by("marked one")},
        b"/nowhere": {b"GET": by("nobody's")},
    }


def handled(handler: Any, **headers: str) -> str:
    exchange = Exchange(**headers)
    handler(exchange)
    return exchange.handled_by


def test_a_header_tells_whose_route_is_meant() -> None:
    routes, prefixes = lay_routes((Marked(), Plain()))
    models = routes[b"/models"]
    assert handled(models[b"GET"]) == "plain"
    assert handled(models[b"GET"], version="1") == "marked"
    assert handled(models[b"POST"], version="1") == "plain post"
    assert handled(prefixes[b"/models/"][b"GET"], version="1") == "marked one"
    assert handled(prefixes[b"/models/"][b"GET"]) == "plain one"
    assert handled(routes[b"/messages"][b"POST"]) == "message"


def test_a_marked_route_is_never_the_only_one_and_keeps_the_permission() -> None:
    routes, _ = lay_routes((Marked(), Plain()))
    assert b"/nowhere" not in routes
    assert b"PUT" not in routes[b"/models"]
    route: Any = routes[b"/models"][b"GET"]
    assert route.permission == "models"
    # The API's own table is as it was.
    assert handled(Plain.routes[b"/models"][b"GET"], version="1") == "plain"
