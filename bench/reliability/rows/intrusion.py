"""B4 and B5: hosts and paths that may not be served, and too much of everything."""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter

from bench.reliability.clients import ask
from bench.reliability.fake import GENERATE, Fake
from bench.reliability.raw import head, post, send
from bench.reliability.row import Outcome, Row, Setting, judge
from bench.reliability.stage import over, rss_mb

#: Hosts that may not be served: names of strangers, and what is no host.
_HOSTS = (
    b"evil.example", b"evil.example:8080", b"rebind.attacker.test", b"127.0.0.1.evil.example", b"localhost.evil.test",
    b"8.8.8.8", b"8.8.8.8:80", b"[2001:db8::1]", b"user@localhost", b"localhost@evil.example", b"localhost/evil",
    b"localhost?x", b"localhost#x", b"localhost:port", b"localhost:99999x", b":80", b"", b"localhost, evil.example",
    b"[::1", b"::1", b"[fe80::1%25eth0]x", b"local host", b"localhost\\evil", b"http://localhost", b"x\xc3\xa4.example",
)  # fmt: skip
#: Other ways to write /api/generate; none may be served as it.
_PATHS = (
    b"/api%2fgenerate", b"/api%2Fgenerate", b"/api/%67enerate", b"/%61pi/generate", b"/api/./generate",
    b"/api/../api/generate", b"/x/../api/generate", b"//api/generate", b"/api//generate", b"/api/generate/",
    b"/api/generate/.", b"/api/generate/..", b"/api/%2e/generate", b"/api/%2e%2e/api/generate", b"/api%252fgenerate",
    b"/api\\generate", b"/API/generate", b"/api/generate;x", b"/api/generate%00", b"/api/generate%20",
    b"/api/generate%3f",
    b"api/generate", b"/api/generate#x", b"/api/generate\x01", b"/.%2e/api/generate", b"/api/generate%0d%0aX:y",
)  # fmt: skip
_ORIGINS = (b"http://evil.example", b"https://localhost.evil.example", b"null", b"http://[::1", b"chrome-extension://x")


def names_and_paths(setting: Setting) -> Outcome:
    """Each through a socket, on the default configuration over a backend that counts."""

    async def play() -> Outcome:
        fake = Fake(tokens=1, pace_s=0.0)
        await fake.start()
        async with over(setting.work, [fake.url]) as proxy:
            await ask(proxy.http_port, "first")
            before, served = fake.asked, []
            tries = [("host", host, _with_host(host)) for host in _HOSTS]
            tries += [("two hosts", b"", _with_host(b"localhost\r\nHost: localhost"))]
            tries += [("no host", b"", _with_host(b"localhost").replace(b"Host: localhost\r\n", b""))]
            tries += [("path", path, post(path, GENERATE)) for path in _PATHS]
            tries += [("origin", one, post(b"/api/generate", GENERATE, b"Origin: %b\r\n" % one)) for one in _ORIGINS]
            statuses: Counter[int] = Counter()
            for kind, what, data in tries:
                status, answer = await asyncio.to_thread(send, proxy.http_port, data)
                statuses[status] += 1
                if status in range(200, 300) or status >= 500 or not status:
                    served.append(f"{kind} {what!r}: {status} {answer[:80]!r}")
            reached = fake.asked - before
        await fake.stop()
        words = f"{len(tries)} heads: {len(served)} not refused {served[:4]}, {reached} reached the backend"
        words += f"; {dict(statuses)}"
        return judge(words, {"served": served, "reached": reached}, not served, not reached)

    return asyncio.run(play())


def _with_host(host: bytes) -> bytes:
    lines = b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(GENERATE)
    return head(b"/api/generate", host, lines, b"POST") + GENERATE


