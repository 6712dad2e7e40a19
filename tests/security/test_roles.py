"""Every role at every route of every protocol: as declared, no more and no less."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import closing

import grpc
import pytest
import websocket
from hpack import Decoder

from ollama_proxy.app.proxy import Proxy
from tests.h2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    RawClient,
    frame,
    headers,
    request_block,
    window_update,
)
from tests.security.roles import AUTH, KEYS, METHODS, ROLES, collect, collect_methods, declared, verdict
from tests.support.running import quiet_config, running_proxy

SERVED = collect()
DECLARED = {one: permission for one, permission in declared().items() if one in SERVED}
MODEL = {"model": "m", "prompt": "x"}
_LET_IN = 0
_MUCH = 1 << 24


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    with running_proxy(quiet_config(AUTH)) as found:
        yield found


@pytest.fixture
def connection(proxy: Proxy) -> Iterator[http.client.HTTPConnection]:
    with closing(http.client.HTTPConnection("127.0.0.1", proxy.http_port, timeout=20)) as found:
        yield found


def test_every_route_says_who_may() -> None:
    """Fails for a new route until somebody has decided whose it is."""
    assert set(DECLARED) == SERVED
    assert collect_methods() == {path for paths in METHODS.values() for path in paths if "Nothing" not in path}


def ask(connection: http.client.HTTPConnection, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
    """The status where it is the gate's own, 0 for all others; and the body."""
    connection.request(method, path.replace("*", "sha256-x"), b"{}", headers)
    answer = connection.getresponse()
    text = answer.read().decode("utf-8", "replace")
    refused = answer.status == 401 and answer.headers["WWW-Authenticate"] is not None
    return (answer.status if refused or answer.status == 403 else _LET_IN), text


@pytest.mark.parametrize("role", ROLES)
def test_http_1(connection: http.client.HTTPConnection, role: str) -> None:
    headers = {"Content-Type": "application/json", **ROLES[role]()}
    found = {one: ask(connection, *one, headers)[0] for one in DECLARED}
    assert found == {one: verdict(role, permission) for one, permission in DECLARED.items()}


@pytest.mark.parametrize("role", ROLES)
def test_http_2(proxy: Proxy, role: str) -> None:
    fields = {"content-type": "application/json", **ROLES[role]()}
    extra = [(name.encode(), value.encode()) for name, value in fields.items()]
    found = {}
    with RawClient(proxy.http_port, {INITIAL_WINDOW_SIZE: _MUCH}) as client:
        client.send(window_update(0, _MUCH))
        decoder = Decoder()
        for place, (method, path) in enumerate(DECLARED):
            stream_id = 2 * place + 1
            block = request_block(path.replace("*", "sha256-x").encode(), method.encode(), extra)
            client.send(headers(stream_id, block, END_HEADERS) + frame(DATA, END_STREAM, stream_id, b"{}"))
            head = next(one for one in client.read_answer(stream_id) if one.kind == HEADERS)
            told = dict(decoder.decode(head.payload))
            gates_own = told[":status"] == "403" or (told[":status"] == "401" and "www-authenticate" in told)
            found[method, path] = int(told[":status"]) if gates_own else _LET_IN
    assert found == {one: verdict(role, permission) for one, permission in DECLARED.items()}


@pytest.mark.parametrize("port", ["http", "grpc"])
@pytest.mark.parametrize("role", ROLES)
def test_grpc(proxy: Proxy, role: str, port: str) -> None:
    number = proxy.http_port if port == "http" else proxy.grpc_port
    codes = {401: grpc.StatusCode.UNAUTHENTICATED, 403: grpc.StatusCode.PERMISSION_DENIED}
    with grpc.insecure_channel(f"127.0.0.1:{number}") as channel:
        for permission, paths in METHODS.items():
            for path in paths:
                code = _code_of(channel, path, tuple(ROLES[role]().items()))
                expected = codes.get(verdict(role, permission))
                assert (code in codes.values(), code if expected else None) == (bool(expected), expected), path


def _code_of(channel: grpc.Channel, path: str, metadata: tuple[tuple[str, str], ...]) -> object:
    try:
        if "Reflection" in path:
            list(channel.stream_stream(path)(iter([b"\x3a\x00"]), metadata=metadata, timeout=20))
        elif "Watch" in path:
            watch = channel.unary_stream(path)(b"", metadata=metadata, timeout=20)
            next(watch)
            watch.cancel()
        else:
            channel.unary_unary(path)(b"", metadata=metadata, timeout=20)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("role", ROLES)
def test_grpc_web(connection: http.client.HTTPConnection, role: str) -> None:
    codes = {401: b"grpc-status:16", 403: b"grpc-status:7"}
    for (method, path), permission in DECLARED.items():
        if ".v1." in path:
            headers = {"Content-Type": "application/grpc-web", **ROLES[role]()}
            connection.request(method, path.replace("*", "Nothing"), b"\0" * 5, headers)
            answer = connection.getresponse()
            body = answer.read()
            told = [code for code in codes.values() if code + b"\r\n" in body]
            expected = [code for status, code in codes.items() if status == verdict(role, permission)]
            assert (answer.status, told) == (200, expected)


