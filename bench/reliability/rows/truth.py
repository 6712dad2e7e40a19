"""H: the truth of the numbers."""

from __future__ import annotations

import asyncio
import re

from bench.reliability.clients import ask
from bench.reliability.row import Outcome, Row, Setting, judge
from bench.reliability.tested import ProvenByTests
from ollama_proxy.lab.text import ask_length
from tests.support.lab import LabProcess
from tests.support.proxy import ProxyProcess

_RECORD = "tests/properties/test_record.py"
_ESTIMATE = re.compile(rb"x-estimated-latency-ms: ([0-9.]+)", re.IGNORECASE)
_TAUGHT = 50


def estimates(setting: Setting) -> Outcome:
    """One request after the other, so that nobody waits for anybody."""
    asked = setting.of(100, 30)
    off: list[float] = []

    async def play(port: int) -> None:
        for number in range(_TAUGHT + asked):
            words = "tell me more " * (number % 20)
            heard = await ask(port, f"{ask_length(12)} {number} {words}", headers="X-Latency-Critical: true\r\n")
            found = _ESTIMATE.search(heard.head)
            if number >= _TAUGHT and found is not None and heard.kind == "done":
                took_ms = (heard.first_s - heard.asked_s) * 1000
                off.append(float(found[1]) / took_ms - 1)

    with (
        LabProcess(setting.work, speed=1) as lab,
        ProxyProcess(setting.work, endpoints=lab.endpoints) as proxy,
    ):
        asyncio.run(play(proxy.http_port))
    near = sum(abs(one) <= 0.2 for one in off) / max(len(off), 1)
    median = sorted(off)[len(off) // 2] if off else 0.0
    words = f"{near:.0%} of {len(off)} within 20 %; the middle one is off by {median:+.0%}"
    return judge(words, {"within": near, "median_off": median, "count": len(off)}, len(off) == asked, near >= 0.8)


ROWS = (
    Row(
        "H1",
        "energy ledger: sum over requests + idle against the meter's integral",
        "<= 0.1 % on simulated meters; never negative",
        "Hypothesis draws loads and meters; what is given to requests and to idling has to add up to the meter",
        ProvenByTests(
            (
                "tests/properties/test_attribution.py",
                "tests/properties/test_meters.py",
                "tests/unit/energy/test_attribution.py",
                "tests/unit/energy/test_apportioning.py",
                "tests/e2e/test_energy.py",
            ),
            examples=2_000,
            quick_examples=100,
        ).run,
        "real meters: this machine has none",
    ),
    Row(
        "H3",
        "10,000 recorded decisions replayed",
        "100 % the same; each reason true",
        "Hypothesis draws fleets and requests; the record of each decision is decided again and compared byte by byte",
        ProvenByTests((f"{_RECORD}::test_replayed_under_its_own_policy_a_record_has_the_same_bytes",), 10_000, 200).run,
    ),
    Row(
        "H2",
        "estimates after 50 samples",
        "80 % of requests within +- 20 % of their time to the first token",
        "Emulated devices in life's time; fifty requests teach, then each estimate that an answer carries is held"
        " against when its first token came",
        estimates,
        "watts: the lab's are configured, so there is nothing to estimate",
    ),
    Row(
        "H4",
        "one trace in the simulator and on the lab's devices",
        ">= 99 % equal choices; mean latency within 5 %",
        "A minute of requests through the proxy over the lab and through the simulator (more: `bin/evaluate --live`)",
        ProvenByTests(("tests/e2e/test_live_agreement.py", "tests/unit/bench/evaluation/test_live.py")).run,
    ),
)
