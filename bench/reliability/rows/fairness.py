"""C: what one may do to the others, and what is urgent to what is not."""

from __future__ import annotations

import sqlite3
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from bench.reliability.loads import run_load, start_load
from bench.reliability.row import Outcome, Row, Setting, judge
from bench.reliability.stage import count_preemptions
from ollama_proxy.config.key_file import hash_key
from tests.support.lab import LabProcess
from tests.support.proxy import ProxyProcess

_SPEED = 5.0
_FLAGS = ("--model", "qwen2.5:0.5b", "--tokens", "20")
_TENANTS, _FLOOD = ("ann", "bob", "eve"), "mallory"
#: Of its share, a fourth of what the devices answer.
_USUAL, _MUCH = 0.6, 50


def one_floods(setting: Setting) -> Outcome:
    """Three tenants ask for less than their share; then a fourth asks for fifty times of it."""
    seconds = setting.of(60, 12)
    keys = {name: {"key_hash": hash_key(name.encode())} for name in (*_TENANTS, _FLOOD)}
    auth = {"server": {"auth": {"enabled": True, "api_keys": keys}}}
    with (
        LabProcess(setting.work, speed=_SPEED) as lab,
        ProxyProcess(setting.work, endpoints=lab.endpoints, speed=_SPEED, changes=auth) as proxy,
    ):
        run_load(proxy.url, 5, 3, setting.work, *_FLAGS, *_as(_FLOOD))
        capacity = run_load(proxy.url, 60, setting.of(20, 8), setting.work, *_FLAGS, *_as(_FLOOD))["answered_per_s"]
        share = capacity / (len(_TENANTS) + 1)
        quiet = _run_tenants(proxy.url, share * _USUAL, seconds, setting.work)
        with start_load(proxy.url, share * _MUCH, seconds, setting.work, *_FLAGS, *_as(_FLOOD)) as load:
            beside = _run_tenants(proxy.url, share * _USUAL, seconds, setting.work)
            flood = load.finish()
    figures = {"capacity_per_s": capacity, "quiet": quiet, "beside": beside, "flood": flood}
    return _judge_flood(figures, quiet, beside, flood)


def _as(name: str) -> tuple[str, str]:
    return "--header", f"Authorization: Bearer {name}"


def _run_tenants(url: str, rate: float, seconds: float, work: Path) -> list[dict[str, Any]]:
    """All at once, each at this rate."""
    with ExitStack() as stack:
        loads = [
            stack.enter_context(start_load(url, rate, seconds, work, *_FLAGS, *_as(name), "--seed", str(seed)))
            for seed, name in enumerate(_TENANTS)
        ]
        return [load.finish() for load in loads]


def _judge_flood(
    figures: dict[str, Any], quiet: list[dict[str, Any]], beside: list[dict[str, Any]], flood: dict[str, Any]
) -> Outcome:
    kept = min(now["answered"] / before["answered"] for now, before in zip(beside, quiet, strict=True))
    quiet_ms, beside_ms = (max(one["whole_ms"]["p99"] for one in loads) for loads in (quiet, beside))
    words = (
        f"beside {flood['sent']} requests of one ({flood['answered']} answered, {sum(flood['refused'].values())}"
        f" refused), each other keeps {kept:.0%} of its answers; p99 {beside_ms:.0f} ms (quiet {quiet_ms:.0f})"
    )
    return judge(words, figures, kept >= 0.9, beside_ms <= 2 * quiet_ms)


#: Of the devices' own pace: what is urgent, what has a deadline, and what fills them.
_URGENT, _DUE, _BATCH = 0.1, 0.25, 3.0
_DEADLINE_MS, _LATE_MS = 1500, 250


