"""Servers of type openai behind a proxy: what only some of them can do, what strict ones refuse, how others fail."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import ollama
import openai
import pytest

from tests.support.lab import LabProcess
from tests.support.processes import http_get
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e

SOUND = bytes(range(256)) * 40
STRICT = {"model", "messages", "stream", "stream_options", "max_tokens", "temperature", "top_p", "tools", "stop"}
STRICT |= {"n", "tool_choice", "logprobs"}


class Upstream(BaseHTTPRequestHandler):
    """A server that knows OpenAI's own fields and nothing else, and keeps what it was sent."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[tuple[str, str, bytes]]] = []

    def log_message(self, *args: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            names = [{"id": name, "created": 1700000000, "owned_by": "acme"} for name in ("Big-One", "whisper", "rank")]
            self._send(200, {"object": "list", "data": names})
        else:
            self._send(404, {"error": {"message": "no such path"}})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, self.headers["Content-Type"], body))
        if self.path == "/v1/audio/transcriptions":
            self._send(200, {"text": f"{len(body)} bytes", "usage": {"type": "tokens"}})
        elif self.path == "/v1/audio/speech":
            self._stream("audio/mpeg", [SOUND[:5000], SOUND[5000:]], cut=b"cut me" in body)
        elif self.path == "/v1/rerank":
            self._send(200, {"results": [{"index": 1, "relevance_score": 0.9}]})
        elif self.path == "/v1/chat/completions":
            self._chat(json.loads(body))
        else:
            self._send(404, {"error": {"message": "no such path"}})

    def _chat(self, asked: dict[str, Any]) -> None:
        unknown = set(asked) - STRICT
        if unknown:
            self._send(400, {"error": {"message": f"Unrecognized request arguments: {sorted(unknown)}"}})
            return
        said = asked["messages"][-1]["content"]
        if not asked.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
            self._send(200, {"id": "x", "object": "chat.completion", "model": "Big-One", "choices": [choice]})
            return
        pieces = [{"choices": [{"index": 0, "delta": {"content": word}}]} for word in said.split()]
        events = [b"data: %b\n\n" % json.dumps(piece).encode() for piece in pieces]
        if said.startswith("fail"):
            events.append(b'data: {"error":{"message":"out of memory"}}\n\n')
            events += [b"data: [DONE]\n\n"] if said == "fail done" else []
        elif said != "just stop":
            events.append(b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
        self._stream("text/event-stream", events)

    def _send(self, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, content_type: str, pieces: list[bytes], *, cut: bool = False) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces[: 1 if cut else None]:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        if cut:
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")


class Server(ThreadingHTTPServer):
    """Says nothing of clients that leave: the proxy lets go of streams that have failed."""

    def handle_error(self, *args: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    with Server(("127.0.0.1", 0), Upstream) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def proxy(upstream: str, lab: LabProcess, work: Path) -> Iterator[ProxyProcess]:
    """The same server twice: one is said to have audio, speech and reranking, and calls a model by another name.

    Beside them an emulated Ollama, which is cheaper than both.
    """
    able = {"capabilities": ["audio", "speech", "rerank"], "model_names": {"ears": "whisper"}}
    backends = [
        {"id": "plain", "type": "openai", "endpoint": upstream, "model_names": {"qwen2.5:0.5b": "Big-One"}},
        {"id": "lab", "type": "ollama", "endpoint": lab.url("nvidia"), "characteristics": {"power_watts": 0.1}},
        {"id": "able", "type": "openai", "endpoint": upstream, **able, "characteristics": {"power_watts": 500}},
    ]
    changes = {
        "backends": backends,
        "routing": {"default_backend": "lab"},
        # Here the same server fails time and again.
        "health": {"unhealthy_threshold": 1000},
    }
    with ProxyProcess(work, changes=changes) as process:
        yield process


@pytest.fixture
def client(proxy: ProxyProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=proxy.url + "/v1", api_key="unused", max_retries=0) as opened:
        yield opened


def test_models_keep_their_owner_and_time(client: openai.OpenAI) -> None:
    model = client.models.retrieve("big-one")
    assert (model.id, model.owned_by, model.created) == ("big-one", "acme", 1700000000)


def test_a_form_goes_up_as_it_came_to_who_hears(client: openai.OpenAI) -> None:
    answer = client.audio.transcriptions.with_raw_response.create(model="whisper", file=("a.wav", SOUND))
    assert answer.headers["x-backend-used"] == "able"
    assert answer.parse().text.endswith("bytes")
    path, content_type, body = Upstream.seen[-1]
    assert path == "/v1/audio/transcriptions"
    form = BytesParser().parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    fields = {part.get_param("name", header="content-disposition"): part for part in form.get_payload()}
    assert fields["model"].get_payload(decode=True) == b"whisper"
    assert SOUND in body


def test_a_name_of_ours_is_exchanged_in_a_form(client: openai.OpenAI) -> None:
    client.audio.transcriptions.create(model="ears", file=("a.wav", b"RIFF"))
    assert b"\r\n\r\nwhisper\r\n" in Upstream.seen[-1][2]


def test_speech_comes_as_bytes(client: openai.OpenAI) -> None:
    answer = client.audio.speech.with_raw_response.create(model="big-one", voice="alloy", input="hi")
    assert answer.headers["content-type"] == "audio/mpeg"
    assert answer.content == SOUND


def test_speech_that_breaks_off_is_no_whole_answer(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIConnectionError):
        client.audio.speech.create(model="big-one", voice="alloy", input="cut me")


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_reranking_on_every_path(client: openai.OpenAI, proxy: ProxyProcess, path: str) -> None:
    body = {"model": "rank", "query": "q", "documents": ["a", "b"]}
    answer: Any = client.post(proxy.url + path, body=body, cast_to=object)
    assert answer["results"][0]["index"] == 1
    assert Upstream.seen[-1][0] == "/v1/rerank"


@pytest.mark.parametrize(
    ("asked", "backend"),
    [
        ({}, "lab"),
        ({"tool_choice": "auto"}, "lab"),
        ({"n": 2}, "plain"),
        ({"tool_choice": "required", "tools": [{"type": "function", "function": {"name": "f"}}]}, "plain"),
    ],
)
def test_wishes_go_to_who_grants_them(client: openai.OpenAI, asked: dict[str, Any], backend: str) -> None:
    answer = client.chat.completions.with_raw_response.create(
        model="qwen2.5:0.5b", messages=[{"role": "user", "content": "hi"}], max_tokens=2, **asked
    )
    assert answer.headers["x-backend-used"] == backend
    assert answer.parse().model == "qwen2.5:0.5b"


def test_wishes_that_nobody_grants_are_dropped_and_told(client: openai.OpenAI) -> None:
    answer = client.chat.completions.with_raw_response.create(
        model="llama3:7b", messages=[{"role": "user", "content": "hi"}], max_tokens=2, n=2
    )
    assert answer.headers["x-backend-used"] == "lab"
    assert "several choices" in answer.headers["x-routing-reason"]


def test_what_nobody_can_is_a_limit(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="cannot do: image generation"):
        client.images.generate(model="big-one", prompt="a cat")


def test_a_strict_server_takes_what_ollamas_clients_ask(proxy: ProxyProcess) -> None:
    client = ollama.Client(host=proxy.url)
    try:
        answer = client.chat("big-one", [{"role": "user", "content": "one two three"}])
        pieces = list(client.chat("big-one", [{"role": "user", "content": "one two three"}], stream=True))
    finally:
        client._client.close()
    assert answer.message.content == "one two three"
    # Nobody counted: events stand for tokens.
    assert pieces[-1].eval_count == 3


@pytest.mark.parametrize(
    ("said", "told"),
    [("fail now", "out of memory"), ("fail done", "out of memory"), ("just stop", "without its end marker")],
)
def test_a_stream_that_fails_ends_with_an_error_in_both_dialects(
    client: openai.OpenAI, proxy: ProxyProcess, said: str, told: str
) -> None:
    turns = [{"role": "user", "content": said}]
    with pytest.raises(openai.APIError, match=told):
        list(client.chat.completions.create(model="big-one", messages=turns, stream=True))
    native = ollama.Client(host=proxy.url)
    try:
        with pytest.raises(ollama.ResponseError, match=told):
            list(native.chat("big-one", turns, stream=True))
    finally:
        native._client.close()


def test_refusals_keep_the_servers_words(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="Unrecognized request arguments"):
        client.chat.completions.create(
            model="big-one", messages=[{"role": "user", "content": "a"}], extra_body={"odd": 1}
        )


def test_llama_cpp_says_that_its_model_sees_nothing(embedded_proxy: ProxyProcess) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    with (
        openai.OpenAI(base_url=embedded_proxy.url + "/v1", api_key="unused", max_retries=0) as client,
        pytest.raises(openai.BadRequestError, match="cannot do: images"),
    ):
        client.chat.completions.create(model="smollm2:135m", messages=[{"role": "user", "content": [image]}])
    assert http_get(embedded_proxy.url + "/healthz")[0] == 200
