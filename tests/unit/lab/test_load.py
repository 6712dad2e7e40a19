"""The load generator on emulated devices, and on servers that do what it has to notice."""

from __future__ import annotations

import asyncio
import itertools
import math
import statistics
from collections.abc import Awaitable, Callable

import msgspec
import pytest
import uvloop

from ollama_proxy.lab.device import DEVICES, SMALL
from ollama_proxy.lab.load import Plan, Tally, run_load
from ollama_proxy.lab.load_dialect import PATHS, Api, read_answer
from ollama_proxy.lab.server import EmulatedServer
from ollama_proxy.lab.text import SyntheticText
from ollama_proxy.net.http1.client import Origin

PLAN = Plan(Origin("127.0.0.1", 1), "ollama", SMALL, True, 50.0, 0.2, text_seed=7)


async def load_a_device(plan: Plan, seed: int = 7) -> Tally:
    server = EmulatedServer(DEVICES["nvidia"], SyntheticText(seed), 1000.0)
    port = await server.start("127.0.0.1", 0)
    tally, _ = await run_load(msgspec.structs.replace(plan, origin=Origin("127.0.0.1", port)))
    await server.stop()
    await asyncio.sleep(0.01)
    return tally


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("api", PATHS)
def test_answers_are_read_and_are_the_labs(api: Api, stream: bool) -> None:
    tally = uvloop.run(load_a_device(msgspec.structs.replace(PLAN, api=api, stream=stream)))
    assert (tally.sent, tally.answered, tally.wrong_text, tally.failed) == (10, 10, 0, {})
    assert tally.whole.count == tally.late_start.count == 10
    assert tally.first_piece.count == tally.longest_gap.count == (10 if stream else 0)


def test_requests_are_due_evenly_or_as_independent_clients_would_ask() -> None:
    even = msgspec.structs.replace(PLAN, rate_per_s=100.0, duration_s=200.0)
    assert list(even.find_dues())[:3] == [0.0, 0.01, 0.02]
    dues = list(msgspec.structs.replace(even, at_random=True).find_dues())
    assert (len(dues), dues) == (even.count, sorted(dues))
    gaps_s = [later - before for before, later in itertools.pairwise(dues)]
    # Gaps of a Poisson process are exponential: as much spread as mean, and one in e longer than that.
    assert statistics.mean(gaps_s) == pytest.approx(0.01, rel=0.05)
    assert statistics.stdev(gaps_s) == pytest.approx(0.01, rel=0.05)
    assert sum(gap_s > 0.01 for gap_s in gaps_s) / len(gaps_s) == pytest.approx(math.exp(-1), rel=0.05)
    assert dues != list(msgspec.structs.replace(even, at_random=True, seed=2).find_dues())


def test_another_text_is_seen() -> None:
    assert uvloop.run(load_a_device(PLAN, seed=8)).wrong_text == 10


def load_raw(answer: Callable[[asyncio.StreamWriter], Awaitable[None]] | None, plan: Plan = PLAN) -> Tally:
    """Load on a server that answers each connection once, and closes it; None: says nothing until the client leaves."""

    async def run() -> Tally:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            if answer is None:
                await reader.read(-1)
            else:
                await answer(writer)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        origin = Origin(*server.sockets[0].getsockname())
        tally, _ = await run_load(msgspec.structs.replace(plan, origin=origin))
        server.close()
        await asyncio.sleep(0.01)  # the last connections close
        return tally

    return uvloop.run(run())


async def say(writer: asyncio.StreamWriter, status: str, body: bytes) -> None:
    head = f"HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)


@pytest.mark.parametrize(
    ("status", "body", "failed"),
    [
        ("200", b'{"response":"a","done":false}\n', {"cut": 10}),
        ("200", b'{"response":"a","done":true}\n{"response":"b","done":true}\n', {"goes on behind its end": 10}),
        ("200", b'{"error":"no"}\n', {"told error": 10}),
        ("200", b"<html>", {"unreadable": 10}),
        ("500", b"no", {"status 500": 10}),
        ("429", b"no", {}),
        ("503", b"no", {}),
    ],
)
def test_what_is_no_answer_is_named(status: str, body: bytes, failed: dict[str, int]) -> None:
    tally = load_raw(lambda writer: say(writer, status, body))
    assert (tally.answered, tally.failed) == (0, failed)
    assert sum(tally.refused.values()) == tally.refusal.count == (0 if failed else 10)


def test_who_stalls_is_charged_for_all_who_were_due_meanwhile() -> None:
    """The first connection blocks the server for as long as five requests take to come due."""
    blocked = False

    async def answer(writer: asyncio.StreamWriter) -> None:
        nonlocal blocked
        if not blocked:
            blocked = True
            import time

            time.sleep(0.1)  # noqa: ASYNC251  # one loop serves and asks: it stalls both
        await say(writer, "200", b'{"response":"","done":true}\n')

    tally = load_raw(answer)
    assert tally.answered == 10
    late_s = tally.whole.quantile_s(0.7)
    assert late_s is not None
    assert late_s >= 0.02


def test_who_never_answers_is_given_up() -> None:
    tally = load_raw(None, msgspec.structs.replace(PLAN, timeout_s=0.05))
    assert tally.failed == {"timeout": 10}


def test_no_more_are_open_than_may_be() -> None:
    tally = load_raw(
        None, msgspec.structs.replace(PLAN, rate_per_s=1000.0, duration_s=0.01, timeout_s=0.5, most_open=4)
    )
    assert tally.failed["timeout"] == 4
    assert tally.failed["not sent: too many are open"] == 6


def test_streams_need_their_end_mark() -> None:
    openai = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n'
    assert read_answer("openai", openai, stream=True).problem == "cut"
    assert read_answer("openai", openai + b"data: [DONE]\n\n", stream=True).problem == ""
    assert read_answer("anthropic", b'data: {"type":"ping"}\n\n', stream=True).problem == "cut"
    assert read_answer("anthropic", b'data: {"type":"error","error":{}}\n\n', stream=True).problem == "told error"
