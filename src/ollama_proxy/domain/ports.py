"""The interfaces between rooms that do not know each other.

An API hands a `Call` and an `AnswerSink` to the `Service`; the service opens attempts at a `Backend`, which answers
into an `AttemptSink`. All calls are plain callbacks on the event loop's thread: nothing here waits, and no method
raises into its caller.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from .answer import AnswerEvent, Finished, Outcome, Progress, Route
from .call import Call, Need, RawHead, RawRequest
from .device import BackendSpec, Calibration, FleetView, ModelFacts
from .errors import Failure, ProxyError
from .metering import MeterStatus


class AnswerSink(Protocol):
    """One client's answer in the making.

    Order: `routed` once, then either `start_raw` and any number of `send_raw` (fast lane) or any number of
    `send_events` (translate lane), then `finish`; or `send_whole` (fast lane) and nothing more. `fail` may come at any
    time instead of what would follow, and is the last call. Where the backend of a stream fails in the middle,
    `take_over` stands between the bytes of the first and the events of the next.
    """

    def routed(self, route: Route) -> None:
        """A backend has begun to answer."""

    def start_raw(self, status: int, content_type: bytes, length: int | None) -> None:
        """The head of an answer in the client's own dialect; `length` of its body where the backend said it."""

    def send_raw(self, data: bytes) -> None:
        """Bytes of that answer; in streams always whole events."""

    def relay(self) -> Callable[[bytes], None] | None:
        """Behind the first `send_raw`: what takes a chunk in HTTP/1.1's framing as it came; not once
        the call is cancelled. None where the client does not get that framing.
        """

    def take_over(self, progress: Progress) -> None:
        """The raw stream came so far; what follows it are events."""

    def continued(self, route: Route) -> None:
        """Another backend goes on with the stream: what comes from here on comes from there."""

    def send_whole(self, status: int, content_type: bytes, body: bytes) -> None:
        """A whole answer in the client's own dialect."""

    def send_events(self, events: Sequence[AnswerEvent]) -> None:
        """Events to be written in the client's dialect."""

    def finish(self, outcome: Outcome) -> None:
        """The answer ended well."""

    def fail(self, error: ProxyError) -> None:
        """The answer ended badly; what was sent stays sent."""


class Ticket(Protocol):
    """The client's hold on a submitted call."""

    def cancel(self) -> None:
        """The client has gone: stop all work now. Safe to call at any time."""

    def pause(self) -> None:
        """The client reads too slowly."""

    def resume(self) -> None:
        """The client reads again."""


