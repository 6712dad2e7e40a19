"""B1: the same borders between requests as other servers draw, in front of them and behind them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from bench.ports import find_ports
from bench.reliability.row import NotRun, Outcome, Row, Setting
from bench.reliability.smuggling.compare import differ_before_us, differ_behind_us
from bench.reliability.smuggling.drive import send_streams
from bench.reliability.smuggling.mutator import find_tag, make_stream, name_target
from bench.reliability.smuggling.others import OTHERS, Other
from bench.reliability.smuggling.recorder import Recorder
from tests.support.proxy import ProxyProcess
from tests.support.wire import serve_bytes

_LEAST_SERVERS = 4


def run(setting: Setting) -> Outcome:
    """Streams are dealt out to the servers, each one way and the other."""
    others = [one for one in OTHERS if one.find()]
    if len(others) < _LEAST_SERVERS:
        missing = ", ".join(one.name for one in OTHERS if not one.find())
        raise NotRun(f"not here: {missing} (bench/reliability/install.sh)")
    total = setting.of(20_000, 400)
    figures: dict[str, Any] = {"streams_each_way": total}
    differences: list[str] = []
    for place, other in enumerate(others):
        numbers = range(place, total, len(others))
        for way, play in (("in front", _in_front), ("behind", _behind)):
            counts, found = play(setting, other, numbers)
            setting.say(f"{way} of {other.name}, {len(numbers)} streams: {counts}, {len(found)} differences")
            figures[f"{way} {other.name}"] = counts
            differences += [f"{way} of {other.name}: {one}" for one in found]
    figures["differences"] = differences[:50]
    told = f"{total:,} streams each way over {', '.join(one.name for one in others)}: {len(differences)} differences"
    read = sum(counts["recorded"] for name, counts in figures.items() if isinstance(counts, dict))
    words = f"{told}; {read:,} requests arrived at the end of the chains"
    return Outcome(not differences and read >= total, words, figures)


def _in_front(setting: Setting, other: Other, numbers: range) -> tuple[dict[str, int], list[str]]:
    """Client, we, the other, recorder."""
    recorder = Recorder()
    work = setting.work / f"front-{other.name}"
    port = find_ports(1)

    async def play() -> int:
        await recorder.start()
        server = other.start(work, port, recorder.port)
        try:
            with ProxyProcess(setting.work, replace=_looking_through(port)) as proxy:
                return await send_streams(setting.seed, numbers, proxy.http_port, _progress(setting, len(numbers)))
        finally:
            server.stop()
            recorder.stop()

    answers = asyncio.run(play())
    logged = other.read_log(work)
    found = [f"h11 refused what {other.name} made of ours: {one}" for one in recorder.refused]
    again = 0
    strays = Counter(recorder.seen.get(None, []))  # a fault has struck what names the stream
    for number in numbers:
        ours = serve_bytes(make_stream(setting.seed, number), [])[0]
        strays -= Counter(ours)
        if difference := differ_behind_us(ours, recorder.seen.get(number, [])):
            found.append(f"stream {number}: {difference}")
        expected = Counter(tag for read in ours if (tag := find_tag(read[1])[1]))
        for name in (b"r0", b"r1", b"r2", b"inner", b"last"):
            target = name_target(number, name)
            if logged[target] and not expected[target]:
                found.append(f"stream {number}: it read {target!r}, and we did not")
            # No border has moved: we took it that a connection had been closed before the request was read.
            again += max(0, logged[target] - expected[target]) if expected[target] else 0
    found += [f"a request of no stream: {read!r}" for read in strays]
    return _count(answers, recorder, logged) | {"read_again": again}, found


def _behind(setting: Setting, other: Other, numbers: range) -> tuple[dict[str, int], list[str]]:
    """Client, the other, we, recorder."""
    recorder = Recorder()
    work = setting.work / f"behind-{other.name}"
    port = find_ports(1)

    async def play() -> int:
        await recorder.start()
        with ProxyProcess(setting.work, replace=_looking_through(recorder.port)) as proxy:
            server = other.start(work, port, proxy.http_port)
            try:
                return await send_streams(setting.seed, numbers, port, _progress(setting, len(numbers)))
            finally:
                server.stop()
                recorder.stop()

    answers = asyncio.run(play())
    logged = other.read_log(work)
    recorded = Counter(tag for reads in recorder.seen.values() for read in reads if (tag := find_tag(read[1])[1]))
    found = [f"h11 refused what we made of it: {one}" for one in recorder.refused]
    found += [
        f"{target!r} came out {recorded[target]} times, it read {logged[target]}"
        for target in differ_before_us(logged, recorded)
    ]
    return _count(answers, recorder, logged), found


def _looking_through(port: int) -> dict[str, Any]:
    backend = {"id": "behind", "endpoint": f"http://127.0.0.1:{port}", "transparent": True}
    return {"backends": [backend], "routing": {"default_backend": ""}}


def _count(answers: int, recorder: Recorder, logged: Counter[bytes]) -> dict[str, int]:
    recorded = sum(len(reads) for reads in recorder.seen.values())
    return {"answers": answers, "logged": logged.total(), "recorded": recorded}


def _progress(setting: Setting, total: int) -> Callable[[], None]:
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if done % 1000 == 0:
            setting.say(f"{done} of {total} streams")

    return step


ROWS = (
    Row(
        "B1",
        "differential smuggling: mutated streams through us to four other servers, and through them to us",
        "20,000 streams; 0 cases where number or borders of requests differ; any doubt is a refusal",
        "An own mutator; nginx, HAProxy, Apache and lighttpd get a quarter of the streams each, once behind our"
        " transparent backend and once in front of us; a recorder behind all reads with h11, the servers' logs say what"
        " they read",
        run,
        "five of the nine servers",
    ),
)
