"""What is remembered of prompts that were too long: the least of them, for a day, or until a longer one is answered."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.domain.call import Need
from ollama_proxy.domain.device import BackendSpec, PromptLimit
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.domain.ports import ProbeReport
from ollama_proxy.fleet.refusals import KEPT_S, LEAST_TOKENS, PromptRefusals
from ollama_proxy.fleet.state import Fleet
from ollama_proxy.routing.prompt_limits import NEARLY, find_hit

MODEL = "m:1b"
limits = st.builds(PromptLimit, st.integers(LEAST_TOKENS, 9000).map(float), st.sampled_from((0, 100, 4000)))


@given(st.lists(limits, min_size=1, max_size=4), limits)
def test_kept_out_is_what_is_no_shorter_than_something_refused(seen: list[PromptLimit], asked: PromptLimit) -> None:
    book = PromptRefusals()
    for one in seen:
        book.learn(MODEL, one, 0.0)
    found = find_hit(book.look()[MODEL], asked.prompt_tokens, asked.max_tokens) is not None
    assert found is any(
        asked.prompt_tokens >= one.prompt_tokens * NEARLY and asked.max_tokens >= one.max_tokens for one in seen
    )


def test_a_longer_prompt_that_is_answered_ends_it() -> None:
    book = PromptRefusals()
    assert book.learn(MODEL, PromptLimit(2000.0), 0.0)
    assert not book.learn(MODEL, PromptLimit(3000.0), 0.0)
    assert not book.took(MODEL, 1699.0, 0)
    assert book.look() == {MODEL: (PromptLimit(2000.0),)}
    assert book.took(MODEL, 1701.0, 0)
    assert not book


def test_after_a_day_it_is_tried_again() -> None:
    book = PromptRefusals()
    book.learn(MODEL, PromptLimit(2000.0), 100.0)
    assert not book.forget(99.0 + KEPT_S)
    book.learn(MODEL, PromptLimit(2500.0), 200.0)  # says the same once more
    assert not book.forget(199.0 + KEPT_S)
    assert book.forget(200.0 + KEPT_S)
    assert book.look() == {}


def test_what_is_short_was_refused_for_something_else() -> None:
    book = PromptRefusals()
    assert not book.learn(MODEL, PromptLimit(LEAST_TOKENS - 1.0), 0.0)
    assert not book


@given(st.lists(limits, min_size=9, max_size=30, unique=True))
def test_it_stays_small(seen: list[PromptLimit]) -> None:
    book = PromptRefusals()
    for number, one in enumerate(seen):
        book.learn(f"m:{number}", one, 0.0)
        book.learn(MODEL, one, 0.0)
    assert len(book.look()[MODEL]) <= 4


def fleet() -> Fleet:
    one = Fleet()
    one.add(BackendSpec("a", "ollama", "a", "npu"), frozenset((Need.GENERATE,)))
    one.probed("a", ProbeReport({}), 0)
    return one


def test_a_backend_is_not_blamed_and_its_views_say_what_it_refused() -> None:
    one = fleet()
    for _ in range(9):
        one.failed("a", MODEL, Failure(FailureKind.PROMPT_TOO_LONG, "too long"), 1.0)
    one.refused_prompt("a", MODEL, PromptLimit(2000.0), 5.0)
    view = one.look("a")
    assert view.health.serves
    assert view.error_rate == 0
    assert view.prompt_limits == {MODEL: (PromptLimit(2000.0),)}
    one.took_prompt("a", MODEL, 2100.0, 0)
    assert one.look("a").prompt_limits == {}
    assert view.prompt_limits  # nothing changes under a reader


def test_it_outlasts_a_restart_but_not_its_day() -> None:
    before, after, late = fleet(), fleet(), fleet()
    before.refused_prompt("a", MODEL, PromptLimit(2000.0, 50), 100.0)
    saved = before.save_rates(1100.0)
    after.restore_rates(saved, 60.0, 7000.0)
    assert after.look("a").prompt_limits == {MODEL: (PromptLimit(2000.0, 50),)}
    after.age(7000.0 - 1060.0 + KEPT_S)
    assert after.look("a").prompt_limits == {}
    late.restore_rates(saved, KEPT_S, 7000.0)
    assert late.look("a").prompt_limits == {}
