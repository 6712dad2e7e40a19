"""A backend of Ollama's dialect that serves any number at once, at a pace of its own, and keeps what it sees."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

import msgspec

from ollama_proxy.lab.device import list_models
from ollama_proxy.net.draining import drain
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http1.server import HttpServer

MODEL = "qwen2.5:0.5b"
#: The body of a request for a whole answer.
GENERATE = json.dumps({"model": MODEL, "prompt": "hi", "stream": False}).encode()
_JSON, _LINES = b"application/json", b"application/x-ndjson"


class _Asked(msgspec.Struct):
    model: str = ""
    prompt: str = ""
    stream: bool = True


class Fake:
    """Streams `tokens` words, one each `pace_s`; `on_left` hears prompt and time of clients that go before the end."""

    def __init__(self, tokens: int = 20, pace_s: float = 0.01, width: int = 0, first_s: float = 0.0) -> None:
        """`width`: how many characters a word has besides; 0 for short ones. `first_s`: until the first word."""
        self.tokens, self.pace_s, self.width, self.first_s = tokens, pace_s, width, first_s
        self.port = 0
        self.asked = self.running = self.most_running = self.finished = self.left = self.bytes_written = 0
        #: Every head that came, for whoever looks for what should not be in it.
        self.heads: list[tuple[bytes, bytes, dict[bytes, bytes]]] = []
        #: Which requests break off before their answer, by their number from 1.
        self.fails: Callable[[int], bool] = lambda number: False
        #: How long those are worked on before.
        self.fails_after_s = 0.0
        #: Where requests with the prompt "redirect" are sent on to.
        self.redirect = ""
        self.on_left: Callable[[str, float], None] = lambda prompt, at_s: None
        self._loop = asyncio.get_running_loop()
        self._http = HttpServer(self._handle, lambda exchange, status, text: exchange.respond(status, _JSON, b"{}"))
        self._listener: asyncio.Server | None = None

    async def start(self, port: int = 0) -> int:
        """Listen; the port."""
        self._listener = await self._loop.create_server(self._http.protocol_factory, "127.0.0.1", port, backlog=2048)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self.port

    async def stop(self) -> None:
        """Stop listening and drop what is open, as a server that dies does."""
        if self._listener is not None:
            self._listener.close()
        await drain(self._http, 0.0)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def text(self) -> str:
        """What a whole answer says."""
        return "".join(self._word(number) for number in range(self.tokens))

    def _word(self, number: int) -> str:
        return f"w{number} " + "x" * self.width

    def _handle(self, exchange: Exchange) -> None:
        self.heads.append((exchange.method, exchange.target, dict(exchange.headers)))
        match exchange.path:
            case b"/api/version":
                exchange.respond(200, _JSON, b'{"version":"0.24.0"}')
            case b"/api/tags" | b"/api/ps":
                entries = [facts.entry for facts in list_models((MODEL,)).values()]
                exchange.respond(200, _JSON, json.dumps({"models": entries}).encode())
            case b"/api/generate":
                self._generate(exchange)
            case _:
                exchange.respond(404, _JSON, b'{"error":"not found"}')

    def _generate(self, exchange: Exchange) -> None:
        asked = msgspec.json.decode(exchange.body, type=_Asked)
        self.asked += 1
        if asked.prompt == "redirect":
            exchange.respond(307, _JSON, b"{}", [(b"Location", self.redirect.encode())])
            return
        if self.fails(self.asked):
            self._loop.call_later(self.fails_after_s, exchange.reset)
            return
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        _Answer(self, exchange, asked).begin()


class _Answer:
    def __init__(self, fake: Fake, exchange: Exchange, asked: _Asked) -> None:
        self._fake, self._exchange, self._asked = fake, exchange, asked
        self._sent = 0
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None
        exchange.on_disconnect = self._leave
        exchange.on_pause, exchange.on_resume = self._pause, self._resume
        if asked.stream:
            exchange.start(200, _LINES)

    def begin(self) -> None:
        """Send the first word, at once or later."""
        if self._fake.first_s:
            self._timer = self._fake._loop.call_later(self._fake.first_s, self.step)
        else:
            self.step()

    def step(self) -> None:
        """Send the next word, and the end behind the last."""
        fake, exchange = self._fake, self._exchange
        self._timer = None
        if exchange.gone or self._paused:
            return
        if self._sent == fake.tokens:
            self._finish()
            return
        if self._asked.stream:
            self._write({"response": fake._word(self._sent), "done": False})
        self._sent += 1
        self._timer = fake._loop.call_later(fake.pace_s, self.step)

    def _finish(self) -> None:
        self._fake.running -= 1
        self._fake.finished += 1
        counts = {"prompt_eval_count": 5, "eval_count": self._sent, "eval_duration": 1, "total_duration": 1}
        end = {"response": "", "done": True, "done_reason": "stop", **counts}
        if self._asked.stream:
            self._write(end)
            self._exchange.end()
        else:
            whole = end | {"model": self._asked.model, "response": self._fake.text()}
            self._exchange.respond(200, _JSON, json.dumps(whole).encode())

    def _write(self, event: dict[str, object]) -> None:
        line = json.dumps({"model": self._asked.model, **event}).encode() + b"\n"
        self._fake.bytes_written += len(line)
        self._exchange.write(line)

    def _pause(self) -> None:
        self._paused = True

    def _resume(self) -> None:
        self._paused = False
        if self._timer is None:
            self.step()

    def _leave(self) -> None:
        self._fake.running -= 1
        self._fake.left += 1
        if self._timer is not None:
            self._timer.cancel()
        self._fake.on_left(self._asked.prompt, time.monotonic())
