"""What `compute.v1` writes by hand is what protobuf and the plain encoding of metadata would have written."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from ollama_proxy.api.compute.answers import encode_backend_used, encode_token, fill_stats
from ollama_proxy.api.compute.metadata import encode_request_id, encode_route
from ollama_proxy.api.gen.compute.v1 import compute_pb2 as pb
from ollama_proxy.domain.answer import Finished, Outcome, Route
from ollama_proxy.net.http2.hpack import Decoder

words = st.text(max_size=140)
plain = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=130)
ids = st.one_of(plain, st.text(st.characters(max_codepoint=255), max_size=128))


@given(st.text(max_size=200), st.text(max_size=40))
@example("x" * 127, "npu")
@example("x" * 128, "npu")
@example("", "")
def test_a_token_is_written_as_protobuf_writes_it(text: str, backend: str) -> None:
    written = encode_token(text, encode_backend_used(backend))
    assert written == pb.GenerateStreamResponse(token=text, backend_used=backend).SerializeToString()


routes = st.builds(
    Route,
    decision_id=plain,
    backend=st.one_of(plain, words),
    reason=st.one_of(plain, words),
    power_watts=st.one_of(st.just(0.0), st.floats(0, 1e4)),
    latency_ms=st.integers(0, 10**7),
    alternatives=st.lists(st.one_of(plain, words), max_size=4).map(tuple),
    attempts=st.integers(1, 9),
    energy_kind=st.sampled_from(("configured", "emulated", "unknown")),
    model=words,
    stand_in=st.booleans(),
)


@given(routes, ids)
def test_metadata_says_what_the_route_says(route: Route, request_id: str) -> None:
    expected = [("x-request-id", request_id)] if request_id else []
    for name, value in route.headers():
        expected.append((name.lower(), "".join(char if " " <= char <= "~" else "?" for char in value)))
    fields = Decoder().decode(encode_route(route, request_id))
    assert [(name.decode(), value.decode("latin-1")) for name, value in fields] == expected


@given(ids)
def test_an_id_alone_is_metadata_too(request_id: str) -> None:
    expected = [(b"x-request-id", request_id.encode("latin-1"))] if request_id else []
    assert Decoder().decode(encode_request_id(request_id)) == expected
    assert encode_route(None, request_id) == encode_request_id(request_id)


def test_stats_are_there_even_when_all_are_zero() -> None:
    answer = pb.GenerateResponse()
    fill_stats(answer.stats, Outcome(Finished(), 0.0, 0.0, 0, 0.0, None, "unknown"))
    assert pb.GenerateResponse.FromString(answer.SerializeToString()).HasField("stats")
