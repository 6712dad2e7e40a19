"""Paced streams: CPU a token, time to the first one, how long each is under way, memory while all are open.

CPU is taken between two moments: when every stream has its first token, and when the first stream ends. So opening and
closing, which are requests and not tokens, are not in it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from bench.process import Failed
from bench.programs import Load
from bench.stage import Found, Stage, refuse_errors

_LIMIT_S = 60.0
_SATURATED_CORE = 0.9
_LATE = 1.25  # the whole took so much longer than the pace asks: also when others kept the server from its core


@dataclass(frozen=True, slots=True)
class Shape:
    """So many streams, a token each in so many milliseconds, opened over `ramp_s`, all open for `open_s`."""

    streams: int
    interval_ms: float
    ramp_s: float
    open_s: float
    flags: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        """Tokens a stream."""
        return int((self.ramp_s + self.open_s) * 1000 / self.interval_ms) + 2

    @property
    def expected_s(self) -> float:
        """From the first request to the last token."""
        return self.ramp_s + self.tokens * self.interval_ms / 1000


@dataclass(slots=True)
class Moment:
    """What had been used and received by some time."""

    at_s: float
    cpu_ns: int
    chunks: int


def run_streams(stage: Stage, shape: Shape) -> Found:
    """One run; see the head of this file."""
    stage.mock.set_pace(shape.interval_ms, shape.tokens)
    first = Moment(time.monotonic(), stage.cpu_ns(), 0)
    words = ["-mode", "stream", "-streams", str(shape.streams), "-ramp", f"{shape.ramp_s:g}s", *shape.flags]
    with stage.load(words, _LIMIT_S) as load:
        begin, end, open_kb, report = _watch(stage, load)
    last = Moment(time.monotonic(), stage.cpu_ns(), report["chunks"])
    refuse_errors(report, f"{shape.streams} streams")
    expected = shape.streams * shape.tokens
    if report["chunks"] != expected:
        raise Failed(f"{shape.streams} streams: {report['chunks']} tokens arrived of {expected}")
    if not begin.at_s or end.chunks - begin.chunks < shape.streams:
        begin, end = first, last  # so slow that the first ended before the last began: take it all
    return _sum_up(shape, report, begin, end, open_kb - stage.warm_kb)


def _watch(stage: Stage, load: Load) -> tuple[Moment, Moment, float, dict[str, Any]]:
    """The moments between which all streams are open, the memory held then, and the report."""
    begin = end = Moment(0, 0, 0)
    open_kb = 0.0
    while "event" in (said := load.read_line()):
        moment = Moment(time.monotonic(), stage.cpu_ns(), said["chunks"])
        match said["event"]:
            case "open":
                # Reading it takes the kernel some milliseconds, at the server's expense: before the clock starts.
                open_kb = stage.memory_kb()
                load.mark()
            case "mark":
                begin = moment
            case "closing":
                end = moment
    return begin, end, open_kb, said


def _sum_up(shape: Shape, report: dict[str, Any], begin: Moment, end: Moment, held_kb: float) -> Found:
    cpu_ns = end.cpu_ns - begin.cpu_ns
    core = cpu_ns / (end.at_s - begin.at_s) / 1e9
    return {
        "cpu_us": cpu_ns / (end.chunks - begin.chunks) / 1e3,
        "core": core,
        "count": report["chunks"],
        "saturated": float(core > _SATURATED_CORE or report["seconds"] > _LATE * shape.expected_s),
        "ttft_p50_us": report["ttft_us"]["p50"],
        "ttft_p99_us": report["ttft_us"]["p99"],
        "delay_p50_us": report["chunk_delay_us"]["p50"],
        "delay_p99_us": report["chunk_delay_us"]["p99"],
        "stream_kb": held_kb / shape.streams,
    }


_SHAPES = {
    100: Shape(100, interval_ms=20, ramp_s=0.3, open_s=2.0),
    400: Shape(400, interval_ms=60, ramp_s=0.8, open_s=2.0),
    2000: Shape(2000, interval_ms=300, ramp_s=1.5, open_s=2.1),
}


class Streams:
    """So many streams, the same dialect in front and behind."""

    dialect = "openai"

    def __init__(self, streams: int) -> None:
        self.name = f"streams-{streams}"
        self._shape = _SHAPES[streams]
        self.expected_s = self._shape.expected_s

    def run(self, stage: Stage) -> Found:
        """See `_sum_up`."""
        return run_streams(stage, self._shape)


class Translated:
    """A hundred streams of one dialect in front of servers of another."""

    def __init__(self, client: str, upstream: str) -> None:
        self.name = f"translated-{client}-{upstream}"
        self.dialect = upstream
        flags = ("-dialect", client, *(("-native",) if upstream == "ollama" else ()))
        fast = _SHAPES[100]
        self._shape = Shape(fast.streams, fast.interval_ms, fast.ramp_s, fast.open_s, flags)
        self.expected_s = self._shape.expected_s

    def run(self, stage: Stage) -> Found:
        """As for streams that are passed on."""
        return run_streams(stage, self._shape)
