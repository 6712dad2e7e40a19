"""C: what one may do to the others, and what is urgent to what is not."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.reliability.loads import run_load, start_load
from bench.reliability.row import Outcome, Row, Setting, judge
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


ROWS = (
    Row(
        "C7",
        "one tenant asks 50 x its share",
        "others keep >= 90 % of goodput and <= 2 x p99",
        "Four keys over four emulated devices five times faster than life; three ask for 60 % of a fair share each,"
        " alone and then beside the fourth",
        one_floods,
    ),
)
