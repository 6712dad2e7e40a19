"""The sentence in an error of any dialect."""

from __future__ import annotations

from typing import Any

import msgspec

from ollama_proxy.net.bodies.unreadable import UNREADABLE


def error_text(body: bytes) -> str:
    """The sentence in an error body of any dialect, or its beginning as text."""
    try:
        return _error_of(msgspec.json.decode(body))
    except UNREADABLE:
        return body[:200].decode("utf-8", "replace").strip()


def error_in_tail(tail: bytes) -> str:
    """The sentence of the last error among a stream's last events; nothing when there is none."""
    lines = (line for line in reversed(tail.splitlines()) if b'"error"' in line)
    return next((text for line in lines if (text := error_in_event(line))), "")


def error_in_event(line: bytes) -> str:
    """The sentence of an error that is a stream's last line; nothing for anything else, half an event above all."""
    try:
        return _error_of(msgspec.json.decode(line.removeprefix(b"data:")))
    except UNREADABLE:
        return ""


def _error_of(document: Any) -> str:
    error = document.get("error") if isinstance(document, dict) else None
    if error is None and isinstance(document, dict):
        error = _error_of_response(document)
    if isinstance(error, dict):
        error = error.get("message")
    return error.strip()[:500] if isinstance(error, str) else ""


def _error_of_response(event: dict[str, Any]) -> Any:
    """The error in an event of the Responses API: `error` itself, or a response that failed."""
    if event.get("type") == "error":
        return event
    response = event.get("response")
    return response.get("error") if isinstance(response, dict) else None
