"""A proxy and emulated devices on one event loop, for tests that look into both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from ollama_proxy.app.proxy import Proxy
from ollama_proxy.config.schema import (
    Backend,
    Characteristics,
    Config,
    Embedded,
    Energy,
    Learning,
    Meters,
    Monitoring,
    Routing,
    Server,
)
from ollama_proxy.lab.device import DEVICES, DeviceSpec
from ollama_proxy.lab.server import EmulatedServer
from ollama_proxy.lab.text import SyntheticText, TextSource


class Stand:
    """What runs: the proxy, and each device by its name; backends are called as their devices."""

    def __init__(self, proxy: Proxy, servers: Mapping[str, EmulatedServer]) -> None:
        self.proxy = proxy
        self.servers = servers

    async def ask(self, path: str, document: object, **headers: str) -> tuple[int, dict[str, str], Any]:
        """POST a document; status, headers in lower case, and the answer read as JSON."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.proxy.http_port)
        body = msgspec.json.encode(document)
        lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        answer = await reader.read()
        writer.close()
        head, _, rest = answer.partition(b"\r\n\r\n")
        first, *fields = head.decode().split("\r\n")
        found = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
        return int(first.split()[1]), found, msgspec.json.decode(rest) if rest else None


@asynccontextmanager
async def devices(
    ledger: Path | None = None,
    *,
    speed: float = 20,
    specs: Mapping[str, DeviceSpec] = DEVICES,
    changes: Mapping[str, Any] | None = None,
    text: TextSource | None = None,
    more: tuple[Backend, ...] = (),
) -> AsyncIterator[Stand]:
    """A proxy before emulated devices; `changes` are sections of its configuration, `text` is who writes, `more` are
    further backends."""
    servers = {name: EmulatedServer(spec, text or SyntheticText(1), speed) for name, spec in specs.items()}
    try:
        entries = [await _start(name, server, speed) for name, server in servers.items()]
        proxy = Proxy(Config(**(_make_sections((*entries, *more), ledger) | dict(changes or {}))))
        await proxy.start()
        try:
            yield Stand(proxy, servers)
        finally:
            await proxy.stop()
    finally:
        for server in servers.values():
            await server.stop()


async def _start(name: str, server: EmulatedServer, speed: float) -> Backend:
    """Have a device listen; its entry in the configuration."""
    spec = server.device
    port = await server.start("127.0.0.1", 0)
    character = Characteristics(
        power_watts=spec.watts,
        avg_latency_ms=spec.first_token_s * 1000 / speed,
        max_tokens_per_second=spec.decode_tps * speed,
        load_seconds=spec.load_s / speed,
    )
    return Backend(
        id=name,
        endpoint=f"http://127.0.0.1:{port}",
        hardware=name if name in DEVICES else "cpu",  # type: ignore[arg-type]
        memory_pool="none",
        characteristics=character,
    )


def _make_sections(backends: tuple[Backend, ...], ledger: Path | None) -> dict[str, Any]:
    """A configuration that looks at nothing of this machine."""
    return {
        "server": Server(http_port=0, grpc_port=0),
        "backends": backends,
        "embedded": Embedded(enabled="never"),
        "monitoring": Monitoring(prometheus_port=0, trace_requests=False),
        "meters": Meters(enabled="never"),
        "energy": Energy(ledger=ledger is not None, ledger_path=str(ledger or "")),
        "learning": Learning(keep=False),
        "routing": Routing(default_backend=""),
    }
