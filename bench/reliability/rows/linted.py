"""A2: answers of every API, errors included, before a linter of HTTP messages."""

from __future__ import annotations

import importlib
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from bench.reliability import raw
from bench.reliability.clients import unchunk
from bench.reliability.row import NotRun, Outcome, Row, Setting, judge
from tests.support.lab import LabProcess
from tests.support.proxy import ProxyProcess

_HTTPLINT = Path(os.environ.get("OLLAMA_PROXY_TOOLS", str(Path.home() / ".cache/ollama-proxy/tools"))) / "httplint"
_SPEED = 100.0
_PAGES = (
    *("/", "/docs", "/openapi.json", "/metrics", "/healthz", "/readyz", "/thermal", "/efficiency", "/backends"),
    *("/proxy/queue", "/proxy/decisions", "/proxy/energy", "/api/version", "/api/tags", "/api/ps"),
    *("/v1/models", "/v1/models/qwen2.5:0.5b", "/v1/models/none", "/none", "/v1/none", "/api/none"),
)
_ASKED: dict[str, dict[str, object]] = {
    "/api/generate": {"prompt": "hi", "options": {"num_predict": 3}},
    "/api/chat": {"messages": [{"role": "user", "content": "hi"}], "options": {"num_predict": 3}},
    "/api/embed": {"input": "hi"},
    "/api/show": {},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3},
    "/v1/completions": {"prompt": "hi", "max_tokens": 3},
    "/v1/embeddings": {"input": "hi"},
    "/v1/responses": {"input": "hi", "max_output_tokens": 16},
    "/v1/messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3},
}
#: That the target was too long is what one of the requests is to be told.
_MEANT = ("STATUS_URI_TOO_LONG",)
_STREAMED = ("/api/generate", "/api/chat", "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")


def lint(setting: Setting) -> Outcome:
    """Each request on a connection of its own; what the linter calls bad is counted."""
    if not (_HTTPLINT / "httplint").is_dir():
        raise NotRun("httplint is not here (bench/reliability/install.sh)")
    sys.path.append(str(_HTTPLINT))
    httplint: Any = importlib.import_module("httplint")
    bad: Counter[str] = Counter()
    statuses: Counter[int] = Counter()
    seen: dict[str, str] = {}
    with (
        LabProcess(setting.work, speed=_SPEED) as lab,
        ProxyProcess(setting.work, endpoints=lab.endpoints, speed=_SPEED) as proxy,
    ):
        for name, request in _requests():
            status, answer = raw.send(proxy.http_port, request, 10.0)
            statuses[status] += 1
            for note in _find_notes(httplint, answer, is_head=name.startswith("HEAD")):
                bad[note] += 1
                seen.setdefault(note, name)
    told = [f"{note} ({count} x, such as {seen[note]})" for note, count in bad.most_common(8)]
    words = f"{statuses.total()} answers {dict(sorted(statuses.items()))}: {bad.total()} bad notes {told}"
    return judge(words, {"statuses": {str(one): count for one, count in statuses.items()}, "bad": dict(bad)}, not bad)


def _requests() -> Iterator[tuple[str, bytes]]:
    """A name and the bytes of each."""
    for page in _PAGES:
        for method in (b"GET", b"HEAD", b"OPTIONS", b"DELETE"):
            yield f"{method.decode()} {page}", raw.head(page.encode(), method=method)
    for path, asked in _ASKED.items():
        target, whole = path.encode(), {"model": "qwen2.5:0.5b", "stream": False} | asked
        yield f"POST {path}", raw.post(target, msgspec.json.encode(whole))
        yield f"POST {path}, no such model", raw.post(target, msgspec.json.encode(whole | {"model": "none"}))
        yield f"POST {path}, no JSON", raw.post(target, b"{")
        yield f"POST {path}, nothing", raw.post(target, b"")
        yield f"GET {path}", raw.head(target)
        if path in _STREAMED:
            for fields in (b"", b"TE: trailers\r\n"):
                yield f"POST {path}, streamed", raw.post(target, msgspec.json.encode(whole | {"stream": True}), fields)
    yield "no host", raw.head(host=b"")
    yield "a strange host", raw.head(host=b"evil.example")
    yield "another origin", raw.post(b"/api/pull", b"{}", b"Origin: http://evil.example\r\n")
    yield (
        "a preflight",
        raw.head(
            b"/v1/models",
            fields=b"Origin: http://localhost\r\nAccess-Control-Request-Method: GET\r\n",
            method=b"OPTIONS",
        ),
    )
    yield "a long target", raw.head(b"/" + b"x" * 9000)
    yield "many fields", raw.head(fields=b"X-A: b\r\n" * 200)
    yield (
        "a body of 64 MB",
        raw.head(
            b"/api/generate", fields=b"Content-Type: application/json\r\nContent-Length: 64000000\r\n", method=b"POST"
        ),
    )
    yield "an unknown packing", raw.post(b"/api/generate", b"{}", b"Content-Encoding: br\r\n")


def _find_notes(httplint: Any, answer: bytes, *, is_head: bool) -> list[str]:
    """What is bad about the bytes of an answer, by the linter's names."""
    top, _, rest = answer.partition(b"\r\n")
    lines, _, body = rest.partition(b"\r\n\r\n")
    version, status, phrase = (*top.split(b" ", 2), b"", b"")[:3]
    fields = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines.split(b"\r\n"))]
    linter = httplint.HttpResponseLinter()
    linter.is_head_response = is_head
    linter.process_response_topline(version, status, phrase)
    linter.process_headers(fields)
    if b"transfer-encoding: chunked" in lines.lower():
        body = unchunk(body)
    if body:
        linter.feed_content(body)
    linter.finish_content(True)
    bad = [note for note in linter.notes if note.level == httplint.levels.BAD]
    return [str(note.summary) for note in bad if type(note).__name__ not in _MEANT]


ROWS = (
    Row(
        "A2",
        "lint of answers, errors included, on every API",
        "0 notes of level bad",
        "httplint reads each answer of four dialects, whole and streamed, with and without trailers, of pages and of"
        " refusals, as it comes over a socket",
        lint,
        "redbot, which asks by itself; HTTP/2",
    ),
)
