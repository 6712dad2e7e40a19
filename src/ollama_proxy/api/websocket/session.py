"""One client's WebSocket: which of its requests run, and what its messages do to them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from websockets.frames import CloseCode

from ollama_proxy.api.websocket.answers import Answer, describe_error, refuse
from ollama_proxy.api.websocket.requests import TYPES, Envelope, read_envelope, read_id, read_request
from ollama_proxy.domain.caller import ANYBODY, Caller
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.ports import Service, Ticket
from ollama_proxy.net.websocket import WebSocket

#: How many requests one connection may have under way.
MOST_REQUESTS = 64


class Session:
    """The talk of one WebSocket. `defaults` are annotations from the headers of its handshake; `caller` is who made it,
    and all its requests are theirs."""

    def __init__(
        self,
        service: Service,
        socket: WebSocket,
        defaults: Sequence[tuple[str, object]],
        caller: Caller = ANYBODY,
    ) -> None:
        self._caller = caller
        self._service = service
        self._socket = socket
        self._defaults = defaults
        self._answers: dict[str, Answer] = {}
        self._tickets: dict[str, Ticket] = {}
        self._stops = False

    # -- what comes ------------------------------------------------------------

    def heard(self, text: str) -> None:
        """A message: a request, a cancel or a ping."""
        envelope = Envelope()
        try:
            envelope = read_envelope(text)
            self._take(envelope, read_id(envelope), text)
        except ProxyError as error:
            given = envelope.request_id
            self._tell_error(given if isinstance(given, str) else "", error)

    def _take(self, envelope: Envelope, request_id: str, text: str) -> None:
        kind = envelope.type
        if kind in ("request", None, ""):
            self._begin(request_id, text)
        elif kind == "cancel":
            self._cancel(request_id)
        elif kind == "ping":
            self._socket.send(b'{"type":"pong","request_id":%b}' % msgspec.json.encode(request_id))
        else:
            raise refuse(f"unknown type {str(kind)[:40]!r}; known are {', '.join(TYPES)}")

    def _begin(self, given_id: str, text: str) -> None:
        service = self._service
        if given_id in self._answers:
            raise refuse(f"request_id {given_id!r} is under way on this connection")
        if len(self._answers) >= MOST_REQUESTS:
            raise ProxyError(ErrorKind.RATE_LIMITED, f"{MOST_REQUESTS} requests are under way on this connection")
        if self._stops:
            raise ProxyError(ErrorKind.OVERLOADED, "the server stops", retry_after_s=1)
        request_id = given_id or service.make_request_id()
        call = read_request(text, request_id, service.now_s(), self._defaults)
        if not call.model.strip() and not service.name_default(call):
            raise refuse("model is required")
        call.caller = self._caller
        answer = Answer(self._socket.send, self._forget, request_id, stream=call.stream)
        self._answers[request_id] = answer
        ticket = service.submit(call, answer)
        if answer.ended:
            return
        self._tickets[request_id] = ticket
        if self._socket.paused:
            ticket.pause()

    def _cancel(self, request_id: str) -> None:
        if not request_id:
            raise refuse("a cancel names its request by request_id")
        answer, ticket = self._answers.get(request_id), self._tickets.get(request_id)
        # A request that is not there has ended while the cancel was on its way: its end has been told.
        if answer is not None:
            if ticket is not None:
                ticket.cancel()
            answer.cancel()

    # -- what goes -------------------------------------------------------------

    def _tell_error(self, request_id: str, error: ProxyError) -> None:
        self._socket.send(msgspec.json.encode(describe_error(request_id, error)))

    def _forget(self, request_id: str) -> None:
        """An answer has ended, its last message is sent."""
        self._answers.pop(request_id, None)
        self._tickets.pop(request_id, None)
        if self._stops and not self._answers:
            self._socket.close(CloseCode.GOING_AWAY, "the server stops")

    # -- the connection ----------------------------------------------------------

    def pause(self) -> None:
        """Let no backend run ahead of a client that does not read."""
        for ticket in list(self._tickets.values()):
            ticket.pause()

    def resume(self) -> None:
        """Read from the backends again."""
        for ticket in list(self._tickets.values()):
            ticket.resume()

    def finish_soon(self) -> None:
        """Refuse new requests; close when the last answer has ended."""
        self._stops = True
        if not self._answers:
            self._socket.close(CloseCode.GOING_AWAY, "the server stops")

    def ended(self) -> None:
        """The client has gone: nothing runs on for it."""
        tickets, self._tickets = self._tickets, {}
        self._answers.clear()
        for ticket in tickets.values():
            ticket.cancel()
