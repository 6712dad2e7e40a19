"""What is fuzzed. A target takes bytes and may raise nothing: errors that are declared are caught here, by name.

Where a reader may get its bytes in pieces, whole and cut have to mean the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import cast

from google.protobuf.message import DecodeError as ProtobufError

from ollama_proxy.api.anthropic import typed as anthropic_requests
from ollama_proxy.api.compute.requests import HeadFacts, read_embed, read_generate
from ollama_proxy.api.gen.compute.v1 import compute_pb2
from ollama_proxy.api.ollama import typed as ollama_requests
from ollama_proxy.api.ollama.go_types import OPTIONS
from ollama_proxy.api.openai import typed as openai_requests
from ollama_proxy.api.responses import requests as responses_requests
from ollama_proxy.api.responses import typed as responses_typed
from ollama_proxy.api.vector_stores import requests as store_requests
from ollama_proxy.api.websocket.requests import read_envelope, read_request
from ollama_proxy.backends.anthropic import answers as anthropic_answers
from ollama_proxy.backends.ollama.answers import AnswerDecoder, EmbedDecoder
from ollama_proxy.backends.openai.answers import choose_decoder
from ollama_proxy.config.load import parse_config
from ollama_proxy.config.problems import ConfigError
from ollama_proxy.domain.annotations import annotation_headers, parse_annotations
from ollama_proxy.domain.call import Operation
from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.net.bodies.go_json import read_as
from ollama_proxy.net.bodies.go_syntax import GoError
from ollama_proxy.net.bodies.model_ref import parse_ref
from ollama_proxy.net.bodies.multipart import FormError, find_field, read_boundary
from ollama_proxy.net.bodies.unpacking import PackedBodyError, unpack_zstd
from ollama_proxy.net.endings import ENDINGS
from ollama_proxy.net.endings.errors import error_in_tail, error_text
from ollama_proxy.net.http1.exchange import ExchangeOwner
from ollama_proxy.net.http1.head import Refusal
from ollama_proxy.net.http1.limits import HttpLimits
from ollama_proxy.net.http1.request_reader import RequestReader
from ollama_proxy.net.lanes.framing import EventBuffer, EventTooLong, LineBuffer
from ollama_proxy.net.lanes.translate_lane import Decoder
from ollama_proxy.net.lanes.upstream import DecodeError, UpstreamError
from ollama_proxy.routing.record_lines import RecordError, read_record
from ollama_proxy.vectors.readers.kinds import read_text
from ollama_proxy.vectors.readers.problem import Unreadable
from tests.h2.core import Core
from tests.support.wire import hear

_FACTS = HeadFacts(())
_LIMITS = HttpLimits()
_HEADERS = (b"x-max-power-watts", b"x-max-latency-ms", b"x-priority", b"x-target-backend", b"x-latency-critical")


def http1_requests(data: bytes) -> None:
    """Requests, whole and cut in two; the meanings and the refusal have to be the same."""
    cut, data = (data[0] if data else 0), data[1:]
    assert _read_requests([data]) == _read_requests([data[:cut], data[cut:]])


def _read_requests(pieces: Sequence[bytes]) -> list[tuple[bytes, bytes, bytes] | int]:
    reader = RequestReader(cast(ExchangeOwner, None), "peer", _LIMITS)
    found: list[tuple[bytes, bytes, bytes] | int] = []
    try:
        for piece in filter(None, pieces):
            exchange = reader.take(piece)
            while exchange is not None:
                found.append((exchange.method, exchange.target, exchange.body))
                exchange = reader.next()
    except Refusal as refusal:
        found.append(refusal.status)
    return found


def http1_answers(data: bytes) -> None:
    """An upstream's answer, whole and cut in two."""
    cut, data = (data[0] if data else 0), data[1:]
    whole, parts = hear(data, [], close=True), hear(data, [cut], close=True)
    assert (whole.status, whole.body, whole.ends) == (parts.status, parts.body, parts.ends)
    assert len(whole.ends) == 1


def http2_frames(data: bytes) -> None:
    """A connection behind its preface, and one before it."""
    Core().exchange(data)
    Core(greeted=False).exchange(data)


def framing(data: bytes) -> None:
    """Lines and events, whole and byte by byte."""
    for kind in (LineBuffer, EventBuffer):
        whole, parts = kind(), kind()
        try:
            found = whole.feed(data)
            pieces = [event for byte in data for event in parts.feed(bytes([byte]))]
        except EventTooLong:
            return
        if not data.endswith(b"\r"):  # its LF may follow
            assert found == pieces
            # Blank lines before an event are nothing, and stay with whichever piece they came in.
            assert whole.rest().lstrip(b"\r\n") == parts.rest().lstrip(b"\r\n")


