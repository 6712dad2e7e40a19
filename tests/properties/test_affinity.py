"""What holds of every decision about a prompt whose beginning is held somewhere."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.decision import Decision, Policy, RoutingRequest
from ollama_proxy.domain.device import FleetView
from ollama_proxy.routing.affinity import LEAST_GAIN, count_held, find_home, value_held
from ollama_proxy.routing.decide import decide
from tests.properties.test_decide import IDS, fleets, ids, make_able, many, policies, requests

holdings = st.dictionaries(st.sampled_from(IDS), st.floats(1, 8000), min_size=1)
cases = given(requests, fleets().map(make_able), policies, holdings)


def ask(request: RoutingRequest, fleet: FleetView, policy: Policy, held: dict[str, float]) -> Decision:
    """Without limits, by the rule that reckons with what is held.

    And without neighbours: who has less to read writes sooner, and then perhaps beside somebody.
    """
    free = msgspec.structs.replace(request, annotations=Annotations(), held=held)
    verdict = decide(
        free,
        msgspec.structs.replace(fleet, beside=()),
        msgspec.structs.replace(policy, rule="predictive", power_set=None),
    )
    assert isinstance(verdict, Decision)
    return verdict


@many
@cases
def test_what_is_held_is_not_read_again(
    request: RoutingRequest, fleet: FleetView, policy: Policy, held: dict[str, float]
) -> None:
    before = {one.backend: one for one in ask(request, fleet, policy, {}).ranking}
    for cost_j, one, _, prefill_s, _, joules, _ in ask(request, fleet, policy, held).scored:
        spared = count_held(msgspec.structs.replace(request, held=held), one)
        assert 0 <= spared <= request.prompt_tokens
        # Not even a model that is not in memory holds anything.
        assert spared == 0 or not one.load_s
        found = before[one.backend].estimate
        # What is hot reads the rest more slowly than the beginning, so that there it is not a matter of one rate.
        if one.heat is None:
            assert prefill_s == pytest.approx(found.prefill_s - spared * one.s_per_prompt_token, abs=1e-6)
        assert prefill_s <= found.prefill_s + 1e-6
        assert joules <= found.joules + 1e-6
        assert cost_j <= before[one.backend].cost_j + 1e-5


@many
@cases
def test_holding_more_never_makes_a_backend_fall(
    request: RoutingRequest, fleet: FleetView, policy: Policy, held: dict[str, float]
) -> None:
    order = ids(ask(request, fleet, policy, held))
    for name in order:
        more = {**held, name: held.get(name, 0.0) + 500.0}
        assert ids(ask(request, fleet, policy, more)).index(name) <= order.index(name)


@many
@cases
def test_a_conversation_leaves_only_for_what_is_worth_it(
    request: RoutingRequest, fleet: FleetView, policy: Policy, held: dict[str, float]
) -> None:
    verdict = ask(request, fleet, policy, held)
    asked = msgspec.structs.replace(request, held=held)
    home = find_home(asked)
    stays = next((one for one in verdict.scored if one[1].backend == home), None)
    if stays is None or not count_held(asked, stays[1]):
        return
    least_j = max(LEAST_GAIN * stays[0], value_held(asked, stays[1], policy.lambda_watts))
    gain_j = stays[0] - min(one[0] for one in verdict.scored)
    if verdict.backend != home and gain_j:
        assert gain_j > least_j
    if verdict.backend == home and gain_j > 1e-5:
        assert gain_j <= least_j + 1e-5
        assert "of its prompt are held" in verdict.reason or not round(count_held(asked, stays[1]))
