"""The decision on the shipped configuration: the guide's sentences, the limits, the words."""

from __future__ import annotations

import msgspec
import pytest

from ollama_proxy.domain.call import Need
from ollama_proxy.domain.decision import Decision, Limit, Refusal, RefusalKind
from ollama_proxy.domain.device import BackendSpec, BackendView, FleetView, Rates
from ollama_proxy.domain.lengths import make_typical_lengths
from ollama_proxy.routing.decide import decide
from ollama_proxy.routing.policies import MODES, build_policy, find_mode
from tests.support.fleets import DOWN, LARGE, POLICY, SMALL, shipped, view, wants

EMBEDDED = view(
    BackendSpec("embedded", "openai", "embedded", "cpu", 10, 200, 60, stand_in_model="smollm2:135m"), "smollm2:135m"
)


def choose(fleet: FleetView, tried: frozenset[str] = frozenset(), **wishes: object) -> Decision:
    verdict = decide(wants(**wishes), fleet, POLICY, tried)
    assert isinstance(verdict, Decision), verdict
    return verdict


def refuse(fleet: FleetView, tried: frozenset[str] = frozenset(), **wishes: object) -> Refusal:
    verdict = decide(wants(**wishes), fleet, POLICY, tried)
    assert isinstance(verdict, Refusal), verdict
    return verdict


def warm() -> FleetView:
    """The shipped four with the small model in memory."""
    in_memory = {"loaded": frozenset({SMALL})}
    return shipped(npu=in_memory, igpu=in_memory, nvidia=in_memory, cpu=in_memory)


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        ({}, "ollama-igpu"),
        ({"latency_critical": True}, "ollama-nvidia"),
        ({"prefer_power_efficiency": True}, "ollama-npu"),
        ({"max_power_watts": 15}, "ollama-igpu"),
        ({"max_power_watts": 5}, "ollama-npu"),
        ({"target": "cpu"}, "ollama-cpu"),
        ({"target": "OLLAMA-NPU"}, "ollama-npu"),
        ({"latency_critical": True, "prefer_power_efficiency": True}, "ollama-nvidia"),
        ({"latency_critical": True, "max_power_watts": 15}, "ollama-igpu"),
        ({"model": LARGE, "prefer_power_efficiency": True}, "ollama-igpu"),
    ],
)
def test_the_guides_sentences(wishes: dict[str, object], expected: str) -> None:
    for fleet in (shipped(), warm()):
        assert choose(fleet, **wishes).chosen.backend == expected


@pytest.mark.parametrize("metric", ["", "e2e", "ttft"])
def test_a_tight_latency_limit_goes_to_the_quickest(metric: str) -> None:
    assert choose(warm(), max_latency_ms=200, latency_metric=metric).chosen.backend == "ollama-nvidia"


def test_reasons_are_true_to_the_numbers() -> None:
    assert choose(warm(), latency_critical=True).reason == "lowest predicted latency (150 ms) among 4"
    # Loading comes first where nobody has the model in memory: 1 s, and 0.4 GB at 1 GB a second.
    assert choose(shipped(), latency_critical=True).reason == "lowest predicted latency (1550 ms) among 4"
    frugal = choose(warm(), max_tokens=10, prefer_power_efficiency=True)
    joules = 3 * (0.8 + make_typical_lengths().mean(10) / 10)
    assert frugal.reason == f"fewest predicted joules ({joules:.1f} J) among 4"
    both = choose(shipped(), latency_critical=True, prefer_power_efficiency=True)
    assert both.reason.startswith("latency before power efficiency: ")
    assert "among 2 within 15 W" in choose(shipped(), max_power_watts=15).reason
    assert choose(shipped(), target="npu").reason == "target npu"


def test_power_limit_holds_on_fallback() -> None:
    first = choose(shipped(), max_power_watts=15)
    second = choose(shipped(), frozenset({first.chosen.backend}), max_power_watts=15)
    assert {first.chosen.backend, second.chosen.backend} == {"ollama-npu", "ollama-igpu"}
    none = refuse(shipped(), frozenset({"ollama-npu", "ollama-igpu"}), max_power_watts=15)
    assert none.kind is RefusalKind.LIMITS
    assert "ollama-nvidia: draws 55.0 W, limit 15 W" in none.message


def test_both_small_devices_down_is_a_limit_naming_each() -> None:
    none = refuse(shipped(npu=DOWN, igpu=DOWN), max_power_watts=15)
    assert none.kind is RefusalKind.LIMITS
    for part in ("ollama-npu: connection refused", "ollama-igpu: connection refused", "ollama-cpu: draws 28.0 W"):
        assert part in none.message


def test_unknown_target_lists_what_there_is() -> None:
    none = refuse(shipped(), target="tpu")
    assert none.kind is RefusalKind.UNKNOWN_TARGET
    assert "ollama-npu, ollama-igpu, ollama-nvidia, ollama-cpu" in none.message


def test_unhealthy_target_gives_way_and_says_so() -> None:
    decision = choose(shipped(npu=DOWN), target="npu")
    assert decision.chosen.backend != "ollama-npu"
    assert decision.reason.startswith("target npu is unhealthy (connection refused); ")


