"""Going on with an answer that broke off, as far as fleet and books have to know of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec

from ollama_proxy.domain.answer import Finished, Outcome, Progress
from ollama_proxy.domain.call import Call, Need
from ollama_proxy.domain.decision import Decision, RoutingRequest
from ollama_proxy.domain.device import FleetView
from ollama_proxy.domain.errors import Failure, ProxyError
from ollama_proxy.lifecycle.continuation import Sent, join_ends
from ollama_proxy.lifecycle.life import Life
from ollama_proxy.routing.limits import find_model
from ollama_proxy.routing.record import SEAMS, Inputs

#: Bytes that one stream may keep as they came, and all of them together in whatever form.
MOST_KEPT_EACH = 256 * 1024
MOST_KEPT = 64 * 1024 * 1024


def ask_for_rest(request: RoutingRequest, rest: Call, fleet: FleetView, broken: str) -> RoutingRequest:
    """The request for the rest, from that for the whole: whoever takes it has the same model, and reads what was sent
    as well."""
    if rest.continued is None:
        return request
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
    digest = digests.get(broken, "")
    same = frozenset(name for name, one in digests.items() if not one or not digest or one == digest)
    return same if request.allowed is None else request.allowed & same


def find_obstacle(
    life: Life, progress: Progress | None, failure: Failure, decision: Decision | None, given: Inputs
) -> str:
    """Why nobody else goes on with a stream that broke off, as the end of a sentence; "" where somebody may."""
    if not failure.kind.retryable:
        return "others would fail as well"
    if decision is not None and decision.stand_in and not given[5]:
        return "a stand-in for the model wrote it"
    if not life.may_try:
        return "no attempt is left"
    if progress is None:
        return "how far it came cannot be told"
    return "a tool was called" if progress.calling else ""


def tell_obstacle(error: ProxyError, obstacle: str) -> None:
    """Say in an error that ends a stream why nobody goes on with it."""
    error.message = f"{error.message}; not continued: {obstacle}"


def tell_seam(sent: Sent, broken: str, failure: Failure) -> str:
    """What the next decision is about, as a clause of its reason."""
    if not sent.tokens:
        return f"{SEAMS[1]} behind {broken}, which failed: {failure.kind.value}"
    chars = len(sent.text) + len(sent.thinking)
    return f"{SEAMS[0]} {sent.tokens} tokens ({chars} characters) from {broken}, which failed: {failure.kind.value}"


class Keeper(Protocol):
    """A request that may keep what its client was sent."""

    def kept_bytes(self) -> int:
        """How much, nearly."""

    def shorten_kept(self) -> None:
        """Keep no more of it than what it says."""

    def give_up_kept(self) -> None:
        """Keep none of it."""


def bound_kept(requests: Iterable[Keeper], most_each: int = MOST_KEPT_EACH, most: int = MOST_KEPT) -> None:
    """Read what long streams keep, and have the longest kept no more where all of them keep more than `most` bytes."""
    sizes: list[tuple[int, Keeper]] = []
    for one in requests:
        size = one.kept_bytes()
        if size > most_each:
            one.shorten_kept()
            size = one.kept_bytes()
        sizes.append((size, one))
    excess = sum([size for size, _ in sizes]) - most
    if excess <= 0:
        return
    sizes.sort(key=lambda pair: pair[0], reverse=True)
    for size, one in sizes:
        if excess <= 0:
            return
        one.shorten_kept()
        excess -= size - one.kept_bytes()
    for _, one in sizes:
        if excess <= 0:
            return
        excess -= one.kept_bytes()
        one.give_up_kept()


def end_of_nothing(finished: Finished) -> Finished:
    """The end of a last part that had no text, where a server may leave out the count of it."""
    if finished.usage.output_tokens is not None:
        return finished
    return msgspec.structs.replace(finished, usage=msgspec.structs.replace(finished.usage, output_tokens=0))


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
