"""Lists of models: whatever backends leave out, and whatever fails, the client gets an answer."""

from __future__ import annotations

import asyncio
import json
from typing import cast

import pytest

from ollama_proxy.api.ollama.catalogue import list_models
from ollama_proxy.api.ollama.routes import OllamaApi
from ollama_proxy.api.openai.routes import OpenAiApi
from ollama_proxy.domain.device import BackendSpec, BackendView, FleetView, Health, ModelFacts
from ollama_proxy.domain.ports import Service
from ollama_proxy.net.http1.server import HttpServer
from tests.support.http1 import read_answers, serve


def test_entries_without_a_time_are_listed_last() -> None:
    models = {
        "a:1b": ModelFacts("a:1b", entry={"name": "a:1b"}),
        "b:1b": ModelFacts("b:1b", entry={"name": "b:1b", "modified_at": "2026-01-01T00:00:00Z"}),
    }
    views = tuple(BackendView(BackendSpec(name, "ollama", name, "cpu"), Health.HEALTHY, models=models) for name in "xy")
    listed = json.loads(list_models(FleetView(1, views)))["models"]
    assert [entry["name"] for entry in listed] == ["b:1b", "a:1b"]


class Broken:
    """A service whose every answer is a fault of ours."""

    def fleet(self) -> FleetView:
        return FleetView(1, ())

    async def refresh(self, changed: object = ()) -> FleetView:
        raise KeyError("bug of ours")


@pytest.mark.parametrize("path", ["/api/tags", "/api/ps", "/v1/models", "/v1/models/m"])
def test_a_fault_of_ours_is_an_error_and_not_silence(path: str, caplog: pytest.LogCaptureFixture) -> None:
    service = cast(Service, Broken())
    routes = {**OllamaApi(service).routes, **OpenAiApi(service).routes, **OpenAiApi(service).prefixes}
    name = path.encode() if path != "/v1/models/m" else b"/v1/models/"

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        writer.write(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
        ((status, body),) = await read_answers(reader, 1)
        assert status == 500
        assert b"internal error" in body
        assert b"bug of ours" not in body

    serve(client, routes[name][b"GET"])
    assert "bug of ours" in caplog.text
