"""OpenAI's Responses API: the routes."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ollama_proxy.api.responses.answer import Keep, ResponsesAnswer
from ollama_proxy.api.responses.errors import BadRequest, NotStored, write_error
from ollama_proxy.api.responses.file_search import Searched, search_files, wants_search
from ollama_proxy.api.responses.items import output_items
from ollama_proxy.api.responses.listing import list_items
from ollama_proxy.api.responses.requests import Asked, make_call, read_asked
from ollama_proxy.api.responses.store import ResponseStore, StoredResponse, StoreLimits
from ollama_proxy.api.responses.writer import ResponsesWriter
from ollama_proxy.domain.call import Call, Need
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.library import Library
from ollama_proxy.domain.ports import Service
from ollama_proxy.net.bodies.unreadable import UNREADABLE
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http_request import read_body
from ollama_proxy.net.later import answer_later

_JSON = b"application/json"
_PATH = b"/v1/responses"
_PREFIX = b"/v1/responses/"
#: Ollama says so on streams, and on the errors of those who asked for one.
_NO_CACHE = b"Cache-Control: no-cache\r\n"


class ResponsesApi:
    """Routes of the Responses API over the service."""

    root = b"/v1/responses"

    def __init__(
        self,
        service: Service,
        limits: StoreLimits = StoreLimits(),  # noqa: B008  # it is frozen
        library: Callable[[], Library | None] = lambda: None,
    ) -> None:
        """`library` is where `file_search` looks; None while there is none."""
        self._service = service
        self._library = library
        self._store = ResponseStore(limits, service.now_s)
        self.routes: dict[bytes, dict[bytes, Callable[[Exchange], None]]] = {_PATH: {b"POST": self._create}}
        self.prefixes: dict[bytes, dict[bytes, Callable[[Exchange], None]]] = {
            _PREFIX: {b"GET": self._read, b"DELETE": self._delete, b"POST": self._act}
        }

    def refuse(self, exchange: Exchange, error: ProxyError) -> None:
        """Answer an error in this dialect."""
        exchange.respond(*write_error(error))

    # -- create ----------------------------------------------------------------------

    def _create(self, exchange: Exchange) -> None:
        try:
            asked = self._read_asked(exchange)
            if wants_search(asked):
                answer_later(exchange, self._search_first(exchange, asked), "file search", self.refuse)
                return
            call = self._make_call(exchange, asked)
        except ProxyError as error:
            self.refuse(exchange, error)
            return
        self._submit(exchange, asked, call)

    async def _search_first(self, exchange: Exchange, asked: Asked) -> None:
        """Look up what the question is about, then ask for the answer. It is written here, whoever makes it."""
        try:
            try:
                augmented, searched = await search_files(asked, self._library(), exchange.caller)
            except ProxyError as error:
                if error.kind is not ErrorKind.NOT_FOUND or not self._may_be_elsewhere(exchange):
                    raise
                self._submit(exchange, asked, self._make_call(exchange, asked))
                return
            call = self._make_call(exchange, augmented)
        except ProxyError as error:
            self.refuse(exchange, error)
            return
        if not exchange.gone:
            call.raw = None
            self._submit(exchange, asked, call, searched)

    def _may_be_elsewhere(self, exchange: Exchange) -> bool:
        """Whether somebody else who speaks this API may have the stores that are not here."""
        return any(
            one.spec.kind == "openai" and one.health.serves and Need.BUILT_IN_TOOLS in one.capabilities
            for one in exchange.caller.see(self._service.fleet()).backends
        )

    def _make_call(self, exchange: Exchange, asked: Asked) -> Call:
        call = make_call(asked, exchange, exchange.request_id, self._service.now_s())
        if (not call.model or call.model.isspace()) and not self._service.name_default(call):
            raise ProxyError(ErrorKind.INVALID_REQUEST, "model is required")
        return call

    def _submit(self, exchange: Exchange, asked: Asked, call: Call, searched: Searched | None = None) -> None:
        def make_writer() -> ResponsesWriter:
            return ResponsesWriter(
                asked.body, call.model, stream=asked.stream, previous=asked.previous, searched=searched
            )

        keep = self._keep_for(exchange.caller.name, asked) if asked.store else None
        call.caller = exchange.caller
        answer = ResponsesAnswer(exchange, make_writer, keep)
        answer.attach(self._service.submit(call, answer))

    def _read_asked(self, exchange: Exchange) -> Asked:
        asked = read_asked(read_body(exchange))
        if asked.stream:
            exchange.fixed_lines += _NO_CACHE
        if asked.previous:
            earlier = self._store.get(exchange.caller.name, asked.previous)
            if earlier is None:
                message = f"Previous response with id '{asked.previous[:200]}' not found."
                raise BadRequest(message, param="previous_response_id", code="previous_response_not_found")
            asked.follow(earlier)
        return asked

    def _keep_for(self, caller: str, asked: Asked) -> Keep:
        store = self._store

        def keep(document: bytes) -> None:
            response = describe(asked, document)
            if response is not None:
                store.put(caller, response)

        return keep

    # -- what was kept ----------------------------------------------------------------

    def _read(self, exchange: Exchange) -> None:
        ident, _, part = _split(exchange)
        kept = self._store.get(exchange.caller.name, ident)
        if part not in ("", "input_items"):
            _refuse_path(exchange)
        elif kept is None:
            self.refuse(exchange, NotStored(ident))
        elif part:
            self._list(exchange, kept)
        elif b"stream=true" in exchange.query.split(b"&"):
            self.refuse(exchange, BadRequest("a response that is over is not streamed again", param="stream"))
        else:
            exchange.respond(200, _JSON, _as_kept(kept) + b"\n")

    def _list(self, exchange: Exchange, kept: StoredResponse) -> None:
        try:
            document = list_items(kept, exchange.query)
        except ProxyError as error:
            self.refuse(exchange, error)
            return
        exchange.respond(200, _JSON, msgspec.json.encode(document) + b"\n")

    def _delete(self, exchange: Exchange) -> None:
        ident, _, part = _split(exchange)
        if part:
            _refuse_path(exchange)
        elif self._store.delete(exchange.caller.name, ident):
            document = {"id": ident, "object": "response", "deleted": True}
            exchange.respond(200, _JSON, msgspec.json.encode(document) + b"\n")
        else:
            self.refuse(exchange, NotStored(ident))

    def _act(self, exchange: Exchange) -> None:
        ident, _, part = _split(exchange)
        if part != "cancel":
            _refuse_path(exchange)
        elif self._store.get(exchange.caller.name, ident) is None:
            self.refuse(exchange, NotStored(ident))
        else:
            self.refuse(exchange, BadRequest("Cannot cancel a synchronous response."))


def _refuse_path(exchange: Exchange) -> None:
    exchange.respond(404, b"text/plain", b"404 page not found")


def _split(exchange: Exchange) -> tuple[str, str, str]:
    """The id in a path, and what stands behind it."""
    return exchange.path.removeprefix(_PREFIX).decode("utf-8", "replace").partition("/")


class _Named(msgspec.Struct):
    id: str = ""


_named = msgspec.json.Decoder(_Named)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


def describe(asked: Asked, document: bytes) -> StoredResponse | None:
    """What is kept of an answer; None for one that has no id or cannot be read."""
    try:
        ident = _named.decode(document).id
        output, items = output_items(document), asked.items()
    except (*UNREADABLE, ProxyError):
        return None
    return StoredResponse(ident, document, items, output, asked.previous) if ident else None


def _as_kept(kept: StoredResponse) -> bytes:
    """The object, saying what a server that keeps nothing itself could not know."""
    members: dict[str, object] = dict(_members.decode(kept.document))
    members["store"] = True
    if kept.previous:
        members["previous_response_id"] = kept.previous
    return msgspec.json.encode(members)
