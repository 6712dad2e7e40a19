"""A stream whose backend dies goes on at another: the same text, the same id, one end, in every dialect."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import pytest

from ollama_proxy.api.gen.compute.v1 import compute_pb2
from tests.support.lab import LabProcess
from tests.support.processes import http_get, wait_until
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e

MODEL = "qwen2.5:0.5b"
TURN = [{"role": "user", "content": "tell me of the fleet"}]
PATHS: dict[str, dict[str, Any]] = {
    "/api/generate": {"prompt": "tell me of the fleet"},
    "/api/chat": {"messages": TURN},
    "/v1/chat/completions": {"messages": TURN, "stream_options": {"include_usage": True}},
    "/v1/completions": {"prompt": "tell me of the fleet", "stream_options": {"include_usage": True}},
    "/v1/messages": {"messages": TURN, "max_tokens": 40},
}


class Answer:
    """A streamed answer as a client reads it."""

    def __init__(self, path: str, backend: str, body: str) -> None:
        self.backend = backend
        data = re.findall(r"^data: (.*)$", body, re.M) if path.startswith("/v1") else body.splitlines()
        self.events = [json.loads(one) for one in data if one != "[DONE]"]
        self.ends = data.count("[DONE]") + sum(
            one.get("done") is True or one.get("type") == "message_stop" for one in self.events
        )
        self.ids = {one["id"] for one in self.events if "id" in one}
        self.kinds = [one.get("type", "") for one in self.events]
        self.errors = [one for one in self.events if "error" in one]
        self.text = "".join([_text_of(one) for one in self.events])
        self.roles = sum("role" in choice.get("delta", {}) for one in self.events for choice in one.get("choices", ()))

    @property
    def tokens(self) -> int | None:
        """What the end says of the answer's length."""
        for one in reversed(self.events):
            usage = one.get("usage") or {}
            found = one.get("eval_count") or usage.get("completion_tokens") or usage.get("output_tokens")
            if found:
                return int(found)
        return None


def _text_of(event: dict[str, Any]) -> str:
    if "message" in event and isinstance(event["message"].get("content"), str):
        return str(event["message"]["content"])
    if "response" in event:
        return str(event["response"])
    if event.get("type") == "content_block_delta":
        return str(event["delta"].get("text", ""))
    return "".join([one.get("text") or one.get("delta", {}).get("content") or "" for one in event.get("choices", ())])


def ask(proxy: ProxyProcess, path: str, headers: dict[str, str] | None = None, **members: Any) -> Answer:
    document = {"model": MODEL, "stream": True, **PATHS[path], **members}
    request = urllib.request.Request(proxy.url + path, json.dumps(document).encode(), headers or {})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return Answer(path, answer.headers["X-Backend-Used"], answer.read().decode())


def ask_twice(lab: LabProcess, proxy: ProxyProcess, path: str, after: int) -> tuple[Answer, Answer]:
    """The same request uncut and cut; speeds are learned meanwhile, so the choice may change in between."""
    for _ in range(5):
        whole = ask(proxy, path)
        with lab.fault(name_of(whole.backend), "cut", after_chunks=after):
            mended = ask(proxy, path)
        if mended.backend == whole.backend:
            return whole, mended
    raise AssertionError("the choice changed five times")


def name_of(backend: str) -> str:
    return backend.removeprefix("ollama-")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("after", [1, 7])
def test_a_cut_stream_goes_on_elsewhere(lab: LabProcess, lab_proxy: ProxyProcess, path: str, after: int) -> None:
    wait_until(lambda: lab_proxy.health().startswith("Status: healthy"), "all healthy")
    whole, mended = ask_twice(lab, lab_proxy, path, after)
    assert not mended.errors
    assert mended.text == whole.text
    assert mended.ends == whole.ends == 1
    assert len(mended.ids) == len(whole.ids)
    assert mended.roles == whole.roles
    assert mended.tokens == whole.tokens
    if path == "/v1/messages":
        assert [kind for kind in mended.kinds if kind != "content_block_delta"] == [
            kind for kind in whole.kinds if kind != "content_block_delta"
        ]


def test_a_grpc_stream_goes_on_elsewhere(lab: LabProcess, lab_proxy: ProxyProcess) -> None:
    wait_until(lambda: lab_proxy.health().startswith("Status: healthy"), "all healthy")

    def stream() -> tuple[str, list[str], dict[str, str]]:
        request = compute_pb2.GenerateRequest(prompt="tell me of the fleet", model=MODEL)
        with grpc.insecure_channel(lab_proxy.grpc) as channel:
            call = channel.unary_stream(
                "/compute.v1.ComputeService/GenerateStream",
                request_serializer=compute_pb2.GenerateRequest.SerializeToString,
                response_deserializer=compute_pb2.GenerateStreamResponse.FromString,
            )(request, timeout=30)
            answers = list(call)
            trailers = {str(name): str(value) for name, value in call.trailing_metadata()}
        return "".join([one.token for one in answers]), [one.backend_used for one in answers], trailers

    whole, used, _ = stream()
    with lab.fault(name_of(used[0]), "cut", after_chunks=5):
        mended, used, trailers = stream()
    assert mended == whole
    # Each message says who wrote it, and the trailers who ended it.
    assert len(set(used[:5])) == len(set(used[5:])) == 1
    assert used[0] != used[-1] == trailers["x-backend-used"]
    assert trailers["x-attempts"] == "2"
    metrics = http_get(lab_proxy.url + "/metrics")[1]
    assert f'ollama_proxy_continuation_gap_seconds_count{{backend="{used[-1]}"}}' in metrics
    assert "continues after 5 tokens" in trailers["x-routing-reason"]


