"""The bill of one attempt: what was done when, what that is worth by watts or by coefficients, and its ledger row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ollama_proxy.domain.answer import Usage
from ollama_proxy.domain.call import Call
from ollama_proxy.domain.decision import Decision, RoutingRequest
from ollama_proxy.energy.activity import Phase, RequestEnergy
from ollama_proxy.energy.attribution import Attribution
from ollama_proxy.energy.ledger.row import LedgerRow
from ollama_proxy.energy.model import UNKNOWN, Figure, model_figure
from ollama_proxy.energy.regression import Coefficients
from ollama_proxy.routing.affinity import count_held
from ollama_proxy.routing.rules import RULES
from ollama_proxy.routing.speeds import reckon_busy_share

if TYPE_CHECKING:
    from ollama_proxy.app.energy.metered import Device, Meter

_STATIC = RULES["static-documented"]
_MAX_MODEL_CHARS = 200
_ALONE = 0.999
#: Those that loaded a model took more than such requests take.
_LEAST_LOAD_NS = 500_000_000
_TAUGHT_BY = ("measured", "apportioned", "emulated")
_NO_USAGE = Usage()


class Bill:
    """One attempt. Times in seconds of the monotonic clock; `own_s` is its part of the device's time."""

    __slots__ = (
        "begun_s",
        "caller",
        "decision",
        "device",
        "ended_s",
        "figure",
        "first_s",
        "is_told",
        "is_told_first",
        "mark_s",
        "meter",
        "name",
        "own_s",
        "request",
        "request_id",
        "result",
        "sent_tokens",
        "usage",
        "way_in",
    )

    def __init__(
        self,
        call: Call,
        decision: Decision,
        request: RoutingRequest,
        device: Device,
        begun_s: float,
        mark_s: float,
    ) -> None:
        # Not the call itself, which may hold megabytes.
        self.request_id = call.request_id
        self.way_in = call.way_in
        self.caller = call.caller
        #: Tokens of its answer that others had written, and that it had to read.
        self.sent_tokens = 0 if call.continued is None else call.continued.tokens
        self.decision = decision
        self.request = request
        self.device = device
        self.begun_s = self.ended_s = begun_s
        self.mark_s = mark_s
        self.own_s = 0.0
        self.first_s: float | None = None
        self.result = ""
        self.usage = _NO_USAGE
        self.figure = UNKNOWN
        #: Of an attempt on a metered device: its meter, its name in the books, and what those have been told.
        self.meter: Meter | None = None
        self.name = ""
        self.is_told = self.is_told_first = False

    @property
    def seconds(self) -> float:
        """From sending it to its end."""
        return max(0.0, self.ended_s - self.begun_s)

    @property
    def had_it_alone(self) -> bool:
        """Whether nothing else ran on the device meanwhile."""
        return self.own_s >= _ALONE * self.seconds

    @property
    def prompt_tokens(self) -> int:
        """Those that were read: as counted, else as expected."""
        counted, cached = self.usage.prompt_tokens, self.usage.cached_tokens
        held = count_held(self.request, self.decision.scored[0][1]) if self.request.held else 0.0
        if counted is None:
            return round(self.request.prompt_tokens - held)
        return max(0, counted - (round(held) if cached is None else cached))

    @property
    def busy_share(self) -> float:
        """Of what it would have taken alone, what is its own beside those that ran with it."""
        one = self.decision.scored[0][1]
        together = min(float(one.spec.slots), self.seconds / self.own_s) if self.own_s > 0 else 1.0
        return reckon_busy_share(max(1.0, together), one.parallel_exponent)

    def find_first(self) -> float | None:
        """When its first token came; a whole answer shows that only by the server's own clock."""
        first_s, decode_ns = self.first_s, self.usage.decode_ns
        if decode_ns and (first_s is None or self.ended_s - first_s < 0.5 * decode_ns / 1e9):
            first_s = self.ended_s - decode_ns / 1e9
        return None if first_s is None else min(self.ended_s, max(self.begun_s, first_s))

    def expect(self, learned: Coefficients) -> float:
        """Joules of its tokens by what such requests were found to cost."""
        alone_j = (
            learned.fixed_j
            + learned.prefill_j * self.prompt_tokens
            + learned.decode_j * (self.usage.output_tokens or 0)
        )
        return alone_j * self.busy_share

    def prior(self) -> Coefficients | None:
        """What the decision believed of such a request; None where no watts are configured."""
        one = self.decision.scored[0][1]
        if not self.device.power_watts:
            return None
        return Coefficients(one.fixed_j, one.prompt_token_j, one.output_token_j)

    def make_row(self, figure: Figure, unix_s: float, static_j: float | None) -> LedgerRow:
        """Its line in the ledger."""
        usage = self.usage
        return LedgerRow(
            self.request_id,
            unix_s,
            self.request.model[:_MAX_MODEL_CHARS],
            self.decision.backend,
            self.caller.name,
            self.way_in,
            self.result,
            usage.prompt_before(self.sent_tokens),
            usage.output_tokens,
            figure.joules,
            figure.full_j,
            figure.plus_minus_j,
            figure.kind,
            self.seconds,
            static_j,
        )


