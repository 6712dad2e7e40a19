"""Files on their way into backends: streamed through, to several at once if need be, and never held.

The slowest backend sets the pace. The client is asked for the file only when a backend wants it, so that one which has
it already costs no upload.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from ollama_proxy.api.ollama.pins import Pins
from ollama_proxy.api.ollama.progress import describe
from ollama_proxy.api.ollama.relaying import (
    Answer,
    PassedAnswer,
    Refuse,
    ask,
    backend_lines,
    failure_error,
    management_head,
)
from ollama_proxy.domain.call import RawHead, RawRequest
from ollama_proxy.domain.errors import Failure, ProxyError
from ollama_proxy.domain.ports import BodyRelay, Service
from ollama_proxy.net.http1.exchange import Exchange, Header
from ollama_proxy.net.http_request import read_annotations
from ollama_proxy.net.later import answer_later

_JSON = b"application/json; charset=utf-8"
_ROOT = "/api/blobs/"
_MOST_ANSWER_BYTES = 64 * 1024


class Blobs:
    """The two routes of `/api/blobs/<digest>`, and where files are."""

    def __init__(self, service: Service, refuse: Refuse) -> None:
        self._service = service
        self._refuse = refuse
        self._pins = Pins()

    def look(self, exchange: Exchange) -> None:
        """HEAD: whether the backends that a `create` would go to have it."""
        digest = exchange.path.decode("latin-1").removeprefix(_ROOT)
        try:
            target = read_annotations(exchange).target
            pinned = () if target else self._serving(self._pins.find([digest], self._service.now_s()))
            backends = pinned or self._service.place(target)
        except ProxyError as error:
            self._refuse(exchange, error)
            return
        request = RawRequest(management_head(exchange), b"")
        if len(backends) == 1:
            PassedAnswer(exchange, self._service, backends[0], self._refuse, changes=False).send(request)
        else:
            answer_later(exchange, self._look_at_all(exchange, backends, request), "blob head", self._refuse)

    async def _look_at_all(self, exchange: Exchange, backends: Sequence[str], request: RawRequest) -> None:
        answers = await asyncio.gather(*(ask(self._service, one, request) for one in backends))
        missing = next((one for one in answers if not one.well), None)
        if missing is None:
            exchange.respond(200, b"", b"", backend_lines(backends))
        else:
            exchange.respond(missing.status or 502, missing.content_type or _JSON, b"", backend_lines(backends))

    def take(self, exchange: Exchange) -> None:
        """POST: send it on as it comes."""
        try:
            backends = self._service.place(read_annotations(exchange).target)
        except ProxyError as error:
            self._refuse(exchange, error)
            return
        _Upload(exchange, self._service, backends, self._refuse, self._pins).send(management_head(exchange))

    async def locate(self, digests: Sequence[str], targets: Sequence[str]) -> tuple[str, ...]:
        """The backends that have all of these files: those that got them here, else those of `targets` that say so,
        else any that does, else `targets`, for it is theirs to say what is missing."""
        pinned = self._serving(self._pins.find(digests, self._service.now_s()))
        if pinned:
            return pinned
        stores = [one.id for one in self._service.fleet().backends if one.spec.kind == "ollama" and one.health.serves]
        found = await asyncio.gather(*(self._has_all(one, digests) for one in stores))
        holders = [one for one, has in zip(stores, found, strict=True) if has]
        return tuple(one for one in targets if one in holders) or tuple(holders[:1]) or tuple(targets)

    async def _has_all(self, backend: str, digests: Sequence[str]) -> bool:
        heads = [RawHead(b"HEAD", f"{_ROOT}{digest}".encode("latin-1")) for digest in digests if _is_plain(digest)]
        if len(heads) < len(digests):
            return False
        answers = await asyncio.gather(*(ask(self._service, backend, RawRequest(head, b"")) for head in heads))
        return all(answer.well for answer in answers)

    def _serving(self, backends: Sequence[str]) -> tuple[str, ...]:
        serving = {one.id for one in self._service.fleet().backends if one.health.serves}
        return tuple(one for one in backends if one in serving)


def _is_plain(digest: str) -> bool:
    """Whether it can stand in a path; what a request says must not become another request."""
    return digest.isascii() and digest.replace(":", "").replace("-", "").isalnum() and len(digest) <= 100


class _Lane:
    """One backend's share of an upload."""

    relay: BodyRelay

    def __init__(self, owner: _Upload, backend: str) -> None:
        self._owner = owner
        self.backend = backend
        self.ready = self.full = self.over = False
        self.failure: Failure | None = None
        self._status = 0
        self._content_type = b""
        self._body = bytearray()

    @property
    def answer(self) -> Answer:
        """What it said in the end."""
        if self.failure is not None:
            return Answer(self.backend, 0, b"", self.failure.message.encode())
        return Answer(self.backend, self._status, self._content_type, bytes(self._body))

    def on_ready(self) -> None:
        self.ready = True
        self._owner.look_around()

    def on_full(self) -> None:
        self.full = True
        self._owner.look_around()

    def on_drained(self) -> None:
        self.full = False
        self._owner.look_around()

    def on_response(self, status: int, headers: Sequence[Header]) -> None:
        self._status = status
        self._content_type = dict(headers).get(b"content-type", b"")

    def on_body(self, data: bytes) -> None:
        if len(self._body) < _MOST_ANSWER_BYTES:
            self._body += data

    def on_complete(self) -> None:
        self.full, self.over = False, True
        self._owner.look_around()

    def on_error(self, failure: Failure) -> None:
        self.failure = failure
        self.on_complete()


