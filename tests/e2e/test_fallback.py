"""Failures before the first byte go elsewhere, within the limits; after it the client gets an honest error."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from ollama_proxy.api.gen.compute.v1 import compute_pb2
from tests.support.lab import LabProcess
from tests.support.processes import http_get, wait_until
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e

PATHS = {
    "/api/generate": {"prompt": "hi"},
    "/api/chat": {"messages": [{"role": "user", "content": "hi"}]},
    "/api/embed": {"input": "hi"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"prompt": "hi"},
    "/v1/embeddings": {"input": "hi"},
}


@pytest.fixture
def fleet(work: Path) -> Iterator[tuple[LabProcess, ProxyProcess]]:
    """A lab and a proxy of this test's own: health and rates are as new."""
    often = {"health": {"interval_seconds": 2}}
    with (
        LabProcess(work, speed=20) as lab,
        ProxyProcess(work, endpoints=lab.endpoints, speed=lab.speed, changes=often) as proxy,
    ):
        yield lab, proxy


def post(
    proxy: ProxyProcess, path: str, document: dict[str, Any], headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], str]:
    request = urllib.request.Request(proxy.url + path, json.dumps(document).encode(), headers or {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, dict(answer.headers), answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read().decode()


@contextmanager
def everywhere(lab: LabProcess, fault: str, **details: Any) -> Iterator[None]:
    """A fault on all devices."""
    with ExitStack() as stack:
        for name in lab.ports:
            stack.enter_context(lab.fault(name, fault, **details))
        yield


def generate(proxy: ProxyProcess, **fields: Any) -> compute_pb2.GenerateResponse:
    request = compute_pb2.GenerateRequest(prompt="hi", model="qwen2.5:0.5b", **fields)
    with grpc.insecure_channel(proxy.grpc) as channel:
        call = channel.unary_unary(
            "/compute.v1.ComputeService/Generate",
            request_serializer=compute_pb2.GenerateRequest.SerializeToString,
            response_deserializer=compute_pb2.GenerateResponse.FromString,
        )
        answer: compute_pb2.GenerateResponse = call(request, timeout=30)
        return answer


STREAMED = [(path, stream) for path in PATHS for stream in (False, True) if not (stream and "embed" in path)]


@pytest.mark.parametrize(("path", "stream"), STREAMED)
@pytest.mark.parametrize(
    ("fault", "details"),
    [
        ("refuse", {}),
        ("reset", {}),
        ("status", {"status": 503}),
        ("status", {"status": 500}),
        ("status", {"status": 429}),
        ("garbage", {}),
    ],
)
def test_every_way_in_falls_back(
    lab: LabProcess, lab_proxy: ProxyProcess, path: str, stream: bool, fault: str, details: dict[str, Any]
) -> None:
    document = {"model": "qwen2.5:0.5b", "stream": stream, **PATHS[path]}
    wait_until(lambda: lab_proxy.health().startswith("Status: healthy"), "all healthy")
    with lab.fault("igpu", fault, **details):
        status, headers, text = post(lab_proxy, path, document, {"X-Max-Power-Watts": "15"})
    # The power limit leaves NPU and iGPU; the NPU answers, whichever of the two was asked first.
    assert status == 200, text
    assert headers["X-Backend-Used"] == "ollama-npu"


#: A limit that leaves the two small devices.
SMALL = {"X-Max-Power-Watts": "15"}
ANTHROPIC = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}


def test_an_open_breaker_is_not_the_requests_fault(fleet: tuple[LabProcess, ProxyProcess]) -> None:
    """Within the limit there are only two, and both have just failed: clients are told to come again."""
    lab, proxy = fleet
    asked = {"model": "qwen2.5:0.5b", "stream": False}
    answers: list[tuple[int, dict[str, str], str]] = []

    def is_told(path: str) -> bool:
        document = {**asked, **(ANTHROPIC if "messages" in path else PATHS[path])}
        answers.append(post(proxy, path, document, SMALL))
        return "breaker open" in answers[-1][2]

    with lab.fault("npu", "status", status=503), lab.fault("igpu", "status", status=503):
        for path in ("/api/chat", "/v1/chat/completions", "/v1/messages"):
            # Now and then one of them is tried.
            wait_until(partial(is_told, path), "both breakers")
            status, headers, _ = answers[-1]
            assert (status, int(headers["Retry-After"]) >= 1) == (503, True)
        with pytest.raises(grpc.RpcError) as caught:
            generate(proxy, annotations=compute_pb2.JobAnnotations(max_power_watts=15))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(("fault", "details"), [("status", {"status": 503}), ("cut", {"after_chunks": 5})])
def test_who_is_kept_out_for_a_moment_is_waited_for_before_a_request_is_lost(
    fleet: tuple[LabProcess, ProxyProcess], fault: str, details: dict[str, Any]
) -> None:
    lab, proxy = fleet
    document = {"model": "qwen2.5:0.5b", "stream": True, **PATHS["/api/chat"]}

    def ask(**headers: str) -> tuple[int, dict[str, str], str]:
        return post(proxy, "/api/chat", document, {**SMALL, **headers})

    with lab.fault("igpu", "status", status=503):
        wait_until(lambda: ask(**{"X-Target-Backend": "igpu"})[0] == 200 and proxy.keeps_out(), "a breaker to open")
    with lab.fault("npu", fault, times=1, **details):
        status, _, text = ask()
    assert (status, '"done":true' in text, "error" in text) == (200, True, False), text


def test_limits_hold_on_the_fallback(fleet: tuple[LabProcess, ProxyProcess]) -> None:
    lab, proxy = fleet
    with lab.fault("npu", "refuse"), lab.fault("igpu", "refuse"):
        with pytest.raises(grpc.RpcError) as caught:
            generate(proxy, annotations=compute_pb2.JobAnnotations(max_power_watts=15))
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        for name in ("ollama-npu", "ollama-igpu"):
            assert name in caught.value.details()
        assert "draws 55.0 W, limit 15 W" in caught.value.details()
        wait_until(lambda: proxy.health().count("unhealthy") == 2, "health to show both")
        with pytest.raises(grpc.RpcError) as again:
            generate(proxy, annotations=compute_pb2.JobAnnotations(max_power_watts=15))
        assert again.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert lab.state("nvidia")["requests"] == lab.state("cpu")["requests"] == 0


def test_unhealthy_target_falls_back_and_says_so(fleet: tuple[LabProcess, ProxyProcess]) -> None:
    lab, proxy = fleet
    with lab.fault("nvidia", "refuse"):
        first = generate(proxy, annotations=compute_pb2.JobAnnotations(target="ollama-nvidia"))
        assert first.routing.reason.startswith("target ollama-nvidia failed; ")
        second = generate(proxy, annotations=compute_pb2.JobAnnotations(target="nvidia"))
        assert second.routing.reason.startswith("target nvidia is unhealthy (connection refused); ")
        assert second.backend_used != "ollama-nvidia"


def test_three_attempts_at_most(fleet: tuple[LabProcess, ProxyProcess]) -> None:
    lab, proxy = fleet
    for name in lab.ports:
        lab.set_fault(name, "status", status=503, paths=["/api/generate"])
    status, _, text = post(proxy, "/api/generate", {"model": "qwen2.5:0.5b", "prompt": "hi"})
    # All that were asked said the same, so the client hears it in their words.
    assert (status, json.loads(text)) == (503, {"error": "emulated fault: status 503"})
    assert sum(lab.state(name)["requests"] for name in lab.ports) == 3


def test_failures_that_differ_are_told_one_by_one(fleet: tuple[LabProcess, ProxyProcess]) -> None:
    lab, proxy = fleet
    for name, failing in zip(lab.ports, (500, 502, 503, 507), strict=True):
        lab.set_fault(name, "status", status=failing, paths=["/api/generate"])
    status, _, text = post(proxy, "/api/generate", {"model": "qwen2.5:0.5b", "prompt": "hi"})
    assert status == 502
    assert json.loads(text)["error"].startswith("no backend could answer: ")
    assert json.loads(text)["error"].count("emulated fault: status 50") == 3


def test_bad_request_is_not_tried_again(fleet: tuple[LabProcess, ProxyProcess]) -> None:
    lab, proxy = fleet
    for name in lab.ports:
        lab.set_fault(name, "status", status=400)
    status, _, text = post(proxy, "/api/generate", {"model": "qwen2.5:0.5b", "prompt": "hi"})
    assert status == 400
    assert json.loads(text) == {"error": "emulated fault: status 400"}
    assert sum(lab.state(name)["requests"] for name in lab.ports) == 1


def test_everything_down_names_each_and_why(fleet: tuple[LabProcess, ProxyProcess]) -> None:
    lab, proxy = fleet
    for name in lab.ports:
        lab.set_fault(name, "refuse")
    wait_until(lambda: http_get(proxy.url + "/health")[0] == 503, "unhealthy", 60)
    with pytest.raises(grpc.RpcError) as caught:
        generate(proxy)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details().startswith("No healthy backends available: ollama-npu: connection refused; ")
    status, _, text = post(proxy, "/v1/chat/completions", {"model": "qwen2.5:0.5b", **PATHS["/v1/chat/completions"]})
    assert status == 503
    assert json.loads(text)["error"]["code"] == "no_healthy_backend"
    assert http_get(proxy.url + "/readyz") == (503, "not ready: 0/4 backends healthy\n")
    for name in lab.ports:
        lab.set_fault(name, "none")
    wait_until(lambda: http_get(proxy.url + "/readyz") == (200, "ready: 4/4 backends healthy\n"), "recovery", 60)


@pytest.mark.parametrize(
    ("path", "last"),
    [
        ("/api/generate", lambda text: "error" in json.loads(text.splitlines()[-1])),
        ("/api/chat", lambda text: "error" in json.loads(text.splitlines()[-1])),
        (
            "/v1/chat/completions",
            lambda text: "error" in json.loads(text.strip().split("\n\n")[-1].removeprefix("data: ")),
        ),
    ],
)
def test_a_stream_that_all_cut_ends_with_an_honest_error(
    lab: LabProcess, lab_proxy: ProxyProcess, path: str, last: Any
) -> None:
    with everywhere(lab, "cut", after_chunks=4):
        document = {"model": "qwen2.5:0.5b", "stream": True, **PATHS[path]}
        status, _, text = post(lab_proxy, path, document, {"X-Target-Backend": "nvidia"})
    assert status == 200
    assert last(text), text[-500:]
    assert "[DONE]" not in text
    assert '"done":true' not in text


def test_a_grpc_stream_that_all_cut_ends_with_a_status(lab: LabProcess, lab_proxy: ProxyProcess) -> None:
    wait_until(lambda: lab_proxy.health().startswith("Status: healthy"), "all healthy")
    request = compute_pb2.GenerateRequest(
        prompt="hi", model="qwen2.5:0.5b", annotations=compute_pb2.JobAnnotations(target="nvidia")
    )
    got = []
    with everywhere(lab, "cut", after_chunks=4), grpc.insecure_channel(lab_proxy.grpc) as channel:
        call = channel.unary_stream(
            "/compute.v1.ComputeService/GenerateStream",
            request_serializer=compute_pb2.GenerateRequest.SerializeToString,
            response_deserializer=compute_pb2.GenerateStreamResponse.FromString,
        )(request, timeout=30)
        with pytest.raises(grpc.RpcError) as caught:
            got.extend(call)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    # Three attempts, each going on behind the one before.
    assert len(got) == 12
    assert not any(piece.done for piece in got)


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat", "/v1/chat/completions"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_stops_the_work(work: Path, path: str, stream: bool) -> None:
    document = {
        "model": "qwen2.5:0.5b",
        "stream": stream,
        **PATHS[path],
        "max_tokens": 500,
        "options": {"num_predict": 500},
    }
    body = json.dumps(document).encode()
    with LabProcess(work, speed=1) as lab, ProxyProcess(work, endpoints=lab.endpoints) as proxy:
        before = lab.state("nvidia")["cancelled"]
        with socket.create_connection(("127.0.0.1", proxy.http_port)) as client:
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nX-Target-Backend: nvidia\r\n"
            head += f"Content-Length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body)
            if stream:
                assert client.recv(1000).startswith(b"HTTP/1.1 200")
            else:
                wait_until(lambda: lab.state("nvidia")["in_flight"] == 1, "the request to reach the device")
            left = time.monotonic()
        wait_until(lambda: lab.state("nvidia")["cancelled"] == before + 1, "the device to hear of it")
        state = lab.state("nvidia")
        took_ms = (time.monotonic() - left) * 1000 - state["ms_since_last_cancel"]
        assert state["in_flight"] == 0
        print(f"stopped {took_ms:.0f} ms after the client left")
        wait_until(lambda: proxy.log_lines("the client left"), "the log line")
        assert "In Flight: 0" in http_get(proxy.url + "/backends")[1].split("ID: ollama-nvidia")[1].split("ID:")[0]


def test_a_grpc_client_that_cancels_stops_the_work(work: Path) -> None:
    with LabProcess(work, speed=1) as lab, ProxyProcess(work, endpoints=lab.endpoints) as proxy:
        request = compute_pb2.GenerateRequest(
            prompt="hi",
            model="qwen2.5:0.5b",
            annotations=compute_pb2.JobAnnotations(target="nvidia"),
            options=compute_pb2.GenerationOptions(max_tokens=500),
        )
        with grpc.insecure_channel(proxy.grpc) as channel:
            call = channel.unary_stream(
                "/compute.v1.ComputeService/GenerateStream",
                request_serializer=compute_pb2.GenerateRequest.SerializeToString,
                response_deserializer=compute_pb2.GenerateStreamResponse.FromString,
            )(request)
            assert next(iter(call)).token
            call.cancel()
            wait_until(lambda: lab.state("nvidia")["cancelled"] == 1, "the device to hear of it")
            with pytest.raises(grpc.RpcError) as late:
                channel.unary_unary(
                    "/compute.v1.ComputeService/Generate",
                    request_serializer=compute_pb2.GenerateRequest.SerializeToString,
                    response_deserializer=compute_pb2.GenerateResponse.FromString,
                )(request, timeout=2)
            assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            wait_until(lambda: lab.state("nvidia")["cancelled"] == 2, "the deadline to stop the work")
