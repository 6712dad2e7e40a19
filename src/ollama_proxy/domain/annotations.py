"""What a caller asks of the routing: one meaning, one parser, every way in.

Headers, JSON bodies and gRPC messages all end up here as `(key, value)` pairs. A value that cannot be read is an
error that names it; it is never ignored.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable, Mapping

import msgspec

from .errors import ErrorKind, ProxyError


class Priority(enum.IntEnum):
    """Order of service among waiting requests; higher goes first."""

    BEST_EFFORT = 0
    LOW = 1
    NORMAL = 2
    HIGH = 3
    CRITICAL = 4
    REALTIME = 5


MEDIA_TYPES = ("auto", "text", "code", "image", "audio", "video", "realtime")
LATENCY_METRICS = ("e2e", "ttft")
ON_INFEASIBLE = ("best_effort", "reject", "degrade")
POWER_SCOPES = ("backend", "system")
CONTINUATION = ("auto", "never")
_TRUE = frozenset(("true", "1", "yes", "on"))
_FALSE = frozenset(("false", "0", "no", "off"))
_PRIORITIES = {word.name.lower().replace("_", "-"): word for word in Priority}
_MAX_CUSTOM = 64
_MOST_RETRIEVED = 50


class Annotations(msgspec.Struct, frozen=True):
    """Limits and wishes of one request. Zero and empty mean "not asked for"."""

    target: str = ""
    latency_critical: bool = False
    prefer_power_efficiency: bool = False
    cache_enabled: bool | None = None
    max_latency_ms: int = 0
    max_power_watts: float = 0.0
    priority: Priority = Priority.NORMAL
    media_type: str = "auto"
    #: Of the latency limit: how surely it is to be kept (0 for the policy's own), of what, and what if it cannot be.
    latency_probability: float = 0.0
    latency_metric: str = ""
    on_infeasible: str = ""
    power_scope: str = ""
    #: Whether another backend may go on with a stream that breaks off; as configured if "".
    continuation: str = ""
    #: Whether the answer to another prompt that means the same will do; as configured if None.
    cache_semantic: bool | None = None
    #: Vector stores whose passages go in front of the question, joined by comma, and how many; 0 for the usual number.
    retrieve: str = ""
    retrieve_most: int = 0
    custom: Mapping[str, str] = {}


NO_ANNOTATIONS = Annotations()


def parse_annotations(pairs: Iterable[tuple[str, object]], *, source: str = "annotation") -> Annotations:
    """Read annotation pairs; a later pair wins over an earlier one of the same key.

    Keys are those of the JSON body (`max_power_watts`); `custom.<name>` or an unknown key goes into `custom`.
    Raises `ProxyError(INVALID_REQUEST)` that names the key and the value.
    """
    values: dict[str, object] = {}
    custom: dict[str, str] = {}
    for key, value in pairs:
        reader = _READERS.get(key)
        if reader is not None:
            values[key] = reader(f"{source} {key}", value)
        else:
            custom[key.removeprefix("custom.")] = _read_text(f"{source} {key}", value)
    for name, value in custom.items():
        key = name.lower().replace("-", "_")
        if key in _ALSO_CUSTOM and key not in values:
            values[key] = _READERS[key](f"{source} custom {name}", value)
    if len(custom) > _MAX_CUSTOM:
        raise _refuse(f"{source}s", f"{len(custom)} custom entries", f"at most {_MAX_CUSTOM}")
    if not values and not custom:
        return NO_ANNOTATIONS
    return msgspec.convert({**values, "custom": custom}, Annotations)


def _refuse(what: str, value: object, wanted: str) -> ProxyError:
    shown = str(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return ProxyError(ErrorKind.INVALID_REQUEST, f"{what}: cannot read {shown!r}; expected {wanted}")


def _read_bool(what: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower() if isinstance(value, str | int) else ""
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise _refuse(what, value, "true or false")


def _read_number(what: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _refuse(what, value, "a number")
    try:
        number = float(value)
    except ValueError:
        raise _refuse(what, value, "a number") from None
    if not math.isfinite(number) or number < 0 or number > 1e9:
        raise _refuse(what, value, "a number from 0 to 1000000000")
    return number


def _read_count(what: str, value: object) -> int:
    number = _read_number(what, value)
    if not (number.is_integer() and 1 <= number <= _MOST_RETRIEVED):
        raise _refuse(what, value, f"a whole number from 1 to {_MOST_RETRIEVED}")
    return int(number)


def _read_milliseconds(what: str, value: object) -> int:
    return math.ceil(_read_number(what, value))


def _read_text(what: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise _refuse(what, value, "a text")
    return str(value).strip()


def _read_target(what: str, value: object) -> str:
    word = _read_text(what, value)
    return "" if word.lower() == "auto" else word


def _read_priority(what: str, value: object) -> Priority:
    word = _read_text(what, value).lower().replace("_", "-")
    found = _PRIORITIES.get(word)
    if found is None:
        raise _refuse(what, value, ", ".join(_PRIORITIES))
    return found


def _read_probability(what: str, value: object) -> float:
    number = _read_number(what, value)
    if not 0 < number < 1:
        raise _refuse(what, value, "a probability between 0 and 1, such as 0.95")
    return number


def _read_word(words: tuple[str, ...]) -> Callable[[str, object], str]:
    def read(what: str, value: object) -> str:
        word = _read_text(what, value).lower().replace("-", "_")
        if word not in words:
            raise _refuse(what, value, ", ".join(words))
        return word

    return read


def _read_media_type(what: str, value: object) -> str:
    word = _read_text(what, value).lower()
    if word not in MEDIA_TYPES:
        raise _refuse(what, value, ", ".join(MEDIA_TYPES))
    return word


_READERS = {
    "target": _read_target,
    "latency_critical": _read_bool,
    "prefer_power_efficiency": _read_bool,
    "cache_enabled": _read_bool,
    "max_latency_ms": _read_milliseconds,
    "max_power_watts": _read_number,
    "priority": _read_priority,
    "media_type": _read_media_type,
    "latency_probability": _read_probability,
    "latency_metric": _read_word(LATENCY_METRICS),
    "on_infeasible": _read_word(ON_INFEASIBLE),
    "power_scope": _read_word(POWER_SCOPES),
    "continuation": _read_word(CONTINUATION),
    "cache_semantic": _read_bool,
    "retrieve": _read_text,
    "retrieve_most": _read_count,
}
#: The contract's gRPC message has no fields for these; there they come as custom entries.
_ALSO_CUSTOM = (
    "priority",
    "media_type",
    "latency_probability",
    "latency_metric",
    "on_infeasible",
    "power_scope",
    "continuation",
    "cache_semantic",
    "retrieve",
    "retrieve_most",
)

_HEADERS = {
    b"x-target-backend": "target",
    b"x-latency-critical": "latency_critical",
    b"x-power-efficient": "prefer_power_efficiency",
    b"x-max-latency-ms": "max_latency_ms",
    b"x-deadline-ms": "max_latency_ms",
    b"x-max-power-watts": "max_power_watts",
    b"x-cache-enabled": "cache_enabled",
    b"x-cache-semantic": "cache_semantic",
    b"x-priority": "priority",
    b"x-media-type": "media_type",
    b"x-latency-probability": "latency_probability",
    b"x-latency-metric": "latency_metric",
    b"x-on-infeasible": "on_infeasible",
    b"x-power-scope": "power_scope",
    b"x-continue": "continuation",
    b"x-retrieve": "retrieve",
    b"x-retrieve-most": "retrieve_most",
}


def annotation_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """The annotation pairs among HTTP headers (names in lower case)."""
    found: list[tuple[str, str]] = []
    for name, value in headers:
        if not name.startswith(b"x-"):
            continue
        key = _HEADERS.get(name)
        if key is not None:
            found.append((key, value.decode("latin-1")))
        elif name.startswith(b"x-custom-"):
            found.append(("custom." + name[9:].decode("latin-1"), value.decode("latin-1")))
    return found
