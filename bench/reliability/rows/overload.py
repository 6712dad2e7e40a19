"""C: more than can be served, and peers that are slow."""

from __future__ import annotations

import asyncio
import random
import shutil
import socket
import subprocess
import time
from typing import Any

from bench.reliability.clients import ask, write_request
from bench.reliability.fake import Fake
from bench.reliability.loads import run_load, start_load
from bench.reliability.row import NotRun, Outcome, Row, Setting, judge
from bench.reliability.stage import count_held, over, rss_mb
from tests.support.lab import LabProcess
from tests.support.proxy import ProxyProcess

_SPEED = 5.0
_LEVELS = (1, 2, 5, 10)
_TEXT = ("--text-seed", "1", "--model", "qwen2.5:0.5b", "--tokens", "20")


def overload(setting: Setting) -> Outcome:
    """Find the capacity, then offer one to ten times as much."""
    seconds = setting.of(20, 6)
    figures: dict[str, Any] = {}
    # Nobody waits longer than this row can watch; the queue's other bounds are as shipped.
    with (
        LabProcess(setting.work, speed=_SPEED) as lab,
        ProxyProcess(setting.work, endpoints=lab.endpoints, speed=_SPEED) as proxy,
    ):
        run_load(proxy.url, 5, 3, setting.work, *_TEXT)
        capacity = run_load(proxy.url, 60, seconds, setting.work, *_TEXT)["answered_per_s"]
        figures["capacity_per_s"], before_mb = capacity, rss_mb(proxy)
        for level in _LEVELS:
            found = run_load(proxy.url, capacity * level, seconds, setting.work, *_TEXT)
            figures[f"x{level}"] = found
            setting.say(f"{level} x: {found['answered_per_s']:g}/s answered of {found['rate_per_s']:g}/s offered")
        figures["grown_mb"] = round(rss_mb(proxy) - before_mb, 1)
    return _judge_overload(figures)


def _judge_overload(figures: dict[str, Any]) -> Outcome:
    goodput = {level: figures[f"x{level}"]["answered_per_s"] for level in _LEVELS}
    share = goodput[10] / max(goodput.values())
    refusal_ms = figures["x10"].get("refusal_ms", {}).get("p99")
    failed = sum(sum(figures[f"x{level}"]["failed"].values()) for level in _LEVELS)
    wrong = sum(figures[f"x{level}"]["wrong_text"] for level in _LEVELS)
    silent = figures["x10"]["refused_without_retry_after"]
    told = "no refusals" if refusal_ms is None else f"refusals p99 {refusal_ms:.1f} ms, {silent} without Retry-After"
    return judge(
        f"goodput at 10 x {share:.0%} of the peak ({goodput[10]:g}/s); {told}; {failed} failed, {wrong} wrong texts;"
        f" memory + {figures['grown_mb']} MB",
        figures,
        share >= 0.95,
        refusal_ms is not None and refusal_ms <= 20,
        not silent and not failed and not wrong,
        figures["grown_mb"] <= 16,
    )


def half_fail(setting: Setting) -> Outcome:
    """Half of all upstream calls break off, after some work and then at once; how often are others asked?"""
    figures: dict[str, Any] = {}
    told = []
    for name, after_s in (("after 0.15 s", 0.15), ("at once", 0.0)):
        found, calls = asyncio.run(_count_calls(setting, after_s))
        allowed = 1.2 * found["sent"] + 10 * (found["took_s"] + 1)
        figures[name] = {"load": found, "upstream_calls": calls, "allowed": allowed}
        told.append(
            f"{name}: {found['sent']} asked, {calls} upstream calls ({calls / found['sent']:.2f} each, allowed"
            f" {allowed:.0f}), answered {found['answered']}, failed {found['failed']}, refused {found['refused']}"
        )
    within = [one["upstream_calls"] <= one["allowed"] for one in figures.values()]
    return judge("; ".join(told), figures, *within)


async def _count_calls(setting: Setting, after_s: float) -> tuple[dict[str, Any], int]:
    """The load's report, and how often backends were asked meanwhile."""
    dice = random.Random(setting.seed)
    fakes = [Fake(tokens=3, pace_s=0.002) for _ in range(4)]
    for fake in fakes:
        await fake.start()
    async with over(setting.work, [fake.url for fake in fakes]) as proxy:
        await ask(proxy.http_port, "first")
        base = sum(fake.asked for fake in fakes)
        for fake in fakes:
            fake.fails, fake.fails_after_s = lambda number: dice.random() < 0.5, after_s
        flags = (setting.of(30, 8), setting.work, "--model", "qwen2.5:0.5b")
        found = await asyncio.to_thread(run_load, proxy.url, 40, *flags)
    calls = sum(fake.asked for fake in fakes) - base
    for fake in fakes:
        await fake.stop()
    return found, calls


#: What slowhttptest is told. Its readers get a page that no send buffer holds.
_MODES = {
    "slow heads": ("-H", "-t", "POST"),
    "slow bodies": ("-B", "-t", "POST"),
    "slow readers": ("-X", "-w", "512", "-y", "1024", "-z", "32", "-n", "5"),
}
_PAGES = {"slow readers": "/openapi.json"}


