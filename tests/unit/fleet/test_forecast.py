"""What was forecast of a backend in a large fleet: kept for a moment, near to what it would be anew, exact at once."""

from __future__ import annotations

import random

import pytest

from ollama_proxy.domain.call import Need
from ollama_proxy.domain.device import BackendSpec
from ollama_proxy.domain.lengths import make_typical_lengths
from ollama_proxy.fleet.forecast import Forecast
from ollama_proxy.fleet.running import Running, Slot, forecast_slots
from ollama_proxy.fleet.state import Fleet

CAN = frozenset((Need.GENERATE,))


class Counted(Running):
    """Knows how often it was asked."""

    __slots__ = ()
    asked = 0

    def left(self, now_s: float) -> tuple[float, float]:
        Counted.asked += 1
        return super().left(now_s)


def run(now_s: float, s_per_token: float = 0.05) -> Counted:
    return Counted(now_s, 0.5, 0.1, s_per_token, 0.1, make_typical_lengths(), 400)


def anew(running: list[Running], slots: int, now_s: float) -> list[Slot]:
    return sorted(forecast_slots(running, slots, now_s))


@pytest.mark.parametrize("seed", range(5))
def test_what_is_kept_is_near_to_what_it_would_be_anew(seed: int) -> None:
    dice, forecast, now_s = random.Random(seed), Forecast(), 100.0
    running: list[Running] = []
    for _ in range(400):
        now_s += dice.expovariate(20)
        if dice.random() < 0.1:
            if len(running) > dice.randint(0, 8):
                running.pop(dice.randrange(len(running)))
            else:
                running.append(run(now_s, dice.choice((0.01, 0.1))))
            forecast.forget()
        kept = forecast.look(running, 4, now_s)
        exact = anew(running, 4, now_s)
        assert kept[0] == min(kept)
        assert [left == 0 for left, _ in sorted(kept)] == [left == 0 for left, _ in exact]
        for (left_s, _), (exact_s, _) in zip(sorted(kept), exact, strict=True):
            assert left_s == pytest.approx(exact_s, rel=0.15, abs=0.06)


def test_a_heap_that_was_handed_out_may_be_changed() -> None:
    forecast, running = Forecast(), [run(0.0)]
    for now_s in (1.0, 1.001, 1.002):
        slots = forecast.look(running, 2, now_s)
        assert slots[0] == (0.0, 0.0)
        slots[0] = (9.0, 9.0)


def make_fleet(size: int) -> tuple[Fleet, list[Running]]:
    fleet = Fleet()
    runs: list[Running] = []
    for number in range(size):
        fleet.add(BackendSpec(f"b{number}", "openai", "", "cpu", slots=2, held=True), CAN)
        for _ in range(2):
            runs.append(run(0.0))
            fleet.opened(f"b{number}", runs[-1])
    return fleet, runs


@pytest.mark.parametrize("size", [64, 65])
def test_in_large_fleets_only_who_has_changed_is_asked_again(size: int) -> None:
    fleet, runs = make_fleet(size)
    fleet.slots_at(1.0)
    fleet.closed("b7", runs[14])
    fleet.opened("b7", another := run(1.0))
    before = Counted.asked
    slots = fleet.slots_at(1.01)
    waits = fleet.view_at(1.01).waits
    assert Counted.asked - before == (2 if size > 64 else 2 * 2 * size)
    assert sorted(slots[7]) == anew([runs[15], another], 2, 1.01)
    assert all(wait is not None and wait.mean_s == each[0][0] for wait, each in zip(waits, slots, strict=True))
