"""Ways to break off x ways in: the same text as uncut, one end; and where nobody may go on, an error that says why."""

from __future__ import annotations

import http.client
import json
import urllib.error
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import websocket

from ollama_proxy.api.gen.compute.v1 import compute_pb2
from ollama_proxy.net.lanes.framing import event_data
from tests.e2e.test_continuation import MODEL, PATHS, TURN, Answer, ask, name_of
from tests.support.lab import NAMES, LabProcess
from tests.support.processes import wait_until
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e

SERVICE = "/compute.v1.ComputeService/GenerateStream"
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def fleet(work: Path) -> Iterator[tuple[LabProcess, ProxyProcess]]:
    """Devices that are so quick that a cell takes no time."""
    often = {"health": {"interval_seconds": 1, "unhealthy_threshold": 100}}
    with (
        LabProcess(work, speed=100) as lab,
        ProxyProcess(work, endpoints=lab.endpoints, speed=lab.speed, changes=often) as proxy,
    ):
        wait_until(lambda: proxy.health().startswith("Status: healthy"), "all healthy")
        yield lab, proxy


def break_off(fleet: tuple[LabProcess, ProxyProcess], path: str, **asked: Any) -> tuple[Answer, Answer]:
    """The same request uncut and broken off; `fault` is how. The choice may change meanwhile: speeds are learned."""
    lab, proxy = fleet
    fault, headers = asked.pop("fault"), asked.pop("headers", None)
    for _ in range(8):
        # Cells before this one have given some of them a bad name.
        proxy.wait_for_breakers()
        whole = ask(proxy, path, headers, **asked)
        details = {name: value(whole) if callable(value) else value for name, value in fault.items()}
        with lab.fault(name_of(whole.backend), "cut", times=1, **details):
            broken = ask(proxy, path, headers, **asked)
        if broken.backend == whole.backend:
            return whole, broken
    raise AssertionError("the choice changed each time")


def check_mended(whole: Answer, mended: Answer) -> None:
    assert mended.errors == []
    assert mended.text == whole.text
    assert mended.ends == whole.ends == 1
    assert len(mended.ids) == len(whole.ids)
    assert mended.tokens == whole.tokens


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("how", ["reset", "end", "half"])
def test_however_it_breaks_off_it_goes_on(fleet: tuple[LabProcess, ProxyProcess], path: str, how: str) -> None:
    check_mended(*break_off(fleet, path, fault={"after_chunks": 5, "how": how}))


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages"])
def test_what_breaks_off_behind_its_last_word_gets_its_end(fleet: tuple[LabProcess, ProxyProcess], path: str) -> None:
    check_mended(*break_off(fleet, path, fault={"after_chunks": lambda whole: whole.tokens}))


def test_a_stream_at_its_limit_ends_without_another_backend(fleet: tuple[LabProcess, ProxyProcess]) -> None:
    lab, _ = fleet
    fault, options = {"after_chunks": 12}, {"num_predict": 12}
    before = sum(lab.state(name)["requests"] for name in NAMES)
    whole, ended = break_off(fleet, "/api/chat", fault=fault, options=options)
    check_mended(whole, ended)
    assert ended.events[-1]["done_reason"] == whole.events[-1]["done_reason"] == "length"
    assert (sum(lab.state(name)["requests"] for name in NAMES) - before) % 2 == 0


@pytest.mark.parametrize(
    ("path", "members"),
    [
        ("/api/chat", {"options": {"num_predict": 12}}),
        ("/api/generate", {"options": {"stop": [" power"]}}),
        ("/v1/chat/completions", {"max_tokens": 12}),
        ("/v1/chat/completions", {"stop": [" power"]}),
        ("/api/chat", {"messages": [{"role": "system", "content": "Be brief."}, {**TURN[0], "images": ["aGk="]}]}),
        ("/api/generate", {"system": "Be brief."}),
    ],
)
def test_what_was_asked_of_the_whole_holds_of_the_rest(
    fleet: tuple[LabProcess, ProxyProcess], path: str, members: dict[str, Any]
) -> None:
    whole, mended = break_off(fleet, path, fault={"after_chunks": 5}, **members)
    check_mended(whole, mended)
    if path == "/api/chat":
        assert mended.events[-1]["done_reason"] == whole.events[-1]["done_reason"]


