"""Requests on their way: slow readers, silent backends, what an answer teaches; with a scripted backend and clock."""

from __future__ import annotations

import asyncio
import gc
import io
import weakref
from collections.abc import Sequence
from typing import Any

import pytest

from ollama_proxy.app.requests.dispatch import Dispatcher, Job, Timeouts
from ollama_proxy.app.requests.overdue import make_timeouts
from ollama_proxy.app.requests.settlement import Books, Timing, observe, sum_up
from ollama_proxy.config.sections.timeouts import ModelTimeouts
from ollama_proxy.config.sections.timeouts import Timeouts as TimeoutsConfig
from ollama_proxy.domain.answer import AnswerEvent, Finished, Outcome, Progress, Route, TextDelta, Usage
from ollama_proxy.domain.call import Call, Dialect, Generation, Need, Operation
from ollama_proxy.domain.decision import Policy
from ollama_proxy.domain.device import BackendSpec, BackendView, Health, ModelFacts
from ollama_proxy.domain.errors import ErrorKind, Failure, FailureKind, ProxyError
from ollama_proxy.domain.ports import AttemptSink, Backend, ProbeReport
from ollama_proxy.energy.model import UNKNOWN
from ollama_proxy.fleet.admission import Bounds
from ollama_proxy.fleet.state import Fleet
from ollama_proxy.observability.logs import RequestLog
from ollama_proxy.observability.metrics import Metrics

MODEL = "m:1b"
CAN = frozenset((Need.GENERATE,))


class ScriptedAttempt:
    """An attempt that the test drives by hand."""

    def __init__(self, sink: AttemptSink) -> None:
        self.sink = sink
        self.aborted = False
        self.paused = False
        self.relayed = 0
        self.progress: Progress | None = None

    def wrote_plain_text(self) -> bool:
        return self.progress is not None

    def take_over(self) -> Progress | None:
        return self.progress

    def kept_bytes(self) -> int:
        return 0

    def read_kept(self) -> None:
        pass

    def give_up_kept(self) -> None:
        self.progress = None

    def abort(self) -> None:
        self.aborted = True

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False


class ScriptedBackend:
    """Opens attempts and does nothing more."""

    def __init__(self, name: str, held_slots: int = 0) -> None:
        self.spec = BackendSpec(name, "ollama", name, "cpu", 10, 100, 10, slots=held_slots or 1, held=held_slots > 0)
        self.capabilities = frozenset((Need.GENERATE, Need.EMBED))
        self.attempts: list[ScriptedAttempt] = []

    def open(self, call: Call, model: str, sink: AttemptSink) -> ScriptedAttempt:
        self.attempts.append(ScriptedAttempt(sink))
        return self.attempts[-1]

    async def probe(self, timeout_s: float) -> ProbeReport:
        return ProbeReport({MODEL: ModelFacts(MODEL)})

    async def close(self) -> None:
        pass


class Client:
    """Keeps what it was sent."""

    def __init__(self) -> None:
        self.route: Route | None = None
        self.text = ""
        self.outcome: Outcome | None = None
        self.error: ProxyError | None = None

    def routed(self, route: Route) -> None:
        self.route = route

    def start_raw(self, status: int, content_type: bytes, length: int | None) -> None:
        pass

    def send_raw(self, data: bytes) -> None:
        self.text += data.decode()

    def take_over(self, progress: Progress) -> None:
        self.taken_over = progress

    def continued(self, route: Route) -> None:
        self.route = route

    def relay(self) -> None:
        pass

    def send_whole(self, status: int, content_type: bytes, body: bytes) -> None:
        self.text += body.decode()

    def send_events(self, events: Sequence[AnswerEvent]) -> None:
        self.text += "".join(event.text for event in events if isinstance(event, TextDelta))

    def finish(self, outcome: Outcome) -> None:
        self.outcome = outcome

    def fail(self, error: ProxyError) -> None:
        self.error = error


class Stage:
    """A dispatcher over scripted backends and a clock that stands still."""

    def __init__(self, *names: str, held_slots: int = 0, most_waiting: float = 512) -> None:
        """`held_slots` of each backend are kept by the proxy; 0 for none."""
        self.now_s = 1000.0
        self.fleet = Fleet()
        self.backends = {name: ScriptedBackend(name, held_slots) for name in names}
        for backend in self.backends.values():
            self.fleet.add(backend.spec, backend.capabilities)
            self.fleet.probed(backend.spec.id, ProbeReport({MODEL: ModelFacts(MODEL)}, frozenset({MODEL})), 0)
        self.metrics = Metrics(self.fleet.view, "1")
        books = Books(self.fleet, self.metrics, RequestLog(io.StringIO(), enabled=False))
        served: dict[str, Backend] = dict(self.backends)
        self.dispatcher = Dispatcher(
            self.fleet, served, Policy(), books, lambda: self.now_s, Timeouts(), bounds=Bounds(most_waiting)
        )
        self.client = Client()

    def submit(self, *, stream: bool = True) -> Job:
        call = Call("r1", Dialect.OLLAMA, Operation.GENERATE, MODEL, stream, self.now_s, Generation)
        return self.dispatcher.submit(call, self.client)

    def view(self, name: str) -> BackendView:
        found = self.fleet.find(name)
        assert found is not None
        return found

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.dispatcher.sweep(self.now_s)

    @property
    def attempt(self) -> ScriptedAttempt:
        (backend,) = (one for one in self.backends.values() if one.attempts and not one.attempts[-1].aborted)
        return backend.attempts[-1]


