"""A backend that keeps its connections and says nothing more: streams go on elsewhere, once that is strange."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest

from ollama_proxy.api.gen.compute.v1 import compute_pb2
from ollama_proxy.lab.text import ask_length
from tests.e2e.test_continuation import MODEL, Answer
from tests.support.faults import FaultProcess
from tests.support.lab import LabProcess
from tests.support.processes import wait_until
from tests.support.proxy import ProxyProcess

pytestmark = [pytest.mark.e2e, pytest.mark.long]

PROMPT = f"tell me of the fleet {ask_length(400)}"
TURN = [{"role": "user", "content": PROMPT}]
HTTP: dict[str, dict[str, Any]] = {
    "/api/generate": {"prompt": PROMPT},
    "/v1/chat/completions": {"messages": TURN},
    "/v1/messages": {"messages": TURN, "max_tokens": 1000},
}
#: Pieces that are read before anything goes wrong.
BEFORE = 5


def read_http(proxy: ProxyProcess, path: str, target: str, begun: Callable[[], object]) -> str:
    body = json.dumps({"model": MODEL, "stream": True, **HTTP[path]})
    headers = {"Content-Type": "application/json", "X-Target-Backend": target}
    with closing(http.client.HTTPConnection("127.0.0.1", proxy.http_port, timeout=60)) as connection:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        lines = [answer.readline() for _ in range(BEFORE)]
        begun()
        heard = Answer(path, answer.headers["X-Backend-Used"], (b"".join(lines) + answer.read()).decode())
    assert (heard.backend, heard.errors, heard.ends) == (target, [], 1)
    return heard.text


def read_grpc(proxy: ProxyProcess, path: str, target: str, begun: Callable[[], object]) -> str:
    wishes = compute_pb2.JobAnnotations(target=target)
    request = compute_pb2.GenerateRequest(prompt=PROMPT, model=MODEL, annotations=wishes)
    with grpc.insecure_channel(proxy.grpc) as channel:
        answers: Iterator[Any] = channel.unary_stream(
            path,
            request_serializer=compute_pb2.GenerateRequest.SerializeToString,
            response_deserializer=compute_pb2.GenerateStreamResponse.FromString,
        )(request, timeout=60)
        found = [next(answers) for _ in range(BEFORE)]
        begun()
        found += answers
    assert found[0].backend_used == target
    assert [one.done for one in found].count(True) == 1
    return "".join([one.token for one in found])


WAYS = {**dict.fromkeys(HTTP, read_http), "/compute.v1.ComputeService/GenerateStream": read_grpc}


def test_streams_go_on_elsewhere_when_their_backend_falls_silent(work: Path) -> None:
    """All at once, since silence takes ten seconds to be strange."""
    with LabProcess(work, speed=20) as lab, FaultProcess(work, lab.url("npu")) as line:
        ends = [line.url, lab.url("igpu"), "http://127.0.0.1:9", "http://127.0.0.1:9"]
        often = {"health": {"interval_seconds": 1}}
        with ProxyProcess(work, endpoints=ends, speed=lab.speed, changes=often) as proxy:
            whole = {path: way(proxy, path, "ollama-igpu", int) for path, way in WAYS.items()}
            for path, way in WAYS.items():
                way(proxy, path, "ollama-npu", int)
            wait_until(lambda: proxy.health().count("healthy") > 1, "the model to be known as loaded")
            begun = threading.Barrier(len(WAYS) + 1)
            with ThreadPoolExecutor(len(WAYS)) as clients:
                streams = {
                    path: clients.submit(way, proxy, path, "ollama-npu", begun.wait) for path, way in WAYS.items()
                }
                begun.wait(30)
                with line.on(end="stall"):
                    began_s = time.monotonic()
                    mended = {path: stream.result() for path, stream in streams.items()}
                    took_s = time.monotonic() - began_s
            print(f"{len(WAYS)} streams went on; all were whole {took_s:.1f} s after the silence began")
    assert mended == whole
