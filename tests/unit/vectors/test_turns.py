"""Whose turn it is."""

from __future__ import annotations

from ollama_proxy.vectors.turns import Turns


def serve(turns: Turns, costs_s: dict[tuple[str, int], float], most: int) -> list[tuple[str, int]]:
    """Who has had a turn when all of them always want one."""
    served = []
    for _ in range(most):
        one = min(costs_s, key=lambda who: turns.place(*who))
        turns.take(*one, costs_s[one])
        served.append(one)
    return served


def test_owners_have_as_much_time_each_and_their_stores_as_many_turns() -> None:
    costs_s = {("slow", 1): 120.0, ("slow", 2): 120.0, ("quick", 3): 1.0}
    served = serve(Turns(), costs_s, 400)
    assert served.count(("quick", 3)) > 115 * (len(served) - served.count(("quick", 3)) - 1)
    assert abs(served.count(("slow", 1)) - served.count(("slow", 2))) <= 1


def test_who_comes_anew_is_next_and_has_no_credit() -> None:
    turns = Turns()
    serve(turns, {("old", 1): 10.0}, 100)
    both = {("old", 1): 10.0, ("new", 2): 10.0}
    served = serve(turns, both, 20)
    assert served[0] == ("new", 2)
    assert served.count(("new", 2)) <= 11


def test_turns_pass_on_where_no_time_passes() -> None:
    served = serve(Turns(), {("a", 1): 0.0, ("b", 2): 0.0, ("b", 3): 0.0}, 8)
    assert {served.count(one) for one in served} == {2, 4}
