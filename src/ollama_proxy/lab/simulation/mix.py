"""What the requests of a workload wish: a mix of annotations, assigned by a hash of the request's number.

The hash sees only the seed and the number, so a request has the same wish under every policy and in every slice.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec

from ollama_proxy.config.document import Lines, read_document, read_text
from ollama_proxy.config.problems import ConfigError, Problem
from ollama_proxy.lab.simulation.workload import DEFAULT_PROBABILITY, Arrival

WISHES: Final = ("critical", "efficient", "deadline", "balanced")
_KEYS: Final = ("shares", "deadlines_s", "probability", "callers")
_SUM_TOLERANCE: Final = 1e-6


class Mix(msgspec.Struct, frozen=True):
    """Shares add up to 1. Deadlines are equally likely. Without callers every request is anonymous."""

    shares: tuple[tuple[str, float], ...]
    deadlines_s: tuple[float, ...] = ()
    probability: float = DEFAULT_PROBABILITY
    callers: tuple[tuple[str, float], ...] = ()


DEFAULT_MIX: Final = Mix((("critical", 0.2), ("efficient", 0.3), ("deadline", 0.5)), (15.0, 30.0, 60.0, 120.0))
BALANCED_MIX: Final = Mix((("balanced", 1.0),))
PRESETS: Final = {"default": DEFAULT_MIX, "balanced": BALANCED_MIX}


def find_mix(name: str) -> Mix:
    """The preset of that name, else the file. Raises `ConfigError`."""
    return PRESETS[name] if name in PRESETS else read_mix(read_text(Path(name)), name)


def apply_mix(arrivals: Iterable[Arrival], mix: Mix, seed: int) -> tuple[Arrival, ...]:
    """The same arrivals with wish, deadline, probability and caller."""
    return tuple(_wish(arrival, mix, seed) for arrival in arrivals)


def read_mix(text: str, source: str) -> Mix:
    """A mix from YAML: `shares` by wish, `deadlines_s`, `probability`, `callers` by name. Raises `ConfigError`."""
    data, lines = read_document(text, source)
    reader = _Reader(source, lines)
    if not isinstance(data, dict) or not data:
        reader.fail("", f"the file must hold keys and values; known are {', '.join(_KEYS)}")
    reader.refuse_unknown(data, _KEYS, "")
    shares = reader.read_shares(data.get("shares"), "shares", WISHES)
    deadlines_s = reader.read_deadlines(data.get("deadlines_s", []))
    if not shares:
        reader.fail("shares", f"is missing; give each wish its share, of {', '.join(WISHES)}")
    if dict(shares).get("deadline", 0.0) > 0 and not deadlines_s:
        reader.fail("deadlines_s", "is missing, while some requests have deadlines")
    probability = reader.read_number(data.get("probability", DEFAULT_PROBABILITY), "probability")
    if not 0.0 < probability < 1.0:
        reader.fail("probability", "expected a number between 0 and 1, both excluded")
    return Mix(shares, deadlines_s, probability, reader.read_shares(data.get("callers", {}), "callers", None))


def _wish(arrival: Arrival, mix: Mix, seed: int) -> Arrival:
    wish = _pick(mix.shares, _draw(seed, "wish", arrival.id))
    caller = _pick(mix.callers, _draw(seed, "caller", arrival.id)) if mix.callers else ""
    deadline_s = 0.0
    if wish == "deadline":
        deadline_s = mix.deadlines_s[int(_draw(seed, "deadline", arrival.id) * len(mix.deadlines_s))]
    return msgspec.structs.replace(
        arrival, wish=wish, deadline_s=deadline_s, probability=mix.probability, caller=caller
    )


def _draw(seed: int, what: str, number: int) -> float:
    """Uniform in [0, 1), the same on every machine (53 bits, so that it never rounds up to 1)."""
    digest = blake2b(f"{seed}/{what}/{number}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2.0**53


def _pick(shares: Iterable[tuple[str, float]], u: float) -> str:
    upto, last = 0.0, ""
    for name, share in shares:
        upto += share
        last = name if share > 0 else last
        if u < upto:
            return name
    return last  # the shares' rounding error


class _Reader:
    """Checks pieces of the file, and names key and line where one is wrong."""

    def __init__(self, source: str, lines: Lines) -> None:
        self._source = source
        self._lines = lines

    def fail(self, where: str, message: str) -> NoReturn:
        raise ConfigError([Problem(where, message, self._lines.get(where, 0))], self._source)

    def refuse_unknown(self, data: Mapping[str, Any], known: tuple[str, ...], path: str) -> None:
        for key in data:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
                hint = f'; did you mean "{near[0]}"?' if near else f"; known are {', '.join(known)}"
                self.fail(f"{path}.{key}" if path else str(key), "unknown key" + hint)

    def read_number(self, value: Any, where: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.fail(where, "expected a number")
        return float(value)

    def read_shares(self, data: Any, where: str, known: tuple[str, ...] | None) -> tuple[tuple[str, float], ...]:
        """Names with shares that add up to 1; nothing when there are none."""
        if data is None or data == {}:
            return ()
        if not isinstance(data, dict):
            self.fail(where, "expected names with their shares")
        if known is not None:
            self.refuse_unknown(data, known, where)
        shares = tuple((str(name), self.read_number(share, f"{where}.{name}")) for name, share in data.items())
        for name, share in shares:
            if not 0.0 <= share <= 1.0:
                self.fail(f"{where}.{name}", "expected a share between 0 and 1")
        total = math.fsum(share for _, share in shares)
        if abs(total - 1.0) > _SUM_TOLERANCE:
            self.fail(where, f"the shares add up to {total:g}, not to 1")
        return shares

    def read_deadlines(self, data: Any) -> tuple[float, ...]:
        if not isinstance(data, list):
            self.fail("deadlines_s", "expected a list of seconds")
        deadlines_s = tuple(self.read_number(one, f"deadlines_s[{place}]") for place, one in enumerate(data))
        for place, one in enumerate(deadlines_s):
            if one <= 0.0:
                self.fail(f"deadlines_s[{place}]", "expected more than 0 seconds")
        return deadlines_s
