"""The way out: in which order, and what may cut it short."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from ollama_proxy.app.process import departure
from ollama_proxy.app.process.departure import Departure
from ollama_proxy.app.process.ports import Ports


class Clients:
    """Ports, as far as leaving goes: `idle` is set when no connection is left."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.idle = asyncio.Event()
        self.waited_for = asyncio.Event()

    def announce(self, *, followed: bool = False) -> None:
        self.told.append("announce")

    def stop_listening(self) -> None:
        self.told.append("stop listening")

    def begin_drain(self) -> None:
        self.told.append("drain")

    async def wait_idle(self) -> None:
        self.waited_for.set()
        await self.idle.wait()

    def abort(self) -> None:
        self.told.append("abort")


def leave(clients: Clients, *, followed: bool) -> tuple[Departure, asyncio.Task[None]]:
    way_out = Departure(cast(Ports, clients), ())
    way_out.followed = followed
    return way_out, asyncio.get_running_loop().create_task(way_out.leave(0.0, 0.0))


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(departure, "_HANDSHAKES_S", 0.0)
    monkeypatch.setattr(departure, "_LAST_CALL_S", 0.0)


async def turns() -> None:
    """All that can happen without a clock, and a little more."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_kept_connection_outlasts_the_grace_period_when_there_is_a_successor() -> None:
    async def run() -> None:
        clients = Clients()
        _, task = leave(clients, followed=True)
        await clients.waited_for.wait()
        await turns()
        assert clients.told == ["announce"]
        clients.idle.set()
        await task
        assert clients.told == ["announce", "drain", "abort"]

    asyncio.run(run())


def test_without_a_successor_kept_connections_are_closed_at_once() -> None:
    async def run() -> None:
        clients = Clients()
        _, task = leave(clients, followed=False)
        await task
        assert clients.told == ["announce", "stop listening", "drain", "abort"]

    asyncio.run(run())


def test_a_farewell_can_be_cut_short() -> None:
    async def run() -> None:
        clients = Clients()
        way_out, task = leave(clients, followed=True)
        await clients.waited_for.wait()
        way_out.hurry()
        await task
        assert clients.told == ["announce", "drain", "abort"]

    asyncio.run(run())
