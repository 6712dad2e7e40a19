"""Any decision that can be made can be written, read, and taken again with the same bytes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.domain.annotations import NO_ANNOTATIONS, Annotations, Priority
from ollama_proxy.domain.call import Need
from ollama_proxy.domain.decision import Decision, Policy, PowerSet, Refusal, RefusalKind, RoutingRequest
from ollama_proxy.domain.device import (
    BackendSpec,
    BackendView,
    FleetView,
    Health,
    Heat,
    ModelFacts,
    Neighbour,
    PromptLimit,
    Rates,
    Wait,
)
from ollama_proxy.domain.lengths import BINS, Lengths, make_typical_lengths
from ollama_proxy.routing.account import tell
from ollama_proxy.routing.decide import decide
from ollama_proxy.routing.record import Inputs, Record, decide_again, make_record, replay
from ollama_proxy.routing.record_lines import RecordError, read_record, write_record
from ollama_proxy.routing.rules import POLICY_RULES

MODELS = ("m:1b", "m:7b", "other:1b")
IDS = ("a", "b", "c", "d")
HARDWARE = ("npu", "igpu", "nvidia", "cpu")
numbers = st.floats(0, 1000) | st.integers(0, 1000)
words = st.sampled_from(("", "x", "é", 'say "no"', "\u2028"))

specs = st.builds(
    BackendSpec,
    id=st.just("?"),
    kind=st.sampled_from(("ollama", "openai")),
    name=words,
    hardware=st.sampled_from(HARDWARE),
    power_watts=numbers,
    avg_latency_ms=numbers,
    max_tokens_per_second=numbers,
    priority=st.integers(0, 10),
    slots=st.integers(1, 4),
    held=st.booleans(),
    prefill_tokens_per_second=numbers,
    prefill_watts=numbers,
    load_seconds=numbers,
    wake_seconds=numbers,
    wake_joules=numbers,
    max_model_size_gb=st.sampled_from((0.0, 1.0, 8.0)),
    memory_gb=st.sampled_from((0.0, 1.0, 5.5, 8)),
    preferred_models=st.sampled_from(((), ("m:7b",))),
    excluded_patterns=st.sampled_from(((), ("*:7b",))),
    stand_in_model=st.sampled_from(("", "", "", "tiny")),
    model_names=st.sampled_from(({}, {"m:1b": "M/1"}, {"m:1b": "M/1", "other:1b": "O"})),
)
rates = st.builds(
    Rates,
    st.floats(0.01, 10),
    st.floats(0.5, 2000),
    st.floats(0.5, 200),
    st.none() | st.floats(0, 100),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 9),
)
refused = st.lists(st.builds(PromptLimit, st.floats(256, 900), st.integers(0, 9)), max_size=2).map(tuple)
lengths = (
    st.none()
    | st.just(make_typical_lengths())
    | st.builds(Lengths, st.lists(st.floats(0, 9), min_size=BINS - 1, max_size=BINS - 1).map(lambda some: [1.0, *some]))
)


@st.composite
def fleets(draw: st.DrawFn) -> FleetView:
    views = []
    for name in draw(st.lists(st.sampled_from(IDS), unique=True, min_size=0)):
        spec = msgspec.structs.replace(draw(specs), id=name)
        held = draw(st.none() | st.lists(st.sampled_from(MODELS), unique=True))
        there = draw(st.sampled_from(("", "M/1")))
        models = (
            None
            if held is None
            else {
                model: ModelFacts(
                    model.upper(),
                    "d",
                    draw(st.sampled_from((0, 4 * 10**8, 5 * 10**9))),
                    context_length=draw(st.sampled_from((0, 512))),
                    there=there,
                )
                for model in held
            }
        )
        views.append(
            BackendView(
                spec,
                draw(st.sampled_from(Health)),
                draw(words),
                checked_unix_s=5,
                models=models,
                loaded=frozenset(draw(st.lists(st.sampled_from((*MODELS, "tiny:latest", "m/1:latest"))))),
                in_flight=draw(st.integers(0, 6)),
                rates=draw(st.dictionaries(st.sampled_from((*MODELS, "tiny:latest")), rates)),
                capabilities=draw(st.sampled_from((frozenset(Need), frozenset((Need.GENERATE,))))),
                emulated=draw(st.booleans()),
                asleep=draw(st.booleans()),
                resident_bytes=draw(st.dictionaries(st.sampled_from(MODELS), st.just(10**9))),
                beside_bytes=draw(st.sampled_from((0, 10**9))),
                prompt_limits=draw(st.dictionaries(st.sampled_from((*MODELS, "tiny:latest")), refused)),
                load_factor=draw(st.sampled_from((1.0, 0.3))),
                heat=draw(st.none() | st.builds(Heat, numbers, st.floats(1, 4))),
                requests_per_minute=7,
                memory={},
            )
        )
    waits = st.none() | st.builds(Wait, st.floats(0, 100), st.floats(0, 100))
    beside = st.lists(
        st.builds(Neighbour, st.just("e"), *[st.floats(0, 60)] * 2, st.floats(0, 1), *[st.floats(0, 2)] * 4)
    )
    return FleetView(
        7,
        tuple(views),
        draw(st.just(()) | st.tuples(*[waits for _ in views])),
        beside=draw(st.just(()) | st.tuples(*[beside.map(tuple) for _ in views])),
    )


requests = st.builds(
    RoutingRequest,
    model=st.sampled_from(MODELS),
    requested_model=st.sampled_from(MODELS),
    needs=st.sampled_from((frozenset((Need.GENERATE,)), frozenset((Need.EMBED, Need.IMAGES)))),
    annotations=st.just(NO_ANNOTATIONS)
    | st.builds(
        Annotations,
        target=st.sampled_from(("", "", "", "a", "npu", "cpu", "nobody")),
        latency_critical=st.booleans(),
        prefer_power_efficiency=st.booleans(),
        max_latency_ms=st.sampled_from((0, 0, 300, 20000)),
        max_power_watts=st.sampled_from((0, 0.0, 10.0, 50)),
        priority=st.sampled_from(Priority),
        latency_probability=st.sampled_from((0.0, 0.5)),
        latency_metric=st.sampled_from(("", "ttft")),
        on_infeasible=st.sampled_from(("", "reject")),
        custom=st.sampled_from(({}, {"secret": "tell nobody"})),
    ),
    prompt_tokens=numbers,
    max_tokens=st.sampled_from((0, 1, 50, 1000)),
    embed=st.booleans(),
    lengths=lengths,
    spent_s=st.sampled_from((0, 0.5, 100.0)),
    serial=st.integers(0, 9),
    held=st.just({}) | st.dictionaries(st.sampled_from(IDS), st.floats(0, 1000)),
)
policies = st.builds(
    Policy,
    name=st.sampled_from(("Balanced", "Quiet")),
    lambda_watts=numbers,
    default_backend=st.sampled_from(("", "b")),
    power_aware=st.booleans(),
    auto_optimize_latency=st.booleans(),
    rule=st.sampled_from(("predictive", "predictive", *POLICY_RULES)),
    power_set=st.none()
    | st.builds(PowerSet, st.frozensets(st.sampled_from(IDS)), st.frozensets(st.sampled_from(IDS)), numbers),
)
inputs = st.tuples(
    requests, fleets(), policies, st.frozensets(st.sampled_from(IDS)), st.sampled_from(("", "gave up x")), st.booleans()
)
many = settings(max_examples=150, deadline=None)


def record_of(some: Inputs) -> Record:
    return make_record("d-1-1", 1700000000.123, some, decide_again(some))


@many
@given(inputs)
def test_replayed_under_its_own_policy_a_record_has_the_same_bytes(some: Inputs) -> None:
    written = write_record(record_of(some))
    read = read_record(written)
    assert write_record(read) == written
    assert write_record(replay(read)) == written
    assert write_record(replay(read, some[2])) == written


@many
@given(inputs)
def test_what_is_recorded_suffices_to_decide_as_it_was_decided(some: Inputs) -> None:
    request, fleet, policy, tried, _, _ = some
    record = read_record(write_record(record_of(some)))
    verdict = decide(request, fleet, policy, tried)
    assert decide(record.request, record.fleet, record.policy, record.tried) == verdict
    if isinstance(verdict, Decision):
        assert record.verdict.backend == verdict.backend
        assert [one.cost_j for one in record.verdict.candidates] == [one.cost_j for one in verdict.ranking]
    else:
        assert record.verdict.refusal is verdict.kind
        assert record.verdict.reason == verdict.message


@many
@given(inputs, policies)
def test_replay_under_another_policy_is_a_decision_under_that_policy(some: Inputs, policy: Policy) -> None:
    request, fleet, _, tried, _, _ = some
    other = replay(read_record(write_record(record_of(some))), policy)
    verdict = decide(request, fleet, policy, tried)
    assert other.policy == policy
    assert other.verdict.backend == (verdict.backend if isinstance(verdict, Decision) else "")


@many
@given(inputs)
def test_a_record_holds_the_asked_model_only_and_nothing_that_callers_say_to_each_other(some: Inputs) -> None:
    record = record_of(some)
    text = write_record(record).decode()
    assert "tell nobody" not in text
    if record.verdict.refusal is not RefusalKind.MODEL_NOWHERE:
        for view in record.fleet.backends:
            assert set(view.models or ()) <= {some[0].model}
            # Those that may have to make room for it are read too: their names, their sizes and their loads.
            others = set(view.loaded) if view.spec.memory_gb else set()
            assert len(set(view.rates) - others) <= 1


@many
@given(inputs)
def test_every_decision_can_be_told_and_names_every_backend(some: Inputs) -> None:
    record = record_of(some)
    text = tell(record)
    named = [one.backend for one in (*record.verdict.candidates, *record.verdict.rejections)]
    assert all(name in text for name in named)
    assert "nan" not in text.split()


def change(record: dict[str, Any], **members: Any) -> bytes:
    return json.dumps({**record, **members}).encode()


def test_what_is_no_record_is_refused_in_words() -> None:
    fleet = FleetView(1, ())
    request = RoutingRequest("m", "m", frozenset((Need.GENERATE,)), NO_ANNOTATIONS)
    some: Inputs = (request, fleet, Policy(), frozenset(), "", False)
    assert isinstance(decide_again(some), Refusal)
    good = json.loads(write_record(record_of(some)))
    assert read_record(json.dumps(good)).id == "d-1-1"
    wrong_weights = {**good["request"], "lengths": [0.0]}
    for line in (b"", b"\xff", b"[" * 9999, b"{}", change(good, format=2), change(good, request=wrong_weights)):
        with pytest.raises(RecordError):
            read_record(line)
