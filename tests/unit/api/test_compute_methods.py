"""`compute.v1` requests become calls, and every end of a call becomes an answer that its client can read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ollama_proxy.api.compute.answers import CODES, EmbedAnswer, GenerateAnswer, StreamAnswer
from ollama_proxy.api.compute.methods import SERVICE, ComputeApi
from ollama_proxy.api.gen.compute.v1 import compute_pb2 as pb
from ollama_proxy.domain.answer import Embeddings, Finished, Outcome, Route, TextDelta
from ollama_proxy.domain.call import Call, Embedding, Generation
from ollama_proxy.domain.caller import ANYBODY
from ollama_proxy.domain.device import BackendSpec, BackendView, FleetView, Health, ModelFacts
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.ports import AnswerSink
from ollama_proxy.net.grpc.call import Trailers
from ollama_proxy.net.grpc.metadata import encode_metadata
from ollama_proxy.net.http2.hpack import Decoder

ROUTE = Route("d1", "npu-1", "lowest cost", 3.0, 800, ("cpu-1",), 1, "configured", "m")
OUTCOME = Outcome(Finished(), 0.5, 2.0, 7, 4.5, 36.0, "configured")


def read_fields(metadata: Trailers) -> dict[str, str]:
    """Metadata as its client reads it."""
    return {name.decode(): value.decode("latin-1") for name, value in Decoder().decode(encode_metadata(metadata))}


class RecordedCall:
    """A `GrpcCall` that keeps what it is told."""

    protocol = "grpc"

    def __init__(self, metadata: Sequence[tuple[str, str | bytes]] = ()) -> None:
        self.metadata = metadata
        self.notes: dict[object, Any] = {}
        self.caller = ANYBODY
        self.on_cancel: Callable[[], None] | None = None
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None
        self.on_message: Callable[[bytes], None] | None = None
        self.on_half_close: Callable[[], None] | None = None
        self.cancelled = self.finished = False
        self.initial: dict[str, str] = {}
        self.messages: list[bytes] = []
        self.code, self.text, self.trailers = -1, "", dict[str, str]()

    def send_initial_metadata(self, metadata: Trailers) -> None:
        assert not self.initial, "sent twice"
        self.initial = read_fields(metadata)

    def send_message(self, message: bytes) -> None:
        assert not self.finished
        self.messages.append(message)

    def finish(self, code: int = 0, message: str = "", trailers: Trailers = ()) -> None:
        assert not self.finished, "finished twice"
        self.finished = True
        self.code, self.text, self.trailers = code, message, read_fields(trailers)

    def respond(self, message: bytes, initial: bytes = b"", trailers: bytes = b"") -> None:
        self.initial = read_fields(initial)
        self.send_message(message)
        self.finish(trailers=trailers)


class Ticket:
    """What a submitted call is held by."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def cancel(self) -> None:
        self.events.append("cancel")

    def pause(self) -> None:
        self.events.append("pause")

    def resume(self) -> None:
        self.events.append("resume")


class Desk:
    """A `Service` that keeps the calls and lets the test answer them."""

    def __init__(self, *backends: BackendView) -> None:
        self.backends = backends
        self.calls: list[Call] = []
        self.sinks: list[AnswerSink] = []
        self.ticket = Ticket()
        self.default_model = ""

    def name_default(self, call: Call) -> bool:
        if self.default_model:
            call.model, call.named = self.default_model, False
        return bool(self.default_model)

    def submit(self, call: Call, sink: AnswerSink) -> Ticket:
        self.calls.append(call)
        self.sinks.append(sink)
        return self.ticket

    def fleet(self) -> FleetView:
        return FleetView(1, self.backends)

    async def refresh(self) -> FleetView:
        return self.fleet()

    def now_s(self) -> float:
        return 12.0

    def make_request_id(self) -> str:
        return "made"


def send(desk: Desk, method: str, message: bytes, *metadata: tuple[str, str | bytes]) -> RecordedCall:
    call = RecordedCall(metadata)
    ComputeApi(desk).methods()[f"/{SERVICE}/{method}"].handler(call, message)
    return call


