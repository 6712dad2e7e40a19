"""Open-loop load: each request begins at its time, whatever became of those before it.

Durations count from when a request was to begin, so a server, or this program, that stalls is charged for all who
would have asked meanwhile ("coordinated omission").
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ollama_proxy.domain.errors import Failure
from ollama_proxy.lab.histogram import Histogram
from ollama_proxy.lab.load_dialect import PATHS, Api, as_device_reads, read_answer, write_body
from ollama_proxy.lab.text import SyntheticText, ask_length
from ollama_proxy.net.http1.client import Origin, OriginPool, Upload
from ollama_proxy.net.http1.exchange import Headers
from ollama_proxy.net.lanes.upstream import join_request, request_head

_SHARES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999))
_REFUSED = (429, 503, 529)
_CONNECT_TIMEOUT_S = 10.0


class Plan(msgspec.Struct, frozen=True):
    """What is asked, how often and for how long."""

    origin: Origin
    api: Api
    model: str
    stream: bool
    rate_per_s: float
    duration_s: float
    #: Of each answer.
    tokens: int = 20
    seed: int = 1
    #: The seed of the lab's synthetic text that answers are held against; None = they are not.
    text_seed: int | None = None
    timeout_s: float = 60.0
    #: What is due while so many are open fails as `not sent`.
    most_open: int = 8000
    headers: tuple[tuple[bytes, bytes], ...] = ()
    #: As many clients ask who do not know of each other, and not evenly.
    at_random: bool = False

    @property
    def count(self) -> int:
        """How many requests that is."""
        return max(1, round(self.rate_per_s * self.duration_s))

    def find_dues(self) -> Iterator[float]:
        """When each is due, in seconds from the beginning. At random they are a Poisson process of that many events:
        so many uniform moments, in order."""
        if not self.at_random:
            return (number / self.rate_per_s for number in range(self.count))
        dice = random.Random(self.seed)
        return iter(sorted(dice.uniform(0.0, self.duration_s) for _ in range(self.count)))


@dataclass(slots=True)
class Tally:
    """What came of it."""

    sent: int = 0
    answered: int = 0
    wrong_text: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    #: Of the refused, those that were not told when to come back.
    without_retry_after: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    first_piece: Histogram = field(default_factory=Histogram)
    whole: Histogram = field(default_factory=Histogram)
    longest_gap: Histogram = field(default_factory=Histogram)
    refusal: Histogram = field(default_factory=Histogram)
    late_start: Histogram = field(default_factory=Histogram)

    def describe(self, plan: Plan, took_s: float) -> dict[str, Any]:
        """For JSON; durations in milliseconds, of answered requests but for `refusal_ms`. What is unknown is absent."""
        found: dict[str, Any] = {
            "api": plan.api,
            "model": plan.model,
            "stream": plan.stream,
            "seed": plan.seed,
            "rate_per_s": plan.rate_per_s,
            "duration_s": plan.duration_s,
            "took_s": round(took_s, 3),
            "sent": self.sent,
            "answered": self.answered,
            "answered_per_s": round(self.answered / took_s, 2),
            "refused": {str(status): count for status, count in sorted(self.refused.items())},
            "refused_without_retry_after": self.without_retry_after,
            "failed": dict(sorted(self.failed.items())),
        }
        if plan.text_seed is not None:
            found["wrong_text"] = self.wrong_text
        names = ("first_piece", "whole", "longest_gap", "refusal", "late_start")
        return found | {f"{name}_ms": times for name in names if (times := getattr(self, name).describe_ms(_SHARES))}


async def run_load(plan: Plan) -> tuple[Tally, float]:
    """Send what is planned, wait for all answers; also the seconds from the first start to the last end."""
    return await _Load(plan).run()


class _Load:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.tally = Tally()
        self.loop = asyncio.get_running_loop()
        self.pool = OriginPool(plan.origin, connect_timeout_s=_CONNECT_TIMEOUT_S)
        self.text = None if plan.text_seed is None else SyntheticText(plan.text_seed)
        self._head = request_head(
            plan.origin, b"POST", PATHS[plan.api], ((b"Content-Type", b"application/json"), *plan.headers)
        )
        self._dues = plan.find_dues()
        #: When the next one is due, from the beginning on; None behind the last.
        self._next_s = next(self._dues, None)
        self._began_s = self._ended_s = time.monotonic()
        self._open: set[_Asked] = set()
        self._texts: list[tuple[str, str]] = []
        self._over: asyncio.Future[None] = self.loop.create_future()

    async def run(self) -> tuple[Tally, float]:
        self._began_s = time.monotonic()
        self._tick()
        await self._over
        self.pool.close()
        await self._check_texts()
        return self.tally, max(self._ended_s - self._began_s, 1e-9)

    def _tick(self) -> None:
        """Send what is due by now; look after those that take too long."""
        now_s = time.monotonic()
        while self._next_s is not None and (due_s := self._began_s + self._next_s) <= now_s:
            self._next_s = next(self._dues, None)
            self._ask(due_s, now_s)
        for asked in [one for one in self._open if now_s - one.due_s > self.plan.timeout_s]:
            asked.give_up()
        if self._next_s is None and not self._open:
            self._over.set_result(None)
            return
        wake_s = now_s + 0.05 if self._next_s is None else self._began_s + self._next_s
        self.loop.call_later(min(max(wake_s - now_s, 0.0), 0.5), self._tick)

    def _ask(self, due_s: float, now_s: float) -> None:
        number, self.tally.sent = self.tally.sent, self.tally.sent + 1
        self.tally.late_start.record(now_s - due_s)
        if len(self._open) >= self.plan.most_open:
            self.tally.failed["not sent: too many are open"] += 1
            return
        prompt = f"{ask_length(self.plan.tokens)} request {number} of seed {self.plan.seed}"
        asked = _Asked(self, prompt, due_s)
        self._open.add(asked)
        body = write_body(self.plan.api, self.plan.model, prompt, stream=self.plan.stream)
        asked.upload = self.pool.send(join_request(self._head, body), asked)

    def close(self, asked: _Asked) -> None:
        self._open.discard(asked)
        self._ended_s = time.monotonic()

    def hold_against(self, prompt: str, text: str) -> None:
        """Remember a text to be compared when nothing is timed any more."""
        if self.text is not None:
            self._texts.append((prompt, text))

    async def _check_texts(self) -> None:
        for prompt, text in self._texts:
            assert self.text is not None
            words, _ = await self.text.write(self.plan.model, as_device_reads(self.plan.api, prompt))
            self.tally.wrong_text += text != "".join(words)


class _Asked:
    """One request and what is heard of it."""

    upload: Upload

    def __init__(self, load: _Load, prompt: str, due_s: float) -> None:
        self._load = load
        self._prompt = prompt
        self.due_s = due_s
        self._status = 0
        self._body: list[bytes] = []
        self._first_s = self._last_s = self._gap_s = 0.0

    def on_response(self, status: int, headers: Headers) -> None:
        self._status = status
        if status in _REFUSED and b"retry-after" not in dict(headers):
            self._load.tally.without_retry_after += 1

    def on_body(self, data: bytes) -> None:
        now_s = time.monotonic()
        if not self._body:
            self._first_s = now_s
        else:
            self._gap_s = max(self._gap_s, now_s - self._last_s)
        self._last_s = now_s
        self._body.append(bytes(data))

    def on_complete(self) -> None:
        self._load.close(self)
        tally, plan = self._load.tally, self._load.plan
        now_s = time.monotonic()
        if self._status in _REFUSED:
            tally.refused[self._status] += 1
            tally.refusal.record(now_s - self.due_s)
            return
        if self._status != 200:
            tally.failed[f"status {self._status}"] += 1
            return
        read = read_answer(plan.api, b"".join(self._body), stream=plan.stream)
        if read.problem:
            tally.failed[read.problem] += 1
            return
        tally.answered += 1
        tally.whole.record(now_s - self.due_s)
        if plan.stream:
            tally.first_piece.record(self._first_s - self.due_s)
            tally.longest_gap.record(self._gap_s)
        self._load.hold_against(self._prompt, read.text)

    def on_error(self, failure: Failure) -> None:
        self._load.close(self)
        begun = " in the answer" if self._status else ""
        self._load.tally.failed[f"{failure.kind.value}{begun}"] += 1

    def give_up(self) -> None:
        """It takes too long."""
        self.upload.abort()
        self._load.close(self)
        self._load.tally.failed["timeout"] += 1
