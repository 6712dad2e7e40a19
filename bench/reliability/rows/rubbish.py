"""B11: generated credentials, names and paths."""

from __future__ import annotations

import asyncio
import json
import random
import re
import string
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bench.reliability.fake import GENERATE, Fake
from bench.reliability.raw import head, post, send
from bench.reliability.row import Outcome, Row, Setting, judge
from tests.support.proxy import ProxyProcess


def rubbish(setting: Setting) -> Outcome:
    """Generated credentials, names and paths; keys are asked for."""
    count = setting.of(10_000, 600)

    async def play() -> Outcome:
        fake = Fake(tokens=1, pace_s=0.0)
        await fake.start()
        dice = random.Random(setting.seed)
        backends = [{"id": "b0", "endpoint": fake.url}]
        replace = {"backends": backends, "routing": {"default_backend": ""}}
        changes = {"server": {"auth": {"enabled": True, "api_keys": {"one": {"key_hash": "sha256:" + "0" * 64}}}}}
        open_ = ProxyProcess(setting.work, replace=replace)
        closed = ProxyProcess(setting.work, replace=replace, changes=changes)
        for proxy in (open_, closed):
            await asyncio.to_thread(proxy.start)
        try:
            files = _list_files(setting.work)
            before = fake.asked
            strangers = await _count(closed, count, lambda: post(b"/api/generate", GENERATE, _make_credential(dice)))
            reached = fake.asked - before
            names = await _count(open_, count // 2, lambda: post(dice.choice(_NAMED), _make_named(dice)))
            paths = await _count(
                open_, count // 2, lambda: head(_make_path(dice), method=dice.choice((b"GET", b"POST")))
            )
            new = sorted(_list_files(setting.work) - files)
        finally:
            for proxy in (open_, closed):
                await asyncio.to_thread(proxy.stop)
        await fake.stop()
        crashed = sum(status >= 500 or not status for status in (*names, *paths))
        crashed_at = {status: number for status, number in (names + paths).items() if status >= 500 or not status}
        words = (
            f"{count:,} credentials: {dict(strangers)}, {reached} reached a backend; {count // 2:,} names:"
            f" {dict(names)}; {count // 2:,} paths: {dict(paths)}; new files {new[:3]}"
        )
        figures = {"credentials": dict(strangers), "names": dict(names), "paths": dict(paths), "new_files": new}
        return judge(words, figures, set(strangers) <= {400, 401}, not reached, not crashed, not crashed_at, not new)

    return asyncio.run(play())


_NAMED = (b"/api/generate", b"/api/show", b"/api/chat", b"/v1/chat/completions", b"/v1/messages", b"/v1/embeddings")
_ODD = (
    "../", "..\\", "/etc/passwd", "%2e%2e%2f", "\0", "{{7*7}}", "${jndi:x}", "%n%s", "';--", "<script>", "|id",
    "`id`", "$(id)", "__class__", "{0.__class__}", "\r\n", "\ud83d\ude00", "A" * 300, "~", "CON", "file:///",
    "sha256:" + "0" * 64,
)  # fmt: skip


def _word(dice: random.Random) -> str:
    letters = "".join(dice.choice(string.printable[:94]) for _ in range(dice.randint(0, 30)))
    return letters + dice.choice(_ODD) + letters[: dice.randint(0, 5)]


def _make_credential(dice: random.Random) -> bytes:
    word = re.sub(r"[^\x21-\x7e ]", "", _word(dice)).strip()
    name = dice.choice((b"Authorization", b"X-Api-Key", b"authorization", b"Api-Key"))
    scheme = dice.choice((b"Bearer ", b"Basic ", b"bearer ", b"", b"Digest ", b"Bearer  "))
    return name + b": " + scheme + word.encode() + b"\r\n"


def _make_named(dice: random.Random) -> bytes:
    document = {
        "model": _word(dice),
        "name": _word(dice),
        "prompt": "x",
        "stream": False,
        "max_tokens": 5,
        "input": "x",
    }
    return json.dumps(document | {"messages": [{"role": "user", "content": "x"}]}).encode()


def _make_path(dice: random.Random) -> bytes:
    word = re.sub(r"[^\x21-\x7e]", "", _word(dice)).replace("#", "")
    return b"/" + dice.choice((b"", b"api/", b"v1/", b"proxy/", b"api/blobs/", b"v1/models/")) + word.encode()


async def _count(proxy: ProxyProcess, count: int, make: Callable[[], bytes]) -> Counter[int]:
    """Statuses of so many requests, a few at a time."""
    statuses: Counter[int] = Counter()
    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            status, _ = await asyncio.to_thread(send, proxy.http_port, make(), 10.0)
            statuses[status] += 1

    await asyncio.gather(*(work() for _ in range(8)))
    return statuses


def _list_files(folder: Path) -> set[str]:
    return {str(path) for root in (folder, Path.cwd()) for path in root.glob("*")}


ROWS = (
    Row(
        "B11",
        "injection: 10,000 generated credentials, names, paths",
        "credentials only 400 or 401; no 5xx; 0 files written",
        "Generated from a seed with what has broken others: traversal, templates, formats, NUL, quotes",
        rubbish,
    ),
)