def test_a_silent_backend_loses_the_request_to_another() -> None:
    stage = Stage("a", "b")
    job = stage.submit()
    first = job.life.backend
    stage.pass_time(4.0)
    assert job.life.backend == first
    stage.pass_time(1.0)
    assert job.life.backend != first
    assert stage.backends[first].attempts[0].aborted
    assert stage.view(first).in_flight == 0
    assert stage.view(first).health is Health.DEGRADED


def test_a_whole_answer_may_take_longer_than_a_streams_first_token() -> None:
    stage = Stage("a", "b")
    job = stage.submit(stream=False)
    first = job.life.backend
    stage.pass_time(599.0)
    assert job.life.backend == first
    stage.pass_time(1.0)
    assert job.life.backend != first


def test_silence_after_the_first_byte_ends_the_answer() -> None:
    stage = Stage("a", "b")
    stage.submit()
    stage.attempt.sink.on_events([TextDelta("x")])
    stage.pass_time(119.0)
    assert stage.client.error is None
    stage.pass_time(1.0)
    assert stage.client.error is not None
    assert stage.client.error.kind is ErrorKind.BACKEND_FAILED
    assert not stage.dispatcher.running


def test_a_reader_that_pauses_does_not_make_its_backend_silent() -> None:
    """Three slow readers would otherwise take a healthy backend out for everybody."""
    stage = Stage("a")
    job = stage.submit()
    stage.attempt.sink.on_events([TextDelta("x")])
    job.pause()
    stage.pass_time(600.0)
    assert stage.view("a").health is Health.HEALTHY
    job.resume()
    stage.pass_time(1.0)
    assert stage.client.error is None


def test_a_client_that_leaves_stops_the_work_and_blames_nobody() -> None:
    stage = Stage("a", "b")
    job = stage.submit()
    attempt = stage.attempt
    job.cancel()
    job.cancel()
    assert attempt.aborted
    assert [view.in_flight for view in stage.fleet.view().backends] == [0, 0]
    assert stage.view("a").health is stage.view("b").health is Health.HEALTHY
    assert (stage.client.error, stage.client.outcome) == (None, None)
    assert not stage.dispatcher.running


def test_the_books_of_a_retry() -> None:
    stage = Stage("a", "b")
    job = stage.submit()
    first = job.life.backend
    stage.now_s += 5.0
    stage.backends[first].attempts[0].sink.on_failure(Failure(FailureKind.RESET, "connection reset"))
    second = job.life.backend
    stage.now_s += 1.0
    sink = stage.backends[second].attempts[0].sink
    sink.on_events([TextDelta("x")])
    stage.now_s += 1.0
    sink.on_end(Finished("stop", Usage(output_tokens=10)))
    outcome, route = stage.client.outcome, stage.client.route
    assert outcome is not None
    assert route is not None
    assert (route.backend, route.attempts) == (second, 2)
    assert (outcome.ttft_s, outcome.total_s) == (6.0, 7.0)
    assert outcome.joules == pytest.approx(20.0)
    # Towards the one second of the last attempt, not the six of both, as far as one surprise may move a belief.
    learned = stage.view(second).rates[MODEL]
    assert 0.25 < learned.overhead_s < 1.0
    assert learned.decode_tps == pytest.approx(10.0)
    assert (learned.ttft_samples, learned.decode_samples) == (1, 1)
    assert MODEL not in stage.view(first).rates


def test_while_starting_requests_wait_for_the_first_probes() -> None:
    stage = Stage()
    stage.dispatcher.starting = True
    job = stage.submit()
    assert stage.client.error is None
    backend = stage.backends["late"] = ScriptedBackend("late")
    stage.dispatcher.backends["late"] = backend  # type: ignore[index]
    stage.fleet.add(backend.spec, CAN)
    stage.fleet.probed("late", ProbeReport({MODEL: ModelFacts(MODEL)}), 0)
    stage.dispatcher.started()
    assert job.life.backend == "late"


# -- what an answer teaches ------------------------------------------------------


def learned_from(first_s: float, ended_s: float, **usage: Any) -> tuple[float | None, float | None]:
    timing = Timing(arrived_s=0.0, opened_s=0.0, first_s=first_s, ended_s=ended_s, alone=True)
    seen = observe(sum_up(Finished("stop", Usage(**usage)), timing, UNKNOWN), timing)
    return seen.ttft_s, seen.decode_tps


def test_a_streamed_answer_shows_both_speeds() -> None:
    assert learned_from(0.5, 10.5, output_tokens=100) == (0.5, pytest.approx(10.0))


