"""The set of those that may run together: within the cap, with somebody for whoever waits, first of all the first."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.domain.decision import PowerSet
from ollama_proxy.routing.power_set import Draw, Want, choose_power_set, exchange_power_set

QUICK_START = [
    Draw("npu", 3, 3.6, 10),
    Draw("igpu", 12, 15.6, 22),
    Draw("nvidia", 55, 71, 65),
    Draw("cpu", 28, 31, 6),
]
few_watts = st.sampled_from((0.0, 3.0, 12.0, 28.0, 55.0))
names = "abcdefghijklmno"
fleets = st.lists(st.tuples(few_watts, st.sampled_from((0.0, 4.0, 16.0)), st.integers(1, 70)), max_size=15).map(
    lambda rows: [Draw(names[place], watts, watts + more, tps) for place, (watts, more, tps) in enumerate(rows)]
)
wants = st.lists(
    st.builds(Want, st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True).map(tuple), st.booleans()),
    max_size=5,
)
caps = st.sampled_from((5.0, 16.0, 30.0, 60.0, 95.0))


def test_the_best_set_and_the_one_for_whoever_waits() -> None:
    assert choose_power_set(QUICK_START, 60).active == {"npu", "nvidia"}
    odd = Want(("cpu",), short=True)
    assert choose_power_set(QUICK_START, 60, wants=[odd]).active == {"npu", "igpu", "cpu"}
    # In turn, where both cannot be at once.
    big = Want(("nvidia",), short=False)
    assert choose_power_set(QUICK_START, 60, wants=[big, odd]).active == {"npu", "nvidia"}
    assert choose_power_set(QUICK_START, 60, wants=[odd, big]).active == {"npu", "igpu", "cpu"}
    # Whoever can be served by one of the set anyway, changes nothing.
    assert choose_power_set(QUICK_START, 60, wants=[odd, Want(("nvidia", "cpu"), short=False)]).active == {
        "npu",
        "igpu",
        "cpu",
    }


def test_a_long_prompt_has_room_where_that_is_possible() -> None:
    chosen = choose_power_set(QUICK_START, 75, wants=[Want(("nvidia",), short=True)])
    assert (chosen.active, chosen.brief) == ({"npu", "nvidia"}, frozenset())
    assert choose_power_set(QUICK_START, 60, wants=[Want(("nvidia",), short=True)]).brief == {"nvidia"}


def test_who_may_be_reading_a_long_prompt_is_not_joined_by_others() -> None:
    alone = exchange_power_set(None, (), QUICK_START, 75, wants=[Want(("nvidia",), short=True)])
    back = exchange_power_set(alone, {"nvidia"}, QUICK_START, 75)
    assert (back.active, back.brief) == ({"npu", "nvidia"}, frozenset())
    freed = exchange_power_set(back, (), QUICK_START, 75)
    assert (freed.active, freed.brief) == ({"npu", "igpu", "nvidia"}, {"nvidia"})
    assert freed.before == {"npu", "nvidia"}
    assert exchange_power_set(freed, (), QUICK_START, 75) == freed


@settings(max_examples=150)
@given(fleets, caps, wants)
def test_a_set_is_within_the_cap_and_cares_for_the_first(draws: list[Draw], cap_w: float, wants: list[Want]) -> None:
    chosen = choose_power_set(draws, cap_w, 2.0, wants)
    watts = {one.backend: one.watts for one in draws}
    together_w = sum(watts[name] for name in chosen.active)
    assert together_w + 2.0 <= cap_w + 1e-6
    assert all(watts[name] > 0 for name in chosen.active)
    for one in draws:
        loud = one.backend in chosen.active and together_w - one.watts + one.prefill_watts + 2.0 > cap_w + 1e-6
        assert (one.backend in chosen.brief) is loud
    possible = [name for name in wants[0].able if 0 < watts.get(name, 0) <= cap_w - 2.0] if wants else []
    assert not possible or chosen.active & set(possible)


@settings(max_examples=60)
@given(fleets.filter(lambda draws: len(draws) <= 6), caps)
def test_without_wants_nothing_gets_more_done(draws: list[Draw], cap_w: float) -> None:
    def done(chosen: PowerSet) -> float:
        return sum(one.tokens_per_s for one in draws if one.backend in chosen.active)

    known = [one for one in draws if one.watts]
    sets = [one for size in range(len(known) + 1) for one in combinations(known, size)]
    best = max(sum(one.tokens_per_s for one in some) for some in sets if sum(one.watts for one in some) <= cap_w)
    assert done(choose_power_set(draws, cap_w)) == best
