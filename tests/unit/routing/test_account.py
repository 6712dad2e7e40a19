"""Decisions in words: the sentences are true to the numbers."""

from __future__ import annotations

from typing import Any

import msgspec

from ollama_proxy.domain.annotations import Priority
from ollama_proxy.domain.decision import Policy
from ollama_proxy.domain.device import FleetView, Neighbour, Rates
from ollama_proxy.routing.account import tell
from ollama_proxy.routing.decide import expect_tokens
from ollama_proxy.routing.record import AttemptOutcome, Inputs, Record, decide_again, make_record
from tests.support.fleets import DOWN, POLICY, SMALL, shipped, wants


def record_of(fleet: FleetView | None = None, policy: Policy = POLICY, **wishes: Any) -> Record:
    given: Inputs = (wants(SMALL, 50, **wishes), fleet or shipped(), policy, frozenset(), "", False)
    return make_record("d-r-1", 1_700_000_000.0, given, decide_again(given))


def line_of(text: str, beginning: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(beginning))


def test_why_not_names_the_difference_in_seconds_and_joules_at_the_price_of_a_second() -> None:
    record = record_of()
    winner, *losers = record.verdict.candidates
    assert losers
    text = tell(record)
    for loser in losers:
        sentence = line_of(text, f"Why not {loser.backend}: ")
        when = "sooner" if loser.e2e_s < winner.e2e_s else "later"
        assert f"{abs(loser.e2e_s - winner.e2e_s):.2f} s {when}" in sentence
        what = "more" if loser.joules > winner.joules else "less"
        assert f"{abs(loser.joules - winner.joules):.1f} J {what}" in sentence
        assert f"{loser.cost_j - winner.cost_j:.1f} J dearer in all" in sentence
        # What is told adds up to what was compared.
        difference_j = loser.joules - winner.joules + 10 * (loser.e2e_s - winner.e2e_s)
        assert abs(difference_j - (loser.cost_j - winner.cost_j)) < 1e-5


def test_what_a_candidate_takes_from_those_that_run_beside_it_is_told_and_adds_up() -> None:
    fleet = shipped()
    beside = (Neighbour("other", 0.0, 30.0, 0.5, 0.2, 0.3, 12.0, 3.0),)
    fleet = msgspec.structs.replace(
        fleet, beside=tuple(beside if view is fleet.backends[0] else () for view in fleet.backends)
    )
    record = record_of(fleet)
    text = tell(record)
    crowded = next(one for one in record.verdict.candidates if one.backend == fleet.backends[0].spec.id)
    assert crowded.neighbours_j > 0
    assert (
        f"beside other (writing for 30.0 s more, then 1.22 times as slow), which lose {crowded.neighbours_j:.1f} J"
        in text
    )
    assert "x seconds to the end + what neighbours lose" in text
    assert abs(crowded.joules + 10 * crowded.e2e_s + crowded.neighbours_j - crowded.cost_j) < 1e-5
    assert "neighbours" not in tell(record_of())


def test_the_price_of_a_second_and_where_it_comes_from() -> None:
    for wishes, price, origin in (
        ({}, 10, "efficiency mode Balanced"),
        ({"latency_critical": True}, 100, "the request is latency_critical"),
        ({"prefer_power_efficiency": True}, 1, "the request wishes prefer_power_efficiency"),
        ({"max_latency_ms": 90000}, 1, "the request has max_latency_ms"),
    ):
        line = line_of(tell(record_of(**wishes)), "A second sooner")
        assert line.startswith(f"A second sooner is worth {price} J (lambda {price} W): {origin}")


def test_a_frugal_request_does_not_wait_for_ever_and_is_told_so() -> None:
    # The three that are ahead of it at the frugal device cost it no joules, and the seconds next to nothing.
    fleet = shipped(npu={"in_flight": 3}, igpu=DOWN, cpu=DOWN)
    record = record_of(fleet, prefer_power_efficiency=True)
    winner, npu = record.verdict.candidates
    soonest_s = winner.e2e_s
    assert (winner.backend, npu.backend) == ("ollama-nvidia", "ollama-npu")
    assert npu.cost_j < winner.cost_j
    text = tell(record)
    assert f"among 1 that end within 10 times the soonest ({soonest_s:.1f} s)" in record.verdict.reason
    assert "The least wins among those that end within 10 times the soonest." in text
    limit = f"10 times the soonest end ({soonest_s:.2f} s)"
    assert f"it ends later than {limit}, beyond the patience" in line_of(text, "Why not ollama-npu: ")
    # A latency limit says itself how long it waits; and a runner-up that is cheaper is not called dearer.
    patient = msgspec.structs.replace(POLICY, efficient_patience=1000.0)
    for wishes, policy in (({}, patient), ({"max_latency_ms": 10_000_000}, POLICY)):
        record = record_of(fleet, policy, prefer_power_efficiency=True, **wishes)
        assert record.verdict.backend == "ollama-npu"
        assert "the soonest" not in tell(record)
    impatient = msgspec.structs.replace(POLICY, efficient_patience=1.0)
    record = record_of(policy=impatient, prefer_power_efficiency=True)
    assert record.verdict.margin_j is None
    assert "dearer in cost" not in tell(record)


