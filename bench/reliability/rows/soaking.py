"""F1: half an hour of load, with something going wrong all the time, and nothing left of it."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import psutil

from bench.reliability.clients import write_request
from bench.reliability.loads import run_load
from bench.reliability.row import Outcome, Row, Setting, judge
from bench.reliability.stage import count_tasks, descriptors, in_flight, rss_mb
from tests.support.beside import Beside
from tests.support.lab import NAMES, LabProcess
from tests.support.proxy import ProxyProcess

_SPEED = 40.0
#: Of what the devices can answer.
_LOAD = 0.7
_FLAGS = ("--text-seed", "1", "--model", "qwen2.5:0.5b", "--tokens", "20")
_LEAVERS_PER_S = 2.0
#: Between two faults. Who has failed is left alone for a while, and longer if it fails again within a minute: much more
#: often, and the fleet would not be there any more for what is to be 70 % of it.
_PAUSE_S, _QUICK_PAUSE_S = (6.0, 14.0), (1.0, 4.0)
#: One device at a time, so that somebody is always left to take over.
_FAULTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("refuse", {}),
    ("reset", {"times": 5}),
    ("stall", {"times": 2}),
    ("slow", {"factor": 4.0}),
    ("garbage", {"times": 3}),
    ("status", {"status": 500, "times": 5}),
    ("status", {"status": 503, "times": 5}),
    *(("cut", {"how": how, "times": 5}) for how in ("close", "reset", "end", "half")),
)
_LOOK_S = 5.0
#: Of the samples: caches and rings fill, speeds are learned, and the queue has to have been full once.
_WARM_UP = 0.5


class Trouble(Beside):
    """Context manager: faults at random devices, and clients that leave in mid-answer, from a thread of its own."""

    def __init__(self, lab: LabProcess, port: int, setting: Setting) -> None:
        self.faults = self.left = 0
        self._lab, self._port, self._dice = lab, port, random.Random(setting.seed)
        self._pause_s = _QUICK_PAUSE_S if setting.quick else _PAUSE_S
        super().__init__("trouble", lambda: asyncio.run(self._run()))

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._break_devices())
            group.create_task(self._leave())

    async def _break_devices(self) -> None:
        while not self._stop.is_set():
            device = self._dice.choice(NAMES)
            fault, details = self._dice.choice(_FAULTS)
            await asyncio.to_thread(self._lab.set_fault, device, fault, **details)
            self.faults += 1
            await asyncio.sleep(self._dice.uniform(0.5, 1.5))
            await asyncio.to_thread(self._lab.set_fault, device, "none")
            await asyncio.sleep(self._dice.uniform(*self._pause_s))

    async def _leave(self) -> None:
        while not self._stop.is_set():
            await asyncio.sleep(self._dice.expovariate(_LEAVERS_PER_S))
            _, writer = await asyncio.open_connection("127.0.0.1", self._port)
            writer.write(write_request(self._port, f"leaver {self.left}"))
            await asyncio.sleep(self._dice.uniform(0.0, 0.3))
            writer.transport.abort()
            self.left += 1


class Look(Beside):
    """Context manager: memory, descriptors and threads of the proxy, every few seconds."""

    def __init__(self, proxy: ProxyProcess) -> None:
        self._proxy = proxy
        self.at_s: list[float] = []
        self.rss_mb: list[float] = []
        self.descriptors: list[int] = []
        self.threads: list[int] = []
        super().__init__("look", self._run)

    def _run(self) -> None:
        began_s = time.monotonic()
        process = psutil.Process(self._proxy.child.pid)
        while not self._stop.wait(_LOOK_S):
            self.at_s.append(time.monotonic() - began_s)
            self.rss_mb.append(rss_mb(self._proxy))
            self.descriptors.append(descriptors(self._proxy))
            self.threads.append(process.num_threads())

    def slope_mb_per_h(self) -> float:
        """Of the resident memory behind the warm-up, by least squares."""
        start = int(len(self.at_s) * _WARM_UP)
        at_s, sizes = self.at_s[start:], self.rss_mb[start:]
        middle_s, middle_mb = sum(at_s) / len(at_s), sum(sizes) / len(sizes)
        spread = sum((one - middle_s) ** 2 for one in at_s)
        return 3600 * sum((a - middle_s) * (b - middle_mb) for a, b in zip(at_s, sizes, strict=True)) / spread


def soak(setting: Setting) -> Outcome:
    """Load in parts, so that the last can be held against the first."""
    part_s, parts = setting.of(300, 20), setting.of(6, 2)
    with (
        LabProcess(setting.work, speed=_SPEED) as lab,
        ProxyProcess(setting.work, endpoints=lab.endpoints, speed=_SPEED) as proxy,
    ):
        run_load(proxy.url, 20, 3, setting.work, *_FLAGS)
        capacity = run_load(proxy.url, 400, 8, setting.work, *_FLAGS)["answered_per_s"]
        time.sleep(3)
        before = _count(proxy)
        loads: list[dict[str, Any]] = []
        with Look(proxy) as look, Trouble(lab, proxy.http_port, setting) as trouble:
            for number in range(parts):
                seed = ("--seed", str(setting.seed + number))
                loads.append(run_load(proxy.url, capacity * _LOAD, part_s, setting.work, *_FLAGS, *seed))
                told = {name: loads[-1][name] for name in ("sent", "answered", "refused", "failed", "wrong_text")}
                setting.say(f"part {number + 1} of {parts}: {told}, {look.rss_mb[-1]:.1f} MB")
        time.sleep(5)
        after = _count(proxy)
    figures = {
        "capacity_per_s": capacity,
        "loads": loads,
        "faults": trouble.faults,
        "left": trouble.left,
        "slope_mb_per_h": round(look.slope_mb_per_h(), 2),
        "rss_mb": [round(one, 1) for one in look.rss_mb[:: max(1, len(look.rss_mb) // 60)]],
        "most_descriptors": max(look.descriptors),
        "most_threads": max(look.threads),
        "before": before,
        "after": after,
    }
    return _judge(setting, figures, loads)


def _count(proxy: ProxyProcess) -> dict[str, float]:
    """What must be the same before and after, give or take a kept connection."""
    process = psutil.Process(proxy.child.pid)
    return {
        "descriptors": descriptors(proxy),
        "threads": process.num_threads(),
        "tasks": count_tasks(proxy),
        "in_flight": in_flight(proxy),
    }


def _judge(setting: Setting, figures: dict[str, Any], loads: list[dict[str, Any]]) -> Outcome:
    sent, answered = (sum(load[name] for load in loads) for name in ("sent", "answered"))
    refused = sum(sum(load["refused"].values()) for load in loads)
    failed: dict[str, int] = {}
    for load in loads:
        for name, count in load["failed"].items():
            failed[name] = failed.get(name, 0) + count
    wrong = sum(load["wrong_text"] for load in loads)
    first_ms, last_ms = loads[0]["whole_ms"]["p99"], loads[-1]["whole_ms"]["p99"]
    before, after, slope = figures["before"], figures["after"], figures["slope_mb_per_h"]
    words = (
        f"{sent:,} requests and {figures['left']:,} leavers among {figures['faults']} faults: {answered:,} answered,"
        f" {refused} refused, failed {failed}, {wrong} wrong texts; memory {slope:+.1f} MiB/h"
        f" ({figures['rss_mb'][0]:.0f} to {figures['rss_mb'][-1]:.0f} MiB); before {before}, after {after}; p99"
        f" {first_ms:.0f} ms in the first part, {last_ms:.0f} in the last"
    )
    return judge(
        words,
        figures,
        not failed and not wrong,
        # A minute says nothing about an hour.
        setting.quick or slope <= 1.0,
        abs(after["descriptors"] - before["descriptors"]) <= 8,
        after["threads"] <= before["threads"] + 1,
        after["tasks"] <= before["tasks"],
        after["in_flight"] == 0,
        setting.quick or last_ms <= 1.1 * first_ms,
    )


ROWS = (
    Row(
        "F1",
        "30 minutes at 70 % load with random faults",
        "RSS slope <= 1 MiB/h in the second half; descriptors, threads and tasks flat, nothing in flight then; p99 of"
        " the last five minutes <= 1.1 x that of the first; no error that was not injected",
        "Four emulated devices forty times faster than life; every ten seconds one of them refuses, resets, stalls,"
        " cuts, slows down, answers rubbish or 50x for a second; two clients a second leave; texts are held against the"
        " lab's",
        soak,
        "two hours",
    ),
)
