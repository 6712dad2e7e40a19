"""Managing models over two scripted servers: what one of them does wrong, and what the client hears of it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
import uvloop

from ollama_proxy.app.proxy import Proxy
from ollama_proxy.config.schema import Config
from ollama_proxy.net.draining import drain
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http1.server import HttpServer
from ollama_proxy.net.task import spawn
from tests.support.http1 import refuse, until

_NDJSON = b"application/x-ndjson"
_JSON = b"application/json; charset=utf-8"


class Upstream:
    """An Ollama server that does as it is told. `routes` by method and path; what is not there is 404."""

    def __init__(self) -> None:
        self.models = {"m:1"}
        self.seen: list[tuple[str, bytes]] = []
        self.left = 0
        self.taken: dict[str, bytearray] = {}
        self.routes: dict[str, Callable[[Exchange], None]] = {}
        self.server = HttpServer(self._handle, refuse, streams=lambda method, path: path.startswith(b"/api/blobs/"))
        self.url = ""

    def _handle(self, exchange: Exchange) -> None:
        key = f"{exchange.method.decode()} {exchange.path.decode()}"
        if key == "GET /api/tags":
            entries = [{"name": name, "model": name, "digest": "a" * 64, "size": 1} for name in sorted(self.models)]
            exchange.respond(200, _JSON, json.dumps({"models": entries}).encode())
        elif key == "GET /api/ps":
            exchange.respond(200, _JSON, b'{"models":[]}')
        elif key == "GET /api/version":
            exchange.respond(200, _JSON, b'{"version":"0.24.0"}')
        else:
            self.seen.append((key, exchange.body))
            exchange.on_disconnect = self._leave
            self.routes.get(key, self._missing)(exchange)

    def _leave(self) -> None:
        self.left += 1

    def _missing(self, exchange: Exchange) -> None:
        exchange.respond(404, _JSON, b'{"error":"not found here"}')

    def take_blob(self, exchange: Exchange, status: int = 201, body: bytes = b"") -> None:
        """Take a file, then answer."""
        exchange.take_body(_Blob(self, exchange, status, body))


class _Blob:
    def __init__(self, owner: Upstream, exchange: Exchange, status: int, body: bytes) -> None:
        self._owner, self._exchange, self._status, self._body = owner, exchange, status, body
        owner.taken[exchange.path.decode()] = bytearray()

    def on_body(self, data: bytes) -> None:
        self._owner.taken[self._exchange.path.decode()] += data

    def on_body_end(self) -> None:
        self._exchange.respond(self._status, _JSON if self._body else b"", self._body)


def stream(*lines: dict[str, Any], end: bool = True) -> Callable[[Exchange], None]:
    def answer(exchange: Exchange) -> None:
        exchange.start(200, _NDJSON, None)
        for line in lines:
            exchange.write(json.dumps(line).encode() + b"\n")
        if end:
            exchange.end()

    return answer


def whole(status: int, document: object) -> Callable[[Exchange], None]:
    return lambda exchange: exchange.respond(status, _JSON, json.dumps(document).encode())


class Client:
    """Raw requests to the proxy."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def open(self, method: str, path: str, body: bytes = b"", headers: str = "") -> Any:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        length = (
            "" if "Content-Length" in headers or "Transfer-Encoding" in headers else f"Content-Length: {len(body)}\r\n"
        )
        writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}{length}\r\n".encode() + body
        )
        return reader, writer

    async def ask(self, method: str, path: str, document: object = None, headers: str = "") -> tuple[int, Any]:
        """Status, and the lines of the body as JSON."""
        body = document if isinstance(document, bytes) else b"" if document is None else json.dumps(document).encode()
        reader, writer = await self.open(method, path, body, headers)
        raw = await reader.read()
        writer.close()
        head, _, rest = raw.partition(b"\r\n\r\n")
        if b"chunked" in head:
            rest = unchunk(rest)
        return int(head.split()[1]), [json.loads(line) for line in rest.splitlines()]


def unchunk(data: bytes) -> bytes:
    found = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        found += data[: int(size, 16)]
        data = data[int(size, 16) + 2 :]
    return found


Play = Callable[[Client, Upstream, Upstream], Awaitable[None]]


