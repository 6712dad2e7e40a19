"""Whether a request may begin under the system's power cap: now, when others have ended, or with another set.

A set that is exchanged leaves devices behind that finish what they run. They still draw, so a member of the new set
begins only when there is room beside them. What no member of the set can do waits, and asks for a set in which
somebody can: whoever holds the queue chooses it (`choose_power_set`). It is refused only where the device alone is
above the cap.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from ollama_proxy.domain.decision import Limit, PowerSet, Refusal, Rejection, RoutingRequest
from ollama_proxy.domain.device import BackendSpec, BackendView, FleetView, Wait
from ollama_proxy.routing.limits import BRIEF_S
from ollama_proxy.routing.prospect import Prospect

#: What may be waited for: nothing, that devices outside of the set have ended, another set.
NOW, FOR_OTHERS, FOR_ANOTHER_SET = range(3)
_ROUNDING_W = 1e-9


class Room:
    """The cap against all that runs at one moment, for a choice from `fleet`, which is all of the `whole` or a part.

    `patience` says what may be waited for.
    """

    __slots__ = ("_fleet", "_left_w", "_outside_w", "_running", "_running_w", "_set", "_whole", "least_w", "patience")

    def __init__(self, power_set: PowerSet, fleet: FleetView, whole: FleetView) -> None:
        self._set = power_set
        self._fleet, self._whole = fleet, whole
        self._left_w = power_set.cap_watts - power_set.base_watts
        self._running = [view.spec for view in whole.backends if view.in_flight]
        self._running_w = sum([spec.power_watts for spec in self._running])
        self._outside_w = sum([_peak_of(spec) for spec in self._running if spec.id not in power_set.active])
        self.patience = NOW
        #: The least draw of a device that could take the request if the cap allowed it.
        self.least_w = math.inf

    def judge(
        self, view: BackendView, one: Prospect, request: RoutingRequest, rejection: Rejection | None
    ) -> Rejection | None:
        """What becomes of the verdict of all other limits, which knows the set alone."""
        if one.stands_in or (rejection is not None and rejection.limit is not Limit.SYSTEM_POWER):
            return rejection
        prefill_s = one.overhead_s + request.prompt_tokens * one.s_per_prompt_token
        if rejection is None:
            return None if self.patience or self._has_room(view, prefill_s) else self._reject(view.spec)
        if self.patience < FOR_ANOTHER_SET or 0 < self._set.quiet_watts < view.spec.power_watts:
            return rejection
        return self._check_alone(view.spec, prefill_s)

    def _has_room(self, view: BackendView, prefill_s: float) -> bool:
        """Whether a member of the set may begin beside what runs; without outsiders that is what the set means.

        Those who were in one set before were chosen to run together. A newcomer reckons with the most that outsiders
        may draw: some may be reading long prompts.
        """
        if not self._outside_w:
            return True
        spec, before = view.spec, self._set.before
        others_w = self._running_w - (spec.power_watts if view.in_flight else 0.0)
        if spec.id not in before or any(one.id not in before for one in self._running):
            active = self._set.active
            others_w += sum([_peak_of(one) - one.power_watts for one in self._running if one.id not in active])
        return others_w + _need_of(spec, prefill_s) <= self._left_w + _ROUNDING_W

    def _reject(self, spec: BackendSpec) -> Rejection:
        above = f"with its {spec.power_watts:.1f} W the system would be above {self._set.cap_watts:g} W"
        detail = f"others that are to end first still draw {self._outside_w:.1f} W; {above}"
        return Rejection(spec.id, Limit.SYSTEM_POWER, detail)

    def _check_alone(self, spec: BackendSpec, prefill_s: float) -> Rejection | None:
        cap = f"the system's power cap is {self._set.cap_watts:g} W"
        if not spec.power_watts:
            return Rejection(spec.id, Limit.SYSTEM_POWER, f"power draw unknown, and {cap}")
        need_w = _need_of(spec, prefill_s)
        if need_w <= self._left_w + _ROUNDING_W:
            return None
        self.least_w = min(self.least_w, need_w + self._set.base_watts)
        reading = f" for the {prefill_s:.1f} s of reading the prompt" if need_w > spec.power_watts else ""
        return Rejection(spec.id, Limit.SYSTEM_POWER, f"draws {need_w:.1f} W{reading}, and {cap}")

    def forecast(self) -> FleetView:
        """The fleet, each backend with the wait until those have ended that are in its way."""
        fleet, inside = self._fleet, self._set.active
        blocking = [
            (wait, view)
            for wait, view in _pair(self._whole)
            if wait is not None and view.in_flight and (self.patience > FOR_OTHERS or view.spec.id not in inside)
        ]
        found: list[Wait | None] = []
        for wait, view in _pair(fleet):
            others = [other for other, blocker in blocking if blocker is not view]
            found.append(max([*others, *([] if wait is None else [wait])], key=_mean_of, default=None))
        return msgspec.structs.replace(fleet, waits=tuple(found))

    def tell_least(self, refusal: Refusal) -> Refusal:
        """The refusal with the least cap that would do, where the cap is what is in the way."""
        if self.least_w == math.inf:
            return refusal
        least = f"the least power cap (routing.system_cap_watts) that would do is {self.least_w:g} W"
        return msgspec.structs.replace(refusal, message=f"{refusal.message}; {least}")


def _pair(fleet: FleetView) -> Iterable[tuple[Wait | None, BackendView]]:
    return zip(fleet.waits or (None,) * len(fleet.backends), fleet.backends, strict=True)


def _need_of(spec: BackendSpec, prefill_s: float) -> float:
    """What a request makes a device draw for longer than a moment."""
    return _peak_of(spec) if prefill_s > BRIEF_S else spec.power_watts


def _peak_of(spec: BackendSpec) -> float:
    return max(spec.power_watts, spec.prefill_watts)


def _mean_of(wait: Wait) -> float:
    return wait.mean_s