def slow_peers(setting: Setting) -> Outcome:
    """slowhttptest, mode by mode, beside a good client."""
    program = shutil.which("slowhttptest")
    if program is None:
        raise NotRun("slowhttptest is not here (bench/reliability/install.sh)")
    seconds, connections = setting.of(120, 50), setting.of(1000, 200)
    figures: dict[str, Any] = {}
    good = ("--model", "qwen2.5:0.5b", "--tokens", "5")
    with (
        LabProcess(setting.work, speed=100) as lab,
        ProxyProcess(setting.work, endpoints=lab.endpoints, speed=100) as proxy,
    ):
        run_load(proxy.url, 10, 3, setting.work, *good)
        quiet = run_load(proxy.url, 10, min(seconds, 20), setting.work, *good)
        figures["quiet"], before_mb = quiet, rss_mb(proxy)
        most_mb, left = 0.0, dict.fromkeys(_MODES, 0)
        for name, flags in _MODES.items():
            command = [
                *(program, *flags, "-c", str(connections), "-r", "200", "-l", str(seconds), "-i", "5", "-x", "10"),
                *("-p", "3", "-u", proxy.url + _PAGES.get(name, "/api/generate")),
            ]
            with start_load(proxy.url, 10, seconds, setting.work, *good) as load:
                with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=setting.work) as slow:
                    began_s = time.monotonic()
                    while slow.poll() is None:
                        time.sleep(2.0)
                        most_mb = max(most_mb, rss_mb(proxy) - before_mb)
                        # What the proxy holds: a client that hardly reads hears last that it was cut off.
                        if seconds - 6 <= time.monotonic() - began_s < seconds:
                            left[name] = count_held(proxy, slow.pid)
                    # One that has no connection left ends before its time.
                figures[name] = load.finish() | {"held": left[name]}
            setting.say(f"{name}: {figures[name]['answered']} of {figures[name]['sent']} good ones, {left[name]} held")
    figures["grown_mb"] = round(most_mb, 1)
    served = all(figures[name]["answered"] == figures[name]["sent"] for name in _MODES)
    worst_ms = max(figures[name]["whole_ms"]["p99"] for name in _MODES)
    quiet_ms = quiet["whole_ms"]["p99"]
    return judge(
        f"{connections} connections, {seconds} s a mode; good client {'all' if served else 'NOT all'} served, p99"
        f" {worst_ms:.0f} ms (quiet {quiet_ms:.0f}); still held at the end: {left}; memory + {most_mb:.1f} MB",
        figures,
        served,
        worst_ms <= 2 * quiet_ms,
        most_mb <= 64,
        not any(left.values()),
    )


def slow_readers(setting: Setting) -> Outcome:
    """A hundred clients that read 1 KiB a second of streams that come much faster."""
    readers, seconds = setting.of(100, 40), setting.of(25, 8)

    async def play() -> Outcome:
        fake = Fake(tokens=5, pace_s=0.001)
        await fake.start()
        async with over(setting.work, [fake.url]) as proxy:
            await ask(proxy.http_port, "first", limit_s=30)
            fake.tokens, fake.width, before_mb = 16_000, 1000, rss_mb(proxy)
            began = fake.bytes_written
            tasks = [asyncio.create_task(read_slowly(proxy.http_port, seconds)) for _ in range(readers)]
            await asyncio.sleep(seconds * 0.8)
            grown_mb = rss_mb(proxy) - before_mb
            sent_kb = (fake.bytes_written - began) / 1024 / readers
            fake.tokens, fake.width = 5, 0
            others = [await ask(proxy.http_port, f"other {number}", limit_s=20) for number in range(20)]
            await asyncio.gather(*tasks)
        await fake.stop()
        served = sum(heard.kind == "done" for heard in others)
        each_kb = grown_mb * 1024 / readers
        words = (
            f"{readers} readers: proxy grew {each_kb:.0f} KiB a stream, the backend had sent {sent_kb:.0f} of 16,400"
            f" KiB; others served {served} of 20"
        )
        figures = {"grown_mb": round(grown_mb, 1), "sent_kb_each": round(sent_kb), "others": served}
        return judge(words, figures, each_kb <= 256, sent_kb < 16_000, served == 20)

    return asyncio.run(play())


async def read_slowly(port: int, seconds: float) -> int:
    """Bytes that were read; the window is as small as the kernel lets it be."""
    loop = asyncio.get_running_loop()
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    got = 0
    try:
        await loop.sock_connect(raw, ("127.0.0.1", port))
        await loop.sock_sendall(raw, write_request(port, "slow"))
        until_s = loop.time() + seconds
        while loop.time() < until_s:
            got += len(await loop.sock_recv(raw, 1024))
            await asyncio.sleep(1)
    except OSError:
        pass
    finally:
        raw.close()
    return got


ROWS = (
    Row(
        "C1",
        "offered load 1 x to 10 x capacity, open loop",
        "goodput at 10 x >= 95 % of the peak; refusals <= 20 ms p99 with Retry-After; memory flat",
        "Four emulated devices five times faster than life; lab load finds what they answer, then offers 1, 2, 5 and 10"
        " times as much; texts are held against the lab's",
        overload,
    ),
    Row(
        "C2",
        "half of all upstream calls fail",
        "upstream calls <= 1.2 x requests (+ 10/s)",
        "Four backends of the suite's own, each request broken off with a chance of one half, after some work or"
        " at once; 40 requests a second; the second under way counts whole",
        half_fail,
    ),
    Row(
        "C5",
        "slow senders and readers: 1,000 connections for 120 s, three modes",
        "good client 100 % served, p99 <= 2 x quiet; slow ones closed; RSS + <= 64 MiB",
        "slowhttptest with slow heads, slow bodies and slow readers, each beside ten good requests a second",
        slow_peers,
    ),
    Row(
        "C6",
        "100 clients reading 1 KiB/s",
        "<= 256 KiB buffered a stream; the backend is held back; others unchanged",
        "A backend that would send 16 MB in seconds; clients with the smallest window the kernel gives; the growth of"
        " the proxy's memory is divided by the streams",
        slow_readers,
    ),
)
