"""Going on with an answer that broke off, as far as fleet and books have to know of it."""

from __future__ import annotations

import msgspec

from ollama_proxy.domain.answer import Outcome
from ollama_proxy.domain.call import Call, Need
from ollama_proxy.domain.decision import RoutingRequest
from ollama_proxy.domain.device import FleetView
from ollama_proxy.lifecycle.continuation import Sent, join_ends
from ollama_proxy.routing.limits import find_model


def ask_for_rest(request: RoutingRequest, rest: Call, fleet: FleetView, broken: str) -> RoutingRequest:
    """The request for the rest, from that for the whole: whoever takes it has the same model, and reads what was sent
    as well."""
    assert rest.continued is not None
    return msgspec.structs.replace(
        request,
        needs=request.needs | {Need.CONTINUATION},
        prompt_tokens=request.prompt_tokens + rest.continued.tokens,
        max_tokens=rest.max_tokens,
        allowed=_with_same_model(request, fleet, broken),
    )


def _with_same_model(request: RoutingRequest, fleet: FleetView, broken: str) -> frozenset[str] | None:
    """Who may go on: as before, less those that are known to mean other weights by the same name."""
    digests = {
        view.spec.id: facts.digest for view in fleet.backends if (facts := find_model(view, request.model)) is not None
    }
    digest = digests.get(broken)
    if not digest:
        return request.allowed
    same = frozenset(name for name, one in digests.items() if one in ("", digest))
    return same if request.allowed is None else request.allowed & same


def join_outcomes(sent: Sent, last: Outcome) -> Outcome:
    """What the client is told at the end. The joules of each part are in the ledger; their sum is not known here."""
    finished = join_ends(sent, last.finished)
    tokens = finished.usage.output_tokens or 0
    began_s = last.ttft_s if sent.ttft_s is None else sent.ttft_s
    writing_s = last.total_s - began_s
    return msgspec.structs.replace(
        last,
        finished=finished,
        ttft_s=began_s,
        output_tokens=tokens,
        tokens_per_second=tokens / writing_s if writing_s > 0 else 0.0,
        joules=None,
        energy_marginal_j=None,
        energy_full_j=None,
        plus_minus_j=None,
    )