def generate(**fields: Any) -> bytes:
    message: bytes = pb.GenerateRequest(**{"prompt": "hi", "model": "m", **fields}).SerializeToString()
    return message


def test_every_kind_of_error_has_a_code() -> None:
    assert set(CODES) == set(ErrorKind)


def test_all_methods_of_the_contract_are_there() -> None:
    methods = pb.DESCRIPTOR.services_by_name["ComputeService"].methods
    assert set(ComputeApi(Desk()).methods()) == {f"/{SERVICE}/{method.name}" for method in methods}


@pytest.mark.parametrize(("method", "stream"), [("Generate", False), ("GenerateStream", True)])
def test_options_become_sampling_and_zero_means_the_models_own(method: str, stream: bool) -> None:
    desk = Desk()
    options = pb.GenerationOptions(max_tokens=5, temperature=0.5, stop=["a", "b"])
    send(desk, method, generate(prompt="é", options=options))
    (call,) = desk.calls
    assert (call.stream, call.model, call.max_tokens, call.prompt_bytes, call.arrived_s) == (stream, "m", 5, 2, 12.0)
    request = call.typed()
    assert isinstance(request, Generation)
    sampling = request.sampling
    assert (sampling.num_predict, sampling.temperature, sampling.stop) == (5, 0.5, ("a", "b"))
    assert (sampling.top_p, sampling.top_k, sampling.num_ctx) == (None, None, None)


@pytest.mark.parametrize(
    ("method", "message", "named"),
    [
        ("Generate", generate(prompt=""), "prompt"),
        ("GenerateStream", generate(model="  "), "model"),
        ("Generate", generate(options=pb.GenerationOptions(max_tokens=-1)), "max_tokens"),
        ("Generate", generate(options=pb.GenerationOptions(temperature=2.5)), "temperature"),
        ("Generate", generate(options=pb.GenerationOptions(temperature=float("nan"))), "temperature"),
        ("Generate", generate(options=pb.GenerationOptions(top_p=-0.5)), "top_p"),
        ("Generate", generate(options=pb.GenerationOptions(top_k=-1)), "top_k"),
        ("Generate", generate(options=pb.GenerationOptions(context_length=-1)), "context_length"),
        ("Generate", generate(annotations=pb.JobAnnotations(max_power_watts=-1)), "max_power_watts"),
        ("Generate", generate(annotations=pb.JobAnnotations(max_latency_ms=-1)), "max_latency_ms"),
        ("Embed", pb.EmbedRequest(model="m").SerializeToString(), "text"),
        ("Embed", pb.EmbedRequest(text="x").SerializeToString(), "model"),
        ("Generate", b"\xff\xff", "GenerateRequest"),
        ("Embed", b"\xff\xff", "EmbedRequest"),
        ("ListBackends", b"\xff\xff", "ListBackendsRequest"),
    ],
)
def test_bad_requests_are_refused_by_name(method: str, message: bytes, named: str) -> None:
    desk = Desk()
    call = send(desk, method, message)
    assert (call.code, desk.calls) == (3, [])
    assert named in call.text


def test_without_a_model_the_default_is_meant() -> None:
    desk = Desk()
    desk.default_model = "m:1b"
    send(desk, "Generate", generate(model=""))
    send(desk, "Embed", pb.EmbedRequest(text="x").SerializeToString())
    assert [call.model for call in desk.calls] == ["m:1b", "m:1b"]


def test_metadata_wins_over_the_message() -> None:
    desk = Desk()
    wishes = pb.JobAnnotations(target="npu", latency_critical=True, max_power_watts=15, custom={"team": "red"})
    send(desk, "Generate", generate(annotations=wishes), ("x-target-backend", "cpu"), ("x-custom-team", "blue"))
    read = desk.calls[0].annotations
    assert (read.target, read.latency_critical, read.max_power_watts) == ("cpu", True, 15)
    assert read.custom == {"team": "blue"}


def test_metadata_that_cannot_be_read_is_refused() -> None:
    call = send(Desk(), "Embed", pb.EmbedRequest(text="x", model="m").SerializeToString(), ("x-max-power-watts", "abc"))
    assert call.code == 3
    assert "abc" in call.text