def model(bill: Bill) -> Figure:
    """By configured watts and the attempt's own part of the device's time."""
    device = bill.device
    watts = device.power_watts
    if watts and device.prefill_watts != watts and bill.seconds > 0:
        first_s = bill.find_first()
        before = 1.0 if first_s is None else (first_s - bill.begun_s) / bill.seconds
        watts = before * device.prefill_watts + (1 - before) * watts
    return model_figure(watts, bill.own_s, emulated=device.emulated)


def tell_begin(books: Attribution, bill: Bill) -> None:
    """What is known of an attempt that runs: when it began, and when its first token came."""
    if not bill.is_told:
        bill.is_told = True
        books.begin(bill.name, bill.begun_s)
        books.phase(bill.name, Phase.PREFILL, bill.begun_s)
    if bill.first_s is not None and not bill.is_told_first:
        bill.is_told_first = True
        books.phase(bill.name, Phase.DECODE, bill.first_s)


def tell_end(books: Attribution, bill: Bill) -> None:
    """All of an attempt that is over, by the server's own clock where it tells: in its queue nobody uses anything."""
    name, usage = bill.name, bill.usage
    tell_begin(books, bill)
    first_s = bill.find_first()
    began_s = bill.begun_s
    if usage.total_ns:
        began_s = max(began_s, bill.ended_s - usage.total_ns / 1e9)
        began_s = began_s if first_s is None else min(began_s, first_s)
    books.phase(name, Phase.WAIT, bill.begun_s)
    if usage.load_ns and usage.load_ns >= _LEAST_LOAD_NS:
        books.phase(name, Phase.LOAD, began_s)
        began_s += usage.load_ns / 1e9
        began_s = min(began_s, bill.ended_s if first_s is None else first_s)
    books.phase(name, Phase.PREFILL, began_s)
    if first_s is not None and first_s < bill.ended_s:
        books.phase(name, Phase.DECODE, first_s)
    read = bill.prompt_tokens if usage.prompt_tokens is not None else None
    books.end(name, bill.ended_s, read, usage.output_tokens)


def learn_from(bill: Bill, energy: RequestEnergy) -> tuple[int, int, float, float] | None:
    """What a settled attempt teaches of such requests alone on the device: tokens read and written, joules, error.

    None where it teaches nothing: broken off, not counted, with a model to load, or not from a meter.
    """
    usage, joules = bill.usage, energy.marginal_j
    if joules is None or energy.kind not in _TAUGHT_BY or bill.result != "ok" or bill.own_s <= 0:
        return None
    if usage.prompt_tokens is None or not usage.output_tokens or usage.counted_events:
        return None
    if (usage.load_ns or 0) >= _LEAST_LOAD_NS:
        return None
    share = bill.busy_share
    return bill.prompt_tokens, usage.output_tokens, joules / share, energy.plus_minus_j / share


def compare_with_static(bill: Bill, figure: Figure) -> float | None:
    """Joules that the static rule would have spent on the same request.

    Its choice among the same candidates; when that is the same backend, the attempt's own figure, so that nothing is
    saved; else what the decision expected of the other one, for the tokens that there were. An attempt that failed and
    that it would not have made is 0; one that was broken off, and a backend of unknown draw, is None.
    """
    scored, request = bill.decision.scored, bill.request
    if figure.joules is None:
        return None
    best = scored[0]
    if len(scored) > 1:
        best = min(scored, key=lambda one: (_STATIC(one, request), one[1].backend))
    other = best[1]
    if other.backend == bill.decision.backend:
        return figure.joules
    if bill.result != "ok":
        return 0.0 if bill.result == "failed" else None
    if not other.has_known_joules:
        return None
    joules: float = other.expect_joules(bill.prompt_tokens, bill.usage.output_tokens or 0)
    return joules