def test_each_that_was_ruled_out_has_its_reason() -> None:
    text = tell(record_of(shipped(cpu=DOWN), max_power_watts=20))
    assert "  ollama-nvidia: over the power limit: draws 55.0 W, limit 20 W\n" in text
    assert "  ollama-cpu: unhealthy: connection refused\n" in text
    assert "Wishes: at most 20 W\n" in text


def test_a_deadline_shows_chances_and_says_when_nobody_keeps_it() -> None:
    kept, missed = tell(record_of(max_latency_ms=90000)), tell(record_of(max_latency_ms=4000))
    assert "the last token within 90000 ms, with probability 0.95" in kept
    assert "among those in time as surely as asked (95%)." in kept
    assert "in time" in line_of(kept, "  backend")
    assert "nobody is in time as surely as asked (95%)" in missed
    # Where chances were compared, no loser is said to have lost by its cost.
    assert missed.count("its chance to be in time is") == missed.count("Why not ") > 0
    assert "dearer" not in missed
    assert "in time" not in line_of(tell(record_of()), "  backend")


def test_a_limit_that_is_lost_is_not_said_to_have_been_compared() -> None:
    late = msgspec.structs.replace(wants(SMALL, 50, max_latency_ms=4000), spent_s=3.9)
    given: Inputs = (late, shipped(), POLICY, frozenset(), "", False)
    record = make_record("d-r-1", 1_700_000_000.0, given, decide_again(given))
    costs_j = [one.cost_j for one in record.verdict.candidates]
    assert costs_j == sorted(costs_j)
    text = tell(record)
    assert "Chosen: ollama-" in text
    assert ": 4000 ms cannot be kept any more: lowest cost (" in text
    assert "since nobody can be expected to be in time any more." in text
    assert "chance to be in time" not in text
    assert text.count("Why not ") == text.count(" J dearer in all") == len(costs_j) - 1


def test_all_wishes_are_told() -> None:
    text = tell(record_of(max_power_watts=60, power_scope="system", priority=Priority.BEST_EFFORT))
    assert "Wishes: at most 60 W, all that work at once together; priority best-effort" in text
    assert "priority" not in tell(record_of())


def test_a_refusal_is_told_once_and_to_its_end_where_the_nearest_limit_is() -> None:
    text = tell(record_of(max_latency_ms=1))
    assert "; the least limit that is kept now is about " in line_of(text, "Refused (")
    assert line_of(text, "Refused (").endswith(" ms")
    assert "The least wins" not in text


def test_a_refusal_has_no_winner_and_all_reasons() -> None:
    text = tell(record_of(shipped(npu=DOWN, igpu=DOWN, nvidia=DOWN, cpu=DOWN)))
    assert "Refused (no healthy backend): " in text
    assert text.count("unhealthy: connection refused") == 4
    assert "Candidates" not in text


def test_another_rule_says_that_predictions_were_not_compared() -> None:
    text = tell(record_of(policy=msgspec.structs.replace(POLICY, rule="round-robin")))
    assert "Rule: round-robin. The predictions below are shown, and not what was compared.\n" in text
    assert "the rule round-robin puts it behind" in text
    assert "A second sooner" not in text


def test_what_predictions_rest_on() -> None:
    rates = {SMALL: Rates(0.1, 500, 20, samples=12)}
    fleet = shipped(igpu={"rates": rates, "loaded": frozenset((SMALL,)), "in_flight": 1})
    spec = msgspec.structs.replace(fleet.backends[1].spec, held=True, power_watts=0)
    views = [msgspec.structs.replace(one, spec=spec) if one.spec.id == spec.id else one for one in fleet.backends]
    text = tell(record_of(FleetView(1, tuple(views))))
    line = line_of(text, "  ollama-igpu: ")
    assert "1 of 1 slot taken; speeds learned from 12 answers; joules assumed, its draw is not configured" in line
    assert "the model has to be loaded; speeds as configured, none learned yet" in line_of(text, "  ollama-npu: ")


def test_estimates_stand_beside_what_then_happened() -> None:
    record = record_of()
    assert "What happened: it still runs.\n" in tell(record)
    found = AttemptOutcome("ok", 1.5, None, 7.0, None, 9, 40, 12.5, "modelled")
    text = tell(msgspec.structs.replace(record, outcome=found))
    winner = record.verdict.candidates[0]
    line = line_of(text, f"  last token   predicted {winner.e2e_s:.2f} s, found 7.00 s (")
    assert line.endswith(" s were predicted for the 40 tokens that came)")
    tokens = expect_tokens(record.request)
    assert f"({winner.ttft_s + winner.decode_s * 40 / tokens:.2f} s" in line
    assert f"  first token  predicted {winner.ttft_s:.2f} s, found not known\n" in text
    assert f"  energy       predicted {winner.joules:.2f} J, found 12.50 J, modelled\n" in text
    assert "1.50 s in the queue or on other attempts" in text
    failed = AttemptOutcome("failed", 0.0, None, 0.5, error="connection reset")
    assert "What happened: failed after 0.50 s: connection reset\n" in tell(
        msgspec.structs.replace(record, outcome=failed)
    )


def test_what_clients_write_cannot_move_the_terminal() -> None:
    given: Inputs = (wants("evil\x1b[2J\n", target="x\x07"), shipped(), POLICY, frozenset(), "", False)
    text = tell(make_record("d-r-1", 0.0, given, decide_again(given)))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "evil?[2J?" in text
