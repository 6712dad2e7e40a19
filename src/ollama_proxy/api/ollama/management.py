"""The routes of Ollama's API that are about servers and their models, over several servers.

Where a model is to be brought is the service's to say; where it is, the servers are asked anew. What nobody holds, and
what cannot be right, goes to one server as it came: its words are the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

import msgspec

from ollama_proxy.api.ollama.blobs import Blobs
from ollama_proxy.api.ollama.fan_out import FanOut
from ollama_proxy.api.ollama.go_types import COPY, CREATE, DELETE, PULL, PUSH, read_request
from ollama_proxy.api.ollama.progress import describe
from ollama_proxy.api.ollama.relaying import Answer, PassedAnswer, Refuse, ask, backend_lines, management_head
from ollama_proxy.domain.call import RawRequest
from ollama_proxy.domain.caller import Caller
from ollama_proxy.domain.device import BackendView, ModelFacts
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import Service
from ollama_proxy.net.bodies.go_json import GoType
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http_request import read_annotations
from ollama_proxy.net.http_route import Route
from ollama_proxy.net.later import answer_later

Table = Mapping[bytes, Mapping[bytes, Route]]

_JSON = b"application/json; charset=utf-8"
_NO_CLOUD = b'{"cloud":{"disabled":true,"source":"config"}}'
_NOT_SIGNED_IN = b'{"error":"unauthorized"}'
#: Parts of a model's name that may be left out.


class Management:
    """Handlers, and the tables that say where they are and who may use them."""

    def __init__(self, service: Service, refuse: Refuse) -> None:
        self._service = service
        self._refuse = refuse
        self._blobs = Blobs(service, refuse)

    @property
    def routes(self) -> Table:
        """By exact path."""
        designated = self._send_to_designated
        return {
            b"/api/create": {b"POST": Route(self._create, "models")},
            b"/api/pull": {b"POST": Route(self._pull, "models")},
            b"/api/push": {b"POST": Route(self._push, "models")},
            b"/api/copy": {b"POST": Route(self._copy, "models")},
            b"/api/delete": {b"DELETE": Route(self._delete, "models")},
            b"/api/status": {b"GET": Route(self._status)},
            b"/api/me": {b"POST": Route(self._me, "models")},
            b"/api/signout": {b"POST": Route(designated, "admin")},
            b"/api/experimental/web_search": {b"POST": Route(designated)},
            b"/api/experimental/web_fetch": {b"POST": Route(designated)},
            b"/api/experimental/model-recommendations": {b"GET": Route(designated)},
        }

    @property
    def prefixes(self) -> Table:
        """By the beginning of the path."""
        return {
            b"/api/blobs/": {
                b"HEAD": Route(self._blobs.look, "models"),
                b"POST": Route(self._blobs.take, "models", streams=True),
            },
            b"/api/user/keys/": {b"DELETE": Route(self._send_to_designated, "admin")},
        }

    # -- models that come -----------------------------------------------------------

    def _pull(self, exchange: Exchange) -> None:
        found = self._read(exchange, PULL)
        if found is not None and self._is_free(exchange, found.get("model") or found.get("name")):
            self._later(exchange, self._send_to_placed(exchange, found), "pull")

    async def _send_to_placed(self, exchange: Exchange, found: Mapping[str, Any]) -> None:
        self._bring(exchange, self._service.place(read_annotations(exchange).target), found)

    def _create(self, exchange: Exchange) -> None:
        found = self._read(exchange, CREATE)
        if found is not None and self._is_free(exchange, found.get("model") or found.get("name")):
            self._later(exchange, self._create_where_it_fits(exchange, found), "create")

    async def _create_where_it_fits(self, exchange: Exchange, found: Mapping[str, Any]) -> None:
        """Where the request says; else where its files are, or the model it starts from."""
        target = read_annotations(exchange).target
        backends = self._service.place(target)
        files = (*(found.get("files") or {}).values(), *(found.get("adapters") or {}).values())
        digests = [digest for digest in files if digest]
        if not target and digests:
            backends = await self._blobs.locate(digests, backends)
        body = exchange.body
        if found.get("from"):
            held = await self._find_holders(found["from"])
            if not target and not digests:
                holders = [view.id for view, _ in held]
                backends = tuple(one for one in backends if one in holders) or tuple(holders[:1]) or backends
            renamed = next((facts for view, facts in held if view.id in backends and facts.there), None)
            body = _rename(body, found, "from", renamed) if renamed is not None else body
        self._bring(exchange, backends, found, body)

    def _is_free(self, exchange: Exchange, name: str | None) -> bool:
        """Whether a name is a model's own; one that the configuration gives to a model is not to be made or taken away
        here, and such a request is refused."""
        wanted = canonical_model(name or "")
        for view in self._service.fleet().backends:
            there = view.spec.model_names.get(wanted)
            if there is not None:
                text = f"{name!r} stands for {there!r} by the proxy's configuration; use that name, or change it there"
                self._refuse(exchange, ProxyError(ErrorKind.INVALID_REQUEST, text))
                return False
        return True

    def _bring(
        self, exchange: Exchange, backends: Sequence[str], found: Mapping[str, Any], body: bytes | None = None
    ) -> None:
        if exchange.gone:
            return
        request = RawRequest(management_head(exchange), exchange.body if body is None else body)
        if len(backends) == 1:
            PassedAnswer(exchange, self._service, backends[0], self._refuse, changes=True).send(request)
        else:
            stream = found.get("stream") is not False
            FanOut(exchange, self._service, backends, self._refuse, stream=stream).send(request)

    # -- models that are there ---------------------------------------------------------

    def _copy(self, exchange: Exchange) -> None:
        found = self._read(exchange, COPY)
        if found is not None and self._is_free(exchange, found.get("destination")):
            self._later(exchange, self._change_holders(exchange, found, "source"), "copy")

    def _delete(self, exchange: Exchange) -> None:
        found = self._read(exchange, DELETE)
        if found is not None:
            self._later(exchange, self._delete_own(exchange, found), "delete")

    async def _delete_own(self, exchange: Exchange, found: Mapping[str, Any]) -> None:
        """Delete a model where it goes by its own name; one that has only been given the name is another's."""
        name = found.get("model") or found.get("name")
        held = await self._find_holders(name or "")
        own = [(view, facts) for view, facts in held if not facts.there]
        if own or not held or self._is_free(exchange, name):
            await self._ask_holders(exchange, own, found, "model")

    async def _change_holders(self, exchange: Exchange, found: Mapping[str, Any], key: str) -> None:
        """Ask every backend that has the model, and make one answer of theirs."""
        await self._ask_holders(exchange, await self._find_holders(found.get(key) or ""), found, key)

    async def _ask_holders(
        self,
        exchange: Exchange,
        holders: Sequence[tuple[BackendView, ModelFacts]],
        found: Mapping[str, Any],
        key: str,
    ) -> None:
        if not holders:
            self._send_to_designated(exchange)
            return
        head = management_head(exchange)
        answers = await asyncio.gather(
            *(
                ask(self._service, view.id, RawRequest(head, _rename(exchange.body, found, key, facts)))
                for view, facts in holders
            )
        )
        done = [one.backend for one in answers if one.well]
        if done:
            await self._service.refresh(done)
        _respond(exchange, answers)

    def _push(self, exchange: Exchange) -> None:
        found = self._read(exchange, PUSH)
        if found is not None:
            self._later(exchange, self._push_from_holder(exchange, found), "push")

    async def _push_from_holder(self, exchange: Exchange, found: Mapping[str, Any]) -> None:
        holders = await self._find_holders(found.get("model") or found.get("name") or "")
        if exchange.gone:
            return
        if not holders:
            self._send_to_designated(exchange)
            return
        view, facts = holders[0]
        request = RawRequest(management_head(exchange), _rename(exchange.body, found, "model", facts))
        PassedAnswer(exchange, self._service, view.id, self._refuse, changes=False).send(request)

    async def _find_holders(self, name: str) -> list[tuple[BackendView, ModelFacts]]:
        """The Ollama backends that have a model now, and what they know of it."""
        stores = [view.id for view in self._service.fleet().backends if _is_store(view)]
        view = await self._service.refresh(stores)
        wanted = canonical_model(name)
        found = []
        for backend in view.backends:
            facts = (backend.models or {}).get(wanted) if _is_store(backend) else None
            if facts is not None:
                found.append((backend, facts))
        return found

    # -- what is one server's own ---------------------------------------------------------

    def _designated(self, caller: Caller) -> str:
        """The backend that speaks for all that a caller sees, where only one can; "" without one."""
        return next((view.id for view in caller.see(self._service.fleet()).backends if _is_store(view)), "")

    def _send_to_designated(self, exchange: Exchange) -> None:
        backend = self._designated(exchange.caller)
        if exchange.gone:
            return
        if not backend:
            self._refuse(exchange, ProxyError(ErrorKind.NO_HEALTHY_BACKEND, "no healthy Ollama backend"))
            return
        request = RawRequest(management_head(exchange), exchange.body)
        PassedAnswer(exchange, self._service, backend, self._refuse, changes=False).send(request)

    def _status(self, exchange: Exchange) -> None:
        if self._designated(exchange.caller):
            self._send_to_designated(exchange)
        else:
            exchange.respond(200, _JSON, _NO_CLOUD)

    def _me(self, exchange: Exchange) -> None:
        if self._designated(exchange.caller):
            self._send_to_designated(exchange)
        else:
            exchange.respond(401, _JSON, _NOT_SIGNED_IN)

    # -- of all of them ---------------------------------------------------------------------

    def _read(self, exchange: Exchange, kind: GoType) -> dict[str, Any] | None:
        """The body; None when it has been refused."""
        try:
            return read_request(exchange.body, kind)
        except ProxyError as error:
            self._refuse(exchange, error)
            return None

    def _later(self, exchange: Exchange, work: Coroutine[Any, Any, None], name: str) -> None:
        answer_later(exchange, self._or_refuse(exchange, work), name, self._refuse)

    async def _or_refuse(self, exchange: Exchange, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except ProxyError as error:
            self._refuse(exchange, error)


def _is_store(view: BackendView) -> bool:
    return view.spec.kind == "ollama" and view.health.serves


def _rename(body: bytes, found: Mapping[str, Any], key: str, facts: ModelFacts) -> bytes:
    """The request in the backend's own name of the model; the very bytes where that is the client's."""
    if not facts.there:
        return body
    dropped = "name" if key == "model" else ""
    kept = {name: value for name, value in found.items() if name != dropped and value is not None}
    return msgspec.json.encode({**kept, key: facts.there})


def _respond(exchange: Exchange, answers: Sequence[Answer]) -> None:
    """One answer for all: the same one if they agree. A model that has gone meanwhile is no failure of the others'."""
    backends = [one.backend for one in answers]
    first = answers[0]
    done = [one.backend for one in answers if one.well]
    failed = {one.backend: one.text for one in answers if not (one.well or (done and one.status == 404))}
    if not failed:
        exchange.respond(200, b"", b"", backend_lines(done))
    elif first.status and all(one.status == first.status and one.body == first.body for one in answers):
        exchange.respond(first.status, first.content_type, first.body, backend_lines(backends))
    else:
        body = msgspec.json.encode({"error": describe(failed, done)})
        exchange.respond(500, _JSON, body, backend_lines(backends))