def test_a_whole_answer_is_told_apart_by_the_backends_own_clock() -> None:
    ttft_s, decode_tps = learned_from(10.5, 10.5, output_tokens=100, decode_ns=10 * 10**9)
    assert (ttft_s, decode_tps) == (pytest.approx(0.5), pytest.approx(10.0))


def test_a_whole_answer_without_durations_does_not_teach_a_late_first_token() -> None:
    """OpenAI-compatible servers without `timings`: prediction then adds the decode time a second time."""
    assert learned_from(10.5, 10.5, output_tokens=100)[0] is None


def test_a_whole_answer_in_two_reads_does_not_teach_an_absurd_speed() -> None:
    """100 tokens in 50 microseconds is two million a second."""
    assert learned_from(10.5, 10.50005, output_tokens=100)[1] is None


@pytest.mark.parametrize("end", ["whole", "ended", "failed", "cancelled"])
def test_a_request_that_is_over_leaves_nothing_to_the_collector(end: str) -> None:
    """Job, attempt and answer know each other; what is not taken apart stays until the collector comes by."""
    stage = Stage("a")
    gc.collect()
    gc.disable()
    try:
        job = stage.submit()
        attempt = stage.attempt
        match end:
            case "whole":
                attempt.sink.on_whole(200, b"application/json", b"{}", Finished())
            case "ended":
                attempt.sink.on_events([TextDelta("x")])
                attempt.sink.on_end(Finished())
            case "failed":
                attempt.sink.on_failure(Failure(FailureKind.REJECTED, "no"))
            case "cancelled":
                job.cancel()
        stage.backends["a"].attempts.clear()
        gone = weakref.ref(attempt)
        del job, attempt
        assert gone() is None
    finally:
        gc.enable()


def test_a_stream_that_is_relayed_is_not_silent() -> None:
    stage = Stage("a")
    stage.submit()
    attempt = stage.attempt
    attempt.sink.on_raw(b"{}\n")
    for _ in range(5):
        attempt.relayed += 1
        stage.pass_time(Timeouts().idle_s - 1)
        assert not attempt.aborted
    stage.pass_time(Timeouts().idle_s + 1)
    assert attempt.aborted


@pytest.mark.parametrize(("pattern", "limit_s"), [("other:*", 40.0), (f"{MODEL.partition(':')[0]}:*", 300.0)])
def test_models_have_timeouts_of_their_own(pattern: str, limit_s: float) -> None:
    stage = Stage("a")
    of_models = {pattern: ModelTimeouts(between_seconds=300), "*": ModelTimeouts()}
    stage.dispatcher.timeouts = make_timeouts(TimeoutsConfig(between_seconds=40, models=of_models))
    stage.submit()
    attempt = stage.attempt
    attempt.sink.on_raw(b"{}\n")
    stage.pass_time(limit_s - 1)
    assert not attempt.aborted
    stage.pass_time(2)
    assert attempt.aborted


REFUSED_ALIKE = Failure(FailureKind.SERVER_ERROR, "HTTP 500: odd", 500, b'{"error":"odd"}')


@pytest.mark.parametrize("names", [("a",), ("a", "b")])
def test_a_request_that_fails_everybody_alike_makes_nobody_ill(names: tuple[str, ...]) -> None:
    stage = Stage(*names)
    for _ in range(5):
        stage.client.error = None
        stage.submit()
        while stage.client.error is None:
            attempt = stage.attempt
            attempt.aborted = True
            attempt.sink.on_failure(REFUSED_ALIKE)
    assert [stage.view(name).health for name in names] == [Health.HEALTHY] * len(names)


def test_who_fails_where_another_does_well_is_ill() -> None:
    stage = Stage("a", "b")
    job = stage.submit()
    failed, attempt = job.life.backend, stage.attempt
    attempt.aborted = True
    attempt.sink.on_failure(REFUSED_ALIKE)
    assert stage.view(failed).health is Health.HEALTHY
    stage.attempt.sink.on_end(Finished())
    assert stage.view(failed).health is Health.DEGRADED


def test_before_a_model_is_nowhere_the_lists_are_asked_for_again() -> None:
    stage = Stage("a")
    stage.fleet.probed("a", ProbeReport({}), 0)
    asked = []

    async def refresh() -> None:
        asked.append(1)
        if len(asked) == 1:
            stage.fleet.probed("a", ProbeReport({MODEL: ModelFacts(MODEL)}), 0)

    async def play() -> None:
        stage.dispatcher.refresh = refresh
        stage.submit()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert stage.client.error is None
        stage.attempt.sink.on_end(Finished())
        assert stage.client.outcome is not None
        stage.fleet.probed("a", ProbeReport({}), 0)
        job = stage.submit()
        job.cancel()
        stage.submit()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert stage.client.error is not None
        assert stage.client.error.kind is ErrorKind.MODEL_NOT_FOUND

    asyncio.run(play())
    assert len(asked) == 3