def run(play: Play, *, placement: object = "all", names: dict[str, str] | None = None, kind: str = "ollama") -> None:
    async def scene() -> None:
        loop = asyncio.get_running_loop()
        ups = {"a": Upstream(), "b": Upstream()}
        listeners = []
        for one in ups.values():
            listener = await loop.create_server(one.server.protocol_factory, "127.0.0.1", 0)
            listeners.append(listener)
            one.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        backends = [{"id": name, "type": kind, "endpoint": one.url} for name, one in ups.items()]
        backends[1]["model_names"] = names or {}  # type: ignore[assignment]
        config = msgspec.convert(
            {
                "server": {"http_port": 0, "grpc_port": 0},
                "monitoring": {"prometheus_port": 0, "trace_requests": False},
                "embedded": {"enabled": "never"},
                "backends": backends,
                "models": {"placement": placement},
                "health": {"interval_seconds": 3600},
            },
            Config,
        )
        proxy = Proxy(config)
        await proxy.start()
        try:
            async with asyncio.timeout(20):
                await play(Client(proxy.http_port), ups["a"], ups["b"])
        finally:
            await proxy.stop()
            for listener in listeners:
                listener.close()
            for one in ups.values():
                await drain(one.server, 0.5)

    uvloop.run(scene())


SUCCESS = {"status": "success"}
START = {"status": "pulling manifest"}


def layer(completed: int) -> dict[str, Any]:
    return {"status": "pulling x", "digest": "sha256:x", "total": 10, "completed": completed}


def test_one_that_fails_in_mid_pull_is_named_when_the_other_is_through() -> None:
    async def play(client: Client, a: Upstream, b: Upstream) -> None:
        a.routes["POST /api/pull"] = stream(START, layer(5), layer(10), SUCCESS)
        b.routes["POST /api/pull"] = stream(START, layer(2), {"error": "no space left on device"})
        status, lines = await client.ask("POST", "/api/pull", {"model": "x"})
        assert status == 200
        assert lines[0] == START
        assert lines.count(START) == 1
        assert lines[-1] == {"error": "b: no space left on device (done on a)"}
        assert SUCCESS not in lines
        status, lines = await client.ask("POST", "/api/pull", {"model": "x", "stream": True})
        assert a.seen[-1][1] == b.seen[-1][1] == b'{"model": "x", "stream": true}'

    run(play)


@pytest.mark.parametrize("stream_word", [True, False])
def test_a_refusal_of_one_is_an_error_after_the_others_success(stream_word: bool) -> None:
    async def play(client: Client, a: Upstream, b: Upstream) -> None:
        a.routes["POST /api/pull"] = stream(START, SUCCESS) if stream_word else whole(200, SUCCESS)
        b.routes["POST /api/pull"] = whole(500, {"error": "disk is read-only"})
        status, lines = await client.ask("POST", "/api/pull", {"model": "x", "stream": stream_word})
        assert status == (200 if stream_word else 500)
        assert lines == [*([START] if stream_word else []), {"error": "b: disk is read-only (done on a)"}]

    run(play)


def test_a_refusal_of_all_is_theirs() -> None:
    async def play(client: Client, a: Upstream, b: Upstream) -> None:
        for one in (a, b):
            one.routes["POST /api/pull"] = whole(400, {"error": "invalid model name"})
        assert await client.ask("POST", "/api/pull", {"model": "a b"}) == (400, [{"error": "invalid model name"}])

    run(play)


def test_a_stream_that_breaks_off_is_told_as_an_error_line() -> None:
    def cut(exchange: Exchange) -> None:
        stream(START, end=False)(exchange)
        asyncio.get_running_loop().call_later(0.02, exchange.abort)

    async def play(client: Client, a: Upstream, b: Upstream) -> None:
        a.routes["POST /api/pull"] = stream(START, SUCCESS)
        b.routes["POST /api/pull"] = cut
        _, lines = await client.ask("POST", "/api/pull", {"model": "x"})
        assert lines == [START, {"error": "b: connection lost in mid-answer (done on a)"}]
        _, lines = await client.ask("POST", "/api/pull", {"model": "x"}, "X-Target-Backend: b\r\n")
        assert lines == [START, {"error": "b: connection lost in mid-answer"}]

    run(play)


def test_progress_that_cannot_be_read_is_a_failure_of_that_server() -> None:
    def garbage(exchange: Exchange) -> None:
        exchange.start(200, _NDJSON, None)
        exchange.write(b"{nonsense\n")

    async def play(client: Client, a: Upstream, b: Upstream) -> None:
        a.routes["POST /api/pull"] = stream(START, SUCCESS)
        b.routes["POST /api/pull"] = garbage
        _, lines = await client.ask("POST", "/api/pull", {"model": "x"})
        assert lines[-1] == {"error": "b: its progress cannot be read (done on a)"}
        await until(lambda: b.left == 1)

    run(play)


