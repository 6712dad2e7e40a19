"""The emulated servers themselves, without the proxy: official clients, shapes, queue, energy."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
from collections.abc import Iterator
from typing import Any

import ollama
import openai
import pytest

from tests.support.lab import NAMES, LabProcess
from tests.support.processes import http_get, wait_until

pytestmark = pytest.mark.e2e
MODEL = "qwen2.5:0.5b"
MESSAGES = [{"role": "user", "content": "Say hello."}]
ADD = {"type": "function", "function": {"name": "add_numbers", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture
def native(lab: LabProcess) -> Iterator[ollama.Client]:
    client = ollama.Client(host=lab.url("nvidia"))
    yield client
    client._client.close()


@pytest.fixture
def v1(lab: LabProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=lab.url("nvidia") + "/v1", api_key="unused", max_retries=0) as client:
        yield client


def ask(
    lab: LabProcess, device: str, path: str, body: Any = None, method: str = "POST"
) -> tuple[int, dict[str, str], str]:
    """Status, headers in lower case, body."""
    connection = http.client.HTTPConnection("127.0.0.1", lab.ports[device], timeout=20)
    with contextlib.closing(connection):
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        connection.request(method, path, data)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()


@pytest.fixture
def slow_cpu(lab: LabProcess) -> Iterator[None]:
    """The CPU device slowed so far that a request on it ends only when its client leaves."""
    with lab.fault("cpu", "slow", factor=1000):
        yield
    wait_idle(lab, "cpu")


def hold(lab: LabProcess) -> http.client.HTTPConnection:
    """A request that keeps the slow CPU device busy until its connection is closed."""
    connection = http.client.HTTPConnection("127.0.0.1", lab.ports["cpu"], timeout=20)
    connection.request("POST", "/api/generate", json.dumps({"model": MODEL, "prompt": "hold"}))
    return connection


def wait_idle(lab: LabProcess, device: str) -> None:
    wait_until(lambda: lab.state(device)["in_flight"] == 0, f"{device} to be idle")


# -- official clients ------------------------------------------------------------


def test_list_has_real_looking_entries(native: ollama.Client) -> None:
    entries = {entry.model: entry for entry in native.list().models}
    assert set(entries) == {MODEL, "llama3:7b"}
    assert re.fullmatch("[0-9a-f]{64}", entries[MODEL].digest)
    assert entries[MODEL].size == pytest.approx(398e6, rel=0.01)
    assert entries["llama3:7b"].size == pytest.approx(4.7e9, rel=0.02)


def test_the_npu_holds_only_the_small_model(lab: LabProcess) -> None:
    tags = json.loads(http_get(lab.url("npu") + "/api/tags")[1])
    assert [entry["name"] for entry in tags["models"]] == [MODEL]


def test_chat_and_its_stream_say_the_same(native: ollama.Client) -> None:
    whole = native.chat(MODEL, MESSAGES)
    chunks = list(native.chat(MODEL, MESSAGES, stream=True))
    assert "".join(chunk.message.content for chunk in chunks) == whole.message.content
    assert len(chunks) == whole.eval_count + 1
    assert chunks[-1].eval_count == whole.eval_count
    assert chunks[-1].done_reason == "stop"


def test_every_device_writes_the_same_text(lab: LabProcess) -> None:
    body = {"model": MODEL, "prompt": "one text for all", "stream": False, "options": {"num_predict": 8}}
    texts = {json.loads(ask(lab, device, "/api/generate", body)[2])["response"] for device in NAMES}
    assert len(texts) == 1


def test_durations_are_those_of_the_device(lab: LabProcess, native: ollama.Client) -> None:
    native.generate(MODEL, "warm", options={"num_predict": 1})
    answer = native.generate(MODEL, "four words and more", options={"num_predict": 10})
    assert answer.eval_count / (answer.eval_duration / 1e9) == pytest.approx(65 * lab.speed, rel=0.01)
    assert not answer.load_duration
    assert answer.total_duration == pytest.approx(answer.prompt_eval_duration + answer.eval_duration, rel=0.01)


def test_first_request_after_an_unload_pays_for_the_load(native: ollama.Client) -> None:
    native.generate(MODEL, keep_alive=0)
    assert native.generate(MODEL, "hi", options={"num_predict": 1}).load_duration > 0
    assert MODEL in [entry.model for entry in native.ps().models]


def test_unload_takes_the_model_off_the_list(native: ollama.Client) -> None:
    native.generate(MODEL)
    assert native.generate(MODEL, keep_alive=0).done_reason == "unload"
    assert MODEL not in [entry.model for entry in native.ps().models]


def test_embeddings_depend_on_the_text_only(lab: LabProcess) -> None:
    body = {"model": MODEL, "input": ["one", "two", "one"]}
    answers = [json.loads(ask(lab, device, "/api/embed", body)[2])["embeddings"] for device in ("npu", "cpu")]
    assert answers[0] == answers[1]
    assert answers[0][0] == answers[0][2] != answers[0][1]
    assert sum(value * value for value in answers[0][0]) == pytest.approx(1)


def test_dimensions_are_kept(native: ollama.Client) -> None:
    assert len(native.embed(MODEL, "one", dimensions=64).embeddings[0]) == 64


def test_a_format_gives_json(native: ollama.Client) -> None:
    assert json.loads(native.chat(MODEL, MESSAGES, format="json").message.content)


def test_think_gives_thinking_first(native: ollama.Client) -> None:
    chunks = list(native.chat(MODEL, MESSAGES, think=True, stream=True, options={"num_predict": 20}))
    kinds = ["thinking" if chunk.message.thinking else "text" for chunk in chunks[:-1]]
    assert kinds == sorted(kinds, reverse=True)
    assert set(kinds) == {"thinking", "text"}


def test_a_tool_named_in_the_prompt_is_called(native: ollama.Client) -> None:
    messages = [{"role": "user", "content": "use add_numbers"}]
    calls = native.chat(MODEL, messages, tools=[ADD]).message.tool_calls
    assert [call.function.name for call in calls or ()] == ["add_numbers"]
    assert native.chat(MODEL, MESSAGES, tools=[ADD]).message.content


def test_a_missing_model_is_a_404(native: ollama.Client, v1: openai.OpenAI) -> None:
    with pytest.raises(ollama.ResponseError, match="model 'nope' not found") as caught:
        native.chat("nope", MESSAGES)
    assert caught.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="model 'nope' not found"):
        native.show("nope")
    with pytest.raises(openai.NotFoundError, match="not found"):
        v1.chat.completions.create(model="nope", messages=MESSAGES)


def test_openai_routes_answer_the_official_client(v1: openai.OpenAI) -> None:
    assert MODEL in [model.id for model in v1.models.list()]
    whole = v1.chat.completions.create(model=MODEL, messages=MESSAGES)
    stream = v1.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text == whole.choices[0].message.content
    assert v1.completions.create(model=MODEL, prompt="x", max_tokens=4).usage.completion_tokens == 4
    assert len(v1.embeddings.create(model=MODEL, input="x").data[0].embedding) == 384


# -- labels and refusals ---------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("HEAD", "/", 200),
        ("GET", "/api/version", 200),
        ("GET", "/api/ps", 200),
        ("GET", "/v1/models", 200),
        ("GET", "/lab/state", 200),
        ("GET", "/api/chat", 405),
        ("POST", "/api/chat", 400),
        ("GET", "/nothing", 404),
    ],
)
def test_every_answer_says_that_it_is_emulated(lab: LabProcess, method: str, path: str, status: int) -> None:
    answer = ask(lab, "igpu", path, method=method)
    assert (answer[0], answer[1]["x-emulated"]) == (status, "igpu")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", {"model": 5}, {"model": MODEL, "prompt": 5}, {"model": MODEL, "prompt": "x", "raw": 3}]
)
def test_a_body_that_cannot_be_read_is_a_400_and_keeps_nothing_busy(lab: LabProcess, body: Any) -> None:
    status, _, text = ask(lab, "igpu", "/api/generate", body)
    assert status == 400
    assert json.loads(text)["error"]
    wait_idle(lab, "igpu")


# -- queue, disconnects, energy ---------------------------------------------------


@pytest.mark.usefixtures("slow_cpu")
def test_a_disconnect_stops_the_work_and_is_counted(lab: LabProcess) -> None:
    before = lab.state("cpu")
    busy = hold(lab)
    wait_until(lambda: lab.state("cpu")["watts_now"] == 28, "the device to be busy")
    busy.close()
    wait_until(lambda: lab.state("cpu")["cancelled"] == before["cancelled"] + 1, "the cancellation")
    after = lab.state("cpu")
    assert after["watts_now"] == 0
    assert after["finished"] == before["finished"]
    assert after["ms_since_last_cancel"] is not None


@pytest.mark.usefixtures("slow_cpu")
def test_a_cancelled_request_costs_what_it_has_used(lab: LabProcess) -> None:
    lab.set_fault("cpu", "slow", factor=10)
    before = lab.state("cpu")
    busy = hold(lab)
    with busy.getresponse() as answer:
        answer.readline()
    busy.close()
    wait_until(lambda: lab.state("cpu")["cancelled"] == before["cancelled"] + 1, "the cancellation")
    assert lab.state("cpu")["joules"] - before["joules"] >= 28 * 1.2


@pytest.mark.usefixtures("slow_cpu")
def test_a_half_close_is_a_disconnect_as_on_a_real_server(lab: LabProcess) -> None:
    before = lab.state("cpu")["cancelled"]
    busy = hold(lab)
    busy.sock.shutdown(1)
    wait_until(lambda: lab.state("cpu")["cancelled"] == before + 1, "the cancellation")
    busy.close()


@pytest.mark.usefixtures("slow_cpu")
def test_further_requests_wait_their_turn(lab: LabProcess) -> None:
    before = lab.state("cpu")
    first, second = hold(lab), hold(lab)
    wait_until(lambda: lab.state("cpu")["in_flight"] == 2, "both requests")
    first.close()
    wait_until(lambda: lab.state("cpu")["in_flight"] == 1, "the second one's turn")
    assert lab.state("cpu")["watts_now"] == 28
    second.close()
    wait_idle(lab, "cpu")
    assert lab.state("cpu")["cancelled"] == before["cancelled"] + 2


def test_a_finished_request_costs_its_watts_for_its_own_seconds(lab: LabProcess) -> None:
    body = {"model": MODEL, "prompt": "hi", "stream": False, "options": {"num_predict": 20}}
    ask(lab, "npu", "/api/generate", body)
    before = lab.state("npu")["joules"]
    ask(lab, "npu", "/api/generate", body)
    least = 3 * (0.8 + 19 / 10)
    assert lab.state("npu")["joules"] - before >= least * 0.99


# -- what is wrong today -----------------------------------------------------------


def test_an_odd_tool_does_not_wedge_the_device(lab: LabProcess) -> None:
    body = {"model": MODEL, "messages": MESSAGES, "tools": [{"type": "function", "function": "x"}]}
    connection = http.client.HTTPConnection("127.0.0.1", lab.ports["igpu"], timeout=20)
    with contextlib.closing(connection):
        connection.request("POST", "/api/chat", json.dumps(body))
        connection.getresponse().read()


def test_after_a_tool_result_the_model_answers(native: ollama.Client) -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add_numbers", "arguments": {}}}]}
    result = {"role": "tool", "content": "3", "tool_name": "add_numbers"}
    history = [{"role": "user", "content": "use add_numbers"}, call, result]
    assert not native.chat(MODEL, history, tools=[ADD]).message.tool_calls


def test_openai_tool_call_ends_with_tool_calls(v1: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "use add_numbers"}]
    answer = v1.chat.completions.create(model=MODEL, messages=messages, tools=[ADD])
    assert answer.choices[0].finish_reason == "tool_calls"


def test_openai_single_model(v1: openai.OpenAI) -> None:
    assert v1.models.retrieve(MODEL).id == MODEL


def test_load_is_one_json_object(lab: LabProcess) -> None:
    assert ask(lab, "igpu", "/api/generate", {"model": MODEL})[1]["content-type"] == "application/json; charset=utf-8"


def test_keep_alive_zero_unloads_after_the_answer(native: ollama.Client) -> None:
    native.generate(MODEL, "hi", keep_alive=0, options={"num_predict": 1})
    assert MODEL not in [entry.model for entry in native.ps().models]


def test_keep_alive_zero_as_text_unloads(native: ollama.Client) -> None:
    assert native.generate(MODEL, keep_alive="0s").done_reason == "unload"


def test_a_loaded_model_expires_in_minutes(native: ollama.Client) -> None:
    native.generate(MODEL, "hi", options={"num_predict": 1})
    (entry,) = [entry for entry in native.ps().models if entry.model == MODEL]
    assert entry.expires_at is not None
    assert entry.expires_at.year < 2090


def test_a_limit_covers_thinking(native: ollama.Client) -> None:
    assert native.chat(MODEL, MESSAGES, think=True, options={"num_predict": 3}).eval_count == 3


@pytest.mark.usefixtures("slow_cpu")
def test_a_cancelled_waiting_request_is_no_longer_in_flight(lab: LabProcess) -> None:
    before = lab.state("cpu")["cancelled"]
    busy, queued = hold(lab), hold(lab)
    try:
        wait_until(lambda: lab.state("cpu")["in_flight"] == 2, "both requests")
        queued.close()
        wait_until(lambda: lab.state("cpu")["cancelled"] == before + 1, "the cancellation")
        assert lab.state("cpu")["in_flight"] == 1
    finally:
        busy.close()


@pytest.mark.usefixtures("slow_cpu")
def test_joules_grow_while_a_request_runs(lab: LabProcess) -> None:
    before = lab.state("cpu")["joules"]
    busy = hold(lab)
    try:
        wait_until(lambda: lab.state("cpu")["watts_now"] == 28, "the device to be busy")
        wait_until(lambda: lab.state("cpu")["joules"] > before, "the meter to move")
    finally:
        busy.close()


def test_a_malformed_request_is_refused_with_the_label(lab: LabProcess) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", lab.ports["igpu"], timeout=20)
    with contextlib.closing(connection):
        connection.connect()
        connection.sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert b"X-Emulated: igpu" in connection.sock.recv(4096)


def test_embed_of_a_missing_model_has_its_own_text(native: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match=re.escape('model "nope" not found, try pulling it first')):
        native.embed("nope", "x")


def test_show_agrees_with_the_list(native: ollama.Client) -> None:
    (entry,) = [entry for entry in native.list().models if entry.model == MODEL]
    assert native.show(MODEL).details == entry.details


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("/api/embed", {"input": "hi", "keep_alive": ""}),
        ("/api/chat", {"messages": [{"role": "user", "content": "hi"}], "tools": [{"function": {"name": [1]}}]}),
    ],
)
def test_a_request_that_cannot_be_understood_does_not_keep_the_device(lab: LabProcess, path: str, wrong: Any) -> None:
    assert ask(lab, "nvidia", path, {"model": MODEL, "stream": False, **wrong})[0] == 400
    assert ask(lab, "nvidia", "/api/embed", {"model": MODEL, "input": "hi"})[0] == 200


def test_a_vector_is_no_longer_than_the_model_makes_it(lab: LabProcess) -> None:
    body = {"model": MODEL, "input": "hi", "dimensions": 10**12}
    assert len(json.loads(ask(lab, "nvidia", "/api/embed", body)[2])["embeddings"][0]) < 10_000


@pytest.mark.parametrize("path", ["/api/pull", "/api/create", "/api/signout", "/api/experimental/web_search"])
def test_a_device_manages_nothing(lab: LabProcess, path: str) -> None:
    assert ask(lab, "nvidia", path, {"model": MODEL})[0] == 501
