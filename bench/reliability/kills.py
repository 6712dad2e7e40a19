"""Backends that are killed under streams: devices as processes, and clients that know what they should hear."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.reliability.clients import unchunk
from ollama_proxy.domain.call import Generation
from ollama_proxy.lab.text import SyntheticText, ask_length
from tests.support.processes import ROOT, Child, free_port, wait_until
from tests.support.proxy import ProxyProcess

MODEL = "qwen2.5:0.5b"
SEED = 1
_USED = re.compile(rb"x-backend-used: (\S+)", re.IGNORECASE)
#: In turn.
_PATHS = ("/api/generate", "/v1/chat/completions", "/v1/messages")


class Device:
    """One emulated device in a process of its own, on a port that stays."""

    def __init__(self, work: Path, name: str, speed: float) -> None:
        self.port = free_port()
        self._work, self._name, self._starts = work, name, 0
        self._command = [
            *(sys.executable, "-P", "-m", "ollama_proxy", "lab", "up", "--devices", "nvidia", "--slots", "1000"),
            *("--ports", str(self.port), "--control-port", "0", "--speed", f"{speed:g}", "--text", "synthetic"),
            *("--seed", str(SEED)),
        ]
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Up, and listening."""
        self._starts += 1
        log = self._work / f"{self._name}-{self._starts}.txt"
        self._child = child = Child(self._command, log, {"PYTHONPATH": str(ROOT / "src")})
        wait_until(lambda: "Stop with Ctrl-C." in child.text(), "a device")

    def kill(self) -> None:
        """As a crash does: with no chance to say anything."""
        self.stop()

    def stop(self) -> None:
        """End it, if it runs."""
        if self._child is not None:
            self._child.kill_group()


@dataclass(slots=True)
class Stream:
    """What one client heard. `gap_s` is its longest wait between two pieces, behind the first."""

    path: str
    prompt: str
    expected: str
    text: str = ""
    backend: str = ""
    error: str = ""
    ends: int = 0
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    gap_s: float = 0.0
    ended_s: float = 0.0

    @property
    def whole(self) -> bool:
        """The text it should be, with one end and no error."""
        return self.text == self.expected and self.ends == 1 and not self.error


