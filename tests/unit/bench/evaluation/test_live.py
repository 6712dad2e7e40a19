"""The live agreement without its processes: what is sent, the simulator's twin of the lab, what is said of both."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.evaluation.live import twin
from bench.evaluation.live.client import LEAST_PROMPT_TOKENS, Sent, name_request, write_prompt, write_wishes
from bench.evaluation.live.experiment import Agreement
from bench.evaluation.live.page import judge, render_page
from bench.evaluation.live.records import make_run, read_recorded, sum_joules
from ollama_proxy.domain.annotations import annotation_headers, parse_annotations
from ollama_proxy.domain.call import Generation
from ollama_proxy.domain.decision import Policy
from ollama_proxy.fleet import waiting
from ollama_proxy.lab import run as lab_run
from ollama_proxy.lab.device import DEVICES
from ollama_proxy.lab.simulation import run as simulation
from ollama_proxy.lab.simulation.mix import DEFAULT_MIX, apply_mix
from ollama_proxy.lab.simulation.synthetic import generate
from ollama_proxy.lab.simulation.workload import Arrival, Run
from ollama_proxy.lab.text import SyntheticText, prompt_of
from ollama_proxy.routing.record import AttemptOutcome, make_record
from ollama_proxy.routing.record_lines import write_record

POLICY = Policy("Balanced", 10.0)
SPEED = 20.0


@pytest.fixture(scope="module")
def arrivals() -> tuple[Arrival, ...]:
    """Forty, so close that some wait for minutes."""
    return apply_mix(generate("conv", 40, 12.0, 1), DEFAULT_MIX, 1)


def choices(run: Run) -> dict[int, str]:
    return {one.arrival.id: one.device for one in run.served}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99_999), st.integers(LEAST_PROMPT_TOKENS, 4000), st.integers(1, 2000))
def test_the_lab_reads_prompt_and_answer_of_the_lengths_that_were_asked_for(
    number: int, prompt_tokens: int, output_tokens: int
) -> None:
    request = Generation(prompt=write_prompt(Arrival(number, 0.0, prompt_tokens, output_tokens)))
    words, reason = asyncio.run(SyntheticText(1).write("qwen2.5:0.5b", request))
    assert (len(words), reason) == (output_tokens, "stop")
    assert lab_run._count_tokens(prompt_of(request)) == prompt_tokens


@pytest.mark.parametrize("wish", ["critical", "efficient", "deadline", "balanced"])
def test_a_wish_reaches_the_proxy_as_the_simulator_takes_it(wish: str) -> None:
    arrival = Arrival(1, 0.0, 100, 100, wish=wish, deadline_s=30.0 if wish == "deadline" else 0.0)
    headers = [(name.lower().encode(), value.encode()) for name, value in write_wishes(arrival, SPEED).items()]
    hurried = twin.hurry(arrival, SPEED)
    assert (
        parse_annotations(annotation_headers(headers))
        == simulation.describe_request(hurried, twin.make_setting(POLICY, SPEED)).annotations
    )


def test_a_device_takes_as_long_as_the_lab_s_and_as_many_joules(arrivals: tuple[Arrival, ...]) -> None:
    for spec in DEVICES.values():
        device = twin.make_device(spec)
        assert device.service_s(300, 200) == pytest.approx(
            spec.first_token_s + 300 / spec.prefill_tps + 200 / spec.decode_tps
        )
        assert device.energy_j(300, 200) == pytest.approx(spec.watts * device.service_s(300, 200))
        assert twin.make_device(spec, SPEED).service_s(300, 200) == pytest.approx(device.service_s(300, 200) / SPEED)


def test_hurried_choices_are_life_s_once_the_two_constants_in_seconds_are_stretched(
    arrivals: tuple[Arrival, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    hurried = twin.simulate(arrivals, POLICY, SPEED)
    monkeypatch.setattr(waiting, "AGEING_S", waiting.AGEING_S * SPEED)
    monkeypatch.setattr(simulation, "_TICK_S", simulation._TICK_S * SPEED)
    assert choices(twin.simulate(arrivals, POLICY)) == choices(hurried)


def test_a_run_that_is_followed_comes_out_the_same(arrivals: tuple[Arrival, ...]) -> None:
    run = twin.simulate(arrivals, POLICY, SPEED)
    followed = twin.follow(run, POLICY, SPEED)
    assert choices(followed) == choices(run)
    for one, other in zip(run.served, followed.served, strict=True):
        assert (other.first_token_s, other.ended_s) == pytest.approx((one.first_token_s, one.ended_s))


def test_a_run_that_is_followed_may_come_out_of_order(arrivals: tuple[Arrival, ...]) -> None:
    run = twin.simulate(arrivals, POLICY, SPEED)
    turned = msgspec.structs.replace(run, served=run.served[::-1])
    assert choices(twin.follow(turned, POLICY, SPEED)) == choices(run)


def test_choices_that_follow_no_rule_are_not_followed(arrivals: tuple[Arrival, ...]) -> None:
    run = twin.simulate(arrivals, POLICY, SPEED)
    names = [f"ollama-{name}" for name in DEVICES]
    odd = [msgspec.structs.replace(one, device=names[one.arrival.id % len(names)]) for one in run.served]
    followed = twin.follow(msgspec.structs.replace(run, served=tuple(odd)), POLICY, SPEED)
    same = sum(one.device == other.device for one, other in zip(odd, followed.served, strict=True))
    assert same < 0.7 * len(odd)


def test_a_record_that_comes_out_otherwise_is_named(arrivals: tuple[Arrival, ...], tmp_path: Path) -> None:
    lines = record_choices(arrivals[:3])
    (tmp_path / "same").write_bytes(b"\n".join(lines))
    assert read_recorded(tmp_path / "same").differing == ()
    lines[1] = lines[1].replace(b'"reason":"', b'"reason":"not ', 1)
    (tmp_path / "other").write_bytes(b"\n".join(lines))
    found = read_recorded(tmp_path / "other")
    assert (found.decisions, found.differing) == (3, (f"d-live-{arrivals[1].id}-1",))


def test_an_answer_without_record_or_outcome_counts_as_not_served(
    arrivals: tuple[Arrival, ...], tmp_path: Path
) -> None:
    (tmp_path / "one").write_bytes(record_choices(arrivals[:1])[0])
    records = read_recorded(tmp_path / "one").by_request
    sent = [Sent(one.id, one.at_s / SPEED, 0.0, 1.0, 200, one.output_tokens) for one in arrivals[:2]]
    run = make_run(arrivals[:2], sent, records, SPEED, 5.0)
    assert [one.device for one in run.served] == ["", ""]
    assert run.joules == 5.0


def test_times_are_by_the_proxy_s_clock_which_is_found_by_the_quickest_request(
    arrivals: tuple[Arrival, ...], tmp_path: Path
) -> None:
    """The second was sent first, but was slower on its way."""
    outcome = AttemptOutcome("ok", waited_s=0.5, ttft_s=0.1, e2e_s=1.0, joules=2.0)
    records = {}
    for one, decided_s in zip(arrivals[:2], (1000.501, 1000.602), strict=True):
        line = record_choices((one,))[0]
        (tmp_path / "line").write_bytes(line)
        record = next(iter(read_recorded(tmp_path / "line").by_request.values()))
        records[name_request(one.id)] = msgspec.structs.replace(record, decided_unix_s=decided_s, outcome=outcome)
    sent = [Sent(one.id, at_s, 2.0, 3.0, 200) for one, at_s in zip(arrivals[:2], (0.001, 0.0), strict=True)]
    first, second = make_run(arrivals[:2], sent, records, SPEED, 5.0).served
    assert first.arrival.at_s == pytest.approx(0.001 * SPEED, abs=1e-4)
    assert second.arrival.at_s == pytest.approx(0.102 * SPEED, abs=1e-4)
    assert second.ended_s - second.started_s == pytest.approx(1.0 * SPEED)
    assert second.joules == 2.0 * SPEED


def record_choices(arrivals: tuple[Arrival, ...]) -> list[bytes]:
    """The decisions of a proxy that has just begun."""
    setting = twin.make_setting(POLICY, SPEED)
    fleet = simulation.Simulation("predictive", setting)._fleet.view()
    lines = []
    for one in arrivals:
        request = simulation.describe_request(one, setting)
        verdict = simulation.decide(request, fleet, POLICY)
        lines.append(
            write_record(
                make_record(f"d-live-{one.id}-1", 1.0, (request, fleet, POLICY, frozenset(), "", False), verdict)
            )
        )
    return lines


def agree(arrivals: tuple[Arrival, ...], live: Run, **changes: object) -> Agreement:
    simulated = twin.simulate(arrivals, POLICY)
    runs = {"live": live, "simulated": simulated, "hurried": live, "followed": twin.follow(live, POLICY, SPEED)}
    joules = sum_joules(live)
    found = Agreement(SPEED, len(arrivals), len(arrivals), (), "predictive", runs, joules, joules, len(arrivals), 1.0)
    return msgspec.structs.replace(found, **changes)


def test_what_agrees_is_said_to_and_what_does_not_is_not(arrivals: tuple[Arrival, ...]) -> None:
    live = twin.simulate(arrivals, POLICY, SPEED)
    assert [holds for *_, holds in judge(agree(arrivals, live))] == [True] * 5
    dear = msgspec.structs.replace(live, joules=2 * live.joules)
    device_joules = {**sum_joules(live), "ollama-igpu": 1.0}
    found = agree(arrivals, dear, differing=("d-live-1-1",), as_told=39, device_joules=device_joules)
    assert [holds for *_, holds in judge(found)] == [False, False, True, False, False]
    page = render_page(found, {"machine": "this one"})
    assert page.count("| NO |") == 4
    assert "| ollama-igpu |" in page
    assert "| machine | this one |" in page
