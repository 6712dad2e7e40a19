"""One request that waits: how urgent it is, since when, and where it would go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ollama_proxy.domain.annotations import Priority
from ollama_proxy.domain.call import Need
from ollama_proxy.domain.decision import RoutingRequest
from ollama_proxy.fleet.outlook import Planned
from ollama_proxy.routing.record import Inputs

#: After so long a wait its class rises by one.
AGEING_S = 60.0
NEVER = float("inf")
Kind = tuple[str, frozenset[Need], str, float, tuple[bool, bool, bool], frozenset[str], frozenset[str] | None]


class Waiting:
    """One request in the queue; `owner` is whoever wants to know."""

    __slots__ = (
        "arrived_s",
        "begun",
        "caller",
        "due_s",
        "find_held",
        "given",
        "given_up",
        "had_room_made",
        "owner",
        "planned",
        "rank",
        "request",
        "size_bytes",
        "substitute",
        "tag",
        "tried",
        "wait_s",
    )

    def __init__(
        self, owner: Any, request: RoutingRequest, arrived_s: float, caller: str, tried: frozenset[str]
    ) -> None:
        self.owner = owner
        self.request = request
        self.arrived_s = arrived_s
        self.caller = caller
        self.tried = tried
        wishes = request.annotations
        self.rank = max(wishes.priority, Priority.CRITICAL) if wishes.latency_critical else wishes.priority
        self.due_s = arrived_s + wishes.max_latency_ms / 1000 if wishes.max_latency_ms else NEVER
        self.tag = 0.0
        #: How long it is expected to wait from the last plan on; None before it was planned.
        self.wait_s: float | None = None
        #: Where it would go then; None as well.
        self.planned: Planned | None = None
        #: What the last plan decided on.
        self.given: Inputs | None = None
        #: Of its body, which is kept meanwhile.
        self.size_bytes = 0
        #: What it has given up already to find anybody at all, and whether that is the very model.
        self.given_up, self.substitute = "", False
        #: It has run before, and was broken off: whatever it was worth must not be in vain.
        self.begun = False
        #: Somebody was broken off for it.
        self.had_room_made = False
        #: What backends hold of its prompt now, in tokens, where that is worth a look.
        self.find_held: Callable[[], Mapping[str, float]] | None = None

    def describe(self, now_s: float) -> RoutingRequest:
        """The request as it is now."""
        request = self.request
        if request.annotations.max_latency_ms:
            request = msgspec.structs.replace(request, spent_s=now_s - self.arrived_s)
        if self.find_held is not None:
            request = msgspec.structs.replace(request, held=self.find_held())
        return request

    def order(self, now_s: float) -> tuple[int, float, float, float]:
        """Whoever has the least is first."""
        rank = self.rank + int((now_s - self.arrived_s) / AGEING_S)
        return -rank, self.due_s, self.tag, self.arrived_s


def name_class(rank: int) -> str:
    """The class of a request as annotations spell it; what is latency_critical has at least `critical`."""
    return Priority(rank).name.lower().replace("_", "-")


def kind_of(waiting: Waiting) -> Kind:
    """What mostly decides for which backends a request waits."""
    request = waiting.request
    wishes = request.annotations
    hurry = wishes.latency_critical, wishes.prefer_power_efficiency, bool(wishes.max_latency_ms)
    return request.model, request.needs, wishes.target, wishes.max_power_watts, hurry, waiting.tried, request.allowed
