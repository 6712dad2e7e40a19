"""Limits, one by one, and the order of equals."""

from __future__ import annotations

import msgspec
import pytest

from ollama_proxy.domain.call import Need
from ollama_proxy.domain.decision import Decision, Limit, Refusal, RefusalKind
from ollama_proxy.domain.device import BackendSpec, BackendView, FleetView, Health, ModelFacts, Wait
from ollama_proxy.domain.names import canonical_model, remembered
from ollama_proxy.routing.decide import decide
from ollama_proxy.routing.limits import check_limits
from tests.support.fleets import DOWN, LARGE, POLICY, SMALL, SPECS, shipped, view, wants

NOBODY: frozenset[str] = frozenset()
PLAIN = BackendSpec("a", "ollama", "a", "cpu", 20, 500, 10)
WARM = view(PLAIN, loaded=frozenset({SMALL}))


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
    """Half a second to the first token is no trouble within 2 s; one whole answer before it is."""
    request = wants(max_latency_ms=2000, latency_metric="ttft", on_infeasible="reject")
    assert isinstance(decide(request, FleetView(1, (WARM,)), POLICY), Decision)
    verdict = decide(request, FleetView(1, (msgspec.structs.replace(WARM, in_flight=1),)), POLICY)
    assert isinstance(verdict, Refusal)
    (rejection,) = verdict.rejections
    assert rejection.limit is Limit.LATENCY
    assert rejection.detail == "the first token comes within 2000 ms with probability 0.00, asked 0.95"


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


def test_of_two_equals_with_free_slots_the_idle_one_is_quick_and_the_running_one_frugal() -> None:
    """One more request keeps a running device busy for less than its own work, but all there become slower."""
    spec_a, spec_b = (msgspec.structs.replace(PLAIN, id=name, slots=4) for name in "ab")
    for busy, idle in ((spec_a, spec_b), (spec_b, spec_a)):
        fleet = FleetView(1, (view(busy, in_flight=2), view(idle)))
        for wishes, expected in (({"latency_critical": True}, idle), ({"prefer_power_efficiency": True}, busy)):
            verdict = decide(wants(**wishes), fleet, POLICY)
            assert isinstance(verdict, Decision)
            assert verdict.chosen.backend == expected.id


def test_of_two_that_are_equal_in_cost_the_idler_goes_first() -> None:
    """Embeddings cost one first token each; what runs beside them saves joules, which a free second does not buy."""
    spec_a, spec_b = (msgspec.structs.replace(PLAIN, id=name, slots=9, power_watts=1e-9) for name in "ab")
    request = msgspec.structs.replace(wants(), embed=True)
    for busy, idle in ((spec_a, spec_b), (spec_b, spec_a)):
        verdict = decide(request, FleetView(1, (view(busy, in_flight=2), view(idle))), POLICY)
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


def test_a_limit_for_the_whole_system_counts_what_others_draw() -> None:
    busy = shipped(nvidia={"in_flight": 1})
    verdict = decide(wants(max_power_watts=60, power_scope="system"), busy, POLICY)
    assert isinstance(verdict, Decision)
    # 55 W are drawn already: the NPU's 3 W fit beside them, 12 and 28 W do not; the card itself draws no more for it.
    assert {one.backend for one in verdict.ranking} == {"ollama-npu", "ollama-nvidia"}
    told = {one.backend: one.detail for one in verdict.rejections}
    assert told["ollama-igpu"] == "others draw 55.0 W; with its 12.0 W the system is over the limit 60 W"


def test_a_limit_that_only_others_break_is_one_to_come_again_for() -> None:
    busy = shipped(cpu={"in_flight": 1})
    waiting = msgspec.structs.replace(busy, waits=tuple(Wait(8.0) if one.in_flight else None for one in busy.backends))
    refusal = decide(wants(LARGE, max_power_watts=20, power_scope="system"), waiting, POLICY)
    assert isinstance(refusal, Refusal)
    assert (refusal.kind, refusal.retry_after_s) == (RefusalKind.BUSY, 8.0)
    assert refusal.message.endswith("; the least power limit that is kept is 28 W")


def test_a_power_limit_below_all_is_refused_for_good_and_names_the_nearest() -> None:
    refusal = decide(wants(LARGE, max_power_watts=5), shipped(), POLICY)
    assert isinstance(refusal, Refusal)
    assert refusal.kind is RefusalKind.LIMITS
    assert refusal.message.endswith("; the least power limit that is kept is 12 W")
