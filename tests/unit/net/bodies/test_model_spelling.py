"""Whatever a body does to be read as two models: what we check and book is what the server behind us answers with."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pytest

from ollama_proxy.api.anthropic import go_types as anthropic_types
from ollama_proxy.api.anthropic import requests as anthropic
from ollama_proxy.api.ollama import go_types as ollama_types
from ollama_proxy.api.ollama import requests as native
from ollama_proxy.api.openai import go_types as openai_types
from ollama_proxy.api.openai.passing import read_passed
from ollama_proxy.api.openai.requests import read_completion, read_embedding
from ollama_proxy.api.responses import go_types as responses_types
from ollama_proxy.api.responses import requests as responses
from ollama_proxy.domain.call import Call, Operation
from ollama_proxy.net.bodies.go_json import GoType, read_as
from ollama_proxy.net.bodies.model_name import with_model
from ollama_proxy.net.bodies.model_spelling import find_sole_model, says_once
from ollama_proxy.net.http1.exchange import Exchange
from tests.unit.api.test_openai_requests import make_exchange

TURN = b'[{"role":"user","content":"hi"}]'


def read_message(exchange: Exchange) -> Call:
    return anthropic.make_call(anthropic.read_asked(exchange), exchange, "r", 0.0)


def read_response(exchange: Exchange) -> Call:
    return responses.make_call(responses.read_asked(exchange.body), exchange, "r", 0.0)


#: By path: what is asked for there, how it is read, and as what Ollama reads it.
ROUTES: dict[str, tuple[bytes, Callable[[Exchange], Call], GoType]] = {
    "/api/generate": (b'"prompt":"x"', lambda one: native.read_generate(one, "r", 0.0), ollama_types.GENERATE),
    "/api/chat": (b'"messages":' + TURN, lambda one: native.read_chat(one, "r", 0.0), ollama_types.CHAT),
    "/api/embed": (b'"input":"x"', lambda one: native.read_embed(one, "r", 0.0), ollama_types.EMBED),
    "/api/embeddings": (b'"prompt":"x"', lambda one: native.read_embeddings(one, "r", 0.0), ollama_types.EMBEDDINGS),
    "/api/show": (b'"verbose":true', lambda one: native.read_show(one, "r", 0.0), ollama_types.SHOW),
    "/v1/chat/completions": (
        b'"messages":' + TURN,
        lambda one: read_completion(one, Operation.CHAT, "r", 0.0)[0],
        openai_types.CHAT,
    ),
    "/v1/completions": (
        b'"prompt":"x"',
        lambda one: read_completion(one, Operation.COMPLETE, "r", 0.0)[0],
        openai_types.COMPLETION,
    ),
    "/v1/embeddings": (b'"input":"x"', lambda one: read_embedding(one, "r", 0.0)[0], openai_types.EMBED),
    "/v1/images/generations": (b'"prompt":"x"', lambda one: read_passed(one, "r", 0.0), openai_types.IMAGE),
    "/v1/messages": (b'"max_tokens":5,"messages":' + TURN, read_message, anthropic_types.REQUEST),
    "/v1/responses": (b'"input":"x"', read_response, responses_types.REQUEST),
}


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    "names",
    [
        b'"model":"small:x",%b,"Model":"other:1"',
        b'"MODEL":"other:1","model":"small:x",%b',
        b'"model":"small:x","mOdEl":"other:1",%b,"moDel":"third:1"',
        b'"model":"small:x",%b,"M\\u006fdel":"other:1"',
        b'"\\u006dodel":"small:x",%b,"model":"other:1"',
        b'"model":"small:x",%b,"model":"other:1"',
        b'"model":"small:x",%b,"Model":null',
        b'"Model":"small:x",%b',
    ],
)
def test_the_model_that_is_checked_is_the_one_that_answers(path: str, names: bytes) -> None:
    members, read, kind = ROUTES[path]
    body = b"{%b}" % (names % members)
    call = read(make_exchange(path.encode(), body))
    assert call.raw is not None
    assert call.model == read_as(body, kind)["model"]
    assert read_as(call.raw.body, kind)["model"] == call.model
    spelled = list(msgspec.json.decode(call.raw.body, type=dict[str, msgspec.Raw]))
    assert [name for name in spelled if name.lower() == "model"] == ["model"]


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
def test_work_in_another_spelling_is_work(path: str) -> None:
    name = b"Prompt" if path == "/api/generate" else b"Messages"
    body = b'{"model":"m","%b":%b,"%b":%b}' % (name.lower(), b"null", name, b'"x"' if name == b"Prompt" else TURN)
    assert not native.asks_for_nothing(ROUTES[path][1](make_exchange(path.encode(), body)))


def test_a_name_written_with_escapes_is_exchanged_and_no_other() -> None:
    changed = json.loads(with_model(b'{"\\u006dodel":"a","x":{"model":"a"}}', "b"))
    assert changed == {"model": "b", "x": {"model": "a"}}


@pytest.mark.parametrize(
    ("body", "once"),
    [
        (b'{"model":"a","messages":[{"content":"\\"model\\": \\u006d"}]}', True),
        (b'{"tools":[{"model":"a"}],"model":"b"}', True),
        (b'{"prompt":"model"}', True),
        (b'{"model":"a","model":"b"}', False),
        (b'{"model":"a","mode\\u006c":"b"}', False),
        (b'{"\\u006dodel":"a","x":{"model":"c"},"model":"b"}', False),
        (b'{"model":"a","x":%b"model"%b,"model":"a"}' % (b"[" * 100_000, b"]" * 100_000), False),
    ],
)
def test_a_name_that_stands_twice(body: bytes, once: bool) -> None:
    assert says_once(body) is once


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"prompt":"x","m\\u006fdel":"a"}', "a"),
        (b'{"model":"a","tools":[{"model":"b"}]}', "a"),
        (b'{"Model":"a"}', ""),
        (b'{"model":"a","MODEL":"a"}', ""),
        (b'{"model":"a","model":"b"}', ""),
        (b'{"model":5}', ""),
        (b'{"name":"a"}', ""),
        (b'["model"]', ""),
        (b'{"model":"a"}{"model":"b"}', ""),
        (b"\xff", ""),
        (b"", ""),
    ],
)
def test_the_model_that_any_server_would_find(body: bytes, model: str) -> None:
    assert find_sole_model(body) == model