@pytest.mark.parametrize("placement", ["first", "all"])
def test_a_client_that_leaves_ends_it_everywhere(placement: str) -> None:
    async def play(client: Client, a: Upstream, b: Upstream) -> None:
        for one in (a, b):
            one.routes["POST /api/pull"] = stream(START, end=False)
        reader, writer = await client.open("POST", "/api/pull", b'{"model":"x"}')
        await reader.readuntil(b"pulling manifest")
        writer.close()
        await until(lambda: a.left == 1 and b.left == (placement == "all"))

    run(play, placement=placement)


def test_with_one_server_the_bytes_pass_as_they_came() -> None:
    odd = b'{ "status" : "odd \\u00e9" , "new": [1, 2] }\n\n{"status":"success"}\n'

    def answer(exchange: Exchange) -> None:
        exchange.start(200, _NDJSON, None)
        exchange.write(odd)
        exchange.end()

    async def play(client: Client, a: Upstream, b: Upstream) -> None:
        a.routes["POST /api/pull"] = answer
        reader, writer = await client.open("POST", "/api/pull", b'{"model":"x","unknown":1}')
        raw = await reader.read()
        writer.close()
        assert unchunk(raw.partition(b"\r\n\r\n")[2]) == odd
        assert a.seen == [("POST /api/pull", b'{"model":"x","unknown":1}')]
        assert b.seen == []

    run(play, placement="first")


def test_a_key_that_lets_in_here_never_reaches_a_server() -> None:
    heads: list[dict[bytes, bytes]] = []

    def answer(exchange: Exchange) -> None:
        heads.append(dict(exchange.headers))
        whole(200, {"status": "success"})(exchange)

    async def play(client: Client, a: Upstream, b: Upstream) -> None:
        a.routes["POST /api/pull"] = answer
        fields = "Authorization: Bearer ours\r\nX-Api-Key: ours\r\nCookie: a=ours\r\nUser-Agent: x\r\n"
        await client.ask("POST", "/api/pull", {"model": "x"}, fields)
        assert heads[0][b"user-agent"] == b"x"
        assert not {b"authorization", b"x-api-key", b"cookie"} & set(heads[0])

    run(play, placement="first")


def test_a_model_is_listed_before_its_success_is_told() -> None:
    async def play(client: Client, a: Upstream, b: Upstream) -> None:
        def pull(exchange: Exchange) -> None:
            a.models.add("new:1")
            stream(START, SUCCESS)(exchange)

        a.routes["POST /api/pull"] = pull
        reader, writer = await client.open("POST", "/api/pull", b'{"model":"new:1"}')
        await reader.readuntil(b'"success"')
        _, lines = await client.ask("GET", "/v1/models")
        assert "new:1" in [one["id"] for one in lines[0]["data"]]
        writer.close()

    run(play, placement="first")


def test_names_of_a_servers_own_are_used_there() -> None:
    async def play(client: Client, a: Upstream, b: Upstream) -> None:
        b.models = {"other:7b"}
        a.routes["DELETE /api/delete"] = b.routes["DELETE /api/delete"] = lambda exchange: exchange.respond(
            200, b"", b""
        )
        assert await client.ask("DELETE", "/api/delete", {"name": "M:1"}) == (200, [])
        assert a.seen == [("DELETE /api/delete", b'{"name": "M:1"}')]
        assert b.seen == []
        a.routes["POST /api/copy"] = b.routes["POST /api/copy"] = lambda exchange: exchange.respond(200, b"", b"")
        assert await client.ask("POST", "/api/copy", {"source": "m:1", "destination": "new:1"}) == (200, [])
        assert b.seen == [("POST /api/copy", b'{"source":"other:7b","destination":"new:1"}')]

    run(play, names={"m:1": "other:7b"})


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/api/delete", {"model": "also:1"}),
        ("POST", "/api/copy", {"source": "m:1", "destination": "also:1"}),
        ("POST", "/api/create", {"model": "ALSO:1", "from": "m:1"}),
        ("POST", "/api/pull", {"model": "also:1"}),
    ],
)
def test_a_name_of_the_configuration_is_neither_made_nor_taken_away(
    method: str, path: str, body: dict[str, str]
) -> None:
    async def play(client: Client, a: Upstream, b: Upstream) -> None:
        a.models = set()
        b.models = {"other:7b"}
        status, (said,) = await client.ask(method, path, body)
        assert status == 400
        assert "stands for 'other:7b'" in said["error"]
        assert a.seen == b.seen == []

    run(play, names={"also:1": "other:7b"})


