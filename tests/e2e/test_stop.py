"""SIGTERM: not ready at once, what fits the grace period ends well, a last word to the rest, exit 0 in time."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from ollama_proxy.api.gen.compute.v1 import compute_pb2
from ollama_proxy.net.http2.frames import GOAWAY, PREFACE, SETTINGS, build_frame
from tests.support.dripping import MODEL, DrippingOllama
from tests.support.processes import http_get, wait_until
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e

MESSAGES = [{"role": "user", "content": "hi"}]
GRACE_S = 2.0
DELAY_S = 0.5
#: By path: the body, the member that limits its answer, and what its last event has when it ended well or badly.
DIALECTS: dict[str, tuple[dict[str, Any], Callable[[int], dict[str, Any]], bytes, bytes]] = {
    "/api/chat": (
        {"messages": MESSAGES},
        lambda tokens: {"options": {"num_predict": tokens}},
        b'"done":true',
        b'{"error":',
    ),
    "/v1/chat/completions": (
        {"messages": MESSAGES, "stream": True},
        lambda tokens: {"max_tokens": tokens},
        b"data: [DONE]",
        b'data: {"error":',
    ),
    "/v1/messages": (
        {"messages": MESSAGES, "stream": True},
        lambda tokens: {"max_tokens": tokens},
        b'"type":"message_stop"',
        b"event: error",
    ),
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[DrippingOllama]:
    with DrippingOllama() as server:
        yield server


def start(upstream: DrippingOllama, work: Path, grace_s: float, delay_s: float = 0, slots: int = 0) -> ProxyProcess:
    process = {"grace_seconds": grace_s, "drain_delay_seconds": delay_s}
    backend = {"id": "one", "endpoint": upstream.url, "slots": slots}
    return ProxyProcess(
        work,
        changes={"process": process},
        replace={"backends": [backend], "routing": {}},
    ).start()


class Streams:
    """Streams over HTTP and gRPC, each in a thread of its own, and how each ended."""

    def __init__(self, proxy: ProxyProcess) -> None:
        self._proxy = proxy
        self._threads: list[threading.Thread] = []
        self.begun: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self._lock = threading.Lock()

    def open(self, kind: str, tokens: int) -> None:
        work = self._ask_grpc if kind == "grpc" else self._ask_http
        self._threads.append(threading.Thread(target=self._note, args=(work, kind, tokens)))
        self._threads[-1].start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _note(self, work: Callable[[str, int], str], kind: str, tokens: int) -> None:
        size = "short" if tokens < 100 else "long"
        try:
            how = work(kind, tokens)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is no good end
            how = repr(error)
        with self._lock:
            self.ended[f"{size} {how}"] += 1

    def _begin(self) -> None:
        with self._lock:
            self.begun["all"] += 1

    def _ask_http(self, path: str, tokens: int) -> str:
        body, limit, good, bad = DIALECTS[path]
        connection = http.client.HTTPConnection("127.0.0.1", self._proxy.http_port, timeout=60)
        connection.request("POST", path, json.dumps({"model": MODEL} | body | limit(tokens)))
        answer = connection.getresponse()
        read = answer.readline()
        self._begin()
        read += answer.read()
        connection.close()
        end = read[-1500:]
        return "well" if good in end else "with an error" if bad in end else f"cut: {end[-200:]!r}"

    def _ask_grpc(self, kind: str, tokens: int) -> str:
        request = compute_pb2.GenerateRequest(model=MODEL, prompt="hi", options={"max_tokens": tokens})
        with grpc.insecure_channel(self._proxy.grpc) as channel:
            call = channel.unary_stream(
                "/compute.v1.ComputeService/GenerateStream",
                request_serializer=compute_pb2.GenerateRequest.SerializeToString,
                response_deserializer=compute_pb2.GenerateStreamResponse.FromString,
            )(request, timeout=60)
            try:
                next(call)
                self._begin()
                list(call)
            except grpc.RpcError as error:
                return "with an error" if error.code() is grpc.StatusCode.UNAVAILABLE else str(error)
        return "well"


def open_http2(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(PREFACE + build_frame(SETTINGS, 0, 0, b""))
    return connection


def read_frame_types(connection: socket.socket) -> list[int]:
    """The types of all frames until the end."""
    data = b""
    while piece := connection.recv(65536):
        data += piece
    found = []
    while data:
        found.append(data[3])
        data = data[9 + int.from_bytes(data[:3], "big") :]
    return found


def test_the_end_of_two_hundred_streams(upstream: DrippingOllama, work: Path) -> None:
    proxy = start(upstream, work, GRACE_S, DELAY_S)
    streams, kinds = Streams(proxy), [*DIALECTS, "grpc"]
    health = grpc.insecure_channel(proxy.grpc)
    check = health.unary_unary("/grpc.health.v1.Health/Check")
    kept = http.client.HTTPConnection("127.0.0.1", proxy.http_port)
    try:
        assert check(b"") == b"\x08\x01"
        kept.request("GET", "/readyz")
        assert kept.getresponse().read().startswith(b"ready")
        for number in range(200):
            streams.open(kinds[number % 4], 5 if number % 8 < 4 else 5000)
        wait_until(lambda: streams.begun["all"] == 200, "the streams to begin")
        over_http2 = open_http2(proxy.http_port)
        began_s = time.monotonic()
        proxy.child.process.send_signal(signal.SIGTERM)
        wait_until(lambda: http_get(proxy.url + "/readyz") == (503, "not ready: stopping\n"), "it to be not ready")
        assert check(b"") == b"\x08\x02"
        kept.request("GET", "/healthz")
        answer = kept.getresponse()
        assert (answer.status, answer.headers["Connection"]) == (200, "close")
        streams.join()
        assert GOAWAY in read_frame_types(over_http2)
        over_http2.close()
        assert proxy.child.process.wait(60) == 0
        took_s = time.monotonic() - began_s
    finally:
        kept.close()
        health.close()
        proxy.child.kill_group()
    assert streams.ended == {"short well": 100, "long with an error": 100}
    assert took_s > DELAY_S + GRACE_S


def test_a_second_signal_waits_for_nobody(upstream: DrippingOllama, work: Path) -> None:
    proxy = start(upstream, work, grace_s=60, delay_s=60)
    streams = Streams(proxy)
    try:
        for kind in (*DIALECTS, "grpc"):
            streams.open(kind, 5000)
        wait_until(lambda: streams.begun["all"] == 4, "the streams to begin")
        proxy.child.process.send_signal(signal.SIGTERM)
        wait_until(lambda: http_get(proxy.url + "/readyz")[0] == 503, "it to be not ready")
        proxy.child.process.send_signal(signal.SIGTERM)
        assert proxy.child.process.wait(60) == 0
        streams.join()
    finally:
        proxy.child.kill_group()
    assert streams.ended == {"long with an error": 4}


def test_whoever_waits_in_the_queue_is_told_too(upstream: DrippingOllama, work: Path) -> None:
    proxy = start(upstream, work, grace_s=0.2, slots=4)
    streams = Streams(proxy)
    try:
        for _ in range(6):
            streams.open("/api/chat", 5000)
        wait_until(lambda: '"waiting":2' in http_get(proxy.url + "/proxy/queue")[1], "two to wait")
        assert proxy.stop() == 0
        streams.join()
    finally:
        proxy.child.kill_group()
    assert streams.ended == {"long with an error": 6}