def read_trailers(proxy: ProxyProcess, path: str, te: str) -> tuple[bytes, dict[bytes, bytes]]:
    """Head and trailers of a stream over HTTP/1.1."""
    body = json.dumps({"model": MODEL, "stream": True, **PATHS[path]}).encode()
    with socket.create_connection(("127.0.0.1", proxy.http_port), timeout=30) as one:
        lines = ("Host: localhost", f"Connection: close{te}", f"Content-Length: {len(body)}", "", "")
        one.sendall("\r\n".join((f"POST {path} HTTP/1.1", *lines)).encode() + body)
        answer = b"".join(iter(lambda: one.recv(65536), b""))
    head, _, rest = answer.partition(b"\r\n\r\n")
    _, _, tail = rest.rpartition(b"\r\n0\r\n")
    return head, dict(line.split(b": ", 1) for line in tail.split(b"\r\n") if line)


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
def test_trailers_tell_the_seam_to_whoever_takes_them(lab: LabProcess, lab_proxy: ProxyProcess, path: str) -> None:
    wait_until(lambda: lab_proxy.health().startswith("Status: healthy"), "all healthy")
    lab_proxy.wait_for_breakers()
    first = ask(lab_proxy, path).backend
    wish = ", TE\r\nTE: trailers"
    with lab.fault(name_of(first), "cut", after_chunks=5):
        head, found = read_trailers(lab_proxy, path, wish)
    assert b"\r\nTrailer: X-Backend-Used, X-Routing-Reason, X-Attempts, X-Energy-Joules, X-Energy-Kind\r\n" in head
    assert found[b"X-Attempts"] == b"2"
    assert b"continues after 5 tokens" in found[b"X-Routing-Reason"]
    assert b"\r\nX-Backend-Used: %b\r\n" % found[b"X-Backend-Used"] not in head
    head, found = read_trailers(lab_proxy, path, wish)
    assert (found[b"X-Attempts"], found[b"X-Energy-Kind"]) == (b"1", b"emulated")
    assert float(found[b"X-Energy-Joules"]) > 0
    head, found = read_trailers(lab_proxy, path, "")
    assert b"\r\nTrailer:" not in head
    assert found == {}


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_trailers_come_over_http2_too(lab_proxy: ProxyProcess) -> None:
    body = json.dumps({"model": MODEL, **PATHS["/api/chat"]})
    command = ["curl", "-s", "--http2-prior-knowledge", "-H", "TE: trailers", "-D", "-", "-o", "/dev/null", "-d", body]
    told = subprocess.run(
        [*command, lab_proxy.url + "/api/chat"], capture_output=True, text=True, timeout=30, check=True
    )
    head, _, behind = told.stdout.replace("\r", "").partition("\n\n")
    assert "trailer: X-Backend-Used" in head
    assert re.search(r"^x-energy-joules: [0-9.]+$", behind, re.M)


def test_limits_hold_for_whoever_would_go_on(lab: LabProcess, lab_proxy: ProxyProcess) -> None:
    wait_until(lambda: lab_proxy.health().startswith("Status: healthy"), "all healthy")
    with lab.fault("npu", "cut", after_chunks=5):
        broken = ask(lab_proxy, "/api/chat", {"X-Max-Power-Watts": "5"})
    assert broken.backend == "ollama-npu"
    assert broken.ends == 0
    assert len(broken.errors) == 1


def test_two_cuts_are_mended_and_a_third_is_an_error(lab: LabProcess, work: Path) -> None:
    with ProxyProcess(work, endpoints=lab.endpoints, speed=lab.speed) as proxy:
        whole = ask(proxy, "/v1/chat/completions")
        faults = [lab.fault(name, "cut", after_chunks=3, times=1) for name in ("npu", "igpu", "nvidia", "cpu")]
        for one in faults[:2]:
            one.__enter__()
        mended = ask(proxy, "/v1/chat/completions")
        for one in faults[:2]:
            one.__exit__(None, None, None)
        assert mended.text == whole.text
        assert not mended.errors
        for name in ("npu", "igpu", "nvidia", "cpu"):
            lab.set_fault(name, "cut", after_chunks=3)
        broken = ask(proxy, "/v1/chat/completions")
        for name in ("npu", "igpu", "nvidia", "cpu"):
            lab.set_fault(name, "none")
    assert len(broken.errors) == 1
    assert broken.ends == 0
    assert whole.text.startswith(broken.text)
    assert broken.text.count(" ") == 8
