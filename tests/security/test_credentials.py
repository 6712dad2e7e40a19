"""A client's key is the proxy's business: no backend sees it, over whichever way in, and none sees another's."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest

from ollama_proxy.app.proxy import Proxy
from ollama_proxy.config.schema import Backend
from tests.security.roles import AUTH, KEYS
from tests.support.running import quiet_config, running_proxy

CLOUD = "cloud-key-of-the-operator"
#: Heads that arrived, by the path they came to.
Heads = list[tuple[str, str]]


class Upstream(BaseHTTPRequestHandler):
    """Lists a model, and answers anything with a short answer in OpenAI's words."""

    heads: Heads

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.heads.append((self.path, str(self.headers)))
        message = {"role": "assistant", "content": "4"}
        document = {
            "object": "list",
            "data": [{"id": "m", "object": "model"}],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1},
        }
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def upstream() -> Iterator[tuple[int, Heads]]:
    heads: Heads = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Recording", (Upstream,), {"heads": heads}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port, heads
    server.shutdown()
    thread.join()
    server.server_close()


def ask(proxy: Proxy, path: str, body: object, headers: dict[str, str]) -> int:
    with closing(http.client.HTTPConnection("127.0.0.1", proxy.http_port, timeout=20)) as connection:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        answer.read()
        return answer.status


CHAT = {"model": "m", "messages": [{"role": "user", "content": "2+2?"}], "stream": False, "max_tokens": 5}
WAYS = {
    "/v1/chat/completions": CHAT,
    "/api/chat": CHAT,
    "/v1/messages": CHAT,
    "/v1/responses": {"model": "m", "input": "2+2?"},
    "/compute/v1/generate": {"model": "m", "prompt": "2+2?"},
}


@pytest.mark.parametrize("transparent", [False, True])
def test_no_backend_sees_a_clients_key(
    upstream: tuple[int, Heads], monkeypatch: pytest.MonkeyPatch, *, transparent: bool
) -> None:
    port, heads = upstream
    monkeypatch.setenv("CLOUD", CLOUD)
    backend = Backend(id="cloud", type="openai", endpoint=f"http://127.0.0.1:{port}", api_key_env="CLOUD")
    if transparent:
        backend = Backend(id="glass", endpoint=f"http://127.0.0.1:{port}", transparent=True)
    with running_proxy(msgspec.structs.replace(quiet_config(AUTH), backends=(backend,))) as proxy:
        for name in ("Authorization", "X-API-Key", "api-key"):
            value = f"Bearer {KEYS['infer']}" if name == "Authorization" else KEYS["infer"]
            more = {name: value, "Cookie": f"key={KEYS['admin']}", "Proxy-Authorization": f"Bearer {KEYS['all']}"}
            found = {path: ask(proxy, path, body, more) for path, body in WAYS.items()}
            assert transparent or set(found.values()) == {200}, found
    seen = "".join(head for _, head in heads)
    assert len(heads) > 3
    assert [key for key in KEYS.values() if key in seen] == []
    if not transparent:
        assert all(CLOUD in head for path, head in heads if "chat" in path)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/files", 200),
        ("/api/pull", 403),
        ("/api/pul%6c", 403),
        ("//api/pull", 403),
        ("/v1/../api/pull", 403),
        ("/v1/models/..%2f..%2fapi%2fpull", 403),
        ("/v1/%2e%2e/api/pull", 403),
        ("/slots/0", 403),
    ],
)
def test_a_transparent_backend_is_no_way_around_a_permission(
    upstream: tuple[int, Heads], path: str, status: int
) -> None:
    port, heads = upstream
    backend = Backend(id="glass", endpoint=f"http://127.0.0.1:{port}", transparent=True)
    with running_proxy(msgspec.structs.replace(quiet_config(AUTH), backends=(backend,))) as proxy:
        assert ask(proxy, path, {"model": "x"}, {"X-API-Key": KEYS["infer"]}) == status
        assert ask(proxy, path, {"model": "x"}, {}) == 401
    assert len(heads) == (status == 200)
