"""What it changes that somebody else fills the queue.

While others wait for every slot, all devices run whatever one request takes: what it does not use, they do, and the
joules are spent all the same. So joules are no reason to send a caller who asks for less than its share to a slower
device, and its seconds count more.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ollama_proxy.domain.decision import Policy
from ollama_proxy.routing.policies import MODES

_HURRIED_WATTS = MODES["Performance"][0]


def find_crowded(places: Mapping[str, int], slots: int) -> frozenset[str]:
    """Callers with fewer places in the queue than an equal share, while others wait for every slot. `places` are those
    that callers have."""
    callers, count = len(places), sum(places.values())
    if callers < 2 or not slots:
        return frozenset()
    return frozenset([name for name, mine in places.items() if mine * callers < count and count - mine >= slots])


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
