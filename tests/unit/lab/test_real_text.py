"""Real text in the lab: what is asked of the embedded model."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from ollama_proxy.domain.call import Generation, Message, Sampling
from ollama_proxy.lab.text import RealText


class Model(HTTPServer):
    """Answers every request with two words and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Model)
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        chunks = [
            {"delta": {"content": "two"}},
            {"delta": {"content": " words"}},
            {"delta": {}, "finish_reason": "length"},
        ]
        events = [*(json.dumps({"choices": [chunk]}) for chunk in chunks), "[DONE]"]
        body = "".join(f"data: {event}\n\n" for event in events).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def model() -> Iterator[Model]:
    with Model() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def write(model: Model, request: Generation) -> tuple[list[str], str]:
    async def run() -> tuple[list[str], str]:
        source = RealText("127.0.0.1", model.server_port)
        try:
            return await source.write("any", request)
        finally:
            source.close()

    return asyncio.run(run())


def test_tokens_and_reason_come_from_the_stream(model: Model) -> None:
    assert write(model, Generation(prompt="hi")) == (["two", " words"], "length")


def test_limit_stop_and_history_are_passed_on(model: Model) -> None:
    sampling = Sampling(num_predict=5, stop=("x",), temperature=0.0)
    write(model, Generation(messages=(Message("system", "be brief"), Message("user", "hi")), sampling=sampling))
    (asked,) = model.asked
    assert [message["role"] for message in asked["messages"]] == ["system", "user"]
    assert (asked["max_tokens"], asked["stop"], asked["temperature"]) == (5, ["x"], 0.0)


def test_a_system_prompt_is_passed_on(model: Model) -> None:
    write(model, Generation(prompt="hi", system="be brief"))
    assert model.asked[0]["messages"][0] == {"role": "system", "content": "be brief"}


def test_a_seed_is_passed_on(model: Model) -> None:
    write(model, Generation(prompt="hi", sampling=Sampling(seed=7)))
    assert model.asked[0]["seed"] == 7


def test_a_format_is_passed_on(model: Model) -> None:
    write(model, Generation(prompt="hi", format="json"))
    assert model.asked[0]["response_format"] == {"type": "json_object"}
