"""D1 to D3: streams whose backend dies go on elsewhere, however it fails and whatever the request allows."""

from __future__ import annotations

import asyncio

from bench.reliability.kills import kill_in_turn
from bench.reliability.row import Outcome, Row, Setting, judge
from bench.reliability.tested import ProvenByTests

_TARGET_GAP_S = 1.0


def kills(setting: Setting) -> Outcome:
    """Every struck stream is resumable: text, and the same model on three other devices."""
    streams, rounds = setting.of(200, 40), setting.of(3, 1)
    tally = asyncio.run(kill_in_turn(setting.work, streams, 0.6, setting.of(100, 60), rounds, setting.say))
    found = tally.figures()
    share = found["continued"] / found["struck"] if found["struck"] else 0.0
    words = (
        f"{found['streams']} streams, {4 * rounds} kills: {found['struck']} were struck, {share:.1%} of these went on"
        f" with their text as uncut; lost {found['lost']}, errors {found['errors']}, false ends {found['false_ends']};"
        f" gap p50 {found['gap_p50_s']} s, p99 {found['gap_p99_s']} s; touched elsewhere {found['elsewhere_touched']}"
    )
    return judge(
        words,
        found,
        bool(found["struck"]),
        share >= 0.99,
        not found["lost"],
        not found["not_started_lost"],
        not found["false_ends"],
        not found["elsewhere_touched"],
        (found["gap_p99_s"] or 0.0) < _TARGET_GAP_S,
    )


ROWS = (
    Row(
        "D1",
        "kill -9 of each backend in turn under 200 streams",
        "0 lost, >= 99 % of those struck go on with the text of the uncut run, gap p99 < 1 s, nobody else touched",
        "four emulated devices (first token 0.25 s, any number at once) as processes, three rounds; three APIs in turn;"
        " a quarter more begin at the moment of the kill",
        kills,
    ),
    Row(
        "D2",
        "fault matrix x APIs x unary and stream",
        "every cell its declared outcome; 0 hangs, 0 false ends, 0 double emits",
        "tests: refuse, reset, stall, 429, 500, 503, bad JSON before the first byte; closed, reset, ended without"
        " a mark, half an event in mid-stream, in every way in, and silence over a fault proxy; what must not go on"
        " ends in an error that says why; pairs of real servers, greedy: Ollama, llama.cpp, one after the other",
        ProvenByTests(
            [
                "tests/e2e/test_continuation_cells.py",
                "tests/e2e/test_continuation.py",
                "tests/e2e/test_continuation_stalls.py",
                "tests/e2e/test_continuation_real.py",
                "tests/e2e/test_fallback.py",
                "tests/unit/net/lanes/test_fast_lane.py",
                "tests/unit/net/lanes/test_translate_lane.py",
            ],
            with_long=True,
        ).run,
        short_of="doubled ends and wrong models are tried on the lanes alone, not in each way in",
    ),
    Row(
        "D3",
        "D2 with limits",
        "0 violations on any attempt",
        "tests: power limits, targets, models and latency hold for every attempt; properties of the decision and of the"
        " request for the rest",
        ProvenByTests(
            [
                "tests/e2e/test_continuation_cells.py::test_no_attempt_leaves_the_limits",
                "tests/properties/test_continuation.py",
                "tests/properties/test_decide.py",
                "tests/unit/app/requests/test_continuing.py",
            ],
            examples=10_000,
            quick_examples=200,
        ).run,
        short_of="the 10,000 runs are of the decision, not of streams",
    ),
)
