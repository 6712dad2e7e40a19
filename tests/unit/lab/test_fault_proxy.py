"""The fault proxy between real sockets: what each fault looks like from both ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from ollama_proxy.lab.fault_proxy import FaultProxy
from ollama_proxy.lab.wire_fault import WireFault
from tests.support.http1 import until

Scene = Callable[[FaultProxy, "Upstream"], Awaitable[None]]


class Upstream:
    """Echoes in capitals; says what it saw of the ends of its connections."""

    def __init__(self) -> None:
        self.ends: list[str] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while data := await reader.read(65536):
                writer.write(data.upper())
            self.ends.append("end")
        except ConnectionError:
            self.ends.append("reset")
        writer.close()


def play(scene: Scene, fault: WireFault | None = None) -> None:
    async def run() -> None:
        upstream = Upstream()
        server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
        proxy = FaultProxy(server.sockets[0].getsockname())
        try:
            async with asyncio.timeout(20):
                await proxy.start("127.0.0.1", 0, 0)
                if fault is not None:
                    await proxy.set_fault(fault)
                await scene(proxy, upstream)
                await until(lambda: not proxy.pairs)
        finally:
            await proxy.stop()
            server.close()
            await asyncio.sleep(0.01)

    uvloop.run(run())


async def open_to(proxy: FaultProxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def leave(writer: asyncio.StreamWriter) -> None:
    writer.close()


def test_bytes_and_ends_pass_when_nothing_is_wrong() -> None:
    async def scene(proxy: FaultProxy, upstream: Upstream) -> None:
        reader, writer = await open_to(proxy)
        data = b"abc" * 500_000
        writer.write(data)
        writer.write_eof()
        assert await reader.read(-1) == data.upper()
        assert upstream.ends == ["end"]
        assert proxy.counts["up_bytes"] == proxy.counts["down_bytes"] == len(data)
        await leave(writer)

    play(scene)
    play(scene, WireFault(jitter_ms=2.0))
    play(scene, WireFault(slice_bytes=4000))


def test_a_reset_is_seen_at_both_ends() -> None:
    async def scene(proxy: FaultProxy, upstream: Upstream) -> None:
        reader, writer = await open_to(proxy)
        writer.write(b"abcdef")
        assert await reader.readexactly(3) == b"ABC"
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        await until(lambda: upstream.ends == ["reset"])
        assert proxy.counts["struck"] == 1
        await leave(writer)

    play(scene, WireFault(direction="down", end="reset", after_bytes=3))


def test_a_close_looks_like_a_good_end() -> None:
    async def scene(proxy: FaultProxy, upstream: Upstream) -> None:
        reader, writer = await open_to(proxy)
        writer.write(b"abcdef")
        assert await reader.read(-1) == b"ABC"
        await leave(writer)

    play(scene, WireFault(direction="down", end="close", after_bytes=3))


def test_a_half_close_leaves_the_other_way_open() -> None:
    async def scene(proxy: FaultProxy, upstream: Upstream) -> None:
        reader, writer = await open_to(proxy)
        writer.write(b"abcdef")
        assert await reader.read(-1) == b"ABCD"
        assert upstream.ends == ["end"]
        await leave(writer)

    play(scene, WireFault(direction="up", end="half_close", after_bytes=4))


def test_a_stall_holds_what_comes_until_it_is_off() -> None:
    async def scene(proxy: FaultProxy, upstream: Upstream) -> None:
        reader, writer = await open_to(proxy)
        writer.write(b"abcdef")
        assert await reader.readexactly(2) == b"AB"
        writer.write(b"ghi")
        await until(lambda: proxy.counts["down_bytes"] == 9)
        await proxy.set_fault(WireFault())
        assert await reader.readexactly(7) == b"CDEFGHI"
        await leave(writer)

    play(scene, WireFault(direction="down", end="stall", after_bytes=2))


def test_a_stalled_sender_is_held_back() -> None:
    async def scene(proxy: FaultProxy, upstream: Upstream) -> None:
        _, writer = await open_to(proxy)
        writer.write(bytes(16_000_000))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(writer.drain(), 0.3)
        assert proxy.counts["up_bytes"] < 2_000_000
        writer.transport.abort()
        await proxy.set_fault(WireFault())

    play(scene, WireFault(direction="up", end="stall"))


def test_hang_accepts_and_never_dials() -> None:
    async def scene(proxy: FaultProxy, upstream: Upstream) -> None:
        reader, writer = await open_to(proxy)
        writer.write(b"abcdef")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)
        assert not upstream.connections
        await leave(writer)

    play(scene, WireFault(end="hang"))


def test_refuse_takes_the_port_away_and_gives_it_back() -> None:
    async def scene(proxy: FaultProxy, upstream: Upstream) -> None:
        with pytest.raises(ConnectionRefusedError):
            await open_to(proxy)
        await proxy.set_fault(WireFault())
        reader, writer = await open_to(proxy)
        writer.write(b"a")
        assert await reader.readexactly(1) == b"A"
        await leave(writer)

    play(scene, WireFault(end="refuse"))


def test_the_control_port_switches_what_is_open() -> None:
    async def ask(proxy: FaultProxy, method: str, body: bytes = b"") -> tuple[int, dict[str, object]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.control_port)
        head = f"{method} /fault HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = await reader.read(-1)
        writer.close()
        return int(answer.split(b" ", 2)[1]), json.loads(answer.partition(b"\r\n\r\n")[2])

    async def scene(proxy: FaultProxy, upstream: Upstream) -> None:
        reader, writer = await open_to(proxy)
        writer.write(b"a")
        assert await reader.readexactly(1) == b"A"
        status, state = await ask(proxy, "POST", b'{"end":"reset","direction":"down"}')
        assert status == 200
        assert state["struck"] == 1
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        assert (await ask(proxy, "POST", b'{"end":"explode"}'))[0] == 400
        assert (await ask(proxy, "GET"))[1]["struck"] == 1
        status, state = await ask(proxy, "DELETE")
        assert status == 200
        assert "'end': 'none'" in str(state)
        await leave(writer)

    play(scene)


def test_without_an_upstream_a_client_is_reset() -> None:
    async def scene(proxy: FaultProxy, upstream: Upstream) -> None:
        proxy.upstream = ("127.0.0.1", 1)
        reader, writer = await open_to(proxy)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        assert proxy.counts["not_dialled"] == 1
        await leave(writer)

    play(scene)
