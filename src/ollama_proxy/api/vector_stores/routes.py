"""The routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import msgspec

from ollama_proxy.api.vector_stores import documents, requests
from ollama_proxy.api.vector_stores.errors import JSON, invalid, refuse
from ollama_proxy.api.vector_stores.upload import FormSink, read_upload
from ollama_proxy.domain.caller import Caller
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.library import Library
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http_request import read_body
from ollama_proxy.net.http_route import Route
from ollama_proxy.net.later import answer_later

_FILES = b"/v1/files"
_STORES = b"/v1/vector_stores"
Handler = Callable[[Exchange], None]
#: A path's parts behind its beginning, and what it is asked for; the document of the answer.
Act = Callable[[Exchange, Caller, list[str]], Awaitable[Any]]


class VectorStoresApi:
    """Routes over a library. A key's files and stores are its own; keys for `admin` have everybody's."""

    root = _STORES
    #: Of methods that a path has not, in its own form.
    refuses_methods = True

    def __init__(self, library: Callable[[], Library | None]) -> None:
        """While there is no library every route says that it is switched off."""
        self._library = library
        self.routes: Mapping[bytes, Mapping[bytes, Handler]] = {
            _FILES: {b"GET": self._route(self._list_files), b"POST": Route(self._upload, streams=True)},
            _STORES: {b"GET": self._route(self._list_stores), b"POST": self._route(self._add_store)},
        }
        self.prefixes: Mapping[bytes, Mapping[bytes, Handler]] = {
            _FILES + b"/": {b"GET": self._read_file, b"DELETE": self._route(self._delete_file)},
            _STORES + b"/": {method: self._route(self._act) for method in (b"GET", b"POST", b"DELETE")},
        }

    def refuse(self, exchange: Exchange, error: ProxyError) -> None:
        """Answer an error."""
        refuse(exchange, error)

    @property
    def _kept(self) -> Library:
        library = self._library()
        if library is None:
            raise ProxyError(ErrorKind.NOT_FOUND, "vector stores are switched off (vectors.enabled)")
        return library

    def _route(self, act: Act) -> Handler:
        def handle(exchange: Exchange) -> None:
            path = exchange.path.decode("utf-8", "replace").split("/")[3:]
            answer_later(
                exchange, self._answer(exchange, act(exchange, exchange.caller, path)), "vector stores", refuse
            )

        return handle

    async def _answer(self, exchange: Exchange, work: Awaitable[Any]) -> None:
        try:
            document = await work
        except ProxyError as error:
            if not exchange.gone:
                refuse(exchange, error)
            return
        if not exchange.gone:
            exchange.respond(200, JSON, msgspec.json.encode(document) + b"\n")

    # -- files -----------------------------------------------------------------------

    def _upload(self, exchange: Exchange) -> None:
        def take(body: bytes) -> None:
            answer_later(exchange, self._answer(exchange, self._add_file(exchange, body)), "upload", refuse)

        def fail(error: ProxyError) -> None:
            refuse(exchange, error)

        try:
            FormSink(exchange, self._kept.max_file_bytes, take, fail).take()
        except ProxyError as error:
            refuse(exchange, error)

    async def _add_file(self, exchange: Exchange, body: bytes) -> Any:
        came = read_upload(exchange, body)
        file = await self._kept.add_file(exchange.caller, came.name, came.purpose, came.content, came.keep_s)
        return documents.describe_file(file)

    async def _list_files(self, exchange: Exchange, caller: Caller, path: list[str]) -> Any:
        page, asked = requests.read_page(exchange.query, 10_000, 10_000)
        found = await self._kept.files(caller, asked.get("purpose", ""), page)
        return documents.page_of(documents.describe_file, found)

    def _read_file(self, exchange: Exchange) -> None:
        path = exchange.path.decode("utf-8", "replace").split("/")[3:]
        if len(path) == 2 and path[1] == "content":
            answer_later(exchange, self._send_content(exchange, path[0]), "file content", refuse)
        else:
            self._route(self._show_file)(exchange)

    async def _send_content(self, exchange: Exchange, file: str) -> None:
        try:
            content = await self._kept.content(exchange.caller, file)
        except ProxyError as error:
            refuse(exchange, error)
            return
        exchange.respond(200, b"application/octet-stream", content)

    async def _show_file(self, exchange: Exchange, caller: Caller, path: list[str]) -> Any:
        return documents.describe_file(await self._kept.file(caller, _only(path)))

    async def _delete_file(self, exchange: Exchange, caller: Caller, path: list[str]) -> Any:
        await self._kept.delete_file(caller, _only(path))
        return documents.describe_deleted(path[0], "file")

    # -- stores ----------------------------------------------------------------------

    async def _list_stores(self, exchange: Exchange, caller: Caller, path: list[str]) -> Any:
        page, _ = requests.read_page(exchange.query)
        return documents.page_of(documents.describe_store, await self._kept.stores(caller, page))

    async def _add_store(self, exchange: Exchange, caller: Caller, path: list[str]) -> Any:
        made, wanted = requests.read_new_store(read_body(exchange))
        for one in wanted:
            await self._kept.file(caller, one.file)
        store = await self._kept.add_store(caller, made)
        if wanted:
            await self._kept.attach(caller, store.id, wanted, batch=False)
            store = await self._kept.store(caller, store.id)
        return documents.describe_store(store)

    async def _act(self, exchange: Exchange, caller: Caller, path: list[str]) -> Any:
        """Everything below one store."""
        store, part, *rest = [*path, ""] if len(path) == 1 else path
        method = exchange.method
        act: Callable[..., Coroutine[Any, Any, Any]] | None
        if part == "" and not rest:
            act = {b"GET": self._show_store, b"POST": self._change_store, b"DELETE": self._delete_store}.get(method)
        elif part == "search" and not rest:
            act = self._search if method == b"POST" else None
        elif part == "files":
            act = self._file_act(method, rest)
        elif part == "file_batches":
            act = self._batch_act(method, rest)
        else:
            act = None
        if act is None:
            raise _nowhere(exchange)
        return await act(exchange, caller, store, *rest[:1])

    def _file_act(self, method: bytes, rest: list[str]) -> Callable[..., Coroutine[Any, Any, Any]] | None:
        match rest:
            case []:
                return {b"GET": self._list_attached, b"POST": self._attach}.get(method)
            case [_]:
                acts = {b"GET": self._show_attached, b"POST": self._set_attributes, b"DELETE": self._detach}
                return acts.get(method)
            case [_, "content"] if method == b"GET":
                return self._show_passages
        return None

    def _batch_act(self, method: bytes, rest: list[str]) -> Callable[..., Coroutine[Any, Any, Any]] | None:
        match method, rest:
            case b"POST", []:
                return self._add_batch
            case b"GET", [_]:
                return self._show_batch
            case b"POST", [_, "cancel"]:
                return self._cancel_batch
            case b"GET", [_, "files"]:
                return self._list_attached
        return None

    async def _show_store(self, exchange: Exchange, caller: Caller, store: str) -> Any:
        return documents.describe_store(await self._kept.store(caller, store))

    async def _change_store(self, exchange: Exchange, caller: Caller, store: str) -> Any:
        changes = requests.read_changes(read_body(exchange))
        return documents.describe_store(await self._kept.change_store(caller, store, changes))

    async def _delete_store(self, exchange: Exchange, caller: Caller, store: str) -> Any:
        await self._kept.delete_store(caller, store)
        return documents.describe_deleted(store, "vector_store.deleted")

    async def _search(self, exchange: Exchange, caller: Caller, store: str) -> Any:
        query = requests.read_search(read_body(exchange))
        return documents.describe_hits(query.texts, await self._kept.search(caller, store, query))

    # -- files in a store --------------------------------------------------------------

    async def _attach(self, exchange: Exchange, caller: Caller, store: str) -> Any:
        wanted = requests.read_one_file(read_body(exchange))
        [attached], _ = await self._kept.attach(caller, store, [wanted], batch=False)
        return documents.describe_attached(attached)

    async def _list_attached(self, exchange: Exchange, caller: Caller, store: str, batch: str = "") -> Any:
        page, asked = requests.read_page(exchange.query)
        found = await self._kept.attachments(caller, store, requests.read_status(asked), batch, page)
        return documents.page_of(documents.describe_attached, found)

    async def _show_attached(self, exchange: Exchange, caller: Caller, store: str, file: str) -> Any:
        return documents.describe_attached(await self._kept.attached(caller, store, file))

    async def _set_attributes(self, exchange: Exchange, caller: Caller, store: str, file: str) -> Any:
        attributes = requests.read_new_attributes(read_body(exchange))
        return documents.describe_attached(await self._kept.set_attributes(caller, store, file, attributes))

    async def _detach(self, exchange: Exchange, caller: Caller, store: str, file: str) -> Any:
        await self._kept.detach(caller, store, file)
        return documents.describe_deleted(file, "vector_store.file.deleted")

    async def _show_passages(self, exchange: Exchange, caller: Caller, store: str, file: str) -> Any:
        return documents.describe_content(await self._kept.passages(caller, store, file))

    async def _add_batch(self, exchange: Exchange, caller: Caller, store: str) -> Any:
        wanted = requests.read_batch(read_body(exchange))
        _, batch = await self._kept.attach(caller, store, wanted, batch=True)
        return documents.describe_batch(await self._kept.batch(caller, store, batch))

    async def _show_batch(self, exchange: Exchange, caller: Caller, store: str, batch: str) -> Any:
        return documents.describe_batch(await self._kept.batch(caller, store, batch))

    async def _cancel_batch(self, exchange: Exchange, caller: Caller, store: str, batch: str) -> Any:
        return documents.describe_batch(await self._kept.cancel_batch(caller, store, batch))


def _only(path: list[str]) -> str:
    if len(path) != 1:
        raise invalid("there is nothing below a file but its content")
    return path[0]


def _nowhere(exchange: Exchange) -> ProxyError:
    where = f"{exchange.method.decode()} {exchange.path.decode('utf-8', 'replace')[:200]}"
    return ProxyError(ErrorKind.NOT_FOUND, f"there is no {where}")