def test_binary_metadata_is_nobodys_annotation() -> None:
    desk = Desk()
    send(desk, "Generate", generate(), ("x-target-backend-bin", b"cpu"))
    assert desk.calls[0].annotations.target == ""


@pytest.mark.parametrize(("given", "used"), [("r1", "r1"), ("", "made"), ("x" * 129, "made"), ("x" * 128, "x" * 128)])
def test_a_request_id_is_taken_over_or_made(given: str, used: str) -> None:
    desk = Desk()
    call = send(desk, "Generate", generate(), ("x-request-id", given))
    desk.sinks[0].fail(ProxyError(ErrorKind.MODEL_NOT_FOUND, "no"))
    assert desk.calls[0].request_id == used
    assert (call.code, call.trailers) == (5, {"x-request-id": used})


def test_embed_hands_over_its_text() -> None:
    desk = Desk()
    send(desk, "Embed", pb.EmbedRequest(text="x", model="m").SerializeToString())
    assert desk.calls[0].typed() == Embedding(("x",))


def test_a_whole_answer_has_text_route_and_stats() -> None:
    call = RecordedCall()
    answer = GenerateAnswer(call, "r1")
    answer.routed(ROUTE)
    answer.send_events((TextDelta("a"), TextDelta("b")))
    answer.finish(OUTCOME)
    message = pb.GenerateResponse.FromString(call.messages[0])
    assert (message.response, message.backend_used, message.routing.reason) == ("ab", "npu-1", "lowest cost")
    assert list(message.routing.alternatives) == ["cpu-1"]
    stats = message.stats
    assert (stats.time_to_first_token_ms, stats.total_time_ms, stats.tokens_generated) == (500, 2000, 7)
    assert stats.energy_wh == pytest.approx(0.01)
    assert call.initial["x-backend-used"] == call.trailers["x-backend-used"] == "npu-1"
    assert (call.code, call.trailers["x-request-id"]) == (0, "r1")


def test_a_stream_sends_each_piece_and_ends_with_done() -> None:
    call = RecordedCall()
    answer = StreamAnswer(call, "r1")
    answer.routed(ROUTE)
    answer.send_events((TextDelta("a"), TextDelta("b")))
    answer.finish(OUTCOME)
    pieces = [pb.GenerateStreamResponse.FromString(message) for message in call.messages]
    assert [(piece.token, piece.done) for piece in pieces] == [("a", False), ("b", False), ("", True)]
    assert pieces[-1].stats.tokens_generated == 7


def test_a_stream_that_breaks_off_keeps_its_route_in_the_trailers() -> None:
    call = RecordedCall()
    answer = StreamAnswer(call, "r1")
    answer.routed(ROUTE)
    answer.send_events((TextDelta("a"),))
    answer.fail(ProxyError(ErrorKind.BACKEND_FAILED, "cut"))
    assert (call.code, call.text, call.trailers["x-backend-used"]) == (14, "cut", "npu-1")


def test_an_embedding_is_one_vector() -> None:
    call = RecordedCall()
    answer = EmbedAnswer(call, "r1")
    answer.routed(ROUTE)
    answer.send_events((Embeddings(((0.5, -1.0),)),))
    answer.finish(OUTCOME)
    message = pb.EmbedResponse.FromString(call.messages[0])
    assert (list(message.embedding), message.routing.backend) == ([0.5, -1.0], "npu-1")


@pytest.mark.parametrize(("kind", "code"), [(ErrorKind.RATE_LIMITED, 8), (ErrorKind.OVERLOADED, 14)])
def test_a_wait_is_told_in_milliseconds(kind: ErrorKind, code: int) -> None:
    call = RecordedCall()
    error = ProxyError(kind, "full", retry_after_s=1.5)
    error.decision_id = "d-r1-1"
    GenerateAnswer(call, "r1").fail(error)
    assert (call.code, call.trailers["retry-after-ms"], call.trailers["x-decision-id"]) == (code, "1500", "d-r1-1")


