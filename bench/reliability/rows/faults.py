"""D: backends that fail, clients that leave, clocks that jump, resources that run out."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import time
from collections.abc import Sequence
from itertools import pairwise
from math import inf
from pathlib import Path

from bench.reliability.clients import Heard, ask, quantile, write_request
from bench.reliability.fake import Fake
from bench.reliability.row import NotRun, Outcome, Row, Setting, judge
from bench.reliability.stage import descriptors, in_flight, over
from bench.reliability.tested import ProvenByTests
from ollama_proxy.fleet.breaker import DWELL_S, FIRST_OUT_S
from tests.support.processes import http_get
from tests.support.proxy import ProxyProcess

_USED = re.compile(rb"x-backend-used: (\S+)", re.IGNORECASE)
_BREAKER = re.compile(r'^ollama_proxy_breaker_most_at_once\{.*"b0".*\}', re.MULTILINE)
#: How long it fails, and does well, in turn; and how often its breaker is looked at.
_FLAP_S, _LOOK_S = 0.7, 0.1
#: Between two probes of a backend, where a row is about that.
_PROBE_S = 2


def breaker(setting: Setting) -> Outcome:
    """Two backends; the one that is preferred breaks every request off, then is well again."""

    async def play() -> Outcome:
        bad, good = Fake(tokens=3, pace_s=0.002), Fake(tokens=3, pace_s=0.002, first_s=0.15)
        await bad.start()
        await good.start()
        async with over(setting.work, [bad.url, good.url]) as proxy:
            for number in range(20):
                await ask(proxy.http_port, f"warm {number}")
            bad.fails = lambda number: True
            before, began_s, lost, last_s = bad.asked, time.monotonic(), 0, 0.0
            seconds = setting.of(20, 8)
            while time.monotonic() - began_s < seconds:
                asked = bad.asked
                heard = await ask(proxy.http_port, "under fault", headers="X-Latency-Critical: true\r\n")
                lost += heard.kind != "done"
                if bad.asked > asked and bad.asked - before <= 5:
                    last_s = time.monotonic() - began_s
                await asyncio.sleep(0.02)
            hits = bad.asked - before
            bad.fails = lambda number: False
            back_s = await _until_used(proxy, b"b0", 30.0)
            changes_s, lost_flapping = await _flap(proxy, bad, setting.of(40, 12))
        await bad.stop()
        await good.stop()
        lost += lost_flapping
        least_s = min((after - before for before, after in pairwise(changes_s)), default=inf)
        told = f", {least_s:.1f} s apart at least" if changes_s[1:] else ""
        words = (
            f"{lost} requests lost; the failing backend was asked {hits} times in {seconds} s (first five within"
            f" {last_s:.1f} s); traffic back {back_s:.1f} s after it was well; while it flapped, its breaker changed"
            f" {len(changes_s)} times in {setting.of(40, 12)} s{told}"
        )
        figures = {"hits": hits, "lost": lost, "back_s": round(back_s, 2), "changes": len(changes_s)}
        steady = bool(changes_s) and least_s >= DWELL_S - _LOOK_S * 2
        return judge(words, figures, not lost, hits <= 6 + seconds / FIRST_OUT_S, back_s <= 2.0, steady)

    return asyncio.run(play())


async def _flap(proxy: ProxyProcess, backend: Fake, seconds: float) -> tuple[list[float], int]:
    """A backend that fails and does well in turn: when its breaker opened or closed; how many requests were lost."""
    began_s, lost, was_closed, changes_s, looked_s = time.monotonic(), 0, True, list[float](), 0.0
    backend.fails = lambda number: (time.monotonic() - began_s) % (2 * _FLAP_S) < _FLAP_S
    while (now_s := time.monotonic()) - began_s < seconds:
        heard = await ask(proxy.http_port, "while it flaps", headers="X-Latency-Critical: true\r\n")
        lost += heard.kind != "done"
        if now_s - looked_s >= _LOOK_S:
            looked_s, page = now_s, (await asyncio.to_thread(http_get, proxy.url + "/metrics"))[1]
            closed = _BREAKER.search(page) is None
            if closed != was_closed:
                changes_s.append(now_s)
            was_closed = closed
        await asyncio.sleep(0.02)
    backend.fails = lambda number: False
    return changes_s, lost


async def _until_used(proxy: ProxyProcess, backend: bytes, limit_s: float) -> float:
    """Seconds until a request is served by a backend."""
    began_s = time.monotonic()
    while time.monotonic() - began_s < limit_s:
        heard = await ask(proxy.http_port, "back?", headers="X-Latency-Critical: true\r\n")
        found = _USED.search(heard.head)
        if heard.kind == "done" and found and found[1] == backend:
            return time.monotonic() - began_s
        await asyncio.sleep(0.05)
    return limit_s


def leavers(setting: Setting) -> Outcome:
    """Clients that leave at random points; does the backend hear of it, and is nothing left?"""
    clients, at_once = setting.of(1000, 200), 50

    async def play() -> Outcome:
        dice = random.Random(setting.seed)
        fake = Fake(tokens=60, pace_s=0.01)
        await fake.start()
        heard_s: dict[str, float] = {}
        left_s: dict[str, float] = {}
        fake.on_left = heard_s.__setitem__
        async with over(setting.work, [fake.url]) as proxy:
            await ask(proxy.http_port, "first")
            before = descriptors(proxy)
            gate = asyncio.Semaphore(at_once)
            ways = [dice.uniform(0.0, 0.6) for _ in range(clients)]
            await asyncio.gather(
                *(_leave_after(proxy.http_port, gate, f"c{number}", way, left_s) for number, way in enumerate(ways))
            )
            await asyncio.sleep(2.0)
            busy, kept = in_flight(proxy), descriptors(proxy) - before
        late = [heard_s[name] - left_s[name] for name in heard_s if name in left_s]
        still = fake.running
        await fake.stop()
        p99_ms = quantile(late, 0.99) * 1000 if late else 0.0
        words = (
            f"{clients} clients left, {len(late)} in mid-answer: it was known there after {p99_ms:.0f} ms p99"
            f"; then {busy:g} attempts in flight, {still} running there, descriptors {kept:+d}"
        )
        figures = {"p99_ms": round(p99_ms, 1), "in_flight": busy, "running": still, "descriptors": kept}
        # Idle connections to the backend stay for the next request: as many as were ever in use at once.
        return judge(words, figures, bool(late), p99_ms <= 250, not busy, not still, kept <= at_once)

    return asyncio.run(play())


async def _leave_after(port: int, gate: asyncio.Semaphore, name: str, way_s: float, left_s: dict[str, float]) -> None:
    async with gate:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(write_request(port, name))
        await asyncio.sleep(way_s)
        left_s[name] = time.monotonic()
        writer.transport.abort()


def all_down(setting: Setting) -> Outcome:
    """Everything goes down at once; what are clients told, and how soon do they get answers again?"""

    async def play() -> Outcome:
        fakes = [Fake(tokens=3, pace_s=0.002) for _ in range(3)]
        ports = [await fake.start() for fake in fakes]
        changes = {"health": {"interval_seconds": _PROBE_S}}
        async with over(setting.work, [fake.url for fake in fakes], changes=changes) as proxy:
            await ask(proxy.http_port, "first")
            for fake in fakes:
                await fake.stop()
            await asyncio.sleep(1.0)
            down = [await ask(proxy.http_port, f"down {number}") for number in range(setting.of(100, 30))]
            await asyncio.sleep(3.0)
            down += [await ask(proxy.http_port, f"still {number}") for number in range(setting.of(100, 30))]
            again = [Fake(tokens=3, pace_s=0.002) for _ in fakes]
            for fake, port in zip(again, ports, strict=True):
                await fake.start(port)
            began_s = time.monotonic()
            back_s = await _until_served(proxy, began_s)
        for fake in again:
            await fake.stop()
        return _judge_down(down, len(fakes), back_s)

    return asyncio.run(play())


async def _until_served(proxy: ProxyProcess, began_s: float) -> float:
    """Seconds until somebody is served again, sixty at most."""
    took_s, heard = 0.0, Heard()
    while heard.kind != "done" and took_s < 60:
        heard = await ask(proxy.http_port, "back?")
        took_s = time.monotonic() - began_s
        await asyncio.sleep(0.05)
    return took_s


def _judge_down(down: Sequence[Heard], backends: int, back_s: float) -> Outcome:
    p99_ms = quantile([heard.took_s for heard in down], 0.99) * 1000
    named = sum(all(f"b{number}" in heard.error for number in range(backends)) for heard in down)
    refused = sum(heard.kind == "refused" for heard in down)
    words = (
        f"{refused} of {len(down)} refused, p99 {p99_ms:.0f} ms, {named} name every backend"
        f" (such as: {down[-1].error[:160]!r}); served again after {back_s:.1f} s"
    )
    figures = {"p99_ms": round(p99_ms, 1), "named": named, "refused": refused, "back_s": round(back_s, 2)}
    return judge(words, figures, refused == named == len(down), p99_ms <= 50, back_s <= _PROBE_S + 1)


_FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


def clocks(setting: Setting) -> Outcome:
    """The wall clock jumps an hour on and two back; then the process stands still for a while."""
    still_s = setting.of(60, 5)
    if not _FAKETIME.exists():
        raise NotRun("faketime is not here (bench/reliability/install.sh)")

    async def play() -> Outcome:
        fake = Fake(tokens=20, pace_s=0.01)
        await fake.start()
        offset = setting.work / "offset"
        offset.write_text("+0\n")
        faked = {"LD_PRELOAD": str(_FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1"}
        faked["DONT_FAKE_MONOTONIC"] = "1"
        os.environ.update(faked)
        bad: list[str] = []
        try:
            async with over(setting.work, [fake.url]) as proxy:
                for name in faked:
                    os.environ.pop(name)
                for step in ("+0", "+3600", "-3600", "+0"):
                    bad += await _step(proxy, offset, step)
                os.kill(proxy.child.pid, signal.SIGSTOP)
                await asyncio.sleep(still_s)
                os.kill(proxy.child.pid, signal.SIGCONT)
                first = await ask(proxy.http_port, "awake")
        finally:
            for name in faked:
                os.environ.pop(name, None)
        await fake.stop()
        words = f"steps of an hour: {len(bad)} things wrong {bad[:3]}"
        words += f"; first answer {first.took_s:.2f} s after {still_s} s asleep"
        return judge(
            words, {"wrong": bad, "first_s": round(first.took_s, 3)}, not bad, first.kind == "done", first.took_s <= 1.0
        )

    return asyncio.run(play())


async def _step(proxy: ProxyProcess, offset: Path, step: str) -> list[str]:
    """Move the clock under a stream and ask a few times more; what was wrong."""
    running = asyncio.create_task(ask(proxy.http_port, f"over {step}"))
    await asyncio.sleep(0.1)
    await asyncio.to_thread(offset.write_text, f"{step}\n")
    heards = [await running, *[await ask(proxy.http_port, f"{step} {number}") for number in range(5)]]
    bad = [f"{step}: {heard.kind} {heard.error}" for heard in heards if heard.kind != "done"]
    lines = http_get(proxy.url + "/metrics")[1].splitlines()
    return bad + [f"{step}: {line}" for line in lines if re.search(r"(_sum|_seconds\S*) -\d", line)]


ROWS = (
    Row(
        "D4",
        "breaker: open, one probe, close",
        "opens in <= 5 failures or 1 s; <= 1 probe an interval; traffic back <= 2 s after recovery; <= 1 change in 5 s",
        "Two backends; the preferred one, with its first word a sixth of a second sooner, breaks off every request,"
        " under urgent requests one after the other; an interval is how long a breaker is open at first;"
        " then it fails for 0.7 s and does well for 0.7 s, again and again",
        breaker,
    ),
    Row(
        "D5",
        "1,000 clients leave at random points",
        "backend sees it <= 250 ms p99; slots, tasks, sockets back to zero",
        "Fifty at a time, each breaks its connection within 0.6 s; a backend notes when it hears of it",
        leavers,
        "the energy of what was cut is H1's",
    ),
    Row(
        "D6",
        "everything down, then back",
        "refusal <= 50 ms p99, naming each backend and why; back without help <= probe interval (2 s here) + 1 s",
        "Three backends stop listening and come back on the same ports",
        all_down,
    ),
    Row(
        "D7",
        "clock steps of an hour; process stopped for 60 s and continued",
        "no negative duration; no mass expiry; first request after waking <= 1 s",
        "libfaketime moves the wall clock of the proxy while streams run; then SIGSTOP and SIGCONT",
        clocks,
    ),
    Row(
        "D10",
        "meters vanish, freeze, wrap, go negative, jump",
        "marked stale; ledger falls back to the model and says so; never NaN",
        "Files of emulated meters in every fault there is; samplers with the clock in hand; properties over readings",
        ProvenByTests(
            (
                "tests/unit/energy/meters/test_faults.py",
                "tests/unit/energy/meters/test_sampler.py",
                "tests/unit/energy/meters/test_counter.py",
                "tests/unit/energy/meters/test_sensors.py",
                "tests/properties/test_meters.py",
                "tests/unit/app/energy/test_metering.py",
            )
        ).run,
    ),
)
