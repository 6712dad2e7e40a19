"""Limits and predictions, one by one."""

from __future__ import annotations

import math

import msgspec
import pytest

from ollama_proxy.domain.call import Need
from ollama_proxy.domain.decision import Decision, Limit, Refusal
from ollama_proxy.domain.device import BackendSpec, BackendView, FleetView, Health, ModelFacts, Rates
from ollama_proxy.domain.names import canonical_model, remembered
from ollama_proxy.routing.decide import decide
from ollama_proxy.routing.limits import check_latency, check_limits
from ollama_proxy.routing.prediction import DEFAULT_DECODE_TPS, DEFAULT_TTFT_S, EXPECTED_OUTPUT_TOKENS, predict
from tests.support.fleets import DOWN, POLICY, SMALL, SPECS, shipped, view, wants

NOBODY: frozenset[str] = frozenset()
PLAIN = BackendSpec("a", "ollama", "a", "cpu", 20, 500, 10)


def limit_of(spec: BackendSpec, model: str, **wishes: object) -> Limit | None:
    rejection = check_limits(view(spec, model), wants(model, **wishes), NOBODY, NOBODY)
    return rejection.limit if rejection else None


@pytest.mark.parametrize(
    ("supported", "excluded", "model", "expected"),
    [
        ((), (), "any:1b", None),
        (("*",), (), "any:1b", None),
        (("*:1b",), (), "any:1b", None),
        (("*:1b",), (), "any:2b", Limit.MODEL_EXCLUDED),
        ((), ("*:7b",), "llama3:7b", Limit.MODEL_EXCLUDED),
        ((), ("*:7B",), "llama3:7b", Limit.MODEL_EXCLUDED),
        (("llama3:7b",), ("*:7b",), "llama3:7b", None),
        (("LLaMA3:7B",), ("*:7b",), "llama3:7b", None),
        (("llama3*",), ("*:7b",), "llama3:7b", Limit.MODEL_EXCLUDED),
        (("mistral",), ("mistral*",), "mistral:latest", None),
        (("mistral",), (), "mistral:latest", None),
        (("mistral",), (), "mistral:7b", Limit.MODEL_EXCLUDED),
        ((), ("*:*70b*",), "llama3:70b-q4", Limit.MODEL_EXCLUDED),
        (("qwen2.5:*",), (), "qwen2.5:latest", None),
    ],
)
def test_patterns(supported: tuple[str, ...], excluded: tuple[str, ...], model: str, expected: Limit | None) -> None:
    spec = msgspec.structs.replace(PLAIN, supported_patterns=supported, excluded_patterns=excluded)
    assert limit_of(spec, model) is expected


@pytest.mark.parametrize("model", ["llama3:70b", "codellama:70b-instruct", "qwen:1x70by"])
def test_the_shipped_small_devices_never_take_the_largest(model: str) -> None:
    for name in ("ollama-npu", "ollama-igpu", "ollama-cpu"):
        assert limit_of(SPECS[name], model) is Limit.MODEL_EXCLUDED
    assert limit_of(SPECS["ollama-nvidia"], model) is None


def test_the_shipped_npu_never_takes_a_seven_billion_model() -> None:
    for tried in (NOBODY, frozenset({"ollama-igpu", "ollama-nvidia", "ollama-cpu"})):
        everywhere = {"models": shipped().backends[2].models}
        verdict = decide(wants("llama3:7b"), shipped(npu=everywhere), POLICY, tried)
        ranked = verdict.ranking if isinstance(verdict, Decision) else ()
        assert "ollama-npu" not in [one.backend for one in ranked]


def test_sizes_at_the_border() -> None:
    spec = msgspec.structs.replace(PLAIN, max_model_size_gb=2.0)
    for size, expected in ((2_000_000_000, None), (2_000_000_001, Limit.MODEL_TOO_LARGE), (0, None)):
        held = view(spec, models={SMALL: ModelFacts(SMALL, size_bytes=size)})
        rejection = check_limits(held, wants(), NOBODY, NOBODY)
        assert (rejection.limit if rejection else None) is expected