@dataclass(slots=True)
class Tally:
    """Of all rounds: `struck` were at the killed backend when it died."""

    streams: list[Stream] = field(default_factory=list)
    struck: list[Stream] = field(default_factory=list)
    elsewhere: list[Stream] = field(default_factory=list)
    later: list[Stream] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Counts, and gaps in seconds."""
        gaps = sorted(one.gap_s for one in self.struck)
        false_ends = [one for one in self.streams if one.ends and one.text != one.expected]
        return {
            "streams": len(self.streams),
            "struck": len(self.struck),
            "continued": sum(one.whole for one in self.struck),
            "lost": sum(not one.whole and not one.error for one in self.streams),
            "errors": sum(bool(one.error) for one in self.streams),
            "false_ends": len(false_ends),
            "elsewhere_touched": sum(not one.whole for one in self.elsewhere),
            "not_started_lost": sum(not one.whole for one in self.later),
            "gap_p50_s": round(gaps[len(gaps) // 2], 3) if gaps else None,
            "gap_p99_s": round(gaps[min(len(gaps) - 1, int(len(gaps) * 0.99))], 3) if gaps else None,
        }


async def kill_in_turn(
    work: Path,
    streams: int,
    speed: float,
    tokens: int,
    rounds: int = 1,
    say: Callable[[str], None] = lambda line: None,
    *,
    hurried: bool = False,
) -> Tally:
    """Four devices; in each round each of them is killed under so many streams of `tokens`, and started again.

    `hurried` starts none again, but has a fifth device that lives.
    """
    devices = {f"b{number}": Device(work, f"device-{number}", speed) for number in range(5 if hurried else 4)}
    await asyncio.gather(*(asyncio.to_thread(device.start) for device in devices.values()))
    backends = [{"id": name, "endpoint": device.url, "slots": 1000} for name, device in devices.items()]
    changes: dict[str, Any] = {"health": {"interval_seconds": 1}}
    replace = {"backends": backends, "routing": {"default_backend": "", "policy": "least-connections"}}
    proxy = ProxyProcess(work, replace=replace, changes=changes)
    tally = Tally()
    await asyncio.to_thread(proxy.start)
    try:
        for number in range(rounds):
            for name, device in list(devices.items())[:4]:
                await _kill_one(proxy, name, device, tally, streams, tokens)
                if not hurried:
                    await asyncio.to_thread(device.start)
                    await asyncio.to_thread(wait_until, lambda: _all_up(proxy), "all backends up")
                    await _come_back(proxy, name)
                say(f"round {number + 1}, {name}: {tally.figures()}")
    finally:
        await asyncio.to_thread(proxy.stop)
        for device in devices.values():
            device.stop()
    return tally


def _all_up(proxy: ProxyProcess) -> bool:
    return proxy.health().startswith("Status: healthy")


async def _come_back(proxy: ProxyProcess, name: str) -> None:
    """Until it is trusted again: one that has just failed gets little, and the others more than their share."""
    served = 0
    while served < 5:
        one = await _make_stream(0, 1)
        await _listen(proxy.http_port, one, target=name)
        served += one.whole and one.backend == name
        await asyncio.sleep(0.1)


async def _kill_one(proxy: ProxyProcess, name: str, device: Device, tally: Tally, streams: int, tokens: int) -> None:
    first = [await _make_stream(len(tally.streams) + number, tokens) for number in range(streams)]
    later = [await _make_stream(len(tally.streams) + streams + number, tokens) for number in range(streams // 4)]
    tasks = [asyncio.create_task(_listen(proxy.http_port, one)) for one in first]
    await asyncio.gather(*(one.begun.wait() for one in first))
    at_work = [one for one in first if not one.ended_s]
    device.kill()
    tasks += [asyncio.create_task(_listen(proxy.http_port, one)) for one in later]
    await asyncio.gather(*tasks)
    tally.streams += first + later
    tally.later += later
    tally.struck += [one for one in at_work if one.backend == name]
    tally.elsewhere += [one for one in first if one.backend != name]


async def _make_stream(number: int, tokens: int) -> Stream:
    prompt = f"story {number} {ask_length(tokens)}"
    written, _ = await SyntheticText(SEED).write(MODEL, Generation(prompt=prompt))
    return Stream(_PATHS[number % len(_PATHS)], prompt, "".join(written))


async def _listen(port: int, stream: Stream, target: str = "") -> None:
    body = bytearray()
    try:
        async with asyncio.timeout(60):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(_write_request(port, stream, target))
            head = await reader.readuntil(b"\r\n\r\n")
            used = _USED.search(head)
            stream.backend = used[1].decode() if used else ""
            last_s = 0.0
            while piece := await reader.read(65536):
                now_s = time.monotonic()
                if last_s:
                    stream.gap_s = max(stream.gap_s, now_s - last_s)
                last_s = now_s
                stream.begun.set()
                body += piece
            writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        stream.error = type(error).__name__
    stream.ended_s = time.monotonic()
    stream.begun.set()
    for event in _read_events(unchunk(bytes(body))):
        _take(stream, event)


def _write_request(port: int, stream: Stream, target: str) -> bytes:
    asked: dict[str, Any] = {"model": MODEL, "stream": True}
    if stream.path == "/api/generate":
        asked["prompt"] = stream.prompt
    else:
        asked |= {"messages": [{"role": "user", "content": stream.prompt}], "max_tokens": 9000}
    body = json.dumps(asked).encode()
    return (
        f"POST {stream.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"X-Target-Backend: {target or 'auto'}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def _read_events(body: bytes) -> Iterator[dict[str, Any]]:
    for line in body.split(b"\n"):
        data = line.removeprefix(b"data: ")
        if data == b"[DONE]":
            yield {"done": True}
        elif data.startswith(b"{"):
            yield json.loads(data)


def _take(stream: Stream, event: dict[str, Any]) -> None:
    if "error" in event:
        stream.error = json.dumps(event["error"])
    stream.ends += event.get("done") is True or event.get("type") == "message_stop"
    stream.text += str(event.get("response", ""))
    if event.get("type") == "content_block_delta":
        stream.text += str(event["delta"].get("text", ""))
    for choice in event.get("choices", ()):
        stream.text += choice["delta"].get("content") or ""
