"""Bad input gets a clear answer in the client's own dialect; the connection stays usable or is closed by the rules."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

import grpc
import pytest

from ollama_proxy.api.gen.compute.v1 import compute_pb2
from tests.support.processes import http_get
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e


def ask(
    proxy: ProxyProcess, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.http_port, timeout=30)
    try:
        connection.request(method, path, body or None, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers.get("Content-Type", ""), answer.read().decode()
    finally:
        connection.close()


def raw(proxy: ProxyProcess, data: bytes) -> bytes:
    """Everything that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", proxy.http_port), timeout=30) as client:
        client.sendall(data)
        got = b""
        while piece := client.recv(65536):
            got += piece
        return got


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat", "/api/embed", "/api/embeddings", "/api/show"])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b'{"model": 5}', b"\xff\xfe", b"nonsense", b'{"model": "m", "stream": "x"}']
)
def test_ollama_errors_have_ollamas_form(lab_proxy: ProxyProcess, path: str, body: bytes) -> None:
    status, content_type, text = ask(lab_proxy, "POST", path, body)
    assert status in (400, 404)
    assert content_type.startswith("application/json")
    assert set(json.loads(text)) == {"error"}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"])
@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'{"model": 5}', b"{}", b'{"model": "qwen2.5:0.5b"}'])
def test_openai_errors_have_openais_form(lab_proxy: ProxyProcess, path: str, body: bytes) -> None:
    status, _, text = ask(lab_proxy, "POST", path, body)
    if path == "/v1/completions" and body.startswith(b'{"model": "'):
        # A completion of nothing loads the model, as on Ollama.
        assert status == 200
        return
    # No model at all is a missing one to completions.
    assert status == (404 if path == "/v1/completions" and body == b"{}" else 400)
    assert set(json.loads(text)["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("path", ["/api/generate", "/v1/completions"])
@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"X-Max-Power-Watts": "lots"}, "max_power_watts"),
        ({"X-Latency-Critical": "perhaps"}, "latency_critical"),
        ({"X-Priority": "urgent"}, "priority"),
        ({"X-Target-Backend": "tpu"}, "ollama-nvidia"),
    ],
)
def test_annotations_that_cannot_be_read_are_named(
    lab_proxy: ProxyProcess, path: str, headers: dict[str, str], named: str
) -> None:
    status, _, text = ask(lab_proxy, "POST", path, b'{"model": "qwen2.5:0.5b", "prompt": "hi"}', headers)
    assert status == 400
    assert named in text


def test_annotations_in_bodies(lab_proxy: ProxyProcess) -> None:
    native: dict[str, Any] = {"model": "qwen2.5:0.5b", "prompt": "hi", "stream": False}
    native["options"] = {"routing": {"target": "npu"}, "num_predict": 2}
    openai = {"model": "qwen2.5:0.5b", "prompt": "hi", "max_tokens": 2, "routing": {"target": "cpu"}}
    metadata = {"model": "qwen2.5:0.5b", "prompt": "hi", "max_tokens": 2, "metadata": {"target": "npu", "mine": "x"}}
    for path, document, expected in (
        ("/api/generate", native, "ollama-npu"),
        ("/v1/completions", openai, "ollama-cpu"),
        ("/v1/completions", metadata, "ollama-npu"),
    ):
        connection = http.client.HTTPConnection("127.0.0.1", lab_proxy.http_port, timeout=30)
        connection.request("POST", path, json.dumps(document))
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        assert answer.headers["X-Backend-Used"] == expected
        connection.close()


def test_unknown_routes_and_wrong_methods(lab_proxy: ProxyProcess) -> None:
    assert ask(lab_proxy, "GET", "/api/nope")[0::2] == (404, "404 page not found")
    assert ask(lab_proxy, "GET", "/nope")[0::2] == (404, "404 page not found")
    assert ask(lab_proxy, "GET", "/v1/nope")[0::2] == (404, "404 page not found")
    assert ask(lab_proxy, "GET", "/api/chat")[0] == 405
    assert ask(lab_proxy, "DELETE", "/v1/models")[0] == 405
    assert ask(lab_proxy, "POST", "/health")[0] == 405
    assert ask(lab_proxy, "GET", "/v1/models/nope")[0] == 404


def test_root_answers_like_ollama(lab_proxy: ProxyProcess) -> None:
    assert ask(lab_proxy, "GET", "/")[0::2] == (200, "Ollama is running")
    assert ask(lab_proxy, "HEAD", "/")[0::2] == (200, "")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"POST /api/chat HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST /api/chat HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        (b"POST /api/chat HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST /api/chat HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 40000 + b"\r\n\r\n", 431),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    ],
)
def test_malformed_http_is_refused_and_closed(lab_proxy: ProxyProcess, request_bytes: bytes, status: int) -> None:
    got = raw(lab_proxy, request_bytes)
    assert got.startswith(b"HTTP/1.1 %d " % status), got[:200]
    assert b"Connection: close" in got