def test_reasons_are_made_fit_for_metadata() -> None:
    call = RecordedCall()
    route = Route("d1", "npu-1", "né\n", 3.0, 800, (), 1, "configured", "m")
    GenerateAnswer(call, "r1").routed(route)
    assert call.initial["x-routing-reason"] == "n??"


def test_the_clients_leaving_and_slowness_reach_the_work() -> None:
    desk = Desk()
    call = send(desk, "GenerateStream", generate())
    for callback in (call.on_pause, call.on_resume, call.on_cancel):
        assert callback is not None
        callback()
    assert desk.ticket.events == ["pause", "resume", "cancel"]


def test_where_no_pipeline_is_configured_none_is_found() -> None:
    asked = pb.ExecutePipelineRequest(pipeline_id="p").SerializeToString()
    for method in ("ExecutePipeline", "ExecutePipelineStream"):
        assert send(Desk(), method, asked).code == 5
        assert send(Desk(), method, b"").code == 3


def backend(name: str, health: Health = Health.HEALTHY, kind: str = "ollama", context: int = 4096) -> BackendView:
    facts = {"m": ModelFacts("m:latest", context_length=context)}
    spec = BackendSpec(name, kind, name.upper(), "npu", 3.0, 800.0, 10.0)
    return BackendView(spec, health, models=facts, loaded=frozenset(("m",)))


def test_backends_are_listed_and_filtered_by_type() -> None:
    desk = Desk(backend("a"), backend("b", kind="openai"))
    whole = pb.ListBackendsResponse.FromString(send(desk, "ListBackends", b"").messages[0])
    assert [one.id for one in whole.backends] == ["a", "b"]
    assert list(whole.backends[0].capabilities.models) == ["m:latest"]
    wanted = pb.ListBackendsRequest(type_filter="openai").SerializeToString()
    some = pb.ListBackendsResponse.FromString(send(desk, "ListBackends", wanted).messages[0])
    assert [one.id for one in some.backends] == ["b"]


@pytest.mark.parametrize(
    ("states", "word"),
    [
        ((), "unhealthy"),
        ((Health.HEALTHY, Health.HEALTHY), "healthy"),
        ((Health.HEALTHY, Health.UNHEALTHY), "degraded"),
        ((Health.DEGRADED,), "degraded"),
        ((Health.UNHEALTHY, Health.UNKNOWN), "unhealthy"),
    ],
)
def test_health_is_summed_up(states: tuple[Health, ...], word: str) -> None:
    desk = Desk(*(backend(f"b{number}", health) for number, health in enumerate(states)))
    answer = pb.HealthCheckResponse.FromString(send(desk, "HealthCheck", b"").messages[0])
    assert answer.status == word
    assert set(answer.backend_health) == {f"b{number}" for number in range(len(states))}


def test_a_health_check_that_cannot_be_read_is_refused() -> None:
    assert send(Desk(), "HealthCheck", b"\xff\xff").code == 3


@pytest.mark.parametrize("method", ["ListBackends", "HealthCheck", "ExecutePipeline", "ExecutePipelineStream"])
def test_a_request_id_is_always_echoed(method: str) -> None:
    call = send(Desk(), method, b"", ("x-request-id", "r1"))
    assert {**call.initial, **call.trailers}["x-request-id"] == "r1"


@pytest.mark.parametrize("sink", [GenerateAnswer, StreamAnswer])
def test_absurd_counts_of_a_backend_do_not_leave_the_client_waiting(sink: type[GenerateAnswer | StreamAnswer]) -> None:
    call = RecordedCall()
    answer = sink(call, "r1")
    answer.routed(ROUTE)
    answer.finish(Outcome(Finished(), 0.5, 2.0, 2**40, 4.5, 36.0, "configured"))
    assert call.finished


def test_an_absurd_context_length_does_not_hide_the_fleet() -> None:
    desk = Desk(backend("a"), backend("b", context=2**40))
    answer = pb.ListBackendsResponse.FromString(send(desk, "ListBackends", b"").messages[0])
    assert [one.id for one in answer.backends] == ["a", "b"]
