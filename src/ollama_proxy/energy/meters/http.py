"""Smart plugs and anything else that tells watts or joules in JSON over HTTP.

A preset knows where a kind of plug has its figure; without one, a JSON pointer (RFC 6901) and a unit say it. Plugs
round their energy totals coarsely, so presets read power. The question is asked in the sampler's thread for this meter.
"""

from __future__ import annotations

import http.client
import json
import math
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ollama_proxy.domain.metering import DISCOVERED, MeterOptions, Reading, Source
from ollama_proxy.energy.meters.choice import describe_configured
from ollama_proxy.energy.meters.unit import JOULES, WATTS, to_reading

_LIMIT_BYTES = 256 * 1024


class MeterAnswerError(Exception):
    """A meter answered with something that holds no figure; the text says what."""


class Preset(msgspec.Struct, frozen=True):
    """Where a kind of plug has its power. `unit_pointer` is where it tells the unit itself."""

    path: str
    pointer: str
    unit: str = "W"
    unit_pointer: str = ""


PRESETS = {
    "shelly-gen1": Preset("/meter/0", "/power"),
    "shelly-gen2": Preset("/rpc/Switch.GetStatus?id=0", "/apower"),
    "tasmota": Preset("/cm?cmnd=Status%208", "/StatusSNS/ENERGY/Power"),
    "home-assistant": Preset("", "/state", unit_pointer="/attributes/unit_of_measurement"),
}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A plug has no reason to send us elsewhere, and the token must not follow."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class HttpMeter:
    """One figure behind a URL, in W or J."""

    blocks = True

    def __init__(self, root: Path = Path("/"), options: MeterOptions = DISCOVERED) -> None:
        self._options = options
        self._preset = PRESETS.get(options.preset, Preset("", options.pointer, options.unit))
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
        self.min_period_s = options.interval_s
        self._source = describe_configured(options, "http", "wall", f"what {urlsplit(options.url).hostname} measures")

    def describe(self) -> tuple[Source, ...]:
        """The plug; whether it answers is known only by asking it."""
        return (self._source,)

    def read(self, now_s: float, active: bool = True) -> tuple[Reading, ...]:
        """Its figure. Raises `MeterAnswerError` or `OSError`."""
        document = self._fetch()
        preset = self._preset
        unit = str(find_value(document, preset.unit_pointer)) if preset.unit_pointer else preset.unit
        if unit not in WATTS and unit not in JOULES:
            raise MeterAnswerError(f"its unit is {unit[:20]!r}, not one of {', '.join((*WATTS, *JOULES))}")
        value = as_number(find_value(document, preset.pointer))
        if unit in JOULES and value < 0:
            raise MeterAnswerError("its energy is negative")
        # A plug behind which solar panels feed in tells less than nothing; what the devices drew is not known then.
        return (to_reading(self._source, value, unit, now_s),) if value >= 0 else ()

    def _fetch(self) -> Any:
        request = urllib.request.Request(complete_url(self._options.url, self._preset.path))
        if self._options.token:
            request.add_header("Authorization", f"Bearer {self._options.token}")
        try:
            until_s = time.monotonic() + self._options.timeout_s
            with self._opener.open(request, timeout=self._options.timeout_s) as answer:
                body = _read_body(answer, until_s)
        except urllib.error.HTTPError as error:
            error.close()
            raise MeterAnswerError(f"it answers with status {error.code}") from None
        except (ValueError, http.client.HTTPException) as error:
            # Without its text, which may repeat what was sent, the token included.
            raise MeterAnswerError(f"it cannot be asked by HTTP ({type(error).__name__})") from None
        if len(body) > _LIMIT_BYTES:
            raise MeterAnswerError(f"its answer is larger than {_LIMIT_BYTES} bytes")
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise MeterAnswerError("its answer is not JSON") from None


def _read_body(answer: http.client.HTTPResponse, until_s: float) -> bytes:
    """At most a byte more than the limit. Raises `TimeoutError`: the socket's own limit is for a single piece only."""
    body = b""
    while len(body) <= _LIMIT_BYTES and (piece := answer.read1(_LIMIT_BYTES + 1 - len(body))):
        body += piece
        if time.monotonic() > until_s:
            raise TimeoutError("it took too long to answer")
    return body


def complete_url(url: str, path: str) -> str:
    """The preset's path is used for a URL that has none of its own."""
    parts = urlsplit(url)
    return url if parts.query or parts.path.strip("/") else url.rstrip("/") + path


def find_value(document: Any, pointer: str) -> Any:
    """What a JSON pointer leads to (RFC 6901). Raises `MeterAnswerError` when there is nothing."""
    value = document
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isascii() and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            raise MeterAnswerError(f"its answer has nothing at {pointer}")
    return value


def as_number(value: Any) -> float:
    """A JSON number, a text that is one (Home Assistant), or the sum of a list (plugs with several outlets)."""
    if isinstance(value, list) and value:
        return sum(as_number(one) for one in value)
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise MeterAnswerError("what it tells is not a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise MeterAnswerError(f"what it tells is not a number: {str(value)[:40]!r}") from None
    if not math.isfinite(number):
        raise MeterAnswerError("what it tells is not a finite number")
    return number