def test_healthy_target_that_fails_a_limit_is_never_replaced() -> None:
    none = refuse(shipped(), target="npu", model=LARGE)
    assert none.kind is RefusalKind.LIMITS
    assert "ollama-npu: has no model llama3:7b" in none.message
    assert refuse(shipped(), target="nvidia", max_power_watts=15).kind is RefusalKind.LIMITS


def test_patterns_keep_a_model_away_even_where_it_is_installed() -> None:
    fleet = shipped(npu={"models": shipped().backends[2].models})
    decision = choose(fleet, model=LARGE)
    rejected = {rejection.backend: rejection for rejection in decision.rejections}
    assert rejected["ollama-npu"].limit is Limit.MODEL_EXCLUDED


def test_a_name_in_the_supported_list_is_let_in_whatever_is_excluded() -> None:
    spec = BackendSpec("a", "ollama", "a", "cpu", supported_patterns=(LARGE,), excluded_patterns=("*:7b",))
    assert choose(FleetView(1, (view(spec, LARGE),)), model=LARGE).chosen.backend == "a"


def test_size_limit() -> None:
    spec = BackendSpec("a", "ollama", "a", "cpu", max_model_size_gb=0.1)
    none = refuse(FleetView(1, (view(spec),)))
    assert "model has 0.4 GB, limit 0.1 GB" in none.message


def test_missing_capability_is_named() -> None:
    spec = BackendSpec("a", "openai", "a", "cpu")
    request = msgspec.structs.replace(wants(), needs=frozenset((Need.GENERATE, Need.SUFFIX)))
    verdict = decide(request, FleetView(1, (view(spec),)), POLICY)
    assert isinstance(verdict, Refusal)
    assert "cannot do: suffix" in verdict.message


def test_model_nowhere_suggests_the_nearest() -> None:
    none = refuse(shipped(), model="qwen2.5:0.6b")
    assert none.kind is RefusalKind.MODEL_NOWHERE
    assert "did you mean qwen2.5:0.5b" in none.message


def test_nobody_healthy_names_each() -> None:
    none = refuse(shipped(npu=DOWN, igpu=DOWN, nvidia=DOWN, cpu=DOWN))
    assert none.kind is RefusalKind.NO_HEALTHY
    assert none.message.startswith("No healthy backends available: ollama-npu: connection refused; ollama-igpu: ")


def with_embedded(fleet: FleetView) -> FleetView:
    return FleetView(fleet.version, (*fleet.backends, EMBEDDED))


def test_stand_in_is_the_last_resort() -> None:
    assert choose(with_embedded(shipped())).chosen.backend != "embedded"
    alone = choose(with_embedded(shipped(npu=DOWN, igpu=DOWN, nvidia=DOWN, cpu=DOWN)))
    assert alone.stand_in
    assert alone.model == "smollm2:135m"
    assert alone.reason == "embedded model smollm2:135m stands in for qwen2.5:0.5b: no configured backend is healthy"
    nowhere = choose(with_embedded(shipped()), model="mistral:7b")
    assert nowhere.reason.endswith("no healthy backend has it")


def test_stand_in_does_not_bend_a_limit_that_a_holder_fails() -> None:
    assert refuse(with_embedded(shipped()), max_power_watts=1).kind is RefusalKind.LIMITS


def test_the_embedded_model_asked_for_by_its_name_is_no_stand_in() -> None:
    decision = choose(with_embedded(shipped()), model="smollm2:135m")
    assert decision.chosen.backend == "embedded"
    assert not decision.stand_in


def test_queue_moves_requests_to_the_next_best() -> None:
    busy = shipped(igpu={"in_flight": 4})
    assert choose(busy).chosen.backend != "ollama-igpu"


def test_learned_rates_replace_the_priors() -> None:
    slow = {"rates": {SMALL: Rates(5.0, 100.0, 2.0)}}
    assert choose(shipped(nvidia=slow), latency_critical=True).chosen.backend == "ollama-igpu"


def test_equal_backends_are_told_apart_by_residency() -> None:
    one, two = (BackendSpec(name, "ollama", name, "cpu", 10, 100, 10) for name in ("one", "two"))
    cold, warm = view(one), view(two, loaded=frozenset({SMALL}))
    assert choose(FleetView(1, (cold, warm))).chosen.backend == "two"


def test_modes_steer() -> None:
    picks = {}
    for mode in MODES:
        verdict = decide(wants(), shipped(), build_policy(mode))
        assert isinstance(verdict, Decision)
        picks[mode] = verdict.chosen.backend
    assert picks["Performance"] == "ollama-nvidia"
    assert picks["UltraEfficiency"] == "ollama-npu"
    assert find_mode("ultra_efficiency") == "UltraEfficiency"
    assert find_mode("fast") is None


def test_an_unknown_draw_cannot_keep_a_power_limit() -> None:
    fleet = FleetView(1, (view(BackendSpec("a", "ollama", "a", "cpu")),))
    assert "power draw unknown" in refuse(fleet, max_power_watts=100).message


def test_a_list_not_known_yet_admits_only_servers_without_lists() -> None:
    bare = BackendView(BackendSpec("a", "openai", "a", "cloud"), health=EMBEDDED.health)
    assert choose(FleetView(1, (bare,))).chosen.backend == "a"
