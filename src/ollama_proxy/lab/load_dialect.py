"""What the load generator asks in each dialect, and how it reads answers: not with the proxy's own readers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from ollama_proxy.domain.call import Generation, Message
from ollama_proxy.net.bodies.unreadable import UNREADABLE
from ollama_proxy.net.lanes.framing import event_data

Api = Literal["ollama", "openai", "anthropic"]
PATHS: dict[Api, bytes] = {
    "ollama": b"/api/generate",
    "openai": b"/v1/chat/completions",
    "anthropic": b"/v1/messages",
}
_MOST_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer says: its text, and why it is no good ("" when it is)."""

    text: str
    problem: str = ""


def write_body(api: Api, model: str, prompt: str, *, stream: bool) -> bytes:
    """The JSON of a request."""
    document: dict[str, Any] = {"model": model, "stream": stream}
    if api == "ollama":
        document["prompt"] = prompt
    else:
        document["messages"] = [{"role": "user", "content": prompt}]
    if api == "anthropic":
        document["max_tokens"] = _MOST_TOKENS
    return msgspec.json.encode(document)


def as_device_reads(api: Api, prompt: str) -> Generation:
    """The same request as an emulated device understands it, for the text that it will say."""
    if api == "ollama":
        return Generation(prompt=prompt)
    return Generation(messages=(Message("user", prompt),))


def read_answer(api: Api, body: bytes, *, stream: bool) -> Reading:
    """The text of a whole answer or of a stream; a stream without its end mark is `cut`."""
    try:
        if not stream:
            return _read_unary(api, msgspec.json.decode(body))
        lines = body.split(b"\n") if api == "ollama" else event_data(body)
        return _read_stream(api, [line for line in lines if line.strip()])
    except (*UNREADABLE, KeyError, IndexError, TypeError, AttributeError):
        return Reading("", "unreadable")


def _read_unary(api: Api, document: dict[str, Any]) -> Reading:
    if "error" in document:
        return Reading("", "error in the answer")
    match api:
        case "ollama":
            return Reading(document["response"], "" if document["done"] else "cut")
        case "openai":
            choice = document["choices"][0]
            return Reading(choice["message"]["content"], "" if choice["finish_reason"] else "cut")
        case "anthropic":
            text = "".join(part["text"] for part in document["content"] if part["type"] == "text")
            return Reading(text, "" if document["stop_reason"] else "cut")


def _read_stream(api: Api, events: Iterable[bytes]) -> Reading:
    pieces: list[str] = []
    ended = False
    for event in events:
        if ended:
            return Reading("".join(pieces), "goes on behind its end")
        if event == b"[DONE]":
            ended = True
            continue
        document = msgspec.json.decode(event)
        if document.get("error") or document.get("type") == "error":
            return Reading("".join(pieces), "told error")
        text, ended = _read_event(api, document)
        pieces.append(text)
    return Reading("".join(pieces), "" if ended else "cut")


def _read_event(api: Api, document: dict[str, Any]) -> tuple[str, bool]:
    """Its piece of text, and whether it is the last."""
    match api:
        case "ollama":
            return document["response"], bool(document["done"])
        case "openai":
            return "".join(choice["delta"].get("content") or "" for choice in document["choices"]), False
        case "anthropic":
            delta = document.get("delta", {})
            text: str = delta["text"] if delta.get("type") == "text_delta" else ""
            return text, document["type"] == "message_stop"
