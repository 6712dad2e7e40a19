"""Opening connections: names with dead addresses, IPv6, Unix sockets, and a caller who has gone in the meantime."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import socket
from collections.abc import Awaitable, Iterator
from pathlib import Path

import pytest
import uvloop

from ollama_proxy.domain.errors import FailureKind
from ollama_proxy.net.draining import drain
from ollama_proxy.net.http1.client import Origin, OriginPool
from ollama_proxy.net.http1.dialing import Address, connect_first, interleave
from ollama_proxy.net.http1.fetch import FetchError, fetch
from ollama_proxy.net.http1.server import HttpServer
from tests.support.http1 import REQUEST, ask_once, echo, refuse

V4, V6 = socket.AF_INET, socket.AF_INET6


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """One that takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield one


@contextlib.contextmanager
def deaf_listener() -> Iterator[Address]:
    """An address where connecting takes for ever: its queue is full."""
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(socket.socket())
        one.bind(("127.0.0.1", 0))
        one.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(one.getsockname())
        yield V4, one.getsockname()


def closed_address() -> Address:
    """Where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        return V4, one.getsockname()


def run(scene: Awaitable[None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await scene

    uvloop.run(limited())


def test_families_take_turns_and_keep_the_resolvers_order() -> None:
    found: list[Address] = [(V6, 1), (V6, 2), (V6, 3), (V4, 4), (V4, 5)]
    assert [where for _, where in interleave(found)] == [1, 4, 2, 5, 3]
    assert interleave(found[:1]) == found[:1]


def test_a_dead_address_holds_up_a_live_one_by_the_delay_alone(listener: socket.socket) -> None:
    async def scene(dead: Address) -> None:
        others = asyncio.all_tasks()
        # With a delay of an hour, only the timer could bring the live address in; with none, it is tried at once.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await connect_first([dead, (V4, listener.getsockname())], delay_s=3600)
        winner = await connect_first([dead, dead, (V4, listener.getsockname())], delay_s=0.001)
        assert winner.getpeername() == listener.getsockname()
        winner.close()
        for _ in range(10):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == others

    with deaf_listener() as dead:
        run(scene(dead))


def test_the_next_address_waits_a_quarter_of_a_second_at_most() -> None:
    assert inspect.signature(connect_first).parameters["delay_s"].default <= 0.25


def test_an_address_that_refuses_holds_up_nobody(listener: socket.socket) -> None:
    async def scene() -> None:
        winner = await connect_first([closed_address(), (V4, listener.getsockname())], delay_s=3600)
        assert winner.getpeername() == listener.getsockname()
        winner.close()

    run(scene())


def test_when_all_refuse_it_is_a_refusal_and_when_not_it_says_why() -> None:
    async def scene() -> None:
        with pytest.raises(ConnectionRefusedError):
            await connect_first([closed_address(), closed_address()])
        with pytest.raises(OSError, match=r".") as caught:
            await connect_first([closed_address(), (V4, ("255.255.255.255", 9))])
        assert not isinstance(caught.value, ConnectionRefusedError)

    run(scene())


def test_the_first_of_two_that_answer_is_taken_and_the_other_closed(listener: socket.socket) -> None:
    async def scene() -> None:
        for _ in range(20):
            winner = await connect_first([(V4, listener.getsockname())] * 3, delay_s=0)
            winner.close()
            for _ in range(5):
                await asyncio.sleep(0)

    before = len(os.listdir("/proc/self/fd"))
    run(scene())
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("host", ["::1", "localhost"])
def test_ipv6_and_names_are_served(host: str) -> None:
    async def scene() -> None:
        server = HttpServer(echo, refuse)
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(server.protocol_factory, "::1" if host == "::1" else "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        origin = Origin(host, port)
        assert origin.authority == (f"[::1]:{port}" if host == "::1" else f"localhost:{port}")
        pool = OriginPool(origin)
        got = await fetch(pool, b"GET /a HTTP/1.1\r\nHost: %b\r\n\r\n" % origin.authority.encode(), 5)
        assert (got.status, bytes(got.body)) == (200, b"GET /a ")
        pool.close()
        listening.close()
        await drain(server, 1)

    run(scene())


def test_unix_sockets_are_served_and_asked(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    peers: list[str] = []

    async def scene() -> None:
        server = HttpServer(lambda exchange: (peers.append(exchange.peer), echo(exchange))[1], refuse)
        listening = await asyncio.get_running_loop().create_unix_server(server.protocol_factory, path)
        pool = OriginPool(Origin("localhost", 80, unix_path=path))
        for _ in range(3):
            got = await fetch(pool, b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n", 5)
            assert (got.status, bytes(got.body)) == (200, b"GET /a ")
        assert (pool.open, pool.idle) == (1, 1)
        assert peers == ["local"] * 3
        pool.close()
        listening.close()
        await drain(server, 1)

    run(scene())


def test_a_unix_socket_that_is_not_there_is_refused(tmp_path: Path) -> None:
    async def scene() -> None:
        with pytest.raises(FetchError) as caught:
            await fetch(OriginPool(Origin("localhost", 80, unix_path=str(tmp_path / "none"))), REQUEST, 5)
        assert caught.value.failure.kind is FailureKind.REFUSED

    run(scene())


def test_an_abort_while_several_addresses_are_tried_leaves_nothing() -> None:
    async def scene(dead: Address) -> None:
        loop = asyncio.get_running_loop()

        class Silent:
            """A sink that must hear nothing."""

            def __getattr__(self, name: str) -> object:
                raise AssertionError(name)

        pool = OriginPool(Origin("localhost", dead[1][1]))
        others = asyncio.all_tasks()
        upload = pool.send(REQUEST, Silent())  # type: ignore[arg-type]
        for _ in range(20):
            await loop.run_in_executor(None, lambda: None)
        upload.abort()
        for _ in range(20):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == others
        assert pool.open == 0

    with deaf_listener() as dead:
        run(scene(dead))


def test_nothing_listens_is_refused_whatever_the_addresses() -> None:
    async def run(host: str) -> None:
        with pytest.raises(FetchError) as caught:
            await fetch(OriginPool(Origin(host, 1)), REQUEST, 5)
        assert caught.value.failure.kind is FailureKind.REFUSED

    for host in ("127.0.0.1", "localhost"):
        uvloop.run(run(host))


def test_a_name_that_does_not_exist_is_unreachable() -> None:
    async def run() -> None:
        with pytest.raises(FetchError) as caught:
            await fetch(OriginPool(Origin("no-such-host.invalid", 80)), REQUEST, 5)
        assert caught.value.failure.kind is FailureKind.UNREACHABLE

    uvloop.run(run())


def test_a_server_that_takes_no_connection_is_a_timeout() -> None:
    async def scene(dead: Address) -> None:
        pool = OriginPool(Origin(*dead[1]), connect_timeout_s=0.05)
        assert (await ask_once(pool))[2] == [FailureKind.TIMEOUT]
        assert pool.open == 0

    with deaf_listener() as dead:
        run(scene(dead))
