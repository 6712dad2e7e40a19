"""Clients of the checks: one request each over a connection of its own, and everything that was heard."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any, Literal

from bench.reliability.fake import MODEL

#: `done`: its end mark came; `told`: an error in the dialect's form; `refused`: a status but 200; `cut`: none of them.
Kind = Literal["done", "told", "refused", "cut"]


@dataclass(slots=True)
class Heard:
    """What one client heard. Times are of the monotonic clock."""

    kind: Kind = "cut"
    status: int = 0
    text: str = ""
    error: str = ""
    head: bytes = b""
    asked_s: float = 0.0
    first_s: float = 0.0
    last_s: float = 0.0
    body: bytes = field(default=b"", repr=False)

    @property
    def took_s(self) -> float:
        """From the request to the last byte."""
        return self.last_s - self.asked_s


def write_request(port: int, prompt: str, *, stream: bool = True, headers: str = "") -> bytes:
    """A request for text over Ollama's API; `headers` are whole lines."""
    body = json.dumps({"model": MODEL, "prompt": prompt, "stream": stream}).encode()
    return (
        f"POST /api/generate HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n{headers}"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def ask(port: int, prompt: str, *, stream: bool = True, headers: str = "", limit_s: float = 60.0) -> Heard:
    """Ask and hear it out."""
    heard = Heard(asked_s=time.monotonic())
    data = bytearray()
    try:
        async with asyncio.timeout(limit_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(write_request(port, prompt, stream=stream, headers=headers))
            while piece := await reader.read(65536):
                heard.last_s = time.monotonic()
                heard.first_s = heard.first_s or heard.last_s
                data += piece
            writer.close()
    except (OSError, TimeoutError) as error:
        heard.error = type(error).__name__
    heard.last_s = heard.last_s or time.monotonic()
    _read(heard, bytes(data))
    return heard


def _read(heard: Heard, data: bytes) -> None:
    heard.head, _, body = data.partition(b"\r\n\r\n")
    heard.status = int(heard.head.split(b" ", 2)[1]) if heard.head.startswith(b"HTTP/1.1 ") else 0
    heard.body = unchunk(body) if b"transfer-encoding: chunked" in heard.head.lower() else body
    if heard.status and heard.status != 200:
        heard.kind = "refused"
        heard.error = heard.body.decode(errors="replace")[:300]
        return
    for line in heard.body.split(b"\n"):
        event = _decode(line)
        heard.text += str(event.get("response", ""))
        if event.get("error"):
            heard.kind, heard.error = "told", str(event["error"])
        elif event.get("done"):
            heard.kind = "done"


def unchunk(body: bytes) -> bytes:
    """As far as it goes: a stream that was cut is read up to its cut."""
    out = bytearray()
    while body:
        size, _, body = body.partition(b"\r\n")
        try:
            length = int(size.split(b";")[0], 16)
        except ValueError:
            break
        out += body[:length]
        body = body[length + 2 :]
        if not length:
            break
    return bytes(out)


def _decode(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def quantile(values: list[float], share: float) -> float:
    """Of a list that is not empty."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
