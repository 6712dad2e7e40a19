"""`compute.v1` over plain HTTP: the REST gateway, and the edges of Connect and gRPC-Web that clients do not touch."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import socket
from collections.abc import Mapping
from struct import pack
from typing import Any, NamedTuple

import pytest

from ollama_proxy.api.gen.compute.v1 import compute_pb2
from tests.support.lab import LabProcess
from tests.support.processes import wait_until
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e

MODEL = "qwen2.5:0.5b"
ASK = {"prompt": "hi", "model": MODEL, "options": {"maxTokens": 4}}
SERVICE = "/compute.v1.ComputeService/"


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


def ask(
    proxy: ProxyProcess, path: str, body: Any = None, headers: Mapping[str, str] | None = None, method: str = "POST"
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.http_port, timeout=30)
    try:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request(method, path, data, dict(headers or {}))
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def frame(message: bytes, flag: int = 0) -> bytes:
    return pack(">BI", flag, len(message)) + message


def frames(body: bytes) -> list[tuple[int, bytes]]:
    found = []
    while body:
        size = int.from_bytes(body[1:5], "big")
        found.append((body[0], body[5 : 5 + size]))
        body = body[5 + size :]
    return found


# -- REST ---------------------------------------------------------------------


def test_a_text_in_camel_case_with_its_route(lab_proxy: ProxyProcess) -> None:
    answer = ask(lab_proxy, "/compute/v1/generate", ASK, {"X-Request-ID": "mine", "X-Target-Backend": "nvidia"})
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    document = answer.document
    assert document["backendUsed"] == document["routing"]["backend"] == "ollama-nvidia"
    assert document["stats"]["tokensGenerated"] == 4
    assert document["fromCache"] is False
    assert answer.headers["X-Request-ID"] == "mine"
    assert answer.headers.get_all("X-Request-ID") == ["mine"]  # type: ignore[attr-defined]
    assert answer.headers["X-Backend-Used"] == "ollama-nvidia"
    assert answer.headers["X-Routing-Reason"] == document["routing"]["reason"]
    assert {"X-Estimated-Latency-Ms", "X-Alternatives", "X-Decision-ID", "X-Attempts", "X-Energy-Kind"} <= set(
        answer.headers.keys()
    )


def test_original_names_and_numbers_as_texts_are_read(lab_proxy: ProxyProcess) -> None:
    wishes = {"target": "cpu", "max_latency_ms": "100000"}
    body = {"prompt": "hi", "model": MODEL, "options": {"max_tokens": "3"}, "annotations": wishes, "unknown": [1]}
    document = ask(lab_proxy, "/compute/v1/generate", body).document
    assert (document["backendUsed"], document["stats"]["tokensGenerated"]) == ("ollama-cpu", 3)


def test_a_header_wins_over_the_body(lab_proxy: ProxyProcess) -> None:
    body = {**ASK, "annotations": {"target": "cpu"}}
    answer = ask(lab_proxy, "/compute/v1/generate", body, {"X-Target-Backend": "nvidia"})
    assert answer.headers["X-Backend-Used"] == "ollama-nvidia"


def test_a_stream_of_lines(lab_proxy: ProxyProcess) -> None:
    answer = ask(lab_proxy, "/compute/v1/generate/stream", ASK)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/x-ndjson")
    lines = [json.loads(line) for line in answer.body.splitlines()]
    assert [line["done"] for line in lines] == [False] * 4 + [True]
    assert all(line["token"] for line in lines[:-1])
    assert lines[-1]["stats"]["tokensGenerated"] == 4
    assert {line["backendUsed"] for line in lines} == {answer.headers["X-Backend-Used"]}


def test_a_stream_of_events(lab_proxy: ProxyProcess) -> None:
    answer = ask(lab_proxy, "/compute/v1/generate/stream", ASK, {"Accept": "text/event-stream"})
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream")
    events = answer.body.decode().split("\n\n")
    assert events[-1] == ""
    assert [json.loads(event.removeprefix("data: "))["done"] for event in events[:-1]] == [False] * 4 + [True]


@pytest.mark.parametrize("events", [False, True])
def test_a_failure_in_mid_stream_is_the_last_word(lab: LabProcess, lab_proxy: ProxyProcess, events: bool) -> None:
    # Nobody else draws so little, so nobody can go on.
    headers = {"X-Max-Power-Watts": "5", **({"Accept": "text/event-stream"} if events else {})}
    with lab.fault("npu", "cut", after_chunks=2):
        answer = ask(lab_proxy, "/compute/v1/generate/stream", {**ASK, "options": {"maxTokens": 50}}, headers)
    assert answer.status == 200
    last = answer.body.decode().strip().split("\n\n" if events else "\n")[-1]
    if events:
        kind, _, last = last.partition("\n")
        assert kind == "event: error"
    error = json.loads(last.removeprefix("data: "))["error"]
    assert error["code"] == "UNAVAILABLE"
    assert "ollama-npu" in error["message"]


def test_a_vector(lab_proxy: ProxyProcess) -> None:
    document = ask(lab_proxy, "/compute/v1/embed", {"text": "hi", "model": MODEL}).document
    assert len(document["embedding"]) > 10
    assert document["routing"]["backend"] == document["backendUsed"]


@pytest.mark.parametrize("query", ["?typeFilter=ollama", "?type_filter=ollama", "", "?other=1"])
def test_backends(lab_proxy: ProxyProcess, query: str) -> None:
    document = ask(lab_proxy, "/compute/v1/backends" + query, method="GET").document
    assert [one["id"] for one in document["backends"]][:1] == ["ollama-npu"]
    assert len(document["backends"]) == 4
    assert document["backends"][0]["status"]["lastCheckUnix"].isdigit()


def test_backends_of_a_type_that_nobody_is_of(lab_proxy: ProxyProcess) -> None:
    assert ask(lab_proxy, "/compute/v1/backends?typeFilter=vectordb", method="GET").document == {"backends": []}


def test_health(lab_proxy: ProxyProcess) -> None:
    document = ask(lab_proxy, "/compute/v1/health", method="GET").document
    assert set(document["backendHealth"]) == {"ollama-npu", "ollama-igpu", "ollama-nvidia", "ollama-cpu"}
    assert document["timestampUnix"].isdigit()


@pytest.mark.parametrize(
    ("body", "status", "code", "named"),
    [
        (b"", 400, "INVALID_ARGUMENT", "JSON"),
        (b"{", 400, "INVALID_ARGUMENT", "JSON"),
        (b"[" * 100_000, 400, "INVALID_ARGUMENT", "JSON"),
        (b"\xff", 400, "INVALID_ARGUMENT", "JSON"),
        ([1], 400, "INVALID_ARGUMENT", "object"),
        ({**ASK, "prompt": 3}, 400, "INVALID_ARGUMENT", "prompt"),
        ({**ASK, "options": {"maxTokens": "many"}}, 400, "INVALID_ARGUMENT", "maxTokens"),
        ({**ASK, "options": {"maxTokens": 2**31}}, 400, "INVALID_ARGUMENT", "maxTokens"),
        ({**ASK, "options": {"temperature": 1e300}}, 400, "INVALID_ARGUMENT", "temperature"),
        ({**ASK, "options": {"temperature": 3}}, 400, "INVALID_ARGUMENT", "temperature"),
        ({**ASK, "options": [1]}, 400, "INVALID_ARGUMENT", "options"),
        ({**ASK, "annotations": {"custom": {"a": 1}}}, 400, "INVALID_ARGUMENT", "custom"),
        ({**ASK, "annotations": {"maxLatencyMs": -1}}, 400, "INVALID_ARGUMENT", "max_latency_ms"),
        ({**ASK, "annotations": {"maxPowerWatts": 1}}, 400, "FAILED_PRECONDITION", "1 W"),
        ({**ASK, "prompt": ""}, 400, "INVALID_ARGUMENT", "prompt"),
        ({**ASK, "model": "nobody-has-it"}, 404, "NOT_FOUND", "nobody-has-it"),
    ],
)
@pytest.mark.parametrize("path", ["generate", "generate/stream"])
def test_what_cannot_be_served_says_why(
    lab_proxy: ProxyProcess, path: str, body: Any, status: int, code: str, named: str
) -> None:
    answer = ask(lab_proxy, f"/compute/v1/{path}", body, {"X-Request-ID": "mine"})
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/json")
    document = answer.document
    assert (document["code"], document["requestId"]) == (code, "mine")
    assert named in document["message"]


def test_a_body_may_be_gzipped(lab_proxy: ProxyProcess) -> None:
    packed = gzip.compress(json.dumps(ASK).encode())
    assert ask(lab_proxy, "/compute/v1/generate", packed, {"Content-Encoding": "gzip"}).status == 200
    answer = ask(lab_proxy, "/compute/v1/generate", packed, {"Content-Encoding": "br"})
    assert (answer.status, answer.document["code"]) == (501, "UNIMPLEMENTED")


def test_a_header_that_cannot_be_read_is_named(lab_proxy: ProxyProcess) -> None:
    answer = ask(lab_proxy, "/compute/v1/generate", ASK, {"X-Max-Power-Watts": "lots"})
    assert answer.status == 400
    assert "max_power_watts" in answer.document["message"]


def test_a_pipeline_that_nobody_configured_is_not_found(lab_proxy: ProxyProcess) -> None:
    for path in ("pipelines/execute", "pipelines/execute/stream"):
        answer = ask(lab_proxy, f"/compute/v1/{path}", {"pipelineId": "x"})
        assert (answer.status, answer.document["code"]) == (404, "NOT_FOUND")


def test_other_paths_and_methods(lab_proxy: ProxyProcess) -> None:
    assert ask(lab_proxy, "/compute/v1/nothing", {}).status == 404
    answer = ask(lab_proxy, "/compute/v1/generate", method="GET")
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    head = ask(lab_proxy, "/compute/v1/health", method="HEAD")
    assert (head.status, head.body) == (200, b"")


def test_a_client_that_leaves_stops_the_work(lab: LabProcess, lab_proxy: ProxyProcess) -> None:
    before = lab.state("nvidia")["cancelled"]
    body = json.dumps({**ASK, "options": {"maxTokens": 100_000}}).encode()
    with socket.create_connection(("127.0.0.1", lab_proxy.http_port)) as client:
        head = "POST /compute/v1/generate/stream HTTP/1.1\r\nHost: localhost\r\nX-Target-Backend: nvidia\r\n"
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert client.recv(100)
    wait_until(lambda: lab.state("nvidia")["cancelled"] > before, "the device to hear that nobody waits")


def test_a_page_of_an_allowed_origin_may_read_the_explanation(lab_proxy: ProxyProcess) -> None:
    answer = ask(lab_proxy, "/compute/v1/generate", ASK, {"Origin": "http://localhost:3000"})
    assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    assert answer.headers["Access-Control-Expose-Headers"] == "*"
    assert ask(lab_proxy, "/compute/v1/generate", ASK, {"Origin": "http://elsewhere.example"}).status == 403


@pytest.mark.parametrize("wanted", ["connect-protocol-version,content-type", "x-grpc-web,content-type,grpc-timeout"])
def test_a_browser_may_ask_before_it_calls(lab_proxy: ProxyProcess, wanted: str) -> None:
    headers = {
        "Origin": "http://localhost:3000",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": wanted,
    }
    answer = ask(lab_proxy, SERVICE + "Generate", headers=headers, method="OPTIONS")
    assert answer.status == 204
    allowed = answer.headers["Access-Control-Allow-Headers"].lower().split(",")
    assert set(wanted.split(",")) <= set(allowed)


# -- Connect --------------------------------------------------------------------


def connect(proxy: ProxyProcess, method: str, body: Any, **headers: str) -> Answer:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return ask(proxy, SERVICE + method, body, {"Content-Type": "application/json", **given})


def test_a_connect_answer_has_its_trailers_as_headers(lab_proxy: ProxyProcess) -> None:
    answer = connect(lab_proxy, "Generate", ASK)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.headers["Trailer-X-Backend-Used"] == answer.headers["X-Backend-Used"]
    assert "fromCache" not in answer.document, "proto3 JSON leaves out what is zero"


def test_a_connect_message_may_be_gzipped(lab_proxy: ProxyProcess) -> None:
    packed = gzip.compress(json.dumps(ASK).encode())
    assert connect(lab_proxy, "Generate", packed, content_encoding="gzip").status == 200
    answer = connect(lab_proxy, "Generate", gzip.compress(bytes(5_000_000)), content_encoding="gzip")
    assert (answer.status, answer.document["code"]) == (429, "resource_exhausted")


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"content_encoding": "br"}, 501, "unimplemented"),
        ({"connect_protocol_version": "2"}, 400, "invalid_argument"),
        ({"connect_timeout_ms": "soon"}, 400, "invalid_argument"),
        ({"connect_timeout_ms": "12345678901"}, 400, "invalid_argument"),
        ({"content_type": "text/plain"}, 415, "unimplemented"),
        ({"content_type": "application/connect+json"}, 415, "unimplemented"),
        ({"content_type": "application/grpc"}, 415, "unimplemented"),
    ],
)
def test_what_connect_refuses(lab_proxy: ProxyProcess, headers: dict[str, str], status: int, code: str) -> None:
    given = {"content_type": "application/json", **headers}
    answer = ask(lab_proxy, SERVICE + "Generate", ASK, {name.replace("_", "-"): one for name, one in given.items()})
    assert (answer.status, answer.document["code"]) == (status, code)
    assert (status != 415) or "application/json" in answer.headers["Accept-Post"]


def test_an_unknown_method(lab_proxy: ProxyProcess) -> None:
    answer = connect(lab_proxy, "Nothing", {})
    assert (answer.status, answer.document["code"]) == (404, "unimplemented")
    web = ask(lab_proxy, SERVICE + "Nothing", frame(b""), {"Content-Type": "application/grpc-web+proto"})
    assert b"grpc-status:12\r\n" in web.body


@pytest.mark.parametrize(
    "body",
    [b"", b"\0\0\0\0\5ab", frame(b"{}") * 2, frame(b"{}", 1), frame(b"{}", 4), frame(b"[]"), b"\0\xff\xff\xff\xff"],
)
def test_a_connect_stream_that_cannot_begin_ends_as_a_stream(lab_proxy: ProxyProcess, body: bytes) -> None:
    answer = ask(lab_proxy, SERVICE + "GenerateStream", body, {"Content-Type": "application/connect+json"})
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/connect+json")
    ((flag, end),) = frames(answer.body)
    assert flag == 2
    assert json.loads(end)["error"]["code"] in ("invalid_argument", "unimplemented", "resource_exhausted")


def test_a_connect_stream_in_json(lab_proxy: ProxyProcess) -> None:
    body = frame(gzip.compress(json.dumps(ASK).encode()), 1)
    headers = {"Content-Type": "application/connect+json", "Connect-Content-Encoding": "gzip"}
    *messages, (flag, end) = frames(ask(lab_proxy, SERVICE + "GenerateStream", body, headers).body)
    assert len(messages) == 5
    assert json.loads(messages[-1][1])["done"] is True
    assert flag == 2
    assert json.loads(end)["metadata"]["x-backend-used"] == [json.loads(messages[0][1])["backendUsed"]]


# -- gRPC-Web --------------------------------------------------------------------


def web(proxy: ProxyProcess, method: str, message: bytes, **headers: str) -> list[tuple[int, bytes]]:
    given = {
        "Content-Type": "application/grpc-web+proto",
        **{name.replace("_", "-"): one for name, one in headers.items()},
    }
    answer = ask(proxy, SERVICE + method, frame(message), given)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/grpc-web+proto")
    return frames(answer.body)


def message(**options: Any) -> bytes:
    return compute_pb2.GenerateRequest(prompt="hi", model=MODEL, options=options).SerializeToString()


def test_a_web_answer_ends_with_its_trailers(lab_proxy: ProxyProcess) -> None:
    (flag, answer), (last, trailers) = web(lab_proxy, "Generate", message(max_tokens=4))
    assert (flag, last) == (0, 0x80)
    assert compute_pb2.GenerateResponse.FromString(answer).stats.tokens_generated == 4
    assert trailers.startswith(b"grpc-status:0\r\n")
    assert b"\r\nx-backend-used:ollama-" in trailers


def test_a_web_error_is_in_the_body(lab_proxy: ProxyProcess) -> None:
    ((flag, trailers),) = web(lab_proxy, "Generate", message(temperature=9))
    assert flag == 0x80
    assert trailers.startswith(b"grpc-status:3\r\ngrpc-message:options.temperature is 9; expected 0 to 2\r\n")


def test_web_in_base64_of_padded_pieces(lab_proxy: ProxyProcess) -> None:
    body = frame(message(max_tokens=4))
    pieces = b"".join(base64.b64encode(body[at : at + 7]) for at in range(0, len(body), 7))
    answer = ask(lab_proxy, SERVICE + "GenerateStream", pieces, {"Content-Type": "application/grpc-web-text"})
    assert answer.headers["Content-Type"] == "application/grpc-web-text+proto"
    found = b"".join(
        base64.b64decode(piece + b"=" * (-len(piece) % 4)) for piece in answer.body.replace(b"=", b" ").split()
    )
    assert [flag for flag, _ in frames(found)] == [0] * 5 + [0x80]


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (b"", {}, 12),
        (b"\0\0\0\0\5ab", {}, 13),
        (frame(b"") * 2, {}, 12),
        (frame(b"", 1), {}, 13),
        (frame(b"xx", 1), {"grpc-encoding": "gzip"}, 13),
        (frame(b""), {"grpc-encoding": "br"}, 12),
        (frame(b""), {"grpc-timeout": "soon"}, 13),
        (frame(bytes(4 * 1024 * 1024 + 1)), {}, 8),
        (frame(b"\xff\xff"), {}, 3),
    ],
)
def test_what_web_refuses(lab_proxy: ProxyProcess, body: bytes, headers: dict[str, str], code: int) -> None:
    answer = ask(lab_proxy, SERVICE + "Generate", body, {"Content-Type": "application/grpc-web", **headers})
    assert answer.status == 200
    ((flag, trailers),) = frames(answer.body)
    assert flag == 0x80
    assert trailers.startswith(b"grpc-status:%d\r\n" % code)


def test_text_that_is_no_base64(lab_proxy: ProxyProcess) -> None:
    answer = ask(lab_proxy, SERVICE + "Generate", b"!!!!", {"Content-Type": "application/grpc-web-text"})
    assert b"grpc-status" in base64.b64decode(answer.body)


def test_grpcs_own_health_check(lab_proxy: ProxyProcess) -> None:
    headers = {"Content-Type": "application/grpc-web+proto"}
    answer = ask(lab_proxy, "/grpc.health.v1.Health/Check", frame(b""), headers)
    assert frames(answer.body)[0] == (0, b"\x08\x01")


def test_a_body_above_the_limit_is_refused_in_the_protocol(lab_proxy: ProxyProcess) -> None:
    for path, headers in (
        ("/compute/v1/generate", {}),
        (SERVICE + "Generate", {"Content-Type": "application/json"}),
        (SERVICE + "Generate", {"Content-Type": "application/grpc-web"}),
    ):
        with socket.create_connection(("127.0.0.1", lab_proxy.http_port)) as client:
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            client.sendall(
                f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: 99999999\r\n\r\n".encode()
            )
            answer = http.client.HTTPResponse(client)
            answer.begin()
            body = answer.read()
        if "Content-Type" in headers and headers["Content-Type"] == "application/grpc-web":
            assert b"grpc-status:8\r\n" in body
        else:
            assert answer.status == 413
            assert json.loads(body)["code"].lower() == "resource_exhausted"