@pytest.mark.parametrize("path", ["/api/chat", "/v1/messages"])
def test_thoughts_are_thought_once(fleet: tuple[LabProcess, ProxyProcess], path: str) -> None:
    think = {"think": True} if path == "/api/chat" else {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    limit = {} if path == "/api/chat" else {"max_tokens": 2000}
    whole, mended = break_off(fleet, path, fault={"after_chunks": 6}, **think, **limit)
    check_mended(whole, mended)
    assert _thoughts(mended) == _thoughts(whole) == "Let me think."
    if path == "/v1/messages":
        assert _blocks(mended) == _blocks(whole)


def _blocks(answer: Answer) -> list[str]:
    return [kind for kind in answer.kinds if kind not in ("content_block_delta", "ping")]


def _thoughts(answer: Answer) -> str:
    events = answer.events
    return "".join(
        [one.get("message", {}).get("thinking", "") + one.get("delta", {}).get("thinking", "") for one in events]
    )


@pytest.mark.parametrize(
    ("path", "headers", "members", "reason"),
    [
        ("/api/chat", {"X-Continue": "never"}, {}, "the request does not wish it"),
        ("/v1/messages", {"X-Continue": "never"}, {}, "the request does not wish it"),
        ("/v1/chat/completions", {"X-Max-Power-Watts": "5"}, {}, "nobody else can, or may"),
        ("/api/chat", {}, {"format": "json"}, "its format is a grammar, which would begin anew"),
        (
            "/v1/chat/completions",
            {},
            {"response_format": {"type": "json_object"}},
            "its format is a grammar, which would begin anew",
        ),
        ("/v1/chat/completions", {}, {"logprobs": True}, "log probabilities do not join"),
        ("/api/chat", {}, {"tools": [TOOL], "messages": [{"role": "user", "content": "look"}]}, "a tool was called"),
    ],
)
def test_who_may_not_go_on_is_told(
    fleet: tuple[LabProcess, ProxyProcess], path: str, headers: dict[str, str], members: dict[str, Any], reason: str
) -> None:
    lab, proxy = fleet
    after = 1 if "tools" in members else 2
    for name in NAMES:
        lab.set_fault(name, "cut", after_chunks=after)
    broken = ask(proxy, path, headers, **members)
    for name in NAMES:
        lab.set_fault(name, "none")
    assert broken.ends == 0
    assert len(broken.errors) == 1
    assert f"; not continued: {reason}" in json.dumps(broken.errors)


def test_no_attempt_leaves_the_limits(fleet: tuple[LabProcess, ProxyProcess]) -> None:
    """Two of the four draw so little; the others hear of none of it."""
    lab, proxy = fleet
    limit = {"X-Max-Power-Watts": "15"}
    # Cells before this one have given both of them a bad name.
    wait_until(lambda: _is_served(proxy, limit | {"X-Target-Backend": "npu"}), "the first")
    wait_until(lambda: _is_served(proxy, limit | {"X-Target-Backend": "igpu"}), "the second")
    before = {name: lab.state(name)["requests"] for name in NAMES}
    check_mended(*break_off(fleet, "/api/chat", fault={"after_chunks": 4}, headers=limit))
    heard = {name for name in NAMES if lab.state(name)["requests"] > before[name]}
    assert heard == {"npu", "igpu"}


def _is_served(proxy: ProxyProcess, headers: dict[str, str]) -> bool:
    try:
        return bool(ask(proxy, "/api/chat", headers).ends)
    except urllib.error.HTTPError:
        return False


# -- ways in that are always translated --------------------------------------------


def _post(proxy: ProxyProcess, path: str, body: bytes, headers: dict[str, str]) -> bytes:
    with closing(http.client.HTTPConnection("127.0.0.1", proxy.http_port, timeout=30)) as connection:
        connection.request("POST", path, body, headers)
        return connection.getresponse().read()


def _frames(body: bytes) -> Iterator[tuple[int, bytes]]:
    while body:
        size = int.from_bytes(body[1:5], "big")
        yield body[0], body[5 : 5 + size]
        body = body[5 + size :]


def ask_gateway(proxy: ProxyProcess) -> tuple[str, str, int]:
    body = json.dumps({"prompt": "tell me of the fleet", "model": MODEL}).encode()
    lines = _post(proxy, "/compute/v1/generate/stream", body, {"Content-Type": "application/json"}).splitlines()
    return _sum_up([json.loads(line) for line in lines])


def ask_connect(proxy: ProxyProcess) -> tuple[str, str, int]:
    message = json.dumps({"prompt": "tell me of the fleet", "model": MODEL}).encode()
    framed = b"\0" + len(message).to_bytes(4, "big") + message
    found = list(_frames(_post(proxy, SERVICE, framed, {"Content-Type": "application/connect+json"})))
    assert found[-1][0] == 2
    assert "error" not in json.loads(found[-1][1])
    return _sum_up([json.loads(data) for flag, data in found if not flag])


def ask_grpc_web(proxy: ProxyProcess) -> tuple[str, str, int]:
    message = compute_pb2.GenerateRequest(prompt="tell me of the fleet", model=MODEL).SerializeToString()
    framed = b"\0" + len(message).to_bytes(4, "big") + message
    found = list(_frames(_post(proxy, SERVICE, framed, {"Content-Type": "application/grpc-web+proto"})))
    assert b"grpc-status: 0" in found[-1][1].lower() or b"grpc-status:0" in found[-1][1].lower()
    answers = [compute_pb2.GenerateStreamResponse.FromString(data) for flag, data in found if not flag]
    return "".join([one.token for one in answers]), answers[0].backend_used, sum(one.done for one in answers)


def _sum_up(messages: list[dict[str, Any]]) -> tuple[str, str, int]:
    used = next(one["backendUsed"] for one in messages if "backendUsed" in one)
    return "".join([one.get("token", "") for one in messages]), used, sum(one.get("done", False) for one in messages)


def ask_websocket(proxy: ProxyProcess) -> tuple[str, str, int]:
    with closing(websocket.create_connection(proxy.url.replace("http:", "ws:") + "/v1/stream/ws", timeout=20)) as to:
        to.send(json.dumps({"request_id": "r", "model": MODEL, "prompt": "tell me of the fleet", "stream": True}))
        found = [json.loads(to.recv())]
        while not found[-1]["done"]:
            found.append(json.loads(to.recv()))
    assert "error" not in found[-1]
    used = found[0]["routing"]["backend"]
    return "".join([one.get("token") or "" for one in found]), used, sum(one["done"] for one in found)


def ask_responses(proxy: ProxyProcess) -> tuple[str, str, int]:
    body = json.dumps({"model": MODEL, "input": "tell me of the fleet", "stream": True}).encode()
    with closing(http.client.HTTPConnection("127.0.0.1", proxy.http_port, timeout=30)) as connection:
        connection.request("POST", "/v1/responses", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        events = [json.loads(data) for data in event_data(answer.read())]
        used = answer.headers["X-Backend-Used"]
    assert [one["sequence_number"] for one in events] == list(range(len(events)))
    text = "".join([one["delta"] for one in events if one["type"] == "response.output_text.delta"])
    assert events[-1]["response"]["output"][-1]["content"][0]["text"] == text
    assert events[-1]["response"]["id"] == events[0]["response"]["id"]
    return text, used, sum(one["type"] == "response.completed" for one in events)


@pytest.mark.parametrize("way_in", [ask_responses, ask_gateway, ask_connect, ask_grpc_web, ask_websocket])
def test_it_goes_on_in_every_way_in(fleet: tuple[LabProcess, ProxyProcess], way_in: Any) -> None:
    lab, proxy = fleet
    for _ in range(8):
        whole, backend, _ = way_in(proxy)
        with lab.fault(name_of(backend), "cut", after_chunks=5, times=1):
            mended, used, ends = way_in(proxy)
        if used == backend:
            break
    assert used == backend
    assert mended == whole
    assert ends == 1
