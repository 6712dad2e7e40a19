"""What Ollama says on each route to a request for a model that is not there, or that names none."""

from __future__ import annotations

from typing import Any

import msgspec

from ollama_proxy.api.ollama.go_types import CHAT, EMBED, EMBEDDINGS, GENERATE, SHOW, read_request
from ollama_proxy.api.ollama.typed import check_top_logprobs
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.bodies.go_json import GoType
from ollama_proxy.net.bodies.go_syntax import quote
from ollama_proxy.net.bodies.model_ref import ModelRef, parse_ref


class RouteWords(msgspec.Struct, frozen=True):
    """How one route speaks. `strict` ones call a missing name a bad request; `schedules` means that the scheduler finds
    out, in words of its own; `bare` ones tell the name without its blanks and its source.
    """

    kind: GoType
    strict: bool = False
    schedules: bool = False
    bare: bool = False


GENERATES = RouteWords(GENERATE)
CHATS = RouteWords(CHAT, strict=True)
EMBEDS = RouteWords(EMBED, schedules=True)
EMBEDS_ONE = RouteWords(EMBEDDINGS, strict=True, schedules=True)
SHOWS = RouteWords(SHOW, strict=True, bare=True)


def look_closer(words: RouteWords, body: bytes, default: str = "") -> tuple[str, ModelRef]:
    """The name in a request whose model was not found, as sent and taken apart; `default` stands for one not sent.

    Raises `ProxyError` where Ollama finds the request itself at fault before it looks for the model.
    """
    document = read_request(body, words.kind)
    check_top_logprobs(document.get("top_logprobs"))
    name = document.get("model") or document.get("name") or default
    ref = parse_ref(name)
    if ref is None:
        raise _no_name(words, name)
    if words.kind is EMBED and ref.source != "cloud":
        _check_input(document.get("input"))
    return name, ref


def _no_name(words: RouteWords, name: str) -> ProxyError:
    if words.strict:
        return ProxyError(ErrorKind.INVALID_REQUEST, "model is required")
    return ProxyError(ErrorKind.MODEL_NOT_FOUND, f"model '{name}' not found")


def _check_input(given: Any) -> None:
    """Raises `ProxyError` for what cannot be embedded."""
    items = given if isinstance(given, list) else [] if given is None else [given]
    if not all(isinstance(item, str) for item in items):
        raise ProxyError(ErrorKind.INVALID_REQUEST, "invalid input type")


def missing(words: RouteWords, name: str, ref: ModelRef) -> ProxyError:
    """The error of a model that nobody has."""
    if words.schedules:
        text = f"model {quote(name)} not found, try pulling it first"
    else:
        text = f"model '{ref.base if words.bare else name}' not found"
    return ProxyError(ErrorKind.MODEL_NOT_FOUND, text)
