"""B7 and B12: where secrets come out, and what reaches a backend of what a client said."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

from bench.reliability.clients import ask
from bench.reliability.fake import GENERATE, MODEL, Fake
from bench.reliability.raw import post, send
from bench.reliability.row import Outcome, Row, Setting, judge
from tests.support.processes import http_get
from tests.support.proxy import ProxyProcess

_SECRET = "canary-7f3b9c1e"


def secrets(setting: Setting) -> Outcome:
    """Secrets in every place a client and an operator have; where do they come out?"""

    async def play() -> Outcome:
        fake = Fake(tokens=1, pace_s=0.0)
        await fake.start()
        os.environ["RELIABILITY_BACKEND_KEY"] = f"{_SECRET}-backend"
        try:
            backends = [{"id": "b0", "endpoint": fake.url, "api_key_env": "RELIABILITY_BACKEND_KEY"}]
            proxy = ProxyProcess(setting.work, replace={"backends": backends, "routing": {"default_backend": ""}})
            await asyncio.to_thread(proxy.start)
        finally:
            os.environ.pop("RELIABILITY_BACKEND_KEY")
        try:
            for data in _tell_secrets():
                await asyncio.to_thread(send, proxy.http_port, data)
            fake.fails = lambda number: True
            await ask(proxy.http_port, f"{_SECRET} in a prompt that fails", headers=f"Authorization: {_SECRET}\r\n")
            pages = [await asyncio.to_thread(http_get, proxy.url + path) for path in _PAGES]
        finally:
            await asyncio.to_thread(proxy.stop)
        await fake.stop()
        folder = proxy.config_path.parent
        places = {path: text for path, (_, text) in zip(_PAGES, pages, strict=True)}
        places |= {str(one.relative_to(folder)): _read(one) for one in folder.rglob("*") if one.is_file()}
        found = {place: _around(text) for place, text in places.items() if _SECRET in text}
        words = f"{len(places)} logs, pages and files: {len(found)} hold a secret {dict(list(found.items())[:3])}"
        return judge(words, {"found": found, "looked_at": sorted(places)}, not found)

    return asyncio.run(play())


_PAGES = (
    "/metrics",
    "/health",
    "/healthz",
    "/stats",
    "/backends",
    "/proxy/queue",
    "/proxy/decisions",
    "/proxy/config",
    "/api/ps",
)


def _tell_secrets() -> Iterator[bytes]:
    for name in (
        b"Authorization",
        b"X-Api-Key",
        b"Cookie",
        b"Proxy-Authorization",
        b"X-Custom-Note",
        b"User-Agent",
        b"X-Odd",
    ):
        for value in (b"Bearer %b" % _SECRET.encode(), _SECRET.encode(), b"a=%b" % _SECRET.encode()):
            yield post(b"/api/generate", GENERATE, name + b": " + value + b"\r\n")
            yield post(b"/api/generate", b"not json", name + b": " + value + b"\r\n")
    for path in (
        b"/api/generate",
        b"/api/chat",
        b"/v1/chat/completions",
        b"/v1/messages",
        b"/v1/responses",
        b"/nowhere",
    ):
        yield post(path + b"?api_key=" + _SECRET.encode(), GENERATE)
        for member in ("prompt", "system", "suffix", "template", "input", "user"):
            yield post(path, json.dumps(json.loads(GENERATE) | {member: _SECRET}).encode())
        yield post(path, json.dumps({"model": MODEL, "messages": [{"role": "user", "content": _SECRET}]}).encode())
        yield post(path, b'{"model": "m", "prompt": "%b' % _SECRET.encode())
    yield b"GET /%b HTTP/1.1\r\nHost: localhost\r\nBroken %b\r\n\r\n" % (_SECRET.encode(), _SECRET.encode())


def _read(path: Path) -> str:
    return path.read_bytes().decode("latin-1")


def _around(text: str) -> str:
    at = text.index(_SECRET)
    return text[max(0, at - 80) : at + 40]


#: What a client may say about one connection only, or about itself.
_HOP = (
    b"Connection: x-one\r\nConnection: x-two\r\nX-One: gone\r\nX-Two: gone\r\nKeep-Alive: timeout=5\r\n"
    b"TE: trailers\r\nTrailer: X-Sum\r\nUpgrade: h2c\r\nProxy-Connection: keep-alive\r\n"
    b"Proxy-Authorization: Basic gone\r\n"
)
_CREDENTIALS = b"Authorization: Bearer theirs\r\nX-Api-Key: theirs\r\nCookie: theirs=1\r\n"
_GONE = (b"x-one", b"x-two", b"keep-alive", b"te", b"trailer", b"upgrade", b"proxy-connection", b"proxy-authorization")


def headers(setting: Setting) -> Outcome:
    """What reaches a backend of what a client said, for two backends of which one has a key."""

    async def play() -> Outcome:
        fakes = [Fake(tokens=1, pace_s=0.0) for _ in range(2)]
        for fake in fakes:
            await fake.start()
        os.environ["RELIABILITY_BACKEND_KEY"] = "ours-b0"
        try:
            backends = [{"id": f"b{number}", "endpoint": fake.url} for number, fake in enumerate(fakes)]
            backends[0]["api_key_env"] = "RELIABILITY_BACKEND_KEY"
            proxy = ProxyProcess(setting.work, replace={"backends": backends, "routing": {"default_backend": ""}})
            await asyncio.to_thread(proxy.start)
        finally:
            os.environ.pop("RELIABILITY_BACKEND_KEY")
        try:
            for target in (b"b0", b"b1"):
                for path, body in _ask_each_way():
                    fields = b"X-Target-Backend: " + target + b"\r\n" + _HOP + _CREDENTIALS
                    await asyncio.to_thread(send, proxy.http_port, post(path, body, fields))
        finally:
            await asyncio.to_thread(proxy.stop)
        leaks = []
        for number, fake in enumerate(fakes):
            await fake.stop()
            for method, target, sent in fake.heads:
                told = b" ".join(value for name, value in sent.items())
                leaks += [f"b{number} {target!r}: {name!r}" for name in _GONE if name in sent]
                if b"theirs" in told or (number and b"ours-b0" in told):
                    leaks.append(f"b{number} {method!r} {target!r}: a credential of somebody else in {list(sent)}")
        heads = sum(len(fake.heads) for fake in fakes)
        words = f"{heads} heads reached two backends: {len(leaks)} leaks {leaks[:4]}"
        return judge(words, {"leaks": leaks, "heads": heads}, not leaks, heads >= 10)

    return asyncio.run(play())


def _ask_each_way() -> Iterator[tuple[bytes, bytes]]:
    messages = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "stream": False, "max_tokens": 5}
    yield b"/api/generate", GENERATE
    yield b"/api/chat", json.dumps(messages).encode()
    yield b"/v1/chat/completions", json.dumps(messages).encode()
    yield b"/v1/messages", json.dumps(messages).encode()
    yield b"/v1/responses", json.dumps({"model": MODEL, "input": "x"}).encode()
    yield b"/api/embed", json.dumps({"model": MODEL, "input": "x"}).encode()
    yield b"/api/show", json.dumps({"model": MODEL}).encode()
    yield b"/api/pull", json.dumps({"model": MODEL}).encode()


ROWS = (
    Row(
        "B7",
        "canary secrets and prompts in every header, field, query and variable",
        "0 hits in logs, pages, metrics, state files",
        "Requests that succeed and fail with a secret in every place; then all that the proxy wrote or shows is read",
        secrets,
    ),
    Row(
        "B12",
        "header hygiene: hop-by-hop, those named by Connection, credentials",
        "client credential never reaches a backend; a backend's never another host; 0 leaks",
        "Eight routes to each of two backends that keep every head; one of them has a key",
        headers,
    ),
)
