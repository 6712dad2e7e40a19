"""Several emulated servers and the control port that switches their faults."""

from __future__ import annotations

import asyncio
import errno

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.lab.device import DEVICES
from ollama_proxy.lab.faults import NO_FAULT, read_fault
from ollama_proxy.lab.server import EmulatedServer
from ollama_proxy.lab.text import TextSource
from ollama_proxy.net.asgi import AsgiBridge
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http1.server import HttpServer


class Lab:
    """The fleet."""

    def __init__(self, names: tuple[str, ...], text: TextSource, speed: float, slots: int = 1) -> None:
        self.servers = {name: EmulatedServer(DEVICES[name], text, speed, slots) for name in names}
        self.control_port = 0
        self._control: asyncio.Server | None = None

    async def start(self, host: str, ports: tuple[int, ...], control_port: int) -> dict[str, int]:
        """Listen everywhere; returns the port of each device. Raises `OSError` when one is taken."""
        bound = {}
        for server, port in zip(self.servers.values(), ports, strict=True):
            try:
                bound[server.device.name] = await server.start(host, port)
            except OSError as error:
                raise OSError(error.errno, _describe(error, host, port)) from None
        bridge = AsgiBridge(self._build_control(), _refuse)
        loop = next(iter(self.servers.values())).loop
        try:
            self._control = await loop.create_server(
                HttpServer(bridge.handle, _refuse).protocol_factory, host, control_port
            )
        except OSError as error:
            raise OSError(error.errno, _describe(error, host, control_port)) from None
        self.control_port = self._control.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Stop all servers."""
        if self._control is not None:
            self._control.close()
        for server in self.servers.values():
            await server.stop()

    def _build_control(self) -> Starlette:
        fault_path = "/lab/devices/{name}/faults"
        return Starlette(
            routes=[
                Route("/lab/devices", self._list),
                Route(fault_path, self._show, methods=["GET"]),
                Route(fault_path, self._switch, methods=["POST", "DELETE"]),
            ]
        )

    async def _list(self, request: Request) -> Response:
        return _json({"devices": [server.describe() for server in self.servers.values()]})

    async def _show(self, request: Request) -> Response:
        server = self.servers.get(request.path_params["name"])
        return _unknown(self.servers) if server is None else _json(msgspec.to_builtins(server.faults.fault))

    async def _switch(self, request: Request) -> Response:
        server = self.servers.get(request.path_params["name"])
        if server is None:
            return _unknown(self.servers)
        try:
            fault = NO_FAULT if request.method == "DELETE" else read_fault(await request.body())
        except ProxyError as error:
            return _json({"error": error.message}, 400)
        await server.set_fault(fault)
        return _json(server.describe())


def _describe(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use"
    return f"cannot listen on {host}:{port}: {(error.strerror or 'no reason given').lower()}"


def _json(document: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document) + b"\n", status, media_type="application/json")


def _unknown(servers: dict[str, EmulatedServer]) -> Response:
    return _json({"error": f"no such device; known are {', '.join(servers)}"}, 404)


def _refuse(exchange: Exchange, status: int, message: str) -> None:
    exchange.respond(status, b"text/plain", message.encode() + b"\n")
