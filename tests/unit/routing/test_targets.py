"""Targets, stand-ins and the words of a decision: the corners of each."""

from __future__ import annotations

import msgspec
import pytest

from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.call import Need
from ollama_proxy.domain.decision import Decision, Limit, Refusal, RefusalKind, RoutingRequest
from ollama_proxy.domain.device import BackendSpec, BackendView, FleetView, Health, ModelFacts
from ollama_proxy.routing.decide import decide
from ollama_proxy.routing.policies import MODES, build_policy, find_mode
from tests.support.fleets import DOWN, LARGE, POLICY, SMALL, SPECS, shipped, view, wants

EMBEDDED = view(
    BackendSpec("embedded", "openai", "embedded", "cpu", 10, 200, 60, stand_in_model="smollm2:135m"), "smollm2:135m"
)


def verdict_on(fleet: FleetView, *tried: str, **wishes: object) -> Decision | Refusal:
    return decide(wants(**wishes), fleet, POLICY, frozenset(tried))


def choose(fleet: FleetView, *tried: str, **wishes: object) -> Decision:
    verdict = verdict_on(fleet, *tried, **wishes)
    assert isinstance(verdict, Decision), verdict
    return verdict


def refuse(fleet: FleetView, *tried: str, **wishes: object) -> Refusal:
    verdict = verdict_on(fleet, *tried, **wishes)
    assert isinstance(verdict, Refusal), verdict
    return verdict


def with_embedded(fleet: FleetView) -> FleetView:
    return FleetView(fleet.version, (*fleet.backends, EMBEDDED))


# -- targets -----------------------------------------------------------------


@pytest.mark.parametrize("word", ["npu", "NPU", "Npu", "ollama-npu", "Ollama-NPU"])
def test_a_target_is_an_id_or_a_hardware_word_in_any_case(word: str) -> None:
    decision = choose(shipped(), target=word)
    assert [one.backend for one in decision.ranking] == ["ollama-npu"]
    assert decision.reason == f"target {word}"
    others = {one.limit for one in decision.rejections}
    assert others == {Limit.NOT_TARGET}


def test_a_hardware_word_that_means_several_takes_the_best_of_them() -> None:
    twin = view(msgspec.structs.replace(SPECS["ollama-npu"], id="npu-two", avg_latency_ms=100.0))
    decision = choose(FleetView(1, (*shipped().backends, twin)), target="npu")
    assert decision.chosen.backend == "npu-two"
    assert decision.reason == "target npu, best of 2"
    assert decision.alternatives == ("ollama-npu",)


@pytest.mark.parametrize("words", ["npu,igpu", "ollama-igpu, NPU", ",npu,igpu,npu,"])
def test_several_words_mean_any_of_those(words: str) -> None:
    decision = choose(shipped(), target=words)
    assert {one.backend for one in decision.ranking} == {"ollama-npu", "ollama-igpu"}
    assert [one.backend for one in choose(shipped(npu=DOWN), target=words).ranking] == ["ollama-igpu"]


@pytest.mark.parametrize("words", ["npu,igpo", "npu igpu", ","])
def test_a_word_that_means_nobody_is_an_error_beside_others_too(words: str) -> None:
    refusal = refuse(shipped(), target=words)
    assert refusal.kind is RefusalKind.UNKNOWN_TARGET
    assert f"unknown target {words!r}" in refusal.message


def test_one_of_several_meant_is_down_so_the_other_takes_it() -> None:
    twin = view(msgspec.structs.replace(SPECS["ollama-npu"], id="npu-two"))
    decision = choose(FleetView(1, (*shipped(npu=DOWN).backends, twin)), target="npu")
    assert [one.backend for one in decision.ranking] == ["npu-two"]
    assert decision.reason == "target npu"


@pytest.mark.parametrize("health", [Health.UNKNOWN, Health.UNHEALTHY])
def test_a_target_that_does_not_serve_gives_way(health: Health) -> None:
    decision = choose(shipped(npu={"health": health, "message": ""}), target="ollama-npu")
    assert decision.chosen.backend == "ollama-igpu"
    assert decision.reason.startswith(f"target ollama-npu is {health.value} (not probed yet); lowest cost")


def test_a_degraded_target_still_takes_it() -> None:
    decision = choose(shipped(npu={"health": Health.DEGRADED, "message": "timeout after 5 s"}), target="npu")
    assert decision.chosen.backend == "ollama-npu"


def test_a_target_that_was_tried_gives_way_and_limits_stay() -> None:
    decision = choose(shipped(), "ollama-npu", target="npu", max_power_watts=15)
    assert [one.backend for one in decision.ranking] == ["ollama-igpu"]
    assert decision.reason.startswith("target npu failed; ")
    assert refuse(shipped(), "ollama-npu", "ollama-igpu", target="npu", max_power_watts=15).kind is RefusalKind.LIMITS