@pytest.mark.parametrize(("limit_w", "expected"), [(20, None), (19.9, Limit.POWER), (0, None), (1e9, None)])
def test_power_at_the_border(limit_w: float, expected: Limit | None) -> None:
    assert limit_of(PLAIN, SMALL, max_power_watts=limit_w) is expected


def test_latency_counts_the_queue() -> None:
    idle, busy = view(PLAIN), view(PLAIN, in_flight=1)
    request = wants(max_latency_ms=500)
    assert check_latency("a", predict(idle, request).latency_ms, request) is None
    rejection = check_latency("a", predict(busy, request).latency_ms, request)
    assert rejection is not None
    assert rejection.detail == "predicted 13800 ms to the first token, limit 500 ms"


def test_missing_capabilities_are_all_named_in_order() -> None:
    bare = view(PLAIN, capabilities=NOBODY_CAN)
    request = msgspec.structs.replace(wants(), needs=frozenset((Need.SUFFIX, Need.GENERATE, Need.IMAGES)))
    rejection = check_limits(bare, request, NOBODY, NOBODY)
    assert rejection is not None
    assert rejection.detail == "cannot do: generate, images, suffix"


NOBODY_CAN: frozenset[Need] = frozenset()


def test_a_list_not_known_yet_keeps_ollama_out() -> None:
    unknown = BackendView(PLAIN, Health.HEALTHY)
    rejection = check_limits(unknown, wants(), NOBODY, NOBODY)
    assert rejection is not None
    assert rejection.limit is Limit.MODEL_MISSING


def test_a_server_without_a_list_still_obeys_patterns() -> None:
    spec = BackendSpec("o", "openai", "o", "cloud", excluded_patterns=("qwen*",))
    rejection = check_limits(BackendView(spec, Health.HEALTHY), wants(), NOBODY, NOBODY)
    assert rejection is not None
    assert rejection.limit is Limit.MODEL_EXCLUDED


def test_tried_comes_first_and_tells_what_is_known() -> None:
    rejection = check_limits(view(PLAIN, **DOWN), wants(), frozenset({"a"}), NOBODY)
    assert rejection is not None
    assert (rejection.limit, rejection.detail) == (Limit.TRIED, "tried: connection refused")


# -- predictions ---------------------------------------------------------------


def test_a_prediction_by_hand() -> None:
    estimate = predict(view(PLAIN), wants(max_tokens=10))
    assert (estimate.wait_s, estimate.ttft_s, estimate.e2e_s, estimate.joules) == (0.0, 0.5, 1.5, 30.0)
    assert estimate.latency_ms == 500
    assert estimate.power_watts == 20


@pytest.mark.parametrize(("asked", "reckoned"), [(0, 128), (1, 1), (128, 128), (100_000, 128)])
def test_output_length_is_the_callers_limit_up_to_the_expected(asked: int, reckoned: int) -> None:
    assert EXPECTED_OUTPUT_TOKENS == 128
    assert predict(view(PLAIN), wants(max_tokens=asked)).e2e_s == pytest.approx(0.5 + reckoned / 10)


def test_an_embedding_takes_its_first_token_only() -> None:
    request = msgspec.structs.replace(wants(), embed=True)
    assert predict(view(PLAIN), request).e2e_s == 0.5


def test_priors_left_out_are_stood_in_for() -> None:
    bare = view(BackendSpec("a", "ollama", "a", "cpu"))
    estimate = predict(bare, wants(max_tokens=20))
    assert estimate.e2e_s == pytest.approx(DEFAULT_TTFT_S + 20 / DEFAULT_DECODE_TPS)


