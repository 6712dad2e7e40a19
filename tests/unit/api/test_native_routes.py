"""Ollama's routes over several backends: names, loading and unloading, lists. The service is the test's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Sequence
from typing import Any, cast

import pytest

from ollama_proxy.api.ollama.routes import OllamaApi
from ollama_proxy.api.status import find_differing
from ollama_proxy.domain.call import Call, RawRequest
from ollama_proxy.domain.device import BackendSpec, BackendView, FleetView, Health, ModelFacts
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import AnswerSink, RelaySink, Service
from ollama_proxy.net.http1.server import HttpServer
from tests.support.http1 import read_answers, serve

UNLOADED = b'{"model":"m","done_reason":"unload"}'


class Nothing:
    """A ticket and a relay that have nothing to stop."""

    def cancel(self) -> None: ...
    def abort(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


class FakeService:
    """Knows its backends, keeps what it is asked for, answers at once."""

    def __init__(self, *backends: BackendView) -> None:
        self.view = FleetView(1, backends)
        self.calls: list[Call] = []
        self.relayed: list[tuple[str, bytes]] = []
        self.refreshed: list[set[str]] = []
        self.relay_status = 200

    def fleet(self) -> FleetView:
        return self.view

    async def refresh(self, changed: Collection[str] = ()) -> FleetView:
        self.refreshed.append(set(changed))
        return self.view

    def now_s(self) -> float:
        return 0.0

    def name_default(self, call: Call) -> bool:
        return False

    def submit(self, call: Call, sink: AnswerSink) -> Nothing:
        self.calls.append(call)
        if any(canonical_model(call.model) in (backend.models or {}) for backend in self.view.backends):
            sink.send_whole(200, b"application/json", b'{"served":true}')
        else:
            sink.fail(ProxyError(ErrorKind.MODEL_NOT_FOUND, "in the router's words"))
        return Nothing()

    def relay(self, backend: str, request: RawRequest, sink: RelaySink) -> Nothing:
        self.relayed.append((backend, request.body))

        def answer() -> None:
            sink.on_response(self.relay_status, [(b"content-type", b"application/json")])
            sink.on_body(UNLOADED if self.relay_status == 200 else b'{"error":"no"}')
            sink.on_complete()

        asyncio.get_running_loop().call_soon(answer)
        return Nothing()


def backend(
    name: str, *models: str, loaded: Sequence[str] = (), kind: str = "ollama", facts: dict[str, Any] | None = None
) -> BackendView:
    return BackendView(
        BackendSpec(name, kind, name, "cpu"),
        Health.HEALTHY,
        models={canonical_model(model): ModelFacts(model, **(facts or {})) for model in models},
        loaded=frozenset(canonical_model(model) for model in loaded),
    )


def ask(service: FakeService, path: str, body: object) -> tuple[int, Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    api = OllamaApi(cast(Service, service))
    method = b"POST" if raw else b"GET"
    found: list[tuple[int, bytes]] = []

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        head = b"%b %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (method, path.encode(), len(raw))
        writer.write(head + raw)
        found.extend(await read_answers(reader, 1))

    serve(client, api.routes[path.encode()][method])
    status, text = found[0]
    return status, json.loads(text)


# -- models that are not there ---------------------------------------------------


@pytest.mark.parametrize(
    ("path", "name", "status", "text"),
    [
        ("generate", "nope", 404, "model 'nope' not found"),
        ("chat", "Nope:1", 404, "model 'Nope:1' not found"),
        ("embed", "nope", 404, 'model "nope" not found, try pulling it first'),
        ("embeddings", "nope", 404, 'model "nope" not found, try pulling it first'),
        ("show", " nope:local", 404, "model 'nope' not found"),
        ("generate", "", 404, "model '' not found"),
        ("generate", " ", 404, "model ' ' not found"),
        ("chat", "", 400, "model is required"),
        ("embed", "", 404, "model '' not found"),
        ("embeddings", "", 400, "model is required"),
        ("show", "", 400, "model is required"),
        ("chat", "a b", 400, "invalid model name"),
        ("generate", "a:cloud:local", 400, 'use either :local or :cloud, not both: "a:cloud:local"'),
        ("generate", "<a>&b", 400, "invalid model name"),
    ],
)
def test_each_route_has_its_own_words(path: str, name: str, status: int, text: str) -> None:
    assert ask(FakeService(backend("a", "m")), f"/api/{path}", {"model": name}) == (status, {"error": text})


@pytest.mark.parametrize(
    ("path", "document", "text"),
    [
        ("generate", {"top_logprobs": 21}, "top_logprobs must be between 0 and 20"),
        ("chat", {"think": 5}, 'think must be a boolean or string ("high", "medium", "low", "max", true, or false)'),
        ("embed", {"input": [1]}, "invalid input type"),
        ("embed", {"input": {}}, "invalid input type"),
    ],
)
def test_what_else_is_wrong_is_told_first(path: str, document: dict[str, object], text: str) -> None:
    answer = ask(FakeService(backend("a", "m")), f"/api/{path}", {"model": "nope", **document})
    assert answer == (400, {"error": text})


@pytest.mark.parametrize("path", ["generate", "chat"])
def test_what_is_too_deep_to_look_into_is_no_fault_of_ours(path: str) -> None:
    body = b'{"model":"nope","x":%b%b}' % (b"[" * 5000, b"]" * 5000)
    assert ask(FakeService(backend("a", "m")), f"/api/{path}", body) == (404, {"error": "model 'nope' not found"})


@pytest.mark.parametrize("name", ["m:local", "library/m", "registry.ollama.ai/library/m:latest", " M "])
def test_other_names_of_a_model_that_is_there(name: str) -> None:
    service = FakeService(backend("a", "m"))
    assert ask(service, "/api/generate", {"model": name, "prompt": "hi"}) == (200, {"served": True})
    call = service.calls[-1]
    assert canonical_model(call.model) == "m:latest"
    assert call.raw is not None
    assert json.loads(call.raw.body)["model"] == name


def test_a_cloud_model_goes_to_the_first_ollama_as_it_came() -> None:
    service = FakeService(backend("x", kind="openai"), backend("a", "m"), backend("b", "m"))
    body = b'{"model":"big:cloud","prompt":"hi"}'
    assert ask(service, "/api/generate", body)[0] == 200
    assert service.relayed == [("a", body)]


def test_a_body_in_another_spelling_goes_up_so_that_everybody_reads_it() -> None:
    service = FakeService(backend("a", "m"))
    assert ask(service, "/api/generate", b'{"MODEL":"m","prompt":"hi","x":1} rest')[0] == 200
    assert service.calls[0].raw is not None
    assert service.calls[0].raw.body == b'{"model":"m","prompt":"hi","x":1}'


# -- loading and unloading --------------------------------------------------------


def test_unloading_reaches_every_holder_that_has_anything_loaded() -> None:
    service = FakeService(
        backend("a", "m", "alias", loaded=["alias"]),
        backend("b", "m", loaded=["m"]),
        backend("idle", "m"),
        backend("other", "n", loaded=["n"]),
        backend("x", "m", kind="openai"),
    )
    body = b'{"model":"m","keep_alive":"0s"}'
    assert ask(service, "/api/generate", body) == (200, json.loads(UNLOADED))
    assert sorted(service.relayed) == [("a", body), ("b", body)]
    assert service.refreshed == [{"a", "b", "idle", "other"}, {"a", "b"}]
    assert service.calls == []


def test_an_unloading_that_fails_somewhere_is_no_success() -> None:
    service = FakeService(backend("a", "m", loaded=["m"]), backend("b", "m", loaded=["m"]))
    service.relay_status = 500
    assert ask(service, "/api/chat", {"model": "m", "keep_alive": 0}) == (500, {"error": "no"})


def test_what_is_not_loaded_anywhere_is_unloaded_by_who_would_serve() -> None:
    service = FakeService(backend("a", "m"), backend("b"))
    assert ask(service, "/api/chat", {"model": "m", "messages": [], "keep_alive": 0}) == (200, {"served": True})
    assert service.relayed == []


@pytest.mark.parametrize("keep_alive", [0, 0.0, "0", "-0s", "0h0m"])
def test_zero_has_many_forms(keep_alive: object) -> None:
    service = FakeService(backend("a", "m", loaded=["m"]), backend("b"))
    ask(service, "/api/generate", {"model": "m", "keep_alive": keep_alive})
    assert len(service.relayed) == 1


@pytest.mark.parametrize("keep_alive", [None, 1, -1, "5m", "1", "x", True, []])
def test_what_is_no_zero_loads(keep_alive: object) -> None:
    service = FakeService(backend("a", "m", loaded=["m"]), backend("b"))
    ask(service, "/api/generate", {"model": "m", "keep_alive": keep_alive})
    assert (service.relayed, len(service.calls)) == ([], 1)


def test_the_only_ollama_is_asked_like_any_other_time() -> None:
    service = FakeService(backend("a", "m", loaded=["m"]))
    assert ask(service, "/api/generate", {"model": "m", "keep_alive": 0}) == (200, {"served": True})
    assert (service.relayed, service.refreshed) == ([], [])


@pytest.mark.parametrize(("keep_alive", "reason"), [(0, "unload"), (60, "load")])
@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
def test_servers_without_loading_are_answered_for(path: str, keep_alive: int, reason: str) -> None:
    service = FakeService(backend("x", "m", kind="openai"))
    status, answer = ask(service, path, {"model": "m", "keep_alive": keep_alive})
    assert (status, answer["done"], answer["done_reason"], answer["model"]) == (200, True, reason, "m")
    assert service.calls == []


def test_loading_prefers_who_knows_loading() -> None:
    service = FakeService(backend("x", "m", kind="openai"), backend("a", "m"))
    assert ask(service, "/api/generate", {"model": "m"}) == (200, {"served": True})
    assert "model details" in {need.value for need in service.calls[0].needs}


# -- lists ---------------------------------------------------------------------------


def test_tags_of_the_same_model_tell_the_younger_date_and_of_others_the_first() -> None:
    def entry(digest: str, time: str) -> dict[str, Any]:
        return {"entry": {"name": "m", "modified_at": time, "digest": digest}}

    service = FakeService(
        backend("a", "m", facts=entry("1", "2026-01-01T00:00:00.5Z")),
        backend("b", "m", facts=entry("1", "2026-01-01T02:00:00.4+01:00")),
        backend("c", "m", facts=entry("2", "2026-03-03T00:00:00Z")),
        backend("d", "old", facts={"entry": {"name": "old", "modified_at": "2025-12-31T23:59:59-05:00"}}),
    )
    status, answer = ask(service, "/api/tags", b"")
    assert status == 200
    assert answer["models"] == [
        {"name": "old", "modified_at": "2025-12-31T23:59:59-05:00"},
        {"name": "m", "modified_at": "2026-01-01T02:00:00.4+01:00", "digest": "1"},
    ]


def test_loaded_models_are_merged() -> None:
    def loaded(name: str, until: str, vram: int, context: int) -> BackendView:
        entry = {"name": "m", "model": "m", "expires_at": until, "size_vram": vram, "context_length": context}
        return BackendView(BackendSpec(name, "ollama", name, "cpu"), Health.HEALTHY, models={}, loaded_entries=(entry,))

    service = FakeService(loaded("a", "2026-01-01T00:00:00Z", 5, 4096), loaded("b", "2026-01-01T00:00:09Z", 3, 2048))
    _, answer = ask(service, "/api/ps", b"")
    assert answer["models"] == [
        {"name": "m", "model": "m", "expires_at": "2026-01-01T00:00:09Z", "size_vram": 5, "context_length": 2048}
    ]
    assert service.refreshed == [{"a", "b"}]


def test_details_of_a_model_that_only_other_servers_have() -> None:
    service = FakeService(backend("x", "m", kind="openai", facts={"context_length": 99}))
    status, answer = ask(service, "/api/show", {"model": "m"})
    assert status == 200
    assert answer["model_info"]["unknown.context_length"] == 99
    assert "completion" in answer["capabilities"]
    assert service.calls == []


def test_the_status_page_tells_of_models_that_differ() -> None:
    service = FakeService(
        backend("a", "m", "same", facts={"digest": "1" * 64}),
        backend("b", "m", facts={"digest": "2" * 64}),
        backend("c", "same", facts={"digest": "1" * 64}),
        backend("x", "m", kind="openai"),
    )
    assert find_differing(service.view) == {"m:latest": {"a": "1" * 64, "b": "2" * 64}}


def test_a_load_with_a_bad_option_is_the_backends_to_refuse() -> None:
    service = FakeService(backend("a", "m"))
    body = b'{"model":"m","prompt":"","options":{"num_predict":"x"}}'
    assert ask(service, "/api/generate", body) == (200, {"served": True})
    assert service.calls[0].raw is not None
    assert service.calls[0].raw.body == body
