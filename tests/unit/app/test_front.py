"""The HTTP port's front: paths, methods, redirects, browsers. The cases are answers of a real Ollama 0.24."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from ollama_proxy.app.front import Front, HttpApi
from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.net.asgi import AsgiApp
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http1.server import HttpServer
from ollama_proxy.net.origins import Origins
from tests.support.http1 import serve

NOT_FOUND, NOT_ALLOWED = "404 page not found", "405 method not allowed"
PREFLIGHT = "access-control-allow-methods"


def say(exchange: Exchange) -> None:
    exchange.respond(200, b"text/plain", exchange.path)


class Api:
    root = b"/"
    routes = {  # noqa: RUF012
        b"/": {b"GET": say, b"HEAD": say},
        b"/api/tags": {b"GET": say, b"HEAD": say},
        b"/api/chat": {b"POST": say},
    }
    prefixes = {b"/api/blobs/": {b"POST": say, b"HEAD": say}}  # noqa: RUF012

    def refuse(self, exchange: Exchange, error: ProxyError) -> None:
        exchange.respond(error.kind.http_status, b"text/plain", error.message.encode())


def ask(method: str, path: str, *headers: str, host: str = "127.0.0.1:1", origins: Origins | None = None) -> Answer:
    front = Front([cast(HttpApi, Api())], cast(AsgiApp, None), lambda: "made-up", origins or Origins(local_only=True))
    found: list[Answer] = []

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
        found.append(Answer((await reader.read(-1)).decode()))

    serve(client, front.handle)
    return found[0]


class Answer:
    """Status, headers by lower-case name, body."""

    def __init__(self, text: str) -> None:
        head, _, self.body = text.partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        self.status = int(first.split()[1])
        self.headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            key = name.lower()
            self.headers[key] = f"{self.headers[key]}, {value}" if key in self.headers else value


@pytest.mark.parametrize(
    ("method", "path", "status", "body", "allow"),
    [
        ("GET", "/api/tags", 200, "/api/tags", None),
        ("GET", "/api/t%61gs", 200, "/api/tags", None),
        ("HEAD", "/api/tags", 200, "", None),
        ("POST", "/api/tags", 405, NOT_ALLOWED, "HEAD, GET"),
        ("HEAD", "/api/chat", 405, "", "POST"),
        ("TRACE", "/api/tags", 405, NOT_ALLOWED, "HEAD, GET"),
        ("GET", "/api/blobs/x", 405, NOT_ALLOWED, "HEAD, POST"),
        ("POST", "/api/blobs/x", 200, "/api/blobs/x", None),
        ("POST", "/api/blobs/", 404, NOT_FOUND, None),
        ("GET", "/API/TAGS", 404, NOT_FOUND, None),
        ("GET", "/api", 404, NOT_FOUND, None),
        ("DELETE", "/api/chat/", 404, NOT_FOUND, None),
        ("GET", "/%2e%2e/api/tags", 404, NOT_FOUND, None),
        ("OPTIONS", "/api/tags", 405, NOT_ALLOWED, "HEAD, GET"),
        ("OPTIONS", "/nope", 404, NOT_FOUND, None),
        ("OPTIONS", "*", 200, "", None),
    ],
)
def test_paths_and_methods(method: str, path: str, status: int, body: str, allow: str | None) -> None:
    answer = ask(method, path)
    assert (answer.status, answer.body, answer.headers.get("allow")) == (status, body, allow)
    assert answer.headers["x-request-id"] == "made-up"
    if status in (404, 405):
        assert answer.headers["content-type"] == "text/plain"


@pytest.mark.parametrize(
    ("method", "path", "status", "location"),
    [
        ("GET", "/api/tags/", 301, "/api/tags"),
        ("GET", "/api/tags/?a=b&c=%22", 301, "/api/tags?a=b&c=%22"),
        ("HEAD", "/api/tags/", 307, "/api/tags"),
        ("POST", "/api/chat/", 307, "/api/chat"),
        ("POST", "/api/blobs/x/", 307, "/api/blobs/x"),
        ("GET", "//api/tags?x=1", 307, "/api/tags?x=1"),
        ("GET", "/api/../api/./tags", 307, "/api/tags"),
        ("GET", "/api/tags//", 307, "/api/tags/"),
        ("POST", "//nope", 307, "/nope"),
    ],
)
def test_redirects(method: str, path: str, status: int, location: str) -> None:
    answer = ask(method, path)
    assert (answer.status, answer.headers["location"]) == (status, location)
    if method == "GET":
        words = {301: "Moved Permanently", 307: "Temporary Redirect"}[status]
        assert answer.body == f'<a href="{location.replace("&", "&amp;")}">{words}</a>.\n\n'
    else:
        assert answer.body == ""
    assert answer.headers.get("content-type") == ("text/html; charset=utf-8" if method != "POST" else None)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost:3000", True),
        ("https://127.0.0.1", True),
        ("http://0.0.0.0:1", True),
        ("app://x", True),
        ("file://", True),
        ("tauri://localhost", True),
        ("vscode-webview://x", True),
        ("https://good.example", True),
        ("https://a.wild.example", True),
        ("https://wild.example", False),
        ("http://localhost.evil", False),
        ("http://LOCALHOST", False),
        ("chrome-extension://x", False),
        ("null", False),
        ("https://evil.example", False),
    ],
)
def test_origins(origin: str, allowed: bool) -> None:
    origins = Origins(["https://good.example", "https://*.wild.example"], local_only=True)
    for path, status in (("/api/tags", 200), ("/nope", 404)):
        answer = ask("GET", path, f"Origin: {origin}", origins=origins)
        if allowed:
            assert answer.status == status
            assert answer.headers["access-control-allow-origin"] == origin
            assert answer.headers["vary"] == "Origin"
        else:
            assert (answer.status, answer.body) == (403, "")
            assert "access-control-allow-origin" not in answer.headers
            assert "content-type" not in answer.headers


def test_a_page_of_this_server_is_no_stranger() -> None:
    answer = ask("GET", "/api/tags", "Origin: http://127.0.0.1:1")
    assert answer.status == 200
    assert "access-control-allow-origin" not in answer.headers


def test_preflight() -> None:
    asked = "Access-Control-Request-Headers: content-type,x-api-key"
    answer = ask("OPTIONS", "/api/chat", "Origin: http://localhost:3000", asked)
    assert (answer.status, answer.body) == (204, "")
    assert answer.headers["allow"] == "POST"
    assert answer.headers["access-control-max-age"] == "43200"
    assert answer.headers[PREFLIGHT] == "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
    assert answer.headers["access-control-allow-headers"].endswith(",X-Stainless-Timeout")
    assert answer.headers["vary"] == "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
    foreign = ask("OPTIONS", "/api/chat", "Origin: https://evil.example")
    assert (foreign.status, foreign.headers["allow"]) == (403, "POST")
    assert PREFLIGHT not in foreign.headers
    assert ask("OPTIONS", "/nope", "Origin: http://localhost").status == 204


@pytest.mark.parametrize(
    ("path", "asked", "granted"),
    [
        ("/api/chat", "x-target-backend, X-Custom-Team", ",x-target-backend,x-custom-team"),
        ("/v1/messages", "x-api-key,anthropic-version,x-evil", ",x-api-key,anthropic-version"),
        ("/v1/chat/completions", "x-api-key", ""),
        ("/compute.v1.ComputeService/Generate", "connect-protocol-version,x-grpc-web", None),
    ],
)
def test_what_else_a_preflight_may_ask_for(path: str, asked: str, granted: str | None) -> None:
    answer = ask("OPTIONS", path, "Origin: http://localhost", f"Access-Control-Request-Headers: {asked}")
    granted = f",{asked}" if granted is None else granted
    assert answer.headers["access-control-allow-headers"].split("X-Stainless-Timeout")[1] == granted


def test_all_origins() -> None:
    answer = ask("GET", "/api/tags", "Origin: https://any.example", origins=Origins(["*"]))
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "vary" not in answer.headers


@pytest.mark.parametrize(
    ("host", "status", "options"),
    [
        ("localhost", 200, 204),
        ("LOCALHOST:99", 200, 204),
        ("box.local", 200, 204),
        ("foo.internal", 200, 204),
        ("named.example", 200, 204),
        ("10.1.2.3", 200, 405),
        ("172.16.1.1:80", 200, 405),
        ("192.168.0.1", 200, 405),
        ("0.0.0.0", 200, 405),
        ("[::1]:80", 200, 405),
        ("127.9.9.9", 200, 405),
        ("[fd00::1]", 403, 403),
        ("evil.example", 403, 403),
        ("localhost.evil.example", 403, 403),
        ("8.8.8.8", 403, 403),
        ("169.254.1.1", 403, 403),
        ("100.64.0.1", 403, 403),
    ],
)
def test_hosts(host: str, status: int, options: int) -> None:
    origins = Origins((), ["Named.example"], local_only=True)
    assert ask("GET", "/api/tags", host=host, origins=origins).status == status
    assert ask("OPTIONS", "/api/tags", host=host, origins=origins).status == options


@pytest.mark.parametrize("origins", [Origins(), Origins((), ["*"], local_only=True)])
def test_hosts_do_not_matter_elsewhere(origins: Origins) -> None:
    assert ask("GET", "/api/tags", host="any.example", origins=origins).status == 200


def test_an_equal_head_is_judged_once() -> None:
    origins = Origins(local_only=True)
    judged = 0
    judge: Callable[..., object] = origins._judge

    def count(exchange: Exchange) -> object:
        nonlocal judged
        judged += 1
        return judge(exchange)

    origins._judge = count  # type: ignore[method-assign,assignment]
    front = Front([cast(HttpApi, Api())], cast(AsgiApp, None), lambda: "made-up", origins)

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        for _ in range(5):
            writer.write(b"GET /api/tags HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost:1\r\n\r\n")
            assert b"Access-Control-Allow-Origin: http://localhost:1\r\n" in await reader.readuntil(b"/api/tags")

    serve(client, front.handle)
    assert judged == 1
