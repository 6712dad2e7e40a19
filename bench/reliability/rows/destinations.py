"""B6: requests that name a destination."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.reliability.fake import GENERATE, MODEL, Fake
from bench.reliability.raw import head, post, send
from bench.reliability.row import Outcome, Row, Setting, judge
from bench.reliability.stage import over


@contextmanager
def _canary() -> Iterator[tuple[int, list[bytes]]]:
    """A port that nobody may connect to, and what came all the same."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    listener.settimeout(0.1)
    seen: list[bytes] = []
    over_ = threading.Event()

    def listen() -> None:
        while not over_.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            connection.settimeout(0.5)
            try:
                seen.append(connection.recv(200))
            except OSError:
                seen.append(b"")
            connection.close()

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield listener.getsockname()[1], seen
    finally:
        over_.set()
        thread.join()
        listener.close()


#: Members by which somebody might name where to go.
_MEMBERS = (
    "api_base",
    "base_url",
    "endpoint",
    "host",
    "url",
    "upstream",
    "backend",
    "proxy",
    "webhook",
    "callback",
    "target",
)
_FIELDS = (b"X-Target-Backend", b"X-Forwarded-Host", b"X-Original-URL", b"X-Rewrite-URL", b"X-Upstream", b"X-Api-Base",
           b"Forwarded", b"X-Host", b"Proxy", b"Referer", b"X-Real-IP", b"X-HTTP-Destinationurl")  # fmt: skip


def destinations(setting: Setting) -> Outcome:
    """Every request that names a destination; a listener counts who comes."""

    async def play() -> Outcome:
        fake = Fake(tokens=1, pace_s=0.0)
        await fake.start()
        with _canary() as (port, seen):
            url = f"http://127.0.0.1:{port}"
            fake.redirect = f"{url}/redirected"
            async with over(setting.work, [fake.url]) as proxy:
                tries = list(_name_destinations(url))
                for data in tries:
                    await asyncio.to_thread(send, proxy.http_port, data, 10.0)
                await asyncio.sleep(1.0)
        await fake.stop()
        words = f"{len(tries)} requests named a destination: {len(seen)} connections to it {seen[:3]}"
        return judge(words, {"tries": len(tries), "connections": len(seen)}, not seen, len(tries) >= 60)

    return asyncio.run(play())


def _name_destinations(url: str) -> Iterator[bytes]:
    picture = {"type": "image_url", "image_url": {"url": f"{url}/x.png"}}
    source = {"type": "image", "source": {"type": "url", "url": f"{url}/x.png"}}
    bodies: list[tuple[bytes, dict[str, Any]]] = [
        (b"/v1/chat/completions", {"messages": [{"role": "user", "content": [picture]}]}),
        (b"/v1/messages", {"max_tokens": 5, "messages": [{"role": "user", "content": [source]}]}),
        (
            b"/v1/responses",
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": f"{url}/x.png"}]}]},
        ),
        (b"/api/chat", {"messages": [{"role": "user", "content": "x", "images": [f"{url}/x.png"]}]}),
        (b"/api/generate", {"prompt": "x", "images": [f"{url}/x.png"]}),
        (b"/api/generate", {"prompt": "x", "template": f"{{{{ {url} }}}}"}),
        (b"/api/pull", {"name": f"{url.removeprefix('http://')}/library/x", "insecure": True}),
        (b"/api/push", {"name": f"{url.removeprefix('http://')}/library/x", "insecure": True}),
        (b"/api/create", {"name": "x", "from": f"{url}/x", "files": {"a": f"{url}/b"}}),
        (b"/api/copy", {"source": f"{url}/x", "destination": f"{url}/y"}),
        (b"/api/show", {"name": f"{url}/x"}),
        (b"/api/experimental/web_fetch", {"url": url}),
    ]
    for path, document in bodies:
        yield post(path, json.dumps({"model": MODEL} | document).encode())
    for member in _MEMBERS:
        for path in (b"/api/generate", b"/v1/chat/completions", b"/v1/messages"):
            yield post(path, json.dumps(json.loads(GENERATE) | {member: url, "options": {member: url}}).encode())
    for name in (url, f"{url}/m", url.removeprefix("http://"), f"{url.removeprefix('http://')}/m:latest", f"@{url}"):
        yield post(b"/api/generate", json.dumps({"model": name, "prompt": "x"}).encode())
    for field in _FIELDS:
        yield post(b"/api/generate", GENERATE, field + b": " + url.encode() + b"\r\n")
    authority = url.removeprefix("http://").encode()
    for target in (
        url.encode() + b"/api/generate",
        b"//" + authority + b"/",
        b"/" + url.encode(),
        b"/api/../" + url.encode(),
    ):
        yield post(target, GENERATE)
    yield head(b"/", authority)
    yield b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (authority, authority)
    # The backend answers this one with a redirect.
    yield post(b"/api/generate", json.dumps({"model": MODEL, "prompt": "redirect", "stream": False}).encode())


ROWS = (
    Row(
        "B6",
        "SSRF: 60 ways to name a destination",
        "0 connections to a canary; no redirect followed",
        "A listener on a port that is named in hosts, targets, fields, members, models, pictures and a redirect",
        destinations,
        "resolver tricks",
    ),
)
