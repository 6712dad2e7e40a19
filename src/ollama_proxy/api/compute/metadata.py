"""The metadata of `compute.v1` answers, encoded once an answer: the same goes out in front and behind."""

from __future__ import annotations

from functools import lru_cache

from ollama_proxy.domain.answer import Route
from ollama_proxy.net.grpc.metadata import encode_metadata


def encode_route(route: Route | None, request_id: str) -> bytes:
    """The contract's metadata: the request's id, and where the answer comes from."""
    if route is None:
        return encode_request_id(request_id)
    alternatives = ",".join(route.alternatives)
    free = request_id + route.backend + route.reason + alternatives + route.decision_id
    plain = not route.stand_in and route.cache is None and not route.retrieved
    if plain and request_id and free.isascii() and free.isprintable():
        try:
            return _encode_plain(route, request_id, alternatives)
        except IndexError:
            pass  # one of the values is long
    pairs = [("x-request-id", request_id)] if request_id else []
    pairs += [(name.lower(), _ascii(value)) for name, value in route.headers()]
    return encode_metadata(pairs)


def encode_request_id(request_id: str) -> bytes:
    """The metadata of an answer that no backend gave."""
    if request_id.isascii() and 0 < len(request_id) < _SHORT:
        return f"{_REQUEST_ID}{_SIZES[len(request_id)]}{request_id}".encode("ascii")
    return encode_metadata([("x-request-id", request_id)] if request_id else [])


#: HPACK writes the size of a short string in one byte. All of a plain answer's metadata is ASCII, so it is put together
#: as text and encoded at once.
_SHORT = 127
_SIZES = tuple(map(chr, range(_SHORT)))


def _name(text: str) -> str:
    return encode_metadata([(text, "")])[:-1].decode("ascii")


_REQUEST_ID = _name("x-request-id")
_BACKEND = _name("x-backend-used")
_REASON = _name("x-routing-reason")
_ALTERNATIVES = _name("x-alternatives")
_DECISION = _name("x-decision-id")


def _encode_plain(route: Route, request_id: str, alternatives: str) -> bytes:
    """Raises IndexError for a value that is not short."""
    backend, reason, decision = route.backend, route.reason, route.decision_id
    attempts, kind, sizes = route.attempts, route.energy_kind, _SIZES
    return (
        f"{_REQUEST_ID}{sizes[len(request_id)]}{request_id}{_BACKEND}{sizes[len(backend)]}{backend}"
        f"{_REASON}{sizes[len(reason)]}{reason}{_estimates(route.power_watts, route.latency_ms)}"
        f"{_ALTERNATIVES}{sizes[len(alternatives)]}{alternatives}{_DECISION}{sizes[len(decision)]}{decision}"
        f"{_effort(attempts, kind)}"
    ).encode("ascii")


@lru_cache(maxsize=1024)
def _estimates(watts: float, latency_ms: int) -> str:
    """Unknown watts are absent, not zero."""
    pairs = [("x-estimated-power-watts", f"{watts:.1f}")] if watts else []
    return encode_metadata([*pairs, ("x-estimated-latency-ms", str(latency_ms))]).decode("ascii")


@lru_cache(maxsize=64)
def _effort(attempts: int, energy_kind: str) -> str:
    return encode_metadata([("x-attempts", str(attempts)), ("x-energy-kind", energy_kind)]).decode("ascii")


def _ascii(value: str) -> str:
    return "".join(char if " " <= char <= "~" else "?" for char in value)