def annotation_pairs(data: bytes) -> None:
    """Names and values as headers carry them."""
    lines = data.lower().split(b"\n")
    headers = [(_HEADERS[len(line) % len(_HEADERS)], line) for line in lines]
    headers += [(name, value) for name, colon, value in (line.partition(b":") for line in lines) if colon]
    try:
        parse_annotations(annotation_headers(headers))
    except ProxyError:
        return


def configuration(data: bytes) -> None:
    """The file."""
    try:
        parse_config(data.decode("utf-8", "replace"), "config.yaml")
    except ConfigError:
        return


def client_bodies(data: bytes) -> None:
    """Bodies of requests in each dialect, as they are read for backends of another."""
    for operation in (Operation.GENERATE, Operation.CHAT):
        with contextlib.suppress(ProxyError):
            ollama_requests.read_typed(data, operation)
    for read in (
        ollama_requests.read_typed_embed,
        ollama_requests.read_typed_embeddings,
        openai_requests.read_typed,
        openai_requests.read_typed_embedding,
        anthropic_requests.read_typed,
    ):
        with contextlib.suppress(ProxyError):
            read(data)
    with contextlib.suppress(ProxyError):
        asked = responses_requests.read_asked(data)
        responses_typed.read_typed(asked.body, asked.items())


def vector_stores(data: bytes) -> None:
    """What is asked of stores and their files."""
    for read in (
        store_requests.read_new_store,
        store_requests.read_changes,
        store_requests.read_one_file,
        store_requests.read_batch,
        store_requests.read_new_attributes,
        store_requests.read_search,
        store_requests.read_page,
    ):
        with contextlib.suppress(ProxyError):
            read(data)


def documents(data: bytes) -> None:
    """Files that are brought, by the ends of their names."""
    for name in ("a.txt", "a.csv", "a.html", "a.json", "a.docx", "a.pdf"):
        with contextlib.suppress(Unreadable):
            read_text(name, data, 100_000)


def backend_answers(data: bytes) -> None:
    """What backends of each kind answer, through the decoders of the translate lane."""
    generate = Operation.GENERATE
    makers: Sequence[Callable[[], Decoder]] = (
        AnswerDecoder,
        EmbedDecoder,
        lambda: choose_decoder(Operation.EMBED, stream=False),
        lambda: choose_decoder(generate, stream=True),
        lambda: choose_decoder(generate, stream=False),
        anthropic_answers.StreamDecoder,
        anthropic_answers.BodyDecoder,
    )
    for make in makers:
        decoder = make()
        try:
            decoder.feed(data[: len(data) // 2])
            decoder.feed(data[len(data) // 2 :])
            decoder.end()
        except (DecodeError, UpstreamError, EventTooLong):
            continue


def endings(data: bytes) -> None:
    """The ends of what passed by; these raise nothing at all."""
    for readers in ENDINGS.values():
        for read in readers:
            read(data)
    error_text(data)
    error_in_tail(data)


def go_json(data: bytes) -> None:
    """Bodies by the rules of Go's encoding/json."""
    try:
        read_as(data, OPTIONS)
    except GoError:
        return


def grpc_messages(data: bytes) -> None:
    """Messages of compute.v1, and calls made of them."""
    with contextlib.suppress(ProxyError, ProtobufError):
        read_generate(compute_pb2.GenerateRequest.FromString(data), _FACTS, "id", 0.0, stream=True)
    with contextlib.suppress(ProxyError, ProtobufError):
        read_embed(compute_pb2.EmbedRequest.FromString(data), _FACTS, "id", 0.0)


def packed_bodies(data: bytes) -> None:
    """zstd."""
    try:
        unpack_zstd(data)
    except PackedBodyError:
        return


def forms(data: bytes) -> None:
    """multipart/form-data."""
    kind, _, body = data.partition(b"\n")
    try:
        find_field(body, read_boundary(b"multipart/form-data; " + kind), b"model")
    except FormError:
        return


def websocket_requests(data: bytes) -> None:
    """Messages of the WebSocket."""
    text = data.decode("utf-8", "replace")
    try:
        read_envelope(text)
        read_request(text, "id", 0.0, ())
    except ProxyError:
        return


def names_and_records(data: bytes) -> None:
    """Names of models, and decisions on record."""
    with contextlib.suppress(ProxyError):
        parse_ref(data.decode("utf-8", "replace"))
    try:
        read_record(data)
    except RecordError:
        return


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        http1_requests,
        http1_answers,
        http2_frames,
        framing,
        annotation_pairs,
        configuration,
        client_bodies,
        vector_stores,
        documents,
        backend_answers,
        endings,
        go_json,
        grpc_messages,
        packed_bodies,
        forms,
        websocket_requests,
        names_and_records,
    )
}
