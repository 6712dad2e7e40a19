"""The cache behind every way in: the same answer comes back in each dialect, and nobody makes it twice."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

import grpc
import openai
import pytest
import websocket

from ollama_proxy.api.gen.compute.v1 import compute_pb2
from tests.support.lab import NAMES, LabProcess
from tests.support.processes import wait_until
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e
MODEL = "qwen2.5:0.5b"
_numbers = itertools.count(1)


@pytest.fixture
def question() -> str:
    """Nobody has asked it before."""
    return f"Question {next(_numbers)} of the cache: why?"


def post(
    proxy: ProxyProcess, path: str, document: dict[str, Any], *, asks: str = "true"
) -> tuple[str | None, dict[str, str], bytes]:
    """What the cache did, the head, the body."""
    headers = {"Content-Type": "application/json", **({"X-Cache-Enabled": asks} if asks else {})}
    request = urllib.request.Request(proxy.url + path, json.dumps(document).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        head = {name.lower(): value for name, value in answer.headers.items()}
        return head.get("x-cache"), head, answer.read()


def chat(question: str, stream: bool) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}]
    return {"model": MODEL, "messages": messages, "stream": stream, "options": {"temperature": 0}}


def ollama_text(body: bytes) -> str:
    return "".join(json.loads(line)["message"]["content"] for line in body.splitlines())


def openai_text(body: bytes) -> str:
    if body.startswith(b"{"):
        text: str = json.loads(body)["choices"][0]["message"]["content"]
        return text
    chunks = [json.loads(line[6:]) for line in body.splitlines() if line.startswith(b"data: {")]
    return "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks if one["choices"])


def anthropic_text(body: bytes) -> str:
    if body.startswith(b"{"):
        return "".join(block["text"] for block in json.loads(body)["content"])
    events = [json.loads(line[6:]) for line in body.splitlines() if line.startswith(b"data: {")]
    return "".join(one["delta"]["text"] for one in events if one["type"] == "content_block_delta")


def count_requests(lab: LabProcess) -> int:
    return sum(lab.state(name)["requests"] for name in NAMES)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_comes_back_in_every_dialect(
    lab_proxy: ProxyProcess, lab: LabProcess, question: str, stream: bool
) -> None:
    state, head, body = post(lab_proxy, "/api/chat", chat(question, not stream))
    assert state == "miss"
    text = ollama_text(body)
    assert text
    before = count_requests(lab)
    maker = head["x-backend-used"]
    openai = {
        "model": MODEL,
        "messages": [{"role": "user", "content": question}],
        "stream": stream,
        "temperature": 0,
    }
    asked: list[tuple[str, dict[str, Any], Callable[[bytes], str]]] = [
        ("/api/chat", chat(question, stream), ollama_text),
        ("/v1/chat/completions", openai, openai_text),
    ]
    for path, document, read in asked:
        state, head, body = post(lab_proxy, path, document)
        assert (state, read(body), head["x-backend-used"]) == ("hit", text, maker), path
        assert int(head["x-cache-age"]) >= 0
        assert head["x-routing-reason"].startswith("from the cache")
    assert count_requests(lab) == before


def completion_text(body: bytes) -> str:
    if body.startswith(b"{"):
        text: str = json.loads(body)["choices"][0]["text"]
        return text
    chunks = [json.loads(line[6:]) for line in body.splitlines() if line.startswith(b"data: {")]
    return "".join(one["choices"][0]["text"] for one in chunks if one["choices"])


def responses_text(body: bytes) -> str:
    if body.startswith(b"{"):
        items = json.loads(body)["output"]
        return "".join(part["text"] for item in items if item["type"] == "message" for part in item["content"])
    events = [json.loads(line[6:]) for line in body.splitlines() if line.startswith(b"data: {")]
    assert events[-1]["type"] in ("response.incomplete", "response.completed"), "at its limit, or by itself"
    return "".join(one["delta"] for one in events if one["type"] == "response.output_text.delta")


def generate_text(body: bytes) -> str:
    return "".join(json.loads(line)["response"] for line in body.splitlines())


def messages(question: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 30, **more}


@pytest.mark.parametrize(
    ("path", "write", "read"),
    [
        ("/v1/messages", messages, anthropic_text),
        ("/v1/chat/completions", messages, openai_text),
        ("/v1/completions", lambda text: {"prompt": text, "temperature": 0, "max_tokens": 30}, completion_text),
        ("/v1/responses", lambda text: {"input": text, "temperature": 0, "max_output_tokens": 30}, responses_text),
        ("/api/generate", lambda text: {"prompt": text, "options": {"num_predict": 30, "seed": 1}}, generate_text),
    ],
)
def test_streams_and_whole_answers_are_the_same(
    lab_proxy: ProxyProcess,
    question: str,
    path: str,
    write: Callable[[str], dict[str, Any]],
    read: Callable[[bytes], str],
) -> None:
    document = {"model": MODEL, **write(question)}
    state, _, streamed = post(lab_proxy, path, document | {"stream": True})
    again, _, whole = post(lab_proxy, path, document | {"stream": False})
    third, _, streamed_again = post(lab_proxy, path, document | {"stream": True})
    assert (state, again, third) == ("miss", "hit", "hit")
    assert read(streamed) == read(whole) == read(streamed_again) != ""


def test_the_official_client_reads_a_hit_as_an_answer(lab_proxy: ProxyProcess, question: str) -> None:
    with openai.OpenAI(
        base_url=lab_proxy.url + "/v1", api_key="x", max_retries=0, default_headers={"X-Cache-Enabled": "true"}
    ) as client:
        asked: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": question}], "temperature": 0}
        whole = client.chat.completions.create(**asked, max_tokens=20)
        again = client.chat.completions.create(**asked, max_tokens=20)
        usage = {"include_usage": True}
        chunks = list(client.chat.completions.create(**asked, max_tokens=20, stream=True, stream_options=usage))
    assert again.choices[0].message.content == whole.choices[0].message.content
    assert again.usage is not None
    assert again.usage == whole.usage
    assert again.id != whole.id
    assert (
        "".join(one.choices[0].delta.content or "" for one in chunks if one.choices) == again.choices[0].message.content
    )
    assert chunks[-1].usage == whole.usage


def test_grpc_says_where_it_comes_from(lab_proxy: ProxyProcess, question: str) -> None:
    wishes = compute_pb2.JobAnnotations(cache_enabled=True)
    asked = compute_pb2.GenerateRequest(prompt=question, model=MODEL, annotations=wishes)
    with grpc.insecure_channel(lab_proxy.grpc) as channel:
        whole = channel.unary_unary(
            "/compute.v1.ComputeService/Generate",
            compute_pb2.GenerateRequest.SerializeToString,
            compute_pb2.GenerateResponse.FromString,
        )
        streamed = channel.unary_stream(
            "/compute.v1.ComputeService/GenerateStream",
            compute_pb2.GenerateRequest.SerializeToString,
            compute_pb2.GenerateStreamResponse.FromString,
        )
        first, call = whole.with_call(asked, timeout=30)
        assert not first.from_cache
        assert dict(call.trailing_metadata())["x-cache"] == "miss"
        second, call = whole.with_call(asked, timeout=30)
        assert second.from_cache
        assert second.response == first.response
        assert second.backend_used == first.backend_used
        assert second.stats.energy_wh == 0
        stream = streamed(asked, timeout=30)
        assert "".join(one.token for one in stream) == first.response
        assert dict(stream.trailing_metadata())["x-cache"] == "hit"
    _, _, body = post(lab_proxy, "/compute/v1/generate", {"prompt": question, "model": MODEL})
    assert json.loads(body)["fromCache"] is True, body


def test_a_websocket_says_it_too(lab_proxy: ProxyProcess, lab: LabProcess, question: str) -> None:
    socket = websocket.create_connection(lab_proxy.url.replace("http:", "ws:") + "/v1/stream/ws", timeout=20)
    with contextlib.closing(socket):

        def ask(name: str) -> tuple[str, dict[str, Any]]:
            wishes = {"cache_enabled": True}
            message = {"request_id": name, "model": MODEL, "prompt": question, "stream": True, "annotations": wishes}
            socket.send(json.dumps(message))
            text = ""
            while not (told := json.loads(socket.recv()))["done"]:
                text += told["token"]
            return text, told["routing"]

        text, routing = ask("first")
        assert text
        assert (routing["cache"], routing["from_cache"]) == ("miss", False)
        before = count_requests(lab)
        again, routing = ask("second")
        assert (again, routing["cache"], routing["from_cache"]) == (text, "hit", True)
        assert count_requests(lab) == before


def test_a_response_that_was_kept_is_another_response(lab_proxy: ProxyProcess, lab: LabProcess, question: str) -> None:
    headers = {"X-Cache-Enabled": "true"}
    with openai.OpenAI(
        base_url=lab_proxy.url + "/v1", api_key="none", max_retries=0, default_headers=headers
    ) as client:
        responses = client.responses.with_raw_response

        def ask(**more: Any) -> tuple[str | None, Any]:
            raw = responses.create(model=MODEL, input=question, max_output_tokens=6, temperature=0, **more)
            return raw.headers.get("x-cache"), raw.parse()

        state, first = ask()
        assert state == "miss"
        before = count_requests(lab)
        state, second = ask()
        assert (state, second.output_text) == ("hit", first.output_text)
        assert count_requests(lab) == before
        assert second.id != first.id, "each is kept, read and deleted for itself"
        client.responses.delete(first.id)
        assert client.responses.retrieve(second.id).output_text == first.output_text
        following = client.responses.create(model=MODEL, input="Go on.", previous_response_id=second.id)
        items = client.responses.input_items.list(following.id, order="asc").data
        assert [getattr(item, "role", "") for item in items] == ["user", "assistant", "user"]


def test_equal_requests_at_once_reach_one_device_once(lab_proxy: ProxyProcess, lab: LabProcess, question: str) -> None:
    before = count_requests(lab)
    with ThreadPoolExecutor(24) as pool:
        found = list(pool.map(lambda _: post(lab_proxy, "/api/chat", chat(question, True)), range(24)))
    assert count_requests(lab) == before + 1
    assert len({ollama_text(body) for _, _, body in found}) == 1
    assert sorted(state or "" for state, _, _ in found).count("miss") == 1


@pytest.mark.parametrize("wish", [{}, {"X-Target-Backend": "ollama-igpu"}, {"X-Max-Latency-Ms": "60000"}], ids=str)
def test_nobody_waits_for_an_answer_that_was_asked_of_another_backend(
    lab_proxy: ProxyProcess, lab: LabProcess, question: str, wish: dict[str, str]
) -> None:
    def write(**headers: str) -> urllib.request.Request:
        found = {"X-Cache-Enabled": "true", "Content-Type": "application/json", **headers}
        return urllib.request.Request(f"{lab_proxy.url}/api/chat", json.dumps(chat(question, True)).encode(), found)

    targeted = {"X-Target-Backend": "ollama-npu"}
    with (
        lab.fault("npu", "stall", times=1),
        contextlib.closing(HTTPConnection("127.0.0.1", lab_proxy.http_port)) as one,
    ):
        begun = lab.state("npu")["requests"]
        asked = write(**targeted)
        one.request("POST", asked.selector, asked.data, dict(asked.header_items()))
        wait_until(lambda: lab.state("npu")["requests"] > begun, "the first to stall")
        with urllib.request.urlopen(write(**wish), timeout=20) as answer:
            assert answer.headers["X-Cache"] == "miss"
            text = ollama_text(answer.read())
        with urllib.request.urlopen(write(**targeted), timeout=20) as answer:
            assert answer.headers["X-Cache"] == "hit", "it is kept for whoever comes now"
            assert ollama_text(answer.read()) == text != ""


def test_a_thousand_equal_requests_at_once_are_one_generation(
    lab_proxy: ProxyProcess, lab: LabProcess, question: str
) -> None:
    body = json.dumps(chat(question, True)).encode()
    head = f"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nX-Cache-Enabled: true\r\nContent-Length: {len(body)}\r\n"
    request = head.encode() + b"Connection: close\r\n\r\n" + body

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", lab_proxy.http_port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        return answer

    async def ask_all() -> list[bytes]:
        async with asyncio.timeout(100):
            return await asyncio.gather(*[ask() for _ in range(1000)])

    before = count_requests(lab)
    answers = asyncio.run(ask_all())
    assert count_requests(lab) == before + 1
    states = [answer.partition(b"X-Cache: ")[2].partition(b"\r\n")[0] for answer in answers]
    assert states.count(b"miss") == 1
    assert states.count(b"hit") == 999
    assert all(b'"done":true' in answer for answer in answers)


def test_what_repeats_cost_is_saved(lab_proxy: ProxyProcess) -> None:
    """A trace of which three in ten are repeats, four at once: the joules that they would have cost are saved."""
    dice = random.Random(7)
    trace: list[int] = []
    for serial in range(80):
        trace.append(dice.choice(trace) if trace and dice.random() < 0.3 else serial)
    mark = f"t{next(_numbers)}"

    def ask(place: int) -> None:
        number = trace[place]
        options = {"temperature": 0, "num_predict": 5 + number % 20}
        document = chat(f"{mark} {number}", False) | {"options": options}
        headers = {"X-Request-ID": f"{mark}-{place}", "X-Cache-Enabled": "true", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{lab_proxy.url}/api/chat", json.dumps(document).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(len(trace))))
    rows: dict[int, tuple[str, float, float]] = {}

    def is_settled() -> bool:
        with contextlib.closing(sqlite3.connect(lab_proxy.state / "ledger.sqlite")) as ledger:
            asked = "SELECT request_id, backend, marginal_j, static_j FROM requests WHERE request_id LIKE ?"
            for name, *facts in ledger.execute(asked, (f"{mark}-%",)):
                rows[int(name.rpartition("-")[2])] = tuple(facts)  # type: ignore[assignment]
        return len(rows) == len(trace)

    wait_until(is_settled, "the ledger to have all of them")
    cost = {trace[place]: joules for place, (backend, joules, _) in rows.items() if backend != "cache"}
    spent = [place for place, (backend, _, _) in rows.items() if backend != "cache"]
    assert len(spent) == len(set(trace)) == len(cost), "each question was answered once"
    ideal_j = sum(cost[number] for number in trace) - sum(cost.values())
    saved_j = sum(saved for backend, _, saved in rows.values() if backend == "cache")
    assert ideal_j > 0
    assert saved_j == pytest.approx(ideal_j, rel=0.02)


def test_the_page_and_the_command_show_and_purge(lab_proxy: ProxyProcess, question: str) -> None:
    def run(*arguments: str) -> str:
        command = [sys.executable, "-P", "-m", "ollama_proxy", "cache", *arguments, "--url", lab_proxy.url]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout

    document = chat(question, False)
    post(lab_proxy, "/api/chat", document)
    with urllib.request.urlopen(f"{lab_proxy.url}/proxy/cache") as answer:
        found = json.load(answer)
    assert found["type"] == "memory"
    assert found["entries"] >= 1
    assert found["bytes"] > 256
    assert "Answers" in run("show")
    for query in ("model=another", "older_than_seconds=3600", "key=nobody"):
        request = urllib.request.Request(f"{lab_proxy.url}/proxy/cache?{query}", method="DELETE")
        with urllib.request.urlopen(request) as answer:
            assert json.load(answer) == {"purged": 0}
    assert post(lab_proxy, "/api/chat", document)[0] == "hit"
    assert run("purge", "--model", MODEL) == f"{found['entries']} answers are gone\n"
    assert post(lab_proxy, "/api/chat", document)[0] == "miss"
    request = urllib.request.Request(f"{lab_proxy.url}/proxy/cache?modle=x", method="DELETE")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 400
    assert "modle" in refused.value.read().decode()


def test_it_is_asked_for_and_said_when_it_cannot_be(lab_proxy: ProxyProcess, question: str) -> None:
    document = chat(question, False)
    assert post(lab_proxy, "/api/chat", document, asks="")[0] is None
    assert post(lab_proxy, "/api/chat", document)[0] == "miss"
    assert post(lab_proxy, "/api/chat", document, asks="")[0] is None
    assert post(lab_proxy, "/api/chat", document, asks="false")[0] is None
    body = {"model": MODEL, "messages": document["messages"], "logit_bias": {"1": 1}}
    assert post(lab_proxy, "/v1/chat/completions", body)[0] == "bypass"
    body = {"model": MODEL, "prompt": question, "options": {"routing": {"cache_enabled": True}}, "stream": False}
    assert [post(lab_proxy, "/api/generate", body, asks="")[0] for _ in range(2)] == ["miss", "hit"]


def test_what_it_saved_is_in_the_ledger_the_metrics_and_on_record(lab_proxy: ProxyProcess, question: str) -> None:
    post(lab_proxy, "/api/chat", chat(question, False))
    _, head, _ = post(lab_proxy, "/api/chat", chat(question, False))
    with urllib.request.urlopen(f"{lab_proxy.url}/proxy/decisions/{head['x-decision-id']}") as answer:
        record = json.load(answer)
    assert record["result"] == "from the cache"
    assert record["saved_joules"] > 0
    with urllib.request.urlopen(f"{lab_proxy.url}/proxy/ledger?by=backend") as answer:
        groups = {one["name"]: one for one in json.load(answer)["groups"]}
    assert groups["cache"]["joules"] == 0
    assert groups["cache"]["saved_j"] >= record["saved_joules"] * 0.99
    with urllib.request.urlopen(f"{lab_proxy.url}/metrics") as answer:
        page = answer.read().decode()
    assert 'ollama_proxy_cache_requests_total{result="hit"}' in page
    assert "ollama_proxy_cache_saved_joules_total" in page
