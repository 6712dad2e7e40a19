"""Recorded exchanges with a real Ollama 0.24: played against a server, and held against what it answered then."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("ollama-0.24.jsonl")
_TIMEOUT_S = 110.0

#: Told anew each time: only the kind of value is held against the recording.
_OWN_EACH_TIME = frozenset(
    (
        *("created_at", "created", "completed_at", "modified_at", "expires_at", "id", "item_id", "call_id"),
        *("request_id", "total_duration", "load_duration", "prompt_eval_duration", "eval_duration"),
        *("size", "size_vram", "digest"),
    )
)
#: Texts whose lines come in any order.
_ANY_ORDER = frozenset(("parameters", "modelfile"))
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+(?:Z|[+-]\d\d:\d\d)")
_FOLDER = re.compile(r"(?:/[^/\s\"]+)+(?=/(?:blobs|manifests)/)")
_RELATIVE, _ABSOLUTE = 1e-2, 2e-3
_DATA = "data: "

Document = dict[str, Any]


def load_cases() -> dict[str, Document]:
    """Request and answer by the case's name."""
    return {case["name"]: case for case in map(json.loads, _FILE.read_text().splitlines())}


# -- playing -------------------------------------------------------------------


def play(url: str, request: Document) -> Document:
    """The answer to a request, behind what prepares for it and in front of what cleans up."""
    for step in request.get("before", ()):
        _exchange(url, step)
    # A runner that was told to go has not gone yet.
    time.sleep(request.get("wait", 0))
    try:
        return _exchange(url, request)
    finally:
        for step in request.get("after", ()):
            _exchange(url, step)


def _exchange(url: str, request: Document) -> Document:
    authority = url.removeprefix("http://")
    body = _body(request)
    connection = http.client.HTTPConnection(authority, timeout=_TIMEOUT_S)
    try:
        connection.putrequest(request["method"], request["path"], skip_host=True, skip_accept_encoding=True)
        chunked = body is not None and bool(request.get("chunked"))
        headers = {"Host": authority, "Accept": "*/*", "User-Agent": "golden/1"}
        if body is not None:
            length = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(len(body))}
            headers |= {"Content-Type": "application/json", **length}
        for name, value in {**headers, **request.get("headers", {})}.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(body, encode_chunked=chunked)
        return _read(connection.getresponse(), request.get("close_after"))
    finally:
        connection.close()


def _body(request: Document) -> bytes | None:
    if "body" in request:
        return json.dumps(request["body"]).encode()
    if "base64" in request:
        return base64.b64decode(request["base64"])
    return request["raw"].encode() if "raw" in request else None


def _read(response: http.client.HTTPResponse, most_lines: int | None) -> Document:
    lines: list[str] = []
    broken = False
    try:
        while (most_lines is None or len(lines) < most_lines) and (line := response.readline()):
            lines.append(line.decode("utf-8", "surrogateescape"))
    except (http.client.HTTPException, OSError):
        broken = True
    headers: dict[str, str] = {}
    for name, value in response.getheaders():
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return {"status": response.status, "headers": headers, "lines": lines, "broken": broken}


# -- comparing -----------------------------------------------------------------


def find_differences(recorded: Document, answer: Document) -> list[str]:
    """All that a client could tell an answer from the recorded one by, a line each."""
    found = [
        f"{what}: {recorded.get(what)!r} -> {answer[what]!r}"
        for what in ("status", "broken")
        if (recorded.get(what) or False) != answer[what]
    ]
    for name in sorted({*recorded["headers"], *(key for key in answer["headers"] if _is_telling(key))}):
        old, new = recorded["headers"].get(name), answer["headers"].get(name)
        if old != new:
            found.append(f"header {name}: {old!r} -> {new!r}")
    if len(recorded["lines"]) != len(answer["lines"]):
        found.append(f"{len(recorded['lines'])} lines -> {len(answer['lines'])}: {''.join(answer['lines'])[:200]!r}")
    else:
        for number, (old, new) in enumerate(zip(recorded["lines"], answer["lines"], strict=True), 1):
            found += [f"line {number}{text}" for text in _compare_lines(old, new)]
    return found


def _is_telling(header: str) -> bool:
    return header in ("content-type", "location", "allow", "vary") or header.startswith("access-control-")


def _compare_lines(old: str, new: str) -> Iterator[str]:
    """Two lines, of JSON or text, behind `data:` or not; their ends count."""
    old_text, new_text = old.removeprefix(_DATA), new.removeprefix(_DATA)
    try:
        old_value, new_value = json.loads(old_text), json.loads(new_text)
    except ValueError:
        if _mask(old) != _mask(new):
            yield f": {old[:200]!r} -> {new[:200]!r}"
        return
    if _around(old, old_text) != _around(new, new_text):
        yield f" is framed as {_around(new, new_text)} and not {_around(old, old_text)}"
    yield from _compare("", "", old_value, new_value)


def _around(line: str, text: str) -> tuple[str, str]:
    return line.removesuffix(text), text[len(text.rstrip("\r\n")) :]


def _compare(where: str, key: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, dict) and "$sha256" in old:
        if _digest(new) != old:
            yield f"{where} has other items"
    elif _kind(old) != _kind(new):
        yield f"{where}: {str(old)[:200]!r} -> {str(new)[:200]!r}"
    elif isinstance(old, dict):
        for name in sorted({*old, *new}):
            if name in old and name in new:
                yield from _compare(f"{where}.{name}", name, old[name], new[name])
            else:
                yield f"{where}.{name} is {'missing' if name in old else 'new'}"
    elif isinstance(old, list):
        if len(old) != len(new):
            yield f"{where}: {len(old)} items -> {len(new)}"
        for index, (one, other) in enumerate(zip(old, new, strict=False)):
            yield from _compare(f"{where}[{index}]", key, one, other)
    elif key not in _OWN_EACH_TIME and not _is_same(key, old, new):
        yield f"{where}: {str(old)[:200]!r} -> {str(new)[:200]!r}"


def _digest(items: Any) -> Document:
    """What stands for a list too long for the recording."""
    text = json.dumps(items, ensure_ascii=False, separators=(",", ":"))
    return {"$items": len(items), "$sha256": hashlib.sha256(text.encode()).hexdigest()}


def _kind(value: Any) -> str:
    return "number" if type(value) in (int, float) else type(value).__name__


def _is_same(key: str, old: Any, new: Any) -> bool:
    if isinstance(old, float) or isinstance(new, float):
        return math.isclose(old, new, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
    if key in _ANY_ORDER and isinstance(old, str):
        return sorted(_mask(old).splitlines()) == sorted(_mask(new).splitlines())
    return bool(_mask(old) == _mask(new))


def _mask(value: Any) -> Any:
    """Text without what is another time and another folder."""
    return _FOLDER.sub("<models>", _TIME.sub("<time>", value)) if isinstance(value, str) else value