def urgent(setting: Setting) -> Outcome:
    """Urgent requests alone; then beside ones with deadlines and three times as much as can be served."""
    seconds = setting.of(60, 12)
    wishes = {
        "critical": ("--header", "X-Latency-Critical: true"),
        "due": ("--header", f"X-Max-Latency-Ms: {_DEADLINE_MS}"),
        "batch": ("--header", "X-Priority: best-effort"),
    }
    with (
        LabProcess(setting.work, speed=_SPEED) as lab,
        ProxyProcess(setting.work, endpoints=lab.endpoints, speed=_SPEED) as proxy,
    ):
        run_load(proxy.url, 5, 3, setting.work, *_FLAGS)
        capacity = run_load(proxy.url, 60, setting.of(20, 8), setting.work, *_FLAGS)["answered_per_s"]
        quiet = run_load(proxy.url, capacity * _URGENT, seconds, setting.work, *_FLAGS, *wishes["critical"])
        begun_unix_s = time.time()
        rates = {"critical": _URGENT, "due": _DUE, "batch": _BATCH}
        with ExitStack() as stack:
            loads = {
                name: start_load(proxy.url, capacity * rate, seconds, setting.work, *_FLAGS, *wishes[name])
                for name, rate in rates.items()
            }
            running = {name: stack.enter_context(load) for name, load in loads.items()}
            found = {name: load.finish() for name, load in running.items()}
        made_way, ledger = count_preemptions(proxy), proxy.state / "ledger.sqlite"
    # The program has ended, and written all of it.
    lost = {"made_way": made_way, **_read_lost(ledger, begun_unix_s)}
    return _judge_urgent({"capacity_per_s": capacity, "quiet": quiet, **found, **lost})


def _read_lost(ledger: Path, since_unix_s: float) -> dict[str, float]:
    """Seconds that devices worked for requests since then, and those of them for parts that were broken off."""
    with closing(sqlite3.connect(ledger)) as rows:
        [[whole_s, lost_s]] = rows.execute(
            "SELECT TOTAL(seconds), TOTAL(seconds) FILTER (WHERE outcome = 'cancelled') FROM requests "
            "WHERE unix_s >= ?",
            (since_unix_s,),
        )
    return {"worked_s": whole_s, "lost_s": lost_s}


def _judge_urgent(figures: dict[str, Any]) -> Outcome:
    quiet, critical, due, batch = (figures[name] for name in ("quiet", "critical", "due", "batch"))
    quiet_ms, critical_ms = quiet["whole_ms"]["p99"], critical["whole_ms"]["p99"]
    latest_ms = due["whole_ms"]["max"] - _DEADLINE_MS
    share = batch["answered"] / sum(one["answered"] for one in (critical, due, batch))
    lost = figures["lost_s"] / figures["worked_s"]
    words = (
        f"critical ones p99 {critical_ms:.0f} ms ({critical_ms / quiet_ms:.2f} x quiet, {quiet_ms:.0f}),"
        f" {critical['answered']} of {critical['sent']} answered; with a deadline {due['answered']} of {due['sent']}"
        f" answered, the latest {abs(latest_ms):.0f} ms {'after' if latest_ms > 0 else 'before'} it; best effort"
        f" {share:.0%} of all answers, {sum(batch['refused'].values())} refused; {figures['made_way']} made way, and"
        f" {lost:.1%} of the devices' time was lost by it"
    )
    return judge(
        words,
        figures,
        critical_ms <= 1.2 * quiet_ms,
        lost <= 0.02,
        latest_ms <= _LATE_MS,
        share >= 0.05,
        critical["answered"] == critical["sent"],
    )


ROWS = (
    Row(
        "C4",
        "deadlines and priorities under saturation",
        "no answer later than its deadline + 250 ms; critical p99 <= 1.2 x quiet; best effort keeps >= 5 %;"
        " <= 2 % of the work is lost",
        "Four emulated devices five times faster than life, asked for three times what they can by requests of the"
        " lowest class, beside a tenth of it that is critical and a quarter with a deadline of 1.5 s",
        urgent,
        "ageing over minutes, which tests/unit/fleet/test_admission.py does with a clock in hand",
    ),
    Row(
        "C7",
        "one tenant asks 50 x its share",
        "others keep >= 90 % of goodput and <= 2 x p99",
        "Four keys over four emulated devices five times faster than life; three ask for 60 % of a fair share each,"
        " alone and then beside the fourth",
        one_floods,
    ),
)
