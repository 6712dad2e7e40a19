"""What it changes that somebody else fills the queue.

While others wait for every slot, all devices run whatever one request takes: what it does not use, they do, and the
joules are spent all the same. So joules are no reason to send a caller who asks for less than its share to a slower
device, and its seconds count more.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ollama_proxy.domain.decision import Policy

#: Watts: the price of a second as in mode Performance.
_HURRIED_WATTS = 50.0


def is_crowded(caller: str, places: Mapping[str, int], slots: int) -> bool:
    """Whether others wait for every slot, of whom one has more places in the queue than an equal share, and this caller
    has fewer. `places` are those that callers have."""
    mine, count = places.get(caller, 0), sum(places.values())
    return len(places) > 1 and mine * len(places) < count and count - mine >= slots > 0


class Hurry:
    """A policy and the same with dearer seconds; made once for each, since decisions remember it by identity."""

    __slots__ = ("_hurried", "_policy")

    def __init__(self) -> None:
        self._policy = self._hurried = Policy()

    def look(self, policy: Policy) -> Policy:
        """The policy for a caller that is crowded."""
        if policy is not self._policy:
            dearer = max(policy.lambda_watts, _HURRIED_WATTS)
            self._policy, self._hurried = policy, msgspec.structs.replace(policy, lambda_watts=dearer)
        return self._hurried
