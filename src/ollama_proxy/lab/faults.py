"""Faults that can be switched on while an emulated server runs."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.bodies.unreadable import UNREADABLE

FaultKind = Literal["none", "refuse", "reset", "stall", "cut", "status", "slow", "garbage", "too_long"]


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What goes wrong, where and how often.

    `refuse` closes the listening socket; `reset` drops the connection at once; `stall` accepts and says nothing; `cut`
    drops it after `after_chunks` pieces, `how` being: it closes it, resets it, ends the stream in good order but
    without its end marker, leaves half an event behind, or says nothing more; `status` answers `status`; `slow` divides
    speeds by `factor`; `garbage` sends bad JSON; `too_long` refuses prompts of more than `tokens`, as devices with
    static shapes do.
    """

    fault: FaultKind = "none"
    after_chunks: Annotated[int, msgspec.Meta(ge=0)] = 3
    how: Literal["close", "reset", "end", "half", "stall"] = "close"
    status: Annotated[int, msgspec.Meta(ge=400, le=599)] = 503
    factor: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    tokens: Annotated[int, msgspec.Meta(ge=1)] = 1024
    #: How many requests it hits; 0 = all.
    times: Annotated[int, msgspec.Meta(ge=0)] = 0
    #: The paths it hits; empty = every inference route.
    paths: tuple[str, ...] = ()


NO_FAULT = Fault()
_decoder = msgspec.json.Decoder(Fault)


def read_fault(body: bytes) -> Fault:
    """Read a fault from JSON. Raises `ProxyError(INVALID_REQUEST)`."""
    try:
        return _decoder.decode(body)
    except UNREADABLE as error:
        raise ProxyError(ErrorKind.INVALID_REQUEST, f"invalid fault: {error}") from None


class FaultSwitch:
    """The fault that is on, and how often it may still strike."""

    def __init__(self) -> None:
        self.fault = NO_FAULT
        self._left = 0

    def set(self, fault: Fault) -> None:
        """Switch a fault on, or off with `none`."""
        self.fault = fault
        self._left = fault.times

    def strike(self, path: str) -> Fault:
        """The fault that hits a request on this path now."""
        fault = self.fault
        if fault.fault == "none" or (fault.paths and path not in fault.paths):
            return NO_FAULT
        if fault.times:
            self._left -= 1
            if self._left <= 0:
                self.fault = NO_FAULT
        return fault
