"""The count of the last minute, against a list of all the moments."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.fleet.minute import LastMinute

steps_s = st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=60)


@given(st.floats(0, 1e6), steps_s)
def test_it_counts_what_ended_in_the_last_sixty_seconds(start_s: float, steps: list[tuple[float, bool]]) -> None:
    minute, ended, now_s = LastMinute(), [], start_s
    for step_s, ends in steps:
        now_s += step_s
        if ends:
            minute.count(now_s)
            ended.append(int(now_s))
        else:
            minute.move(now_s)
        assert minute.total == sum(int(now_s) - 60 < second <= int(now_s) for second in ended)
