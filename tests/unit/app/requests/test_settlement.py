"""What is believed of the counts and times that a server tells."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.app.requests.settlement import Timing, believe, sum_up
from ollama_proxy.domain.answer import Finished, Usage
from ollama_proxy.energy.model import UNKNOWN

NUMBERS = st.none() | st.integers(0, 10**6) | st.sampled_from([-1, -(10**400), 2**62, 10**20, 10**400])


@given(st.tuples(*[NUMBERS] * 7))
def test_absurd_figures_are_as_good_as_none_and_others_stay(figures: tuple[int | None, ...]) -> None:
    told = Finished("length", Usage(*figures, counted_events=True))
    usage = believe(told).usage
    names = Usage.__struct_fields__[:7]
    assert [getattr(usage, name) for name in names] == [
        one if one is not None and 0 <= one <= 10**6 else None for one in figures
    ]
    assert (believe(told).reason, usage.counted_events) == ("length", True)
    assert sum_up(believe(told), Timing(0.0, 0.0, 1.0, 2.0, alone=True, streamed=True), UNKNOWN).total_s == 2.0


def test_what_is_right_is_handed_on_as_it_is() -> None:
    told = Finished("stop", Usage(10, 20, 3_000_000_000, 0, 1_000_000_000, 2_000_000_000))
    assert believe(told) is told
