"""How long a request waits to be frugal: not beyond so many times the soonest end that anybody offers.

A second costs a frugal request next to nothing, so nothing else would keep it from a device that is full for hours.
Who takes too long is put last and not ruled out: should nobody else be left, it is still there.
"""

from __future__ import annotations

from collections.abc import Sequence

from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.decision import Policy, Scored


def is_bounded(wishes: Annotations, policy: Policy) -> bool:
    """Whether patience is a matter of this request. One that has a latency limit has said itself how long it waits."""
    frugal = wishes.prefer_power_efficiency and not (wishes.latency_critical or wishes.max_latency_ms)
    return frugal and policy.rule == "predictive"


def put_slow_last(scored: list[Scored], patience: float) -> list[Scored]:
    """The ranking with those at its end that end later than `patience` times the soonest end, in their order."""
    slow = find_slow([end_of(one) for one in scored], patience)
    if not any(slow):
        return scored
    pairs = list(zip(scored, slow, strict=True))
    return [one for one, is_slow in pairs if not is_slow] + [one for one, is_slow in pairs if is_slow]


def find_slow(ends_s: Sequence[float], patience: float) -> list[bool]:
    """Of each predicted end, in seconds, whether it is beyond patience."""
    limit_s = patience * min(ends_s, default=0.0)
    return [end_s > limit_s for end_s in ends_s]


def end_of(scored: Scored) -> float:
    """Seconds to the last token, queue included."""
    end_s: float = scored[2] + scored[1].load_s + scored[3] + scored[4]
    return end_s