@pytest.mark.parametrize(
    ("slots", "in_flight", "rounds"), [(1, 0, 0), (1, 1, 1), (1, 3, 3), (4, 3, 0), (4, 4, 0.25), (4, 7, 1.0)]
)
def test_waiting_is_the_queue_before_over_the_slots(slots: int, in_flight: int, rounds: float) -> None:
    spec = msgspec.structs.replace(PLAIN, slots=slots)
    estimate = predict(view(spec, in_flight=in_flight), wants(max_tokens=10))
    assert estimate.wait_s == pytest.approx(rounds * 1.5)
    assert estimate.joules == 30.0


def test_rates_of_another_model_do_not_count() -> None:
    held = view(PLAIN, rates={"other:1b": Rates(9, 9, 9)})
    assert predict(held, wants()) == predict(view(PLAIN), wants())


def test_a_stand_in_is_predicted_from_its_own_model() -> None:
    spec = msgspec.structs.replace(PLAIN, stand_in_model="tiny:1b")
    held = view(spec, "tiny:1b", rates={"tiny:1b": Rates(2.0, 5.0, 9)})
    verdict = decide(wants(), FleetView(1, (held,)), POLICY)
    assert isinstance(verdict, Decision)
    assert verdict.chosen.estimate.ttft_s == 2.0


def test_absurd_rates_leave_every_sum_finite() -> None:
    for rates in (Rates(1e-300, 1e300, 1), Rates(1e300, 1e-300, 1)):
        estimate = predict(view(PLAIN, rates={SMALL: rates}, in_flight=100), wants())
        assert all(map(math.isfinite, (estimate.wait_s, estimate.e2e_s, estimate.joules)))
        assert isinstance(estimate.latency_ms, int)


# -- the order of equals --------------------------------------------------------


def equals(**by_id: dict[str, object]) -> FleetView:
    views = []
    for name, fields in by_id.items():
        spec = msgspec.structs.replace(PLAIN, id=name, priority=fields.pop("priority", 0))
        views.append(view(spec, **fields))
    return FleetView(1, tuple(views))


@pytest.mark.parametrize("favoured", ["a", "b"])
def test_equals_are_told_apart_in_order(favoured: str) -> None:
    """Each favoured id in turn: the hash at the end of the key must not be what decides."""
    other = "b" if favoured == "a" else "a"
    for fields in ({"loaded": frozenset({SMALL})}, {"priority": 5}):
        verdict = decide(wants(), equals(**{favoured: dict(fields), other: {}}), POLICY)
        assert isinstance(verdict, Decision)
        assert verdict.chosen.backend == favoured
    default = msgspec.structs.replace(POLICY, default_backend=favoured)
    verdict = decide(wants(), equals(a={}, b={}), default)
    assert isinstance(verdict, Decision)
    assert verdict.chosen.backend == favoured


def test_residency_goes_before_the_default_backend() -> None:
    policy = msgspec.structs.replace(POLICY, default_backend="a")
    verdict = decide(wants(), equals(a={}, b={"loaded": frozenset({SMALL})}), policy)
    assert isinstance(verdict, Decision)
    assert verdict.chosen.backend == "b"


def test_with_free_slots_the_idler_of_two_equals_goes_first() -> None:
    spec_a, spec_b = (msgspec.structs.replace(PLAIN, id=name, slots=4) for name in "ab")
    for busy, idle in ((spec_a, spec_b), (spec_b, spec_a)):
        verdict = decide(wants(), FleetView(1, (view(busy, in_flight=2), view(idle))), POLICY)
        assert isinstance(verdict, Decision)
        assert verdict.chosen.backend == idle.id


def test_a_name_of_absurd_length_is_refused_without_being_kept() -> None:
    """The name reaches `canonical_model`, whose cache keeps 4,096 names of up to a whole body each."""
    before = remembered.cache_info().currsize
    for index in range(4):
        canonical_model(f"{index}" * 1_000_000)
    assert remembered.cache_info().currsize == before


def test_refusals_show_absurd_names_short() -> None:
    none = decide(wants("x" * 10_000), shipped(), POLICY)
    assert isinstance(none, Refusal)
    assert len(none.message) < 300
