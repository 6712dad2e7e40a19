"""Sends a workload to a server over HTTP, each request at its time, and notes when its answer came."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence

import msgspec

from bench.evaluation.live.stage import MODEL
from ollama_proxy.lab.simulation.workload import Arrival
from ollama_proxy.lab.text import ask_length

#: A prompt of fewer bytes has no room for the length of its answer. The lab counts four bytes a token.
LEAST_PROMPT_TOKENS = 8
_BYTES_PER_TOKEN = 4
_LIMIT_S = 120.0
_FILLING = "tell me more about it "


class Sent(msgspec.Struct, frozen=True):
    """One request and its answer; seconds of this machine from the start of the workload. `status` 0: it broke off."""

    id: int
    sent_s: float
    first_s: float
    ended_s: float
    status: int
    tokens: int = 0


async def send_all(arrivals: Sequence[Arrival], port: int, speed: float) -> list[Sent]:
    """Each request at its time divided by `speed`, in the order of the arrivals."""
    began_s = time.monotonic()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_send(one, port, speed, began_s)) for one in arrivals]
    return [task.result() for task in tasks]


def write_prompt(arrival: Arrival) -> str:
    """Exactly as long as the lab needs to count the arrival's prompt tokens; unique, and tells the answer's length."""
    head = f"{ask_length(arrival.output_tokens)} {arrival.id} "
    size = max(arrival.prompt_tokens, LEAST_PROMPT_TOKENS) * _BYTES_PER_TOKEN
    return (head + _FILLING * (size // len(_FILLING) + 1))[:size]


def write_wishes(arrival: Arrival, speed: float) -> dict[str, str]:
    """The headers of the arrival's wish, the deadline in hurried milliseconds."""
    match arrival.wish:
        case "critical":
            return {"X-Latency-Critical": "true"}
        case "efficient":
            return {"X-Power-Efficient": "true"}
        case "deadline":
            limit_ms = f"{1000 * arrival.deadline_s / speed:.3f}"
            return {"X-Max-Latency-Ms": limit_ms, "X-Latency-Probability": f"{arrival.probability:g}"}
        case _:
            return {}


def name_request(number: int) -> str:
    """The id that the request goes by, in the proxy's decisions too."""
    return f"live-{number}"


async def _send(arrival: Arrival, port: int, speed: float, began_s: float) -> Sent:
    request = _write_request(arrival, port, speed)
    await asyncio.sleep(max(0.0, began_s + arrival.at_s / speed - time.monotonic()))
    sent_s = first_s = ended_s = time.monotonic()
    status, last = 0, b""
    try:
        async with asyncio.timeout(_LIMIT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            while data := await reader.read(65536):
                ended_s = time.monotonic()
                first_s = ended_s if not last else first_s
                last = (last + data)[-1000:]
            writer.close()
    except (OSError, EOFError, TimeoutError):
        status = 0
    return Sent(arrival.id, sent_s - began_s, first_s - began_s, ended_s - began_s, status, _read_tokens(last))


def _write_request(arrival: Arrival, port: int, speed: float) -> bytes:
    body = json.dumps({"model": MODEL, "prompt": write_prompt(arrival), "stream": True}).encode()
    headers = {
        "Host": f"127.0.0.1:{port}",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        "X-Request-ID": name_request(arrival.id),
        **write_wishes(arrival, speed),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /api/generate HTTP/1.1\r\n{lines}\r\n".encode() + body


def _read_tokens(tail: bytes) -> int:
    """What the last event says of the answer's length; 0 where there is none."""
    start = tail.rfind(b'"eval_count":')
    digits = tail[start + 13 :].split(b",")[0].split(b"}")[0].strip() if start >= 0 else b""
    return int(digits) if digits.isdigit() else 0
