"""One emulated Ollama server: the product's own Ollama, OpenAI and Anthropic routes over a device that only pretends.

Every answer carries `X-Emulated`, so that nobody takes its watts or its words for real.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from ollama_proxy.api.anthropic.routes import AnthropicApi
from ollama_proxy.api.ollama.routes import OllamaApi
from ollama_proxy.api.openai.routes import OpenAiApi
from ollama_proxy.api.responses.routes import ResponsesApi
from ollama_proxy.domain.call import Call, Operation, RawHead, RawRequest
from ollama_proxy.domain.device import BackendSpec, BackendView, FleetView, Health
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import AnswerSink, BodyRelay, Relay, RelaySink, UploadSink
from ollama_proxy.lab.device import DeviceSpec, list_models
from ollama_proxy.lab.faults import Fault, FaultSwitch
from ollama_proxy.lab.rendering import render
from ollama_proxy.lab.run import Run
from ollama_proxy.lab.text import TextSource
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http1.server import HttpServer
from ollama_proxy.net.http_route import Route, lay_routes

VERSION = "0.24.0"
_KEEP_S = 300.0
_FOREVER_S = 100 * 365 * 86400.0
_JSON = b"application/json"


class EmulatedServer:
    """A device behind Ollama's routes, on one port."""

    def __init__(self, device: DeviceSpec, text: TextSource, speed: float, slots: int = 1) -> None:
        """`slots` requests run at once, each as fast as alone."""
        self.slots = slots
        self.device = device
        self.text = text
        self.speed = speed
        self.loop = asyncio.get_running_loop()
        self.faults = FaultSwitch()
        self.models = list_models(device.models)
        self.loaded_until_s: dict[str, float] = {}
        self.waiting: deque[Run] = deque()
        self.active: set[Run] = set()
        self.joules = 0.0
        self.counts = {"requests": 0, "finished": 0, "cancelled": 0, "tokens": 0}
        self.last_cancelled_s: float | None = None
        self._ids = 0
        self._exchange: Exchange | None = None
        routes, self._prefixes = lay_routes((OpenAiApi(self), ResponsesApi(self), AnthropicApi(self)))
        self._routes = {**OllamaApi(self).routes, **routes}
        self._label = f"X-Emulated: {device.name}\r\n".encode()
        self._http = HttpServer(self._handle, self._refuse)
        self._listener: asyncio.Server | None = None
        self._address = ("", 0)

    # -- listening -----------------------------------------------------------

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises `OSError`."""
        self._listener = await self.loop.create_server(self._http.protocol_factory, host, port, backlog=1024)
        bound: int = self._listener.sockets[0].getsockname()[1]
        self._address = (host, bound)
        return bound

    async def stop(self) -> None:
        """Stop listening and drop every connection: what a dead server looks like from outside."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for connection in list(self._http.connections):
            connection.transport.abort()

    async def set_fault(self, fault: Fault) -> None:
        """Switch a fault; `refuse` takes the listening socket away and any other brings it back."""
        self.faults.set(fault)
        if fault.fault == "refuse":
            await self.stop()
        elif self._listener is None:
            await self.start(*self._address)

    # -- routing -------------------------------------------------------------

    def _handle(self, exchange: Exchange) -> None:
        exchange.fixed_lines = self._label
        path = exchange.path
        if path == b"/lab/state":
            exchange.respond(200, _JSON, msgspec.json.encode(self.describe()))
            return
        methods = self._routes.get(path) or next(
            (found for prefix, found in self._prefixes.items() if path.startswith(prefix)), {}
        )
        handler = methods.get(exchange.method)
        if handler is None:
            known = bool(methods)
            text = b"405 method not allowed" if known else b"404 page not found"
            exchange.respond(405 if known else 404, b"text/plain", text)
            return
        managing = isinstance(handler, Route) and handler.permission not in ("open", "key", "infer")
        if managing or path.startswith(b"/api/experimental/"):
            # These are about a server's files and its account, and it has none.
            exchange.respond(501, _JSON, b'{"error":"an emulated device takes no models"}')
            return
        rendered = render(path, exchange.body)
        if rendered is not None:
            exchange.respond(200, _JSON, rendered)
            return
        self._exchange = exchange
        handler(exchange)

    def _refuse(self, exchange: Exchange, status: int, message: str) -> None:
        exchange.fixed_lines = self._label
        exchange.respond(status, b"text/plain", message.encode())

    # -- the Service of the APIs -----------------------------------------------

    def submit(self, call: Call, sink: AnswerSink) -> Run:
        exchange = self._exchange
        assert exchange is not None
        self.counts["requests"] += 1
        run = Run(self, call, sink, exchange, self.faults.strike(exchange.path.decode("ascii")))
        if canonical_model(call.model) not in self.models:
            run.over = True
            text = f'model "{call.model}" not found, try pulling it first'
            if call.operation is not Operation.EMBED:
                text = f"model '{call.model}' not found"
            sink.fail(ProxyError(ErrorKind.MODEL_NOT_FOUND, text))
            return run
        if run.strike_at_once():
            return run
        self.waiting.append(run)
        self.loop.call_soon(self.next_run)
        return run

    def name_default(self, call: Call) -> bool:
        return False

    def relay(self, backend: str, request: RawRequest, sink: RelaySink) -> Relay:
        raise KeyError(backend)

    def upload(self, backend: str, head: RawHead, length: int | None, sink: UploadSink) -> BodyRelay:
        raise KeyError(backend)

    def place(self, target: str) -> tuple[str, ...]:
        raise ProxyError(ErrorKind.UNIMPLEMENTED, "an emulated device takes no models")

    def next_run(self) -> None:
        """Give the device to the request that has waited longest."""
        while len(self.active) < self.slots and self.waiting:
            run = self.waiting.popleft()
            if not run.over:
                self.active.add(run)
                run.start()

    def release(self, run: Run) -> None:
        """A request is over, well or not."""
        if run in self.active:
            self.active.remove(run)
            self.loop.call_soon(self.next_run)

    def load_s(self, model: str) -> float:
        """Seconds until a model is ready; it stays for five minutes after its last use."""
        name = canonical_model(model)
        now_s = self.loop.time()
        cold = self.loaded_until_s.get(name, 0.0) < now_s
        self.loaded_until_s[name] = now_s + _KEEP_S
        return self.device.load_s if cold else 0.0

    def keep(self, model: str, keep_s: float | None) -> None:
        """Keep a model in memory for some seconds after its use, five minutes when nothing was said; 0 drops it."""
        name = canonical_model(model)
        if keep_s == 0:
            self.loaded_until_s.pop(name, None)
        else:
            self.loaded_until_s[name] = self.loop.time() + (_KEEP_S if keep_s is None else keep_s)

    def fleet(self) -> FleetView:
        spec = BackendSpec(self.device.name, "emulated", f"emulated {self.device.name}", self.device.name)
        now_s = self.loop.time()
        loaded = [name for name, until_s in self.loaded_until_s.items() if until_s > now_s]
        entries = tuple(self._loaded_entry(name) for name in loaded if name in self.models)
        view = BackendView(
            spec, Health.HEALTHY, models=self.models, loaded_entries=entries, version=VERSION, emulated=True
        )
        return FleetView(0, (view,))

    def _loaded_entry(self, name: str) -> dict[str, Any]:
        entry = dict(self.models[name].entry)
        entry.pop("modified_at", None)
        left_s = min(self.loaded_until_s[name] - self.loop.time(), _FOREVER_S)
        expires = datetime.now(UTC) + timedelta(seconds=left_s)
        return {**entry, "expires_at": expires.isoformat(), "size_vram": entry["size"], "context_length": 4096}

    async def refresh(self, changed: Collection[str] = ()) -> FleetView:
        return self.fleet()

    def now_s(self) -> float:
        return self.loop.time()

    def make_request_id(self) -> str:
        self._ids += 1
        return f"lab-{self.device.name}-{self._ids}"

    def describe(self) -> dict[str, Any]:
        """What `/lab/state` says; joules are emulated."""
        return {
            "device": self.device.name,
            "kind": "emulated",
            "port": self._address[1],
            "listening": self._listener is not None,
            "watts_now": self.device.watts if self.active else 0.0,
            "joules": round(self.joules + sum(run.joules() for run in self.active), 6),
            "in_flight": sum(not run.over for run in self.waiting) + len(self.active),
            "fault": self.faults.fault.fault,
            "ms_since_last_cancel": None
            if self.last_cancelled_s is None
            else round((self.loop.time() - self.last_cancelled_s) * 1000),
            **self.counts,
        }
