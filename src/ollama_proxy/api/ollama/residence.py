"""Requests with nothing to do: they load a model where it would serve, or unload it wherever it is loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ollama_proxy.api.ollama.catalogue import serving
from ollama_proxy.api.ollama.relaying import Answer, ask, backend_lines
from ollama_proxy.api.ollama.writer import JSON, OllamaWriter
from ollama_proxy.domain.call import Call, RawRequest
from ollama_proxy.domain.device import BackendView, FleetView
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import Service
from ollama_proxy.net.bodies.model_name import NameEcho, with_model
from ollama_proxy.net.http1.exchange import Exchange

_OLLAMA = "ollama"
#: Kinds that have a notion of loading: the lab's devices play Ollamas, whose API this package is for them, too.
_LOADING = frozenset((_OLLAMA, "emulated"))


def ollama_ids(view: FleetView) -> list[str]:
    """The serving backends that have a notion of loading."""
    return [backend.id for backend in serving(view) if backend.spec.kind == _OLLAMA]


def is_held_by(view: FleetView, model: str, *, ollama: bool) -> bool:
    """Whether a serving backend that is an Ollama, or that is none, has the model."""
    name = canonical_model(model)
    return any(
        name in (backend.models or {}) or (bool(backend.spec.stand_in_model) and not ollama)
        for backend in serving(view)
        if (backend.spec.kind in _LOADING) is ollama
    )


def answer_here(exchange: Exchange, call: Call, reason: str) -> None:
    """Answer for a server that knows no loading: its models are always there."""
    writer = OllamaWriter(call.model, call.operation, stream=False)
    exchange.respond(200, JSON, writer.write_idle(reason))


async def unload(service: Service, exchange: Exchange, call: Call) -> bool:
    """Unload the model on every backend that has it and anything loaded; False, and no answer, when there is none.

    Which names share a runner is not told by Ollama, so the loaded names are not looked at.
    """
    view = exchange.caller.see(await service.refresh(ollama_ids(service.fleet())))
    name = canonical_model(call.model)
    holders = [
        backend
        for backend in serving(view)
        if backend.spec.kind == _OLLAMA and backend.loaded and name in (backend.models or {})
    ]
    if not holders or exchange.gone:
        return bool(exchange.gone)
    answers = await asyncio.gather(*(_unload_on(service, backend, call, name) for backend in holders))
    if not exchange.gone:
        _answer(exchange, answers)
    await service.refresh([backend.id for backend in holders])
    return True


async def _unload_on(service: Service, backend: BackendView, call: Call, name: str) -> Answer:
    raw = call.raw
    assert raw is not None
    there = (backend.models or {})[name].there
    if not there or there == call.model:
        return await ask(service, backend.id, raw)
    answer = await ask(service, backend.id, RawRequest(raw.head, with_model(raw.body, there)))
    body = NameEcho(there, call.model).rewrite(answer.body)
    return Answer(answer.backend, answer.status, answer.content_type, body)


def _answer(exchange: Exchange, answers: Sequence[Answer]) -> None:
    """One backend's words for all: of one that failed, if any did, for then the model may still be loaded."""
    failed = next((answer for answer in answers if not answer.well), None)
    lines = backend_lines([answer.backend for answer in answers])
    if failed is None or failed.status:
        chosen = failed or answers[0]
        exchange.respond(chosen.status, chosen.content_type, chosen.body, lines)
    else:
        body = OllamaWriter.error_body(f"{failed.backend}: {failed.text}")
        exchange.respond(502, JSON, body, lines)