def bombs(setting: Setting) -> Outcome:
    """What is too much of everything, and the memory that it cost."""
    big = 40 * 2**20
    deep = b'{"model":"m","prompt":"x","options":' + b'{"a":' * 20_000 + b"1" + b"}" * 20_001
    packed = _pack(200 * 2**20)
    cases: list[tuple[str, bytes, set[int]]] = [
        ("head of 40 KiB", head(fields=b"X: " + b"a" * 40_000 + b"\r\n"), {431}),
        ("200 fields", head(fields=b"X: a\r\n" * 200), {431}),
        ("target of 10 KiB", head(b"/" + b"a" * 10_000), {414}),
        ("length of 40 MiB", head(b"/api/generate", fields=b"Content-Length: %d\r\n" % big, method=b"POST"), {413}),
        ("chunks of 40 MiB", _chunks(big), {413}),
        ("trailers of 40 KiB", _trailers(b"X: " + b"a" * 40_000 + b"\r\n"), {431, 400}),
        ("200 trailers", _trailers(b"X: a\r\n" * 200), {431, 400}),
        ("JSON 20,000 deep", post(b"/api/generate", deep), {400}),
        ("JSON 20,000 deep, OpenAI", post(b"/v1/chat/completions", deep), {400}),
        ("JSON 20,000 deep, Anthropic", post(b"/v1/messages", deep), {400}),
        ("array 1,000,000 deep", post(b"/api/chat", b"[" * 1_000_000), {400}),
        ("gzip, 200 MiB", post(b"/v1/responses", packed, b"Content-Encoding: gzip\r\n"), {400, 413, 415}),
        ("deflate", post(b"/v1/chat/completions", packed, b"Content-Encoding: deflate\r\n"), {400, 413, 415}),
        ("brotli", post(b"/v1/chat/completions", packed, b"Content-Encoding: br\r\n"), {400, 413, 415}),
        ("gzip twice", post(b"/api/generate", packed, b"Content-Encoding: gzip, gzip\r\n"), {400, 413, 415}),
        ("zstd, 200 MiB", post(b"/v1/responses", _pack_zstd(200 * 2**20), b"Content-Encoding: zstd\r\n"), {400, 413}),
    ]

    async def play() -> Outcome:
        fake = Fake(tokens=1, pace_s=0.0)
        await fake.start()
        async with over(setting.work, [fake.url]) as proxy:
            await ask(proxy.http_port, "first")
            before_mb, most_mb, wrong = rss_mb(proxy), 0.0, []
            for name, data, allowed in cases:
                status, answer = await asyncio.to_thread(send, proxy.http_port, data, 20.0)
                most_mb = max(most_mb, rss_mb(proxy) - before_mb)
                if status not in allowed:
                    wrong.append(f"{name}: {status}, not {sorted(allowed)} {answer[-80:]!r}")
            after = await ask(proxy.http_port, "after all")
        await fake.stop()
        words = f"{len(cases)} bombs: {len(wrong)} answered otherwise {wrong[:4]}; memory + {most_mb:.0f} MB at most"
        return judge(
            words, {"wrong": wrong, "grown_mb": round(most_mb, 1)}, not wrong, most_mb <= 64, after.kind == "done"
        )

    return asyncio.run(play())


def _pack(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()


def _pack_zstd(size: int) -> bytes:
    from backports import zstd  # noqa: PLC0415  # Python has it itself from 3.14 on

    return zstd.compress(bytes(size))


def _chunks(size: int) -> bytes:
    lines = head(b"/api/generate", fields=b"Transfer-Encoding: chunked\r\n", method=b"POST")
    return lines + (b"100000\r\n" + bytes(1 << 20) + b"\r\n") * (size >> 20) + b"0\r\n\r\n"


def _trailers(lines: bytes) -> bytes:
    return head(b"/api/generate", fields=b"Transfer-Encoding: chunked\r\n", method=b"POST") + b"0\r\n" + lines + b"\r\n"


ROWS = (
    Row(
        "B4",
        "Host, Origin and path: rebinding names, userinfo, ports, several, none; encoded slashes and dots",
        "100 % refused; none reaches a backend",
        "Each head over a socket to a proxy in its default configuration; a backend counts what comes",
        names_and_paths,
        "a rebinding resolver end to end",
    ),
    Row(
        "B5",
        "bombs: heads, fields, trailers, targets, bodies, nesting, packed bodies",
        "431, 413, 414, 400, 415; memory + <= 64 MB (twice the limit of a body)",
        "Each over a socket, with the proxy's memory looked at behind each",
        bombs,
        "gRPC and protobuf (A6's tests), and bombs from backends (A1's tables)",
    ),
)