def test_an_unhealthy_target_gives_way_within_the_power_limit_only() -> None:
    none = refuse(shipped(npu=DOWN, igpu=DOWN), target="npu", max_power_watts=15)
    assert none.kind is RefusalKind.LIMITS
    assert "ollama-nvidia: draws 55.0 W, limit 15 W" in none.message


def test_an_unhealthy_target_gives_way_to_the_stand_in_when_nobody_has_the_model() -> None:
    decision = choose(with_embedded(shipped(npu=DOWN)), target="npu", model="mistral:7b")
    assert decision.stand_in
    assert decision.reason.startswith("target npu is unhealthy (connection refused); embedded model smollm2:135m")


def test_a_stand_in_of_the_same_hardware_does_not_hold_a_dead_target_up() -> None:
    """Only `ollama-cpu` is down; the embedded model is a `cpu` as well, and three backends hold the model."""
    decision = choose(with_embedded(shipped(cpu=DOWN)), target="cpu")
    assert decision.chosen.backend == "ollama-igpu"
    assert decision.reason.startswith("target cpu is unhealthy (connection refused); ")


def test_not_being_the_target_comes_before_the_other_limits() -> None:
    """`Limit` promises its own order; `is not npu` is why these were dropped, not their draw."""
    decision = choose(shipped(), target="npu", max_power_watts=15)
    assert {one.limit for one in decision.rejections} == {Limit.NOT_TARGET}


def test_an_unhealthy_target_and_a_model_nowhere_is_a_model_nowhere() -> None:
    assert refuse(shipped(npu=DOWN), target="npu", model="nosuch:1b").kind is RefusalKind.MODEL_NOWHERE


def test_a_hardware_word_without_a_backend_is_not_listed_as_known() -> None:
    none = refuse(shipped(), target="cloud")
    assert none.kind is RefusalKind.UNKNOWN_TARGET
    assert "cloud" not in none.message.split(";", 1)[1]


def test_unknown_targets_are_shown_short_and_safe() -> None:
    none = refuse(shipped(), target="x\r\nSet-Cookie: a" + "y" * 500)
    assert "\n" not in none.message
    assert len(none.message) < 250


# -- stand-ins ---------------------------------------------------------------


def test_a_stand_in_is_dropped_with_its_own_limit() -> None:
    decision = choose(with_embedded(shipped()))
    assert [(one.backend, one.limit) for one in decision.rejections] == [("embedded", Limit.STAND_IN)]


def test_a_stand_in_obeys_power_and_capabilities() -> None:
    fleet = FleetView(1, (EMBEDDED,))
    assert "embedded: draws 10.0 W, limit 5 W" in refuse(fleet, max_power_watts=5).message
    lacking = FleetView(1, (msgspec.structs.replace(EMBEDDED, capabilities=frozenset()),))
    assert "cannot do: generate" in refuse(lacking).message


def test_a_stand_in_takes_over_when_every_holder_was_tried() -> None:
    decision = choose(with_embedded(shipped(npu=DOWN, igpu=DOWN, cpu=DOWN)), "ollama-nvidia")
    assert decision.stand_in
    assert decision.model == "smollm2:135m"


def test_the_reason_of_a_stand_in_is_true_when_the_holder_was_tried() -> None:
    decision = choose(with_embedded(shipped(npu=DOWN, igpu=DOWN, cpu=DOWN)), "ollama-nvidia")
    assert not decision.reason.endswith("no healthy backend has it")


# -- names -------------------------------------------------------------------


def test_preferred_models_are_compared_like_all_model_names() -> None:
    """Each favoured id in turn, so that the hash that breaks the last tie cannot make this pass by chance."""
    request = RoutingRequest("mistral:latest", "mistral", frozenset((Need.GENERATE,)), Annotations())
    for favoured in ("a", "b"):
        specs = [
            BackendSpec(
                name, "ollama", name, "cpu", 10, 100, 10, preferred_models=("Mistral",) if name == favoured else ()
            )
            for name in ("a", "b")
        ]
        fleet = FleetView(1, tuple(view(spec, "mistral:latest") for spec in specs))
        verdict = decide(request, fleet, POLICY)
        assert isinstance(verdict, Decision)
        assert verdict.chosen.backend == favoured