def test_connection_stays_usable_after_a_refusal(lab_proxy: ProxyProcess) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", lab_proxy.http_port, timeout=30)
    for body, status in ((b"{", 400), (b'{"model": "nope:1b", "prompt": "x"}', 404)):
        connection.request("POST", "/api/generate", body)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
    connection.request("GET", "/healthz")
    assert connection.getresponse().read() == b"ok\n"
    connection.close()


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"model": "qwen2.5:0.5b"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"prompt": "x"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"prompt": "x", "model": "nope:1b"}, grpc.StatusCode.NOT_FOUND),
        (
            {"prompt": "x", "model": "qwen2.5:0.5b", "options": {"temperature": 9}},
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            {"prompt": "x", "model": "qwen2.5:0.5b", "annotations": {"max_power_watts": 1}},
            grpc.StatusCode.FAILED_PRECONDITION,
        ),
        (
            {"prompt": "x", "model": "qwen2.5:0.5b", "annotations": {"max_latency_ms": 1}},
            grpc.StatusCode.FAILED_PRECONDITION,
        ),
    ],
)
def test_grpc_codes(lab_proxy: ProxyProcess, fields: dict[str, Any], code: grpc.StatusCode) -> None:
    with grpc.insecure_channel(lab_proxy.grpc) as channel:
        call = channel.unary_unary(
            "/compute.v1.ComputeService/Generate",
            request_serializer=compute_pb2.GenerateRequest.SerializeToString,
            response_deserializer=compute_pb2.GenerateResponse.FromString,
        )
        with pytest.raises(grpc.RpcError) as caught:
            call(compute_pb2.GenerateRequest(**fields), timeout=30)
    assert caught.value.code() is code
    assert caught.value.details()


def test_grpc_rubbish_pipelines_and_unknown_methods(lab_proxy: ProxyProcess) -> None:
    with grpc.insecure_channel(lab_proxy.grpc) as channel:
        for method, body, code in (
            ("Generate", b"\xff\xff\xff", grpc.StatusCode.INVALID_ARGUMENT),
            ("ExecutePipeline", b"", grpc.StatusCode.INVALID_ARGUMENT),
            ("Nope", b"", grpc.StatusCode.UNIMPLEMENTED),
            ("Generate", b"\x0a\x80\x80\x80\x02" + b"a" * 4194304, grpc.StatusCode.RESOURCE_EXHAUSTED),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(f"/compute.v1.ComputeService/{method}")(body, timeout=30)
            assert caught.value.code() is code, method


def test_grpc_embed_backends_and_health(lab_proxy: ProxyProcess) -> None:
    with grpc.insecure_channel(lab_proxy.grpc) as channel:

        def call(method: str, request: Any, answer: Any) -> Any:
            rpc = channel.unary_unary(
                f"/compute.v1.ComputeService/{method}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=answer.FromString,
            )
            return rpc(request, timeout=30)

        embedded = call("Embed", compute_pb2.EmbedRequest(text="hi", model="qwen2.5:0.5b"), compute_pb2.EmbedResponse)
        assert len(embedded.embedding) > 100
        assert embedded.routing.backend == embedded.backend_used
        listed = call("ListBackends", compute_pb2.ListBackendsRequest(), compute_pb2.ListBackendsResponse)
        assert [one.id for one in listed.backends] == ["ollama-npu", "ollama-igpu", "ollama-nvidia", "ollama-cpu"]
        assert listed.backends[2].metrics.power_watts == 55
        assert "llama3:7b" in listed.backends[2].capabilities.models
        none = call(
            "ListBackends", compute_pb2.ListBackendsRequest(type_filter="vectordb"), compute_pb2.ListBackendsResponse
        )
        assert not none.backends
        health = call("HealthCheck", compute_pb2.HealthCheckRequest(), compute_pb2.HealthCheckResponse)
        assert set(health.backend_health) == {"ollama-npu", "ollama-igpu", "ollama-nvidia", "ollama-cpu"}
        assert health.timestamp_unix > 1_700_000_000


def test_status_pages(lab_proxy: ProxyProcess) -> None:
    assert http_get(lab_proxy.url + "/healthz") == (200, "ok\n")
    assert http_get(lab_proxy.url + "/readyz")[0] == 200
    assert set(json.loads(http_get(lab_proxy.url + "/version")[1])) == {"version", "git_commit", "build_time"}
    assert set(json.loads(http_get(lab_proxy.url + "/thermal")[1])) == {"npu", "igpu", "nvidia", "cpu"}
    assert "ollama_proxy_backend_up" in http_get(lab_proxy.url + "/metrics")[1]


def test_efficiency_mode_is_set_and_refused(lab_proxy: ProxyProcess) -> None:
    assert json.loads(http_get(lab_proxy.url + "/efficiency")[1])["current_mode"] == "Balanced"
    status, _, text = ask(lab_proxy, "POST", "/efficiency", b'{"mode": "quiet"}')
    assert (status, json.loads(text)["current_mode"]) == (200, "Quiet")
    status, _, text = ask(lab_proxy, "POST", "/efficiency", b'{"mode": "warp"}')
    assert status == 400
    assert "Performance" in text
    assert ask(lab_proxy, "POST", "/efficiency", b"Balanced")[0] == 200


@pytest.mark.parametrize(
    "path", ["/", "/health", "/api/tags", "/v1/models", "/nope", "/v1/nope", "/api/chat", "/metrics"]
)
def test_request_id_is_echoed_once_whatever_the_answer(lab_proxy: ProxyProcess, path: str) -> None:
    for given in ("my-id-1", ""):
        connection = http.client.HTTPConnection("127.0.0.1", lab_proxy.http_port, timeout=30)
        connection.request("GET", path, headers={"X-Request-ID": given} if given else {})
        found = connection.getresponse().headers.get_all("X-Request-ID") or []
        connection.close()
        assert len(found) == 1
        assert found[0] == given or (not given and found[0])


def test_no_prompt_reaches_the_log(lab_proxy: ProxyProcess) -> None:
    secret = "correct horse battery staple"
    ask(lab_proxy, "POST", "/api/generate", json.dumps({"model": "qwen2.5:0.5b", "prompt": secret}).encode())
    ask(lab_proxy, "POST", "/api/generate", json.dumps({"model": 5, "prompt": secret}).encode())
    ask(lab_proxy, "POST", "/v1/completions", json.dumps({"model": "x:1b", "prompt": secret}).encode())
    assert secret not in lab_proxy.child.text()
