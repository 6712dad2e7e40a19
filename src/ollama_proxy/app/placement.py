"""Which Ollama backends new models are brought to: the request's own wish, else what is configured."""

from __future__ import annotations

from collections.abc import Sequence

from ollama_proxy.domain.device import HARDWARE_WORDS, BackendView, FleetView
from ollama_proxy.domain.errors import ErrorKind, ProxyError

_ALL = "all"


class Placement:
    """`setting` is `first` (the default backend, else the first that serves), `all`, or ids."""

    def __init__(self, setting: str | Sequence[str], default_backend: str) -> None:
        self._setting = setting
        self._default = default_backend

    def choose(self, view: FleetView, target: str) -> tuple[str, ...]:
        """The ids, in the order of the configuration; never none. Raises `ProxyError`."""
        stores = [one for one in view.backends if one.spec.kind == "ollama"]
        words = [word for part in target.split(",") if (word := part.strip())]
        if words:
            return _find(words, view, stores)
        serving = [one.id for one in stores if one.health.serves]
        if not serving:
            raise ProxyError(ErrorKind.NO_HEALTHY_BACKEND, _describe(stores))
        if self._setting == _ALL:
            return tuple(serving)
        if self._setting == "first":
            return (self._default,) if self._default in serving else (serving[0],)
        chosen = tuple(one for one in serving if one in self._setting)
        if not chosen:
            asked = [one for one in stores if one.id in self._setting]
            raise ProxyError(ErrorKind.NO_HEALTHY_BACKEND, _describe(asked))
        return chosen


def _find(words: Sequence[str], view: FleetView, stores: Sequence[BackendView]) -> tuple[str, ...]:
    """What a request names: an id must serve, of a hardware word those that do."""
    found: set[str] = set()
    for word in words:
        named = [one for one in stores if one.id.lower() == word.lower()]
        matching = named or [one for one in stores if word.lower() in (one.spec.hardware, _ALL)]
        serving = [one.id for one in matching if one.health.serves]
        if not matching:
            raise ProxyError(ErrorKind.INVALID_REQUEST, _refuse(word, view, stores))
        if not serving:
            raise ProxyError(ErrorKind.NO_HEALTHY_BACKEND, _describe(matching))
        found.update(serving)
    return tuple(one.id for one in stores if one.id in found)


def _refuse(word: str, view: FleetView, stores: Sequence[BackendView]) -> str:
    shown = word if len(word) <= 60 else word[:57] + "..."
    if any(one.id.lower() == word.lower() for one in view.backends):
        return f"backend {shown} is no Ollama server; models are not managed there"
    words = [one for one in HARDWARE_WORDS if _any_of(one, stores)]
    known = ", ".join(dict.fromkeys([*(one.id for one in stores), *words, _ALL]))
    return f"no Ollama backend is called {shown!r}, nor is one of that hardware; known are {known}"


def _any_of(word: str, stores: Sequence[BackendView]) -> bool:
    return any(one.spec.hardware == word for one in stores)


def _describe(stores: Sequence[BackendView]) -> str:
    if not stores:
        return "no Ollama backend is configured"
    return "no healthy Ollama backend: " + "; ".join(f"{one.id}: {one.message or one.health.value}" for one in stores)