class RelaySink(Protocol):
    """Takes a backend's answer to a relayed request as it comes."""

    def on_response(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """The head; names are in lower case."""

    def on_body(self, data: bytes) -> None:
        """The next bytes of the body, chunk framing removed."""

    def on_complete(self) -> None:
        """The body is complete by its framing."""

    def on_error(self, failure: Failure) -> None:
        """The connection failed; nothing more follows."""


class Relay(Protocol):
    """A relayed request under way."""

    def abort(self) -> None:
        """Drop it now; the sink hears nothing more."""

    def pause(self) -> None:
        """Stop reading the answer."""

    def resume(self) -> None:
        """Read it again."""


class UploadSink(RelaySink, Protocol):
    """Takes the answer to a request whose body is still to be sent, and says when to send it."""

    def on_ready(self) -> None:
        """The backend waits for the body; not before this call."""

    def on_full(self) -> None:
        """The backend takes it too slowly: pause."""

    def on_drained(self) -> None:
        """Send on."""


class BodyRelay(Relay, Protocol):
    """A relayed request whose body is sent in pieces. An answer may come before its end; then the rest is nobody's."""

    def write(self, data: bytes) -> None:
        """The next piece of the body."""

    def end(self) -> None:
        """The body is whole."""


class Service(Protocol):
    """What an API may ask for."""

    def relay(self, backend: str, request: RawRequest, sink: RelaySink) -> Relay:
        """Send a request to one backend as it came, outside of all routing; answers come after this call has returned.

        For what is meant for a certain server and not for a model: management, and servers that are passed through.
        Raises `KeyError` for a backend that is not there.
        """

    def upload(self, backend: str, head: RawHead, length: int | None, sink: UploadSink) -> BodyRelay:
        """As `relay`, with a body that follows in pieces; `length` of it in bytes, if that is known.

        Raises `KeyError` for a backend that is not there, or holds no models of its own.
        """

    def place(self, target: str) -> tuple[str, ...]:
        """The serving Ollama backends that new models are brought to, never none.

        `target` is the request's own wish: ids or hardware words joined by comma, `all`, or "" for what is configured.
        Raises `ProxyError`.
        """

    def submit(self, call: Call, sink: AnswerSink) -> Ticket:
        """Route, attempt, answer; returns at once."""

    def name_default(self, call: Call) -> bool:
        """Give a call that names no model the configured default; whether there is one."""

    def fleet(self) -> FleetView:
        """The backends at this moment."""

    async def refresh(self, changed: Collection[str] = ()) -> FleetView:
        """The backends after asking each for its models again, unless that was a moment ago; those that have `changed`
        since are asked in any case."""

    def now_s(self) -> float:
        """Monotonic seconds, the clock of `Call.arrived_s`."""

    def make_request_id(self) -> str:
        """A fresh id, unique for this process's life."""


class QueuePlace(msgspec.Struct, frozen=True):
    """One request that waits. `expected_wait_s` counts from now; None before it was planned."""

    place: int
    request_id: str
    model: str
    priority: str
    waited_s: float
    expected_wait_s: float | None
    backend: str
    deadline_in_s: float | None


class Control(Protocol):
    """What the status pages may ask for and set."""

    def fleet(self) -> FleetView:
        """The backends at this moment."""

    def meters(self) -> tuple[MeterStatus, ...]:
        """The sources that measure backends."""

    async def thermal(self) -> dict[str, dict[str, object]]:
        """What sensors say, by class of device, under the contract's names; None for what is not known."""

    def queue(self) -> tuple[QueuePlace, ...]:
        """Who waits for a slot, in the order in which they are served."""

    async def ledger(self, by: str, since: str, until: str, accounting: str) -> Mapping[str, object]:
        """What requests cost, by model, backend, key or day. Raises `ProxyError`."""

    def calibrations(self) -> Mapping[str, Calibration]:
        """How predictions came true, by backend."""

    def mode(self) -> tuple[str, str, str]:
        """Efficiency mode as set, as in effect, and a sentence on it."""

    def set_mode(self, name: str) -> None:
        """Choose an efficiency mode. Raises `ProxyError` that lists the modes when there is no such one."""

    def metrics(self) -> tuple[bytes, str]:
        """The metrics page and its content type."""

    @property
    def is_leaving(self) -> bool:
        """Whether the program ends, and new clients should go elsewhere."""

    async def reload(self) -> tuple[str, ...]:
        """Take up the configuration as it is now: the keys that have changed. Raises `ProxyError` that says why not."""


class KeptAnswers(Protocol):
    """What whoever runs the proxy may ask of the cache."""

    async def describe(self) -> Mapping[str, object]:
        """Where answers lie, how many, what was asked of them and what they saved; units in the names."""

    async def let_go(self, model: str | None, key: str | None, older_than_s: float | None) -> int:
        """Drop the answers of a model (its canonical name), of an API key (its name) or of an age; None for all. How
        many there were. Raises `ProxyError` where they could not be dropped, and may be found again."""


class AttemptSink(Protocol):
    """One attempt's answer: either raw bytes in the client's dialect or events, then one end."""

    def on_head(self, status: int, content_type: bytes, length: int | None) -> None:
        """Fast lane: the answer begins."""

    def on_raw(self, data: bytes) -> None:
        """Fast lane: bytes, whole events."""

    def relay(self) -> Callable[[bytes], None] | None:
        """Fast lane, behind the first `on_raw`: as `AnswerSink.relay`. What goes through it shows in `relayed`."""

    def on_whole(self, status: int, content_type: bytes, body: bytes, finished: Finished) -> None:
        """Fast lane: the whole answer, its end included."""

    def on_events(self, events: Sequence[AnswerEvent]) -> None:
        """Translate lane: the next events."""

    def on_end(self, finished: Finished) -> None:
        """The answer ended well."""

    def on_failure(self, failure: Failure) -> None:
        """The answer did not begin, or broke off."""

    def may_resend(self) -> bool:
        """Whether a request that its connection lost as it was sent may be sent to the same backend once more. The
        backend may have read it all the same, so that it counts."""


class Attempt(Protocol):
    """A running attempt."""

    @property
    def relayed(self) -> int:
        """How many pieces went to the client without a word to the sink."""

    def abort(self) -> None:
        """Drop the connection in this turn; no further callback follows."""

    def pause(self) -> None:
        """Stop reading from the backend."""

    def resume(self) -> None:
        """Read again."""

    def kept_bytes(self) -> int:
        """How much of the stream so far is kept, in bytes, nearly."""

    def read_kept(self) -> None:
        """Read what is kept as it came, and keep what it says: that takes less room."""

    def give_up_kept(self) -> None:
        """Keep nothing of it: nobody can go on behind this stream any more."""

    def wrote_plain_text(self) -> bool:
        """Whether what went on is text and nothing else, as far as it was read: False for the first few pieces."""

    def take_over(self) -> Progress | None:
        """How far the stream came, that another may go on behind it; None where that cannot be told."""


class ProbeReport(msgspec.Struct, frozen=True):
    """What a backend said of itself. `models` by canonical name; None when it has no list."""

    models: Mapping[str, ModelFacts] | None
    loaded: frozenset[str] = frozenset()
    version: str = ""
    emulated: bool = False
    #: The backend's own entries for its loaded models, for APIs of the same dialect.
    loaded_entries: tuple[Mapping[str, object], ...] = ()
    #: What it can do as it runs now; None where that does not change.
    capabilities: frozenset[Need] | None = None


class Backend(Protocol):
    """One upstream server."""

    spec: BackendSpec
    capabilities: frozenset[Need]

    def open(self, call: Call, model: str, sink: AttemptSink) -> Attempt:
        """Send the call, asking for `model`; answers come to `sink`, never before `open` has returned."""

    def relay(self, request: RawRequest, sink: RelaySink) -> Relay:
        """Send a request as it came, with what this server needs to let it in."""

    async def probe(self, timeout_s: float) -> ProbeReport:
        """Ask for models and state. Raises `ProbeError` with a clause for people."""

    async def close(self) -> None:
        """Drop idle connections."""


@runtime_checkable
class Resumer(Protocol):
    """A backend that goes on with some models and not with others."""

    def may_go_on(self, model: str) -> bool:
        """Whether it surely could with a text that it has written itself; `model` is the name as asked."""


@runtime_checkable
class ModelStore(Protocol):
    """A backend that models can be brought to."""

    def upload(self, head: RawHead, length: int | None, sink: UploadSink) -> BodyRelay:
        """Send a request as it came, whose body follows in pieces; `length` of it in bytes, if that is known."""


@runtime_checkable
class Pupil(Protocol):
    """A backend that finds out about its models what no server tells, and need not find it out after each start."""

    def save_lessons(self) -> Mapping[str, bool]:
        """What it knows, under keys that hold for all backends of its kind."""

    def restore_lessons(self, lessons: Mapping[str, bool]) -> None:
        """What the last run knew."""


class ProbeError(Exception):
    """A probe that failed; `hard` when nothing is listening, so that waiting for more failures proves nothing."""

    def __init__(self, message: str, *, hard: bool = False) -> None:
        super().__init__(message)
        self.hard = hard
