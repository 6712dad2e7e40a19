"""D9: descriptors, disk and memory run out, one after the other."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.reliability.clients import Heard, ask
from bench.reliability.fake import Fake
from bench.reliability.row import Outcome, Row, Setting, judge
from bench.reliability.rows.overload import read_slowly
from bench.reliability.stage import over, rss_mb
from tests.support.proxy import ProxyProcess

_DESCRIPTORS, _HELD = 256, 400
_DISK_KB = 1024
#: Above what the proxy has when it is idle, and what slow readers of long answers can make it take.
_SPARE_MB, _READERS = 22.0, 150
_BACK_S = 5.0


def starvation(setting: Setting) -> Outcome:
    """Each scarcity with a proxy of its own."""
    figures: dict[str, Any] = {}
    told = []
    for name, play in (("descriptors", _descriptors), ("disk", _disk), ("memory", _memory)):
        words, figures[name] = asyncio.run(play(setting))
        setting.say(f"{name}: {words}")
        told.append(words)
    return judge("; ".join(told), figures, *(one["holds"] for one in figures.values()))


async def _descriptors(setting: Setting) -> tuple[str, dict[str, Any]]:
    """More clients than the process may have descriptors."""
    fake = Fake(tokens=3, pace_s=0.002)
    await fake.start()
    async with over(setting.work, [fake.url]) as proxy:
        pid = proxy.child.pid
        await asyncio.to_thread(resource.prlimit, pid, resource.RLIMIT_NOFILE, (_DESCRIPTORS, _DESCRIPTORS))
        held = []
        for _ in range(_HELD):
            try:
                held.append((await asyncio.open_connection("127.0.0.1", proxy.http_port))[1])
            except OSError:
                break
        await asyncio.sleep(1.0)
        among = await ask(proxy.http_port, "among many", limit_s=5)
        for writer in held:
            writer.transport.abort()
        back_s, alive = await _until_served(proxy), proxy.child.process.poll() is None
    await fake.stop()
    words = (
        f"{len(held)} connections held against {_DESCRIPTORS} descriptors: a request among them was {among.kind}"
        f" ({among.error or among.status}), alive {alive}, served {back_s:.1f} s after they left"
    )
    return words, {"holds": alive and back_s <= 2, "among": among.kind, "back_s": round(back_s, 2)}


async def _disk(setting: Setting) -> tuple[str, dict[str, Any]]:
    """Nothing can be written where it keeps what it knows; then something can again."""
    fake = Fake(tokens=3, pace_s=0.002)
    await fake.start()
    backend = {"id": "b0", "endpoint": fake.url, "slots": 1000}
    proxy = ProxyProcess(setting.work, replace={"backends": [backend], "routing": {"default_backend": ""}})
    with _small_disk(proxy.state):
        await asyncio.to_thread(proxy.start)
        try:
            await ask(proxy.http_port, "first")
            filler = proxy.state / "filler"
            filled = await asyncio.to_thread(_fill, filler)
            heard = [await ask(proxy.http_port, f"full {number}", limit_s=10) for number in range(200)]
            served = sum(one.kind == "done" for one in heard)
            filler.unlink()
            before = _count_rows(proxy.state)
            for number in range(20):
                await ask(proxy.http_port, f"room {number}")
            written = await _until_written(proxy.state, before + 20)
            alive = proxy.child.process.poll() is None
        finally:
            code = await asyncio.to_thread(proxy.stop)
    await fake.stop()
    words = (
        f"{served} of {len(heard)} served on a disk that is full behind {filled} KiB, alive {alive};"
        f" {'what came later is in the ledger' if written else 'NOTHING is written again'} when there is room, ended"
        f" with code {code}"
    )
    return words, {"holds": served == len(heard) and alive and written and code == 0, "served": served}


async def _memory(setting: Setting) -> tuple[str, dict[str, Any]]:
    """Clients that do not read fill what the process may take."""
    fake = Fake(tokens=5, pace_s=0.001)
    await fake.start()
    async with over(setting.work, [fake.url]) as proxy:
        await ask(proxy.http_port, "first", limit_s=30)
        limit_mb = rss_mb(proxy) + _SPARE_MB
    async with over(setting.work, [fake.url], changes={"process": {"memory_limit_mb": limit_mb * 1.048576}}) as proxy:
        await ask(proxy.http_port, "first", limit_s=30)
        fake.tokens, fake.width, idle_mb = 16_000, 1000, rss_mb(proxy)
        readers = [asyncio.create_task(read_slowly(proxy.http_port, 20)) for _ in range(_READERS)]
        refused, began_s = Heard(), time.monotonic()
        while refused.status != 503 and time.monotonic() - began_s < 15:
            await asyncio.sleep(0.5)
            refused = await ask(proxy.http_port, "is there room?", headers="X-Priority: low\r\n", limit_s=2)
        most_mb = rss_mb(proxy)
        fake.tokens, fake.width = 5, 0
        for task in readers:
            task.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        back_s, alive = await _until_served(proxy), proxy.child.process.poll() is None
        after_mb = rss_mb(proxy)
    await fake.stop()
    retry = b"retry-after" in refused.head.lower()
    words = (
        f"of {limit_mb:.0f} MiB, {most_mb:.0f} were in use (idle {idle_mb:.0f}): new ones got {refused.status}"
        f" {'with' if retry else 'WITHOUT'} Retry-After, alive {alive}, served {back_s:.1f} s after the readers left"
        f" ({after_mb:.0f} MiB)"
    )
    holds = alive and refused.status == 503 and retry and back_s <= _BACK_S
    return words, {"holds": holds, "limit_mb": round(limit_mb), "most_mb": round(most_mb), "after_mb": round(after_mb)}


async def _until_served(proxy: ProxyProcess, limit_s: float = 30.0) -> float:
    """Seconds until a request of a low class is answered."""
    began_s, after = time.monotonic(), Heard()
    while after.kind != "done" and time.monotonic() - began_s < limit_s:
        after = await ask(proxy.http_port, "afterwards", headers="X-Priority: low\r\n", limit_s=5)
        await asyncio.sleep(0.05)
    return time.monotonic() - began_s


@contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    """A file system of its own in a folder. Raises `CalledProcessError` for who may not mount."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK_KB}k,mode=700", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def _fill(path: Path) -> int:
    """Write until there is no room; KiB."""
    with path.open("wb", buffering=0) as out:
        try:
            while True:
                out.write(b"x" * 1024)
        except OSError:
            return path.stat().st_size // 1024


def _count_rows(state: Path) -> int:
    connection = sqlite3.connect(f"file:{state / 'ledger.sqlite'}?mode=ro", uri=True)
    try:
        found: int = connection.execute("SELECT COUNT(*) FROM requests").fetchone()[0]
        return found
    finally:
        connection.close()


async def _until_written(state: Path, rows: int, limit_s: float = 20.0) -> bool:
    """Whether the ledger has so many rows in time."""
    began_s = time.monotonic()
    while time.monotonic() - began_s < limit_s:
        if await asyncio.to_thread(_count_rows, state) >= rows:
            return True
        await asyncio.sleep(0.5)
    return False


ROWS = (
    Row(
        "D9",
        "starvation: 256 descriptors, a full disk, a memory cap",
        "refuses or degrades, does not die; recovers alone",
        "prlimit on the running proxy and 400 connections that say nothing; a file system of 1 MiB that is filled; slow"
        " readers of long answers until its memory limit is near; then each ends",
        starvation,
    ),
)