def test_who_has_lost_the_model_meanwhile_is_no_failure() -> None:
    async def play(client: Client, a: Upstream, b: Upstream) -> None:
        a.routes["DELETE /api/delete"] = lambda exchange: exchange.respond(200, b"", b"")
        b.routes["DELETE /api/delete"] = whole(404, {"error": "model 'm:1' not found"})
        assert await client.ask("DELETE", "/api/delete", {"model": "m:1"}) == (200, [])
        b.routes["DELETE /api/delete"] = whole(500, {"error": "busy"})
        assert await client.ask("DELETE", "/api/delete", {"model": "m:1"}) == (500, [{"error": "b: busy (done on a)"}])
        a.routes["DELETE /api/delete"] = b.routes["DELETE /api/delete"]
        assert await client.ask("DELETE", "/api/delete", {"model": "m:1"}) == (500, [{"error": "busy"}])

    run(play)


def test_a_push_leaves_from_the_first_that_has_it() -> None:
    async def play(client: Client, a: Upstream, b: Upstream) -> None:
        b.models.add("mine:1")
        b.routes["POST /api/push"] = stream({"status": "retrieving manifest"}, SUCCESS)
        assert (await client.ask("POST", "/api/push", {"model": "mine:1"}))[1][-1] == SUCCESS
        assert a.seen == []

    run(play)


# -- files ---------------------------------------------------------------------------------------------


BLOB = bytes(range(256)) * 4000
PATH = f"/api/blobs/sha256:{hashlib.sha256(BLOB).hexdigest()}"


def test_a_file_goes_to_who_lacks_it() -> None:
    async def play(client: Client, a: Upstream, b: Upstream) -> None:
        a.routes[f"POST {PATH}"] = lambda exchange: exchange.respond(200, b"", b"")
        b.routes[f"POST {PATH}"] = b.take_blob
        assert await client.ask("POST", PATH, BLOB) == (201, [])
        assert b.taken == {PATH: BLOB}
        assert a.taken == {}

    run(play)


def test_a_file_that_all_have_is_not_sent() -> None:
    async def play(client: Client, a: Upstream, b: Upstream) -> None:
        for one in (a, b):
            one.routes[f"POST {PATH}"] = lambda exchange: exchange.respond(200, b"", b"")
        reader, writer = await client.open("POST", PATH, b"", "Content-Length: 1000000000\r\nExpect: 100-continue\r\n")
        answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"X-Backend-Used: a,b\r\n" in answer
        assert b"Connection: close\r\n" in answer

    run(play)


def test_what_both_say_of_a_file_is_said_once_and_what_one_says_names_it() -> None:
    mismatch = b'{"error":"digest mismatch, expected \\"x\\", got \\"y\\""}'

    async def play(client: Client, a: Upstream, b: Upstream) -> None:
        a.routes[f"POST {PATH}"] = lambda exchange: a.take_blob(exchange, 400, mismatch)
        b.routes[f"POST {PATH}"] = lambda exchange: b.take_blob(exchange, 400, mismatch)
        assert await client.ask("POST", PATH, BLOB) == (400, [json.loads(mismatch)])
        a.routes[f"POST {PATH}"] = a.take_blob
        status, (line,) = await client.ask("POST", PATH, BLOB)
        assert (status, line) == (500, {"error": 'b: digest mismatch, expected "x", got "y" (done on a)'})

    run(play)


def test_a_server_that_dies_in_mid_file_is_named_and_the_other_gets_it_all() -> None:
    class Dying:
        def __init__(self, exchange: Exchange) -> None:
            self._exchange = exchange

        def on_body(self, data: bytes) -> None:
            self._exchange.abort()

        def on_body_end(self) -> None:
            raise AssertionError("it has died")

    async def play(client: Client, a: Upstream, b: Upstream) -> None:
        a.routes[f"POST {PATH}"] = a.take_blob
        b.routes[f"POST {PATH}"] = lambda exchange: exchange.take_body(Dying(exchange))
        status, (line,) = await client.ask("POST", PATH, BLOB)
        assert (status, line) == (500, {"error": "b: connection reset (done on a)"})
        assert a.taken == {PATH: BLOB}

    run(play)


