"""A transparent backend: neither probed nor listed; what nobody else can take reaches it as it came."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ollama_proxy.config.key_file import hash_key
from tests.support.lab import LabProcess
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e


def lower(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


class Recorder(ThreadingHTTPServer):
    """Answers everything, and keeps what came."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Recorder

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((self.command, self.path, lower(self.headers), body))
        self.send_response(418 if "teapot" in self.path else 200)
        self.send_header("Content-Type", "application/x-made-up")
        self.send_header("X-Own", "yes")
        self.send_header("Content-Length", "6")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"answer")

    do_GET = do_POST = do_DELETE = do_HEAD = do_PUT = _answer

    def log_message(self, *args: Any) -> None:
        return


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with Recorder() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def backend(server: Recorder) -> dict[str, Any]:
    return {"id": "glass", "endpoint": f"http://127.0.0.1:{server.server_port}", "transparent": True}


def send(
    url: str, body: bytes | None = None, method: str | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(url, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, lower(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, lower(error.headers), error.read()


def test_alone_it_gets_every_model_route_and_unknown_path_as_it_came(recorder: Recorder, work: Path) -> None:
    only = {"backends": [backend(recorder)], "routing": {"default_backend": ""}}
    with ProxyProcess(work, replace=only, embedded="auto") as proxy:
        # Not even a start, or a list, is a reason to ask it anything.
        assert recorder.seen == []
        bodies = {"/api/chat": b'{"model": "any",  "odd": [1.0]}', "/v1/embeddings": b"not json", "/no/such?q=%20": b""}
        for path, body in bodies.items():
            status, headers, answer = send(proxy.url + path, body, "POST", Authorization="Bearer theirs")
            assert (status, answer, headers["x-own"]) == (200, b"answer", "yes")
            assert headers["content-type"] == "application/x-made-up"
            assert headers["x-backend-used"] == "glass"
            method, seen_path, seen_headers, seen_body = recorder.seen[-1]
            assert (method, seen_path, seen_body) == ("POST", path, body)
            assert seen_headers["authorization"] == "Bearer theirs"
        assert send(proxy.url + "/teapot", method="PUT")[0] == 418
        assert send(proxy.url + "/api/version", method="HEAD")[2] == b""
        assert recorder.seen[-1][0] == "HEAD"
        count = len(recorder.seen)
        assert send(proxy.url + "/healthz")[2] == b"ok\n"
        assert len(recorder.seen) == count


def test_beside_others_it_gets_what_they_have_not(recorder: Recorder, lab: LabProcess, work: Path) -> None:
    others = [{"id": "one", "endpoint": lab.endpoints[2]}, backend(recorder)]
    with ProxyProcess(work, replace={"backends": others, "routing": {"default_backend": ""}}) as proxy:
        held = json.dumps({"model": "qwen2.5:0.5b", "prompt": "hi", "stream": False}).encode()
        assert send(proxy.url + "/api/generate", held)[1]["x-backend-used"] == "one"
        assert b"qwen2.5:0.5b" in send(proxy.url + "/api/tags")[2]
        assert "glass" not in proxy.health()
        assert recorder.seen == []
        assert send(proxy.url + "/api/generate", b'{"model": "theirs"}')[2] == b"answer"
        assert send(proxy.url + "/metricses")[2] == b"answer"
        assert len(recorder.seen) == 2


def test_a_key_for_some_models_or_backends_gets_no_further_there(recorder: Recorder, work: Path) -> None:
    keys = {name: f"ocp_{name}-{'k' * 30}" for name in ("small", "glass", "other", "all")}
    grants: dict[str, dict[str, Any]] = {"small": {"models": ["small:*"]}, "glass": {"backends": ["glass"]}, "all": {}}
    grants["other"] = {"backends": ["embedded"]}
    entries = {name: {"key_hash": hash_key(keys[name].encode()), **grant} for name, grant in grants.items()}
    replace = {"backends": [backend(recorder)], "routing": {"default_backend": ""}}
    changes = {"server": {"auth": {"enabled": True, "api_keys": entries}}}
    with ProxyProcess(work, replace=replace, changes=changes) as proxy:

        def ask(name: str, body: bytes) -> int:
            url = proxy.url + "/v1/chat/completions"
            return send(url, body, Authorization=f"Bearer {keys[name]}")[0]

        small, large = b'{"model":"small:1"}', b'{"model":"large:1"}'
        assert [ask(name, large) for name in keys] == [403, 200, 403, 200]
        assert [ask(name, small) for name in keys] == [200, 200, 403, 200]
        for body in (b'{"model":"small:1","Model":"large:1"}', b'{"model":"large:1","model":"small:1"}', b"{}"):
            assert [ask(name, body) for name in ("small", "all")] == [403, 200]
        assert len(recorder.seen) == 8


def test_what_is_about_one_connection_does_not_go_on(recorder: Recorder, work: Path) -> None:
    only = {"backends": [backend(recorder)], "routing": {"default_backend": ""}}
    with ProxyProcess(work, replace=only) as proxy, socket.create_connection(("127.0.0.1", proxy.http_port)) as client:
        client.sendall(
            b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: x-one, close\r\nConnection: X-Two\r\nX-One: a\r\n"
            b"X-Two: b\r\nX-Three: c\r\nTE: trailers\r\nKeep-Alive: 5\r\nProxy-Authorization: d\r\n\r\n"
        )
        while client.recv(65536):
            pass
        assert set(recorder.seen[-1][2]) == {"host", "x-three", "content-length"}


def test_when_it_is_down_the_client_is_told_so(recorder: Recorder, work: Path) -> None:
    recorder.server_close()
    only = {"backends": [backend(recorder)], "routing": {"default_backend": ""}}
    with ProxyProcess(work, replace=only) as proxy:
        status, _, body = send(proxy.url + "/api/chat", b"{}")
        assert status == 502
        assert b"glass" in body
