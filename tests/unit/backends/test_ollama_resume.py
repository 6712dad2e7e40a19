"""How an Ollama server is asked for the rest of an answer, by what it says and what the model does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest

from ollama_proxy.backends.ollama.backend import OllamaBackend
from ollama_proxy.domain.answer import AnswerEvent, Finished, TextDelta
from ollama_proxy.domain.call import (
    Call,
    Continued,
    Dialect,
    Generation,
    Message,
    Operation,
    RawHead,
    RawRequest,
    Sampling,
)
from ollama_proxy.domain.device import BackendSpec
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.net.http1.client import Origin

SPEC = BackendSpec("one", "ollama", "one", "cpu")
CHAT = Generation(messages=(Message("user", "Tell me of the sea."),))
SENT = Continued("The sea is", tokens=3)
LINES = b'{"response":" wide","done":false}\n{"response":"","done":true,"done_reason":"stop","eval_count":1}\n'
RENDERED = {"_debug_info": {"rendered_template": "<user>Tell me of the sea.<bot>"}}


class Server:
    """An Ollama server at the other end of a pool: what it was asked, and its answers."""

    origin = Origin("localhost", 1)

    def __init__(
        self,
        rendered: Any = RENDERED,
        goes_on: str = " 4, 5, 6",
        parameters: str = "",
        family: str = "llama",
        name: str = "m:1b",
    ) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._rendered = rendered
        self._goes_on = goes_on
        self._parameters = parameters
        self._entry = {"model": name, "digest": "d1", "details": {"family": family}}

    def start(self, upload: Any) -> None:
        self.send(upload.request, upload)

    def send(self, request: bytes, sink: Any) -> Server:
        head, _, body = request.partition(b"\r\n\r\n")
        path = head.split(b" ")[1].decode()
        document = json.loads(body or b"{}")
        if body:
            self.asked.append((path, document))
        status, answer = self._answer(path, document)
        asyncio.get_running_loop().call_soon(self._tell, sink, status, answer)
        return self

    def _answer(self, path: str, document: Mapping[str, Any]) -> tuple[int, bytes]:
        documents = {"/api/tags": {"models": [self._entry]}, "/api/ps": {"models": []}}
        documents["/api/version"] = {"version": "0.24.0"}
        documents["/api/show"] = {"parameters": self._parameters}
        if path in documents:
            return 200, json.dumps(documents[path]).encode()
        if document.get("_debug_render_only"):
            return (200, json.dumps(self._rendered).encode()) if self._rendered is not None else (400, b"{}")
        if not document["stream"]:
            return 200, json.dumps({"message": {"content": self._goes_on}, "done": True}).encode()
        return 200, LINES

    @staticmethod
    def _tell(sink: Any, status: int, body: bytes) -> None:
        sink.on_response(status, [(b"content-type", b"application/x-ndjson")])
        sink.on_body(body)
        sink.on_complete()

    def paths(self) -> list[str]:
        """What was asked, in order, `render` for the question for a prompt."""
        return ["render" if asked.get("_debug_render_only") else path for path, asked in self.asked]

    def abort(self) -> None:
        """Nothing is under way."""


class Sink:
    """What an attempt told."""

    def __init__(self) -> None:
        self.events: list[AnswerEvent] = []
        self.end: Finished | Failure | None = None
        self.over = asyncio.Event()

    def on_events(self, events: list[AnswerEvent]) -> None:
        self.events += events

    def on_end(self, finished: Finished) -> None:
        self.end = finished
        self.over.set()

    def on_failure(self, failure: Failure) -> None:
        self.end = failure
        self.over.set()


def make_call(
    typed: Generation = CHAT, sent: Continued = SENT, operation: Operation = Operation.CHAT, model: str = "m:1b"
) -> Call:
    return Call("r1", Dialect.OLLAMA, operation, model, True, 0.0, lambda: typed, continued=sent)


def run(server: Server, *calls: Call, lessons: Mapping[str, bool] | None = None) -> list[Sink]:
    """What comes of the calls, one after the other, at one server that was probed."""

    async def go_through() -> list[Sink]:
        pool: Any = server
        backend = OllamaBackend(SPEC, pool)
        backend.restore_lessons(lessons or {})
        await backend.probe(1.0)
        server.asked.clear()
        sinks = []
        for call in calls:
            sink: Any = Sink()
            sinks.append(sink)
            backend.open(call, call.model, sink)
            await sink.over.wait()
        return sinks

    return asyncio.run(go_through())


def why(sink: Sink) -> str:
    assert isinstance(sink.end, Failure), sink.end
    assert sink.end.kind is FailureKind.UNABLE
    return sink.end.message


def test_the_answer_so_far_goes_behind_the_prompt_as_the_model_reads_it() -> None:
    server = Server()
    (sink,) = run(server, make_call(msgspec.structs.replace(CHAT, keep_alive="5m", sampling=Sampling(num_predict=7))))
    assert server.paths() == ["render", "/api/generate"]
    assert server.asked[0][1]["messages"] == [{"role": "user", "content": "Tell me of the sea."}]
    assert server.asked[1][1] == {
        "model": "m:1b",
        "stream": True,
        "raw": True,
        "prompt": "<user>Tell me of the sea.<bot>The sea is",
        "keep_alive": "5m",
        "options": {"num_predict": 7},
    }
    assert sink.events == [TextDelta(" wide")]
    assert isinstance(sink.end, Finished)


def test_a_server_that_does_not_render_is_asked_once_and_writes_little_then() -> None:
    server = Server({"message": {"content": "The"}, "done": True})
    run(server, make_call(), make_call())
    assert server.paths() == ["/api/show", "render", "/api/chat", "/api/chat", "/api/chat"]
    assert server.asked[1][1]["options"] == {"num_predict": 1}


def test_a_raw_prompt_needs_no_rendering() -> None:
    server = Server()
    run(
        server,
        make_call(Generation(prompt="Once", raw=True, sampling=Sampling(num_predict=7)), operation=Operation.GENERATE),
    )
    assert server.paths() == ["/api/generate"]
    assert server.asked[0][1]["prompt"] == "OnceThe sea is"


def test_a_models_own_limit_counts_what_was_sent_and_is_asked_for_once() -> None:
    server = Server(parameters='num_predict                    32\nstop                           "<|im_end|>"')
    run(server, make_call(), make_call(sent=Continued("The sea is wide", tokens=30)))
    assert server.paths() == ["/api/show", "render", "/api/generate", "render", "/api/generate"]
    assert [asked["options"]["num_predict"] for _, asked in (server.asked[2], server.asked[4])] == [29, 2]
    (sink,) = run(server, make_call(sent=Continued("The sea is wide", tokens=32)))
    assert "limit of tokens" in why(sink)


def test_images_go_along_where_the_prompt_has_a_place_for_each() -> None:
    typed = Generation(
        messages=(Message("user", "What is it?", images=("aGVsbG8=",)),), sampling=Sampling(num_predict=7)
    )
    told = {"_debug_info": {"rendered_template": "<user>[img-0]What is it?<bot>", "image_count": 1}}
    server = Server(told)
    run(server, make_call(typed))
    assert server.asked[1][1]["images"] == ["aGVsbG8="]
    cut = Server({"_debug_info": {"rendered_template": "<user>What is it?<bot>"}})
    run(cut, make_call(typed))
    assert cut.paths() == ["render", "/api/chat", "/api/chat"]


OPEN_TURN: list[tuple[str, Generation, Any]] = [
    ("tools", msgspec.structs.replace(CHAT, tools=({"type": "function", "function": {"name": "f"}},)), RENDERED),
    ("unknown member", CHAT, {"message": {"content": "anything"}}),
    ("refused", CHAT, None),
    ("thinks first", CHAT, {"_debug_info": {"rendered_template": "<user>Tell me of the sea.<bot><think>\n"}}),
]


@pytest.mark.parametrize(("typed", "rendered"), [row[1:] for row in OPEN_TURN], ids=[row[0] for row in OPEN_TURN])
def test_an_open_turn_is_for_models_that_went_on_when_they_were_tried(typed: Generation, rendered: Any) -> None:
    server = Server(rendered)
    limited = msgspec.structs.replace(typed, sampling=Sampling(num_predict=7))
    first, second = run(server, make_call(limited), make_call(limited))
    assert first.events == second.events == [TextDelta(" wide")]
    chats = [asked for path, asked in server.asked if path == "/api/chat" and not asked.get("_debug_render_only")]
    # One trial for both.
    assert [one["stream"] for one in chats] == [False, True, True]
    assert chats[1]["messages"][1] == {"role": "assistant", "content": "The sea is"}
    assert chats[1]["options"] == {"num_predict": 7}


@pytest.mark.parametrize("answer", ["That is a great idea.", "1, 2, 3, 4", ""])
def test_a_model_that_begins_anew_is_not_asked_again(answer: str) -> None:
    server = Server(None, goes_on=answer)
    for sink in run(server, make_call(), make_call()):
        assert "begins a new turn" in why(sink)
    assert server.paths() == ["/api/show", "render", "/api/chat", "render"]


@pytest.mark.parametrize("goes_on", [False, True])
def test_what_the_last_run_knew_is_not_tried_again(goes_on: bool) -> None:
    server = Server(None)
    (sink,) = run(server, make_call(), lessons={"d1@0.24.0": goes_on})
    assert server.paths() == ["/api/show", "render", *(["/api/chat"] if goes_on else [])]
    assert isinstance(sink.end, Finished if goes_on else Failure)


NEVER: list[tuple[str, Callable[[], tuple[Server, Call]], str]] = [
    ("family", lambda: (Server(family="gptoss"), make_call()), "family"),
    ("name", lambda: (Server(name="gpt-oss:20b"), make_call(model="gpt-oss:20b")), "family"),
    ("thinking", lambda: (Server(), make_call(sent=Continued("", "It asks about", 3))), "thinking"),
    ("unknown model", lambda: (Server(None), make_call(model="other:1b")), "which model"),
]


@pytest.mark.parametrize(("make", "reason"), [row[1:] for row in NEVER], ids=[row[0] for row in NEVER])
def test_what_cannot_be_continued(make: Callable[[], tuple[Server, Call]], reason: str) -> None:
    server, call = make()
    (sink,) = run(server, call)
    assert reason in why(sink)
    assert sink.events == []


def test_an_answer_that_the_client_began_stays_one_turn_of_which_nothing_is_cut() -> None:
    server = Server(None)
    begun = Generation(messages=(*CHAT.messages, Message("assistant", "Well: ")), sampling=Sampling(num_predict=7))
    (sink,) = run(server, make_call(begun, Continued(" wide wide wide wide", tokens=4)))
    assert server.asked[-1][1]["messages"][1:] == [{"role": "assistant", "content": "Well:  wide wide wide wide"}]
    assert sink.events == [TextDelta(" wide")]


def test_who_would_lose_something_of_the_request_is_not_asked() -> None:
    server = Server()
    (sink,) = run(server, make_call(sent=Continued("The sea", tokens=2, untold="'x' cannot be carried over")))
    assert why(sink) == "'x' cannot be carried over"
    assert server.asked == []


def test_before_the_first_token_the_request_goes_out_as_it_came() -> None:
    server = Server()
    raw = RawRequest(RawHead(b"POST", b"/api/generate"), b'{"model":"m:1b","prompt":"x","stream":true,"odd":1}')
    call = msgspec.structs.replace(make_call(), continued=None, raw=raw, begun=True)
    (sink,) = run(server, call)
    assert server.asked == [("/api/generate", {"model": "m:1b", "prompt": "x", "stream": True, "odd": 1})]
    assert sink.events == [TextDelta(" wide")]