def test_a_server_that_dies_alone_is_told_to_a_client_that_is_still_sending() -> None:
    async def play(client: Client, a: Upstream, b: Upstream) -> None:
        a.routes[f"POST {PATH}"] = lambda exchange: exchange.abort()
        reader, writer = await client.open("POST", PATH, bytes(1000), "Content-Length: 50000000\r\n")
        answer = await reader.readuntil(b"}")
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert b'{"error":"a: connection reset"}' in answer
        with contextlib.suppress(ConnectionError):
            for _ in range(49):
                writer.write(bytes(1_000_000))
                await writer.drain()
        writer.close()

    run(play, placement="first")


def test_the_slowest_server_sets_the_pace() -> None:
    held: list[Exchange] = []

    async def play(client: Client, a: Upstream, b: Upstream) -> None:
        size = 30_000_000
        path = "/api/blobs/sha256:slow"

        def take_late(exchange: Exchange) -> None:
            b.take_blob(exchange)
            exchange.pause_body()
            held.append(exchange)

        a.routes[f"POST {path}"] = a.take_blob
        b.routes[f"POST {path}"] = take_late
        reader, writer = await client.open("POST", path, b"", f"Content-Length: {size}\r\n")
        sending = spawn(send(writer, size), "send")
        await until(lambda: held)
        await asyncio.sleep(0.3)
        arrived = len(a.taken[path])
        await asyncio.sleep(0.1)
        assert len(a.taken[path]) == arrived < size // 2
        held[0].resume_body()
        await sending
        assert (await reader.read()).startswith(b"HTTP/1.1 201 ")
        assert len(a.taken[path]) == len(b.taken[path]) == size
        writer.close()

    run(play)


async def send(writer: asyncio.StreamWriter, size: int) -> None:
    for _ in range(size // 1_000_000):
        writer.write(bytes(1_000_000))
        await writer.drain()


def test_a_client_that_leaves_in_mid_file_is_gone_for_all() -> None:
    async def play(client: Client, a: Upstream, b: Upstream) -> None:
        for one in (a, b):
            one.routes[f"POST {PATH}"] = one.take_blob
        _, writer = await client.open("POST", PATH, BLOB[:100_000], "Content-Length: 1000000\r\n")
        await until(lambda: all(len(one.taken.get(PATH, b"")) == 100_000 for one in (a, b)))
        writer.close()
        await until(lambda: a.left == b.left == 1)

    run(play)


def test_a_head_asks_all_that_a_create_would_go_to() -> None:
    async def play(client: Client, a: Upstream, b: Upstream) -> None:
        a.routes[f"HEAD {PATH}"] = lambda exchange: exchange.respond(200, b"", b"")
        assert (await client.ask("HEAD", PATH))[0] == 404
        b.routes[f"HEAD {PATH}"] = a.routes[f"HEAD {PATH}"]
        assert (await client.ask("HEAD", PATH))[0] == 200

    run(play)


def test_a_digest_cannot_become_another_request() -> None:
    async def play(client: Client, a: Upstream, b: Upstream) -> None:
        for one in (a, b):
            one.routes["POST /api/create"] = stream({"error": "invalid digest format"})
        document = {"model": "x", "files": {"f": "x HTTP/1.1\r\nHost: x\r\n\r\nDELETE /api/delete"}}
        assert (await client.ask("POST", "/api/create", document))[1] == [{"error": "invalid digest format"}]
        assert {key for one in (a, b) for key, _ in one.seen} == {"POST /api/create"}

    run(play)


# -- nobody there -------------------------------------------------------------------------------------------


def test_without_an_ollama_server() -> None:
    async def play(client: Client, a: Upstream, b: Upstream) -> None:
        assert await client.ask("GET", "/api/status") == (200, [{"cloud": {"disabled": True, "source": "config"}}])
        assert await client.ask("POST", "/api/me") == (401, [{"error": "unauthorized"}])
        for method, path in (("POST", "/api/pull"), ("POST", "/api/copy"), ("DELETE", "/api/delete"), ("POST", PATH)):
            status, (line,) = await client.ask(method, path, {"model": "m"})
            assert status == 503, path
            assert "Ollama backend" in line["error"]

    run(play, kind="openai")


@pytest.mark.parametrize("files", [{"adapters": {"a": None}}, {"files": {"a": None}}, {"files": {"a": ""}}])
def test_a_create_with_a_file_of_no_name_is_the_servers_to_judge(files: dict[str, Any]) -> None:
    async def play(client: Client, a: Upstream, b: Upstream) -> None:
        for one in (a, b):
            one.routes["POST /api/create"] = whole(400, {"error": "neither"})
        assert await client.ask("POST", "/api/create", {"model": "x", **files}) == (400, [{"error": "neither"}])

    run(play)