def test_servers_that_compare_letters_are_asked_for_their_own_name() -> None:
    spec = BackendSpec("o", "openai", "o", "cloud", 10, 100, 10)
    held = BackendView(spec, Health.HEALTHY, models={"meta/llama-x:latest": ModelFacts("Meta/Llama-X")})
    for written in ("meta/llama-x", "Meta/Llama-X:latest"):
        request = RoutingRequest("meta/llama-x:latest", written, frozenset((Need.GENERATE,)), Annotations())
        verdict = decide(request, FleetView(1, (held,)), POLICY)
        assert isinstance(verdict, Decision)
        assert verdict.model == "Meta/Llama-X"


def test_the_name_goes_up_as_the_client_wrote_it_on_ollama() -> None:
    request = RoutingRequest(SMALL, "Qwen2.5:0.5B", frozenset((Need.GENERATE,)), Annotations())
    verdict = decide(request, shipped(), POLICY)
    assert isinstance(verdict, Decision)
    assert verdict.model == "Qwen2.5:0.5B"


# -- words -------------------------------------------------------------------


def test_reasons_fit_a_header_whatever_the_texts() -> None:
    down = {"health": Health.UNHEALTHY, "message": "a\r\nb: \u00fc\u4e16" + "z" * 400}
    reason = choose(shipped(npu=down), target="npu").reason
    assert reason.isascii()
    assert reason.isprintable()
    assert len(reason) <= 200
    assert reason.endswith("...")


def test_a_reason_names_both_limits() -> None:
    reason = choose(shipped(), max_power_watts=15, max_latency_ms=600_000).reason
    assert reason.endswith("among 2 within 15 W and 600000 ms")


def test_a_best_effort_says_what_chance_it_has() -> None:
    decision = choose(shipped(), max_power_watts=15, max_latency_ms=2500)
    chance = decision.chosen.estimate.chance
    assert chance is not None
    assert decision.reason == f"best chance ({chance:.0%}) to keep 2500 ms, which nobody does surely, of 2"


def test_a_latency_reason_that_is_not_the_least_latency_says_what_it_is() -> None:
    """A long answer ends sooner on the device with the later first token."""
    slow_start = view(BackendSpec("late", "openai", "late", "nvidia", 1, 400, 1000))
    quick_start = view(BackendSpec("soon", "openai", "soon", "igpu", 1, 100, 5))
    reason = choose(FleetView(1, (slow_start, quick_start)), max_tokens=10, latency_critical=True).reason
    assert reason == "soonest predicted end (0.4 s) at 100 J a second among 2"


def test_an_efficient_reason_that_is_not_the_fewest_joules_says_what_it_is() -> None:
    frugal = view(BackendSpec("frugal", "ollama", "frugal", "npu", 0.5, 1000, 10))
    quick = view(BackendSpec("quick", "ollama", "quick", "igpu", 5, 100, 100))
    decision = choose(FleetView(1, (frugal, quick)), prefer_power_efficiency=True)
    assert decision.chosen.backend == "quick"
    assert decision.reason.startswith("lowest cost (")


def test_a_backend_of_unknown_draw_is_not_called_the_most_frugal() -> None:
    unmetered = view(BackendSpec("cloud", "openai", "cloud", "cloud", 0, 300, 50))
    decision = choose(FleetView(1, (*shipped().backends, unmetered)), prefer_power_efficiency=True)
    assert decision.chosen.backend == "ollama-npu"


def test_nobody_configured_is_said() -> None:
    none = refuse(FleetView(1, ()))
    assert none.kind is RefusalKind.NO_HEALTHY
    assert none.message == "No healthy backends available: none is configured"


def test_everybody_tried_is_said() -> None:
    none = refuse(shipped(), *SPECS)
    assert none.kind is RefusalKind.NO_HEALTHY
    assert none.message.count("already tried") == len(SPECS)


def test_a_model_that_only_the_dead_hold_is_nowhere() -> None:
    none = refuse(shipped(igpu=DOWN, nvidia=DOWN, cpu=DOWN), model=LARGE)
    assert none.kind is RefusalKind.MODEL_NOWHERE
    assert none.message == f"model '{LARGE}' not found on any healthy backend"


# -- policies ----------------------------------------------------------------


def test_every_mode_has_a_price_a_sentence_and_its_own_name() -> None:
    for mode, (price, sentence) in MODES.items():
        policy = build_policy(mode)
        assert (policy.name, policy.lambda_watts) == (mode, price)
        assert sentence
        assert find_mode(f" {mode.upper()} ") == mode
        assert policy.efficient_watts <= price <= policy.critical_watts


def test_annotations_win_over_modes() -> None:
    for mode in MODES:
        for wish, expected in (("latency_critical", "ollama-nvidia"), ("prefer_power_efficiency", "ollama-npu")):
            verdict = decide(wants(**{wish: True}), shipped(), build_policy(mode))
            assert isinstance(verdict, Decision)
            assert verdict.chosen.backend == expected
            assert verdict.policy == mode