@pytest.mark.parametrize(
    "path", ["/proxy/queue%0a", "/proxy/queue%0A/", "/proxy%2fqueue", "/proxy/queue/", "/%70roxy/queue"]
)
def test_no_spelling_shows_a_page_that_is_not_ones_own(connection: http.client.HTTPConnection, path: str) -> None:
    headers = {"Authorization": f"Bearer {KEYS['infer']}"}
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    answer.read()
    assert answer.status in (301, 307, 403, 404)


def open_socket(proxy: Proxy, **more: object) -> websocket.WebSocket:
    return websocket.create_connection(f"ws://127.0.0.1:{proxy.http_port}/v1/stream/ws", timeout=20, **more)


@pytest.mark.parametrize("role", ROLES)
def test_websocket(proxy: Proxy, role: str) -> None:
    expected = verdict(role, "infer")
    if expected:
        with pytest.raises(websocket.WebSocketBadStatusException) as caught:
            open_socket(proxy, header=ROLES[role]())
        assert caught.value.status_code == expected
        return
    socket = open_socket(proxy, header=ROLES[role]())
    socket.send(json.dumps(MODEL))
    assert "No healthy backends" in json.loads(socket.recv())["error"]["message"]
    socket.close()


def test_a_browsers_websocket_brings_its_key_as_a_subprotocol(proxy: Proxy) -> None:
    socket = open_socket(proxy, subprotocols=["ollama-proxy", f"key.{KEYS['infer']}"])
    assert socket.getsubprotocol() == "ollama-proxy"
    socket.close()
    with pytest.raises(websocket.WebSocketBadStatusException):
        open_socket(proxy, subprotocols=["ollama-proxy", "key.wrong"])


@pytest.mark.parametrize("name", ["authorization", "x-api-key", "api-key"])
def test_every_place_for_a_key(connection: http.client.HTTPConnection, name: str) -> None:
    scheme = "bearer " if name == "authorization" else ""
    assert ask(connection, "GET", "/api/tags", {name: scheme + KEYS["infer"]})[0] == _LET_IN
    assert ask(connection, "GET", "/api/tags", {name: scheme + KEYS["infer"][:-1]})[0] == 401
    assert ask(connection, "GET", "/api/tags", {name: KEYS["infer"] if scheme else ""})[0] == 401


@pytest.mark.parametrize(
    ("path", "headers", "told"),
    [
        ("/api/chat", {}, {"error": str}),
        ("/v1/chat/completions", {}, {"error": {"message": str, "type": "authentication_error", "param": None}}),
        ("/v1/responses", {}, {"error": {"message": str, "code": "invalid_api_key"}}),
        ("/v1/messages", {}, {"type": "error", "error": {"type": "authentication_error", "message": str}}),
        ("/v1/models", {"anthropic-version": "2023-06-01"}, {"type": "error", "request_id": str}),
        ("/compute/v1/generate", {}, {"code": "UNAUTHENTICATED", "message": str}),
        ("/compute.v1.ComputeService/Generate", {}, {"code": "unauthenticated", "message": str}),
    ],
)
def test_refusals_speak_the_clients_dialect(
    connection: http.client.HTTPConnection, path: str, headers: dict[str, str], told: dict[str, object]
) -> None:
    status, text = ask(connection, "GET" if path == "/v1/models" else "POST", path, headers)
    assert status == 401
    assert_like(json.loads(text), told)


def assert_like(found: object, expected: object) -> None:
    if isinstance(expected, dict):
        assert isinstance(found, dict)
        for name, value in expected.items():
            assert_like(found[name], value)
    elif isinstance(expected, type):
        assert isinstance(found, expected)
    else:
        assert found == expected


@pytest.mark.parametrize(
    "path",
    [
        "/%65fficiency",
        "/efficienc%79",
        "/efficien%2563y",
        "/./efficiency",
        "/x/../efficiency",
        "//efficiency",
        "/efficiency/",
        "/EFFICIENCY",
        "/efficiency%00",
        "/efficiency%0a",
        "/efficiency%0d%0a",
        "/efficiency%0a/",
        "/efficiency%2f",
        "/efficiency;x",
        "/efficiency?a=/api/tags",
        "/api/tags/..%2f..%2fefficiency",
        "/healthz/../efficiency",
        "/healthz%2f..%2fefficiency",
        "/%61pi/pull",
        "/api%2fpull",
        "/api//pull",
        "/api/x/../pull",
        "/healthz/..%2fapi/pull",
        "/api/blobs/..%2fpull",
        "/v1/models/..%2f..%2fapi%2fpull",
    ],
)
def test_no_spelling_of_a_path_gets_past_its_permission(
    proxy: Proxy, connection: http.client.HTTPConnection, path: str
) -> None:
    """An ordinary key may ask in whatever way: what takes more is refused, or is not there."""
    headers = {"Content-Type": "text/plain", "Authorization": f"Bearer {KEYS['infer']}"}
    connection.request("POST", path, b"Quiet", headers)
    answer = connection.getresponse()
    answer.read()
    assert answer.status in (301, 307, 400, 403, 404, 405)
    assert proxy.control.mode()[0] != "Quiet"
