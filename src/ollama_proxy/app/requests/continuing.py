"""Going on with an answer that broke off, as far as fleet and books have to know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ollama_proxy.domain.answer import Finished, Outcome, Progress
from ollama_proxy.domain.call import Call, Dialect, Need
from ollama_proxy.domain.decision import RoutingRequest
from ollama_proxy.domain.device import FleetView
from ollama_proxy.domain.errors import Failure, ProxyError
from ollama_proxy.lifecycle.continuation import Sent, continue_call, join_ends, why_not
from ollama_proxy.lifecycle.life import Life
from ollama_proxy.net.bodies.members import find_uncarried, find_untold
from ollama_proxy.routing.limits import find_model
from ollama_proxy.routing.record import SEAMS

if TYPE_CHECKING:
    from ollama_proxy.app.requests.attempt import OpenAttempt
    from ollama_proxy.app.requests.dispatch import Dispatcher


class Cut:
    """A stream that broke off, once or several times, and what is asked of those that go on with it."""

    __slots__ = ("_asked", "_raw", "broke", "call", "digest", "request", "sent", "substitute", "told", "whole")

    def __init__(self, whole: Call, broken: OpenAttempt) -> None:
        """`whole` is the request as it came, of which `broken` has sent the first part."""
        self.whole = whole
        self._asked = broken.taken.given[0]
        #: Some of it was written by a server that read the request as it came.
        self._raw = False
        #: Of the weights that wrote it, where one of the servers has told that; else "".
        self.digest = ""
        #: What the client has.
        self.sent = Sent((broken.first_s or broken.last_s) - whole.arrived_s)
        #: The request for what is missing, as backends and as routing read it.
        self.call, self.request = whole, self._asked
        #: How the next decision tells of the seam, and whether another model than the one asked for wrote what is
        #: before it.
        self.told, self.substitute = "", False
        #: Whether the last seam was a failure, and not a slot that somebody more urgent wanted.
        self.broke = True

    def go_on(
        self, owner: Dispatcher, life: Life, broken: OpenAttempt, progress: Progress | None, failure: Failure
    ) -> ProxyError | None:
        """Have the next request be about what is missing behind `broken`, which came so far; or the error to end with.

        `progress` is None where that cannot be told.
        """
        if progress is not None:
            self._keep(broken, progress)
        obstacle = why_not(self.whole, self.sent) if owner.continues else "routing.continuation is never"
        obstacle = obstacle or _find_obstacle(life, broken, progress, failure) or self.why_uncarried()
        if obstacle:
            error = life.failed(failure)
            if error is not None:
                tell_obstacle(error, obstacle)
            return error
        self._ask_for_rest(owner, broken, f"which failed: {failure.kind.value}")
        self.broke = True
        life.broke(failure)
        return None

    def make_way(self, owner: Dispatcher, broken: OpenAttempt, progress: Progress) -> None:
        """As `go_on`, of what was broken off for somebody else and can be continued."""
        self._keep(broken, progress)
        self.broke = False
        self._ask_for_rest(owner, broken, "which was wanted for a more urgent request")

    def _keep(self, broken: OpenAttempt, progress: Progress) -> None:
        self.sent.add(progress.events, progress.tokens)
        if progress.tokens:
            self.digest = self.digest or read_digest(broken)
        self._raw = self._raw or bool(progress.first)

    def _ask_for_rest(self, owner: Dispatcher, broken: OpenAttempt, why: str) -> None:
        self.sent.last_s = broken.last_s
        untold = find_untold(self.whole) if self._raw and self.sent.tokens else ""
        self.call = continue_call(self.whole, self.sent, raw=self._raw, untold=untold)
        self.request = ask_for_rest(self._asked, self.call, owner.fleet_state.view(), self.digest)
        self.told, self.substitute = _tell_seam(self.sent, broken.backend, why), broken.taken.given[5]

    def why_uncarried(self) -> str:
        """What of the request nobody else could be told, as the end of a sentence; "" for nothing."""
        if not self._raw:
            return ""
        if self.sent.tokens:
            return find_uncarried(self.whole)
        # Before the first token the request goes out once more as it came, unless a stream is read for its text alone.
        return find_untold(self.whole) if self.whole.dialect is Dialect.RESPONSES else ""


def _find_obstacle(life: Life, broken: OpenAttempt, progress: Progress | None, failure: Failure) -> str:
    """Why nobody else goes on behind a last part, as the end of a sentence; "" where somebody may."""
    if not failure.kind.retryable:
        return "others would fail as well"
    if broken.decision.stand_in and not broken.taken.given[5]:
        return "a stand-in for the model wrote it"
    if not life.may_try:
        return "no attempt is left"
    if progress is None:
        return "how far it came cannot be told"
    return "a tool was called" if progress.calling else ""


def _tell_seam(sent: Sent, broken: str, why: str) -> str:
    """What the next decision is about, as a clause of its reason; `why` is a clause about whoever wrote until then."""
    if not sent.tokens:
        return f"{SEAMS[1]} behind {broken}, {why}"
    chars = len(sent.text) + len(sent.thinking)
    return f"{SEAMS[0]} {sent.tokens} tokens ({chars} characters) from {broken}, {why}"


def read_digest(attempt: OpenAttempt) -> str:
    """What its backend told of the weights when it began; "" for nothing. It may have others by now, or be gone."""
    facts = find_model(attempt.view, attempt.taken.given[0].model)
    return facts.digest if facts is not None else ""


def ask_for_rest(request: RoutingRequest, rest: Call, fleet: FleetView, digest: str) -> RoutingRequest:
    """The request for the rest, from that for the whole: whoever takes it has the same model, and reads what was sent
    as well. `digest` is of the weights that have written, "" where nobody told."""
    if rest.continued is None:
        return request
    return msgspec.structs.replace(
        ask_to_continue(request, fleet, digest),
        prompt_tokens=request.prompt_tokens + rest.continued.tokens,
        max_tokens=rest.max_tokens,
    )


def ask_to_continue(request: RoutingRequest, fleet: FleetView, digest: str) -> RoutingRequest:
    """The same of those who can go on: as before, less who is known to mean other weights by the same name."""
    same = frozenset(
        view.spec.id
        for view in fleet.backends
        if (facts := find_model(view, request.model)) is not None
        and (not facts.digest or not digest or facts.digest == digest)
    )
    allowed = same if request.allowed is None else request.allowed & same
    return msgspec.structs.replace(request, needs=request.needs | {Need.CONTINUATION}, allowed=allowed)


def tell_obstacle(error: ProxyError, obstacle: str) -> None:
    """Say in an error that ends a stream why nobody goes on with it."""
    error.message = f"{error.message}; not continued: {obstacle}"


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