class _Upload:
    """One file from a client to its backends."""

    def __init__(
        self, exchange: Exchange, service: Service, backends: Sequence[str], refuse: Refuse, pins: Pins
    ) -> None:
        self._exchange = exchange
        self._service = service
        self._refuse = refuse
        self._pins = pins
        self._lanes = [_Lane(self, backend) for backend in backends]
        self._begun = False
        self._answered = False

    def send(self, head: RawHead) -> None:
        """Announce the file to all of them."""
        self._exchange.on_disconnect = self._abort
        for lane in self._lanes:
            lane.relay = self._service.upload(lane.backend, head, self._exchange.body_bytes, lane)

    def _abort(self) -> None:
        self._answered = True
        for lane in self._lanes:
            lane.relay.abort()

    def look_around(self) -> None:
        """Something has changed on a lane: answer, begin, wait or go on."""
        if self._answered:
            return
        if all(lane.over for lane in self._lanes):
            self._answered = True
            self._answer()
        elif not self._begun:
            if all(lane.ready or lane.over for lane in self._lanes):
                self._begun = True
                self._exchange.take_body(self)
        elif any(lane.full for lane in self._lanes):
            self._exchange.pause_body()
        else:
            self._exchange.resume_body()

    def on_body(self, data: bytes) -> None:
        for lane in self._lanes:
            if not lane.over:
                lane.relay.write(data)

    def on_body_end(self) -> None:
        for lane in self._lanes:
            if not lane.over:
                lane.relay.end()

    def _answer(self) -> None:
        exchange = self._exchange
        answers = [lane.answer for lane in self._lanes]
        backends = [one.backend for one in answers]
        if all(one.well for one in answers):
            digest = exchange.path.decode("latin-1").removeprefix(_ROOT)
            self._pins.add(digest, backends, self._service.now_s())
            exchange.respond(max(one.status for one in answers), b"", b"", backend_lines(backends))
            return
        first = answers[0]
        if all(one.status == first.status and one.body == first.body for one in answers):
            failure = self._lanes[0].failure
            if failure is not None:
                self._refuse(exchange, failure_error(", ".join(backends), failure))
            else:
                exchange.respond(first.status, first.content_type, first.body, backend_lines(backends))
            return
        failed = {one.backend: one.text for one in answers if not one.well}
        text = describe(failed, [one.backend for one in answers if one.well])
        exchange.respond(500, _JSON, msgspec.json.encode({"error": text}), backend_lines(backends))
