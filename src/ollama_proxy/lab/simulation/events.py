"""What the emulator tells about a request: its truth, which a real device would keep to itself."""

from __future__ import annotations

import msgspec


class Started(msgspec.Struct, frozen=True):
    """The request has a slot of its device; waking and loading come next if they are needed."""

    job: int
    at_s: float


class FirstToken(msgspec.Struct, frozen=True):
    """The prompt is read."""

    job: int
    at_s: float


class Ended(msgspec.Struct, frozen=True):
    """The last token is out.

    `load_s` is the time from the start to the first work on the prompt: waking and loading. `joules` is the dynamic
    energy of its work with the load it caused; waking is a state of the device and counts as standby.
    """

    job: int
    at_s: float
    load_s: float
    prefill_s: float
    decode_s: float
    joules: float


Event = Started | FirstToken | Ended
