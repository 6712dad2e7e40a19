"""When others fill the queue, and what that makes of the price of a second."""

from __future__ import annotations

import pytest

from ollama_proxy.domain.decision import Policy
from ollama_proxy.fleet.crowd import Hurry, find_crowded


@pytest.mark.parametrize(
    ("places", "slots", "crowded"),
    [
        ({"bob": 1, "ann": 9}, 4, True),
        ({"bob": 1, "ann": 3}, 4, False),
        ({"bob": 5, "ann": 5}, 4, False),
        ({"bob": 4, "ann": 5, "eve": 1}, 4, False),
        ({"bob": 3, "ann": 9, "eve": 1}, 4, True),
        ({"bob": 9}, 4, False),
        ({"bob": 1, "ann": 9}, 0, False),
    ],
)
def test_crowded_is_who_has_less_than_its_share_of_a_queue_for_all_slots(
    places: dict[str, int], slots: int, crowded: bool
) -> None:
    assert ("bob" in find_crowded(places, slots)) is crowded


def test_seconds_are_dearer_and_never_cheaper_and_policies_are_made_once() -> None:
    hurry = Hurry()
    balanced, swift = Policy(lambda_watts=10), Policy(lambda_watts=200)
    assert hurry.look(balanced).lambda_watts == 50
    assert hurry.look(balanced) is hurry.look(balanced)
    assert hurry.look(swift).lambda_watts == 200
