"""The child process that runs llama.cpp: what it answers, and that it never outlives its parent."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from ollama_proxy.backends.embedded.supervisor import EmbeddedModel, find_model
from tests.support.processes import ROOT, wait_until
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e

ASK = [{"role": "user", "content": "Name three colours."}]
PARENT = """
    import asyncio, sys
    import uvloop
    from ollama_proxy.backends.embedded.supervisor import Supervisor, find_model

    async def main():
        def up(host, port):
            print(supervisor.pid, flush=True)
        supervisor = Supervisor(find_model(""), 1, up, lambda reason: None)
        supervisor.start()
        await asyncio.Event().wait()

    {run}(main())
"""


class RunningChild:
    """The child, started the way the supervisor starts it."""

    def __init__(self, model: EmbeddedModel, parent: int | None = None) -> None:
        command = [sys.executable, "-P", "-m", "ollama_proxy.backends.embedded.child", "--threads", "1"]
        self.process = subprocess.Popen(
            [*command, "--model", str(model.path), "--alias", model.name, "--parent", str(parent or os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        self.rest = self.process.stdout
        self.authority = json.loads(self.line)["address"].removeprefix("http://") if self.line else ""

    def end(self) -> int:
        """Close its input; returns its exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.rest.close()
        return self.process.wait(60)

    @contextlib.contextmanager
    def post(self, path: str, origin: str = "", **document: Any) -> Iterator[http.client.HTTPResponse]:
        """The answer to a request; with an origin, to one such as any web page may send."""
        headers = {"Origin": origin, "Content-Type": "text/plain"} if origin else {"Content-Type": "application/json"}
        connection = http.client.HTTPConnection(self.authority, timeout=100)
        with contextlib.closing(connection):
            connection.request("POST", path, json.dumps(document), headers)
            with connection.getresponse() as answer:
                yield answer

    def ask(self, path: str, **document: Any) -> dict[str, Any]:
        """The document of a good answer."""
        with self.post(path, **document) as answer:
            body = answer.read()
            assert answer.status == 200, body
            found: dict[str, Any] = json.loads(body)
            return found

    def memory_mb(self) -> float:
        """Private memory in use."""
        return psutil.Process(self.process.pid).memory_full_info().uss / 1e6


@pytest.fixture(scope="module")
def model() -> EmbeddedModel:
    found = find_model("")
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.fixture(scope="module")
def child(model: EmbeddedModel) -> Iterator[RunningChild]:
    running = RunningChild(model)
    yield running
    assert running.end() == 0


def _events(answer: http.client.HTTPResponse) -> list[Any]:
    payloads = [line.removeprefix(b"data: ").strip() for line in answer.read().splitlines() if line]
    assert payloads.pop() == b"[DONE]"
    return [json.loads(payload) for payload in payloads]


def test_says_one_line_and_listens_on_the_loopback_only(child: RunningChild) -> None:
    assert json.loads(child.line)["pid"] == child.process.pid
    listening = [
        one.laddr.ip
        for one in psutil.Process(child.process.pid).net_connections("inet")
        if one.status == psutil.CONN_LISTEN
    ]
    assert listening == ["127.0.0.1"]


def test_chat_counts_tokens_and_repeats_itself(child: RunningChild) -> None:
    request: dict[str, Any] = {"messages": ASK, "max_tokens": 6, "temperature": 0, "ignore_eos": True}
    first, second = (child.ask("/v1/chat/completions", **request) for _ in range(2))
    assert first["model"] == "smollm2:135m"
    assert first["choices"][0]["finish_reason"] == "length"
    assert first["choices"][0]["message"]["content"] == second["choices"][0]["message"]["content"] != ""
    assert first["usage"]["completion_tokens"] == first["timings"]["predicted_n"] == 6
    assert first["usage"]["prompt_tokens"] == second["usage"]["prompt_tokens"] > 6


def test_stream_gives_one_token_a_chunk_and_usage_last(child: RunningChild) -> None:
    request: dict[str, Any] = {"messages": ASK, "max_tokens": 6, "temperature": 0, "ignore_eos": True}
    whole = child.ask("/v1/chat/completions", **request)
    with child.post("/v1/chat/completions", **request, stream=True, stream_options={"include_usage": True}) as answer:
        *chunks, end, usage = _events(answer)
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert text == whole["choices"][0]["message"]["content"]
    assert len(chunks) == 1 + 6  # the role comes first
    assert end["choices"][0]["finish_reason"] == "length"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 6
    assert {"prompt_ms", "predicted_ms"} <= set(usage["timings"])


def test_completion_continues_the_prompt(child: RunningChild) -> None:
    answer = child.ask("/v1/completions", prompt="The sky is", max_tokens=4, temperature=0, ignore_eos=True)
    assert answer["usage"] == {**answer["usage"], "prompt_tokens": 3, "completion_tokens": 4}
    assert answer["choices"][0]["text"]


def test_embeddings_keep_the_order_and_the_length(child: RunningChild) -> None:
    both = child.ask("/v1/embeddings", input=["a cat", "the stock market fell"])["data"]
    alone = child.ask("/v1/embeddings", input="the stock market fell")["data"][0]["embedding"]
    assert [len(one["embedding"]) for one in both] == [576, 576]
    assert both[1]["embedding"] == pytest.approx(alone, abs=1e-3)
    assert sum(value * value for value in alone) == pytest.approx(1, abs=1e-3)


def test_chats_and_embeddings_side_by_side_answer_as_alone(child: RunningChild) -> None:
    def chat(_: int) -> str:
        answer = child.ask("/v1/chat/completions", messages=ASK, max_tokens=12, temperature=0)
        return str(answer["choices"][0]["message"]["content"])

    def embed(_: int) -> list[float]:
        vector: list[float] = child.ask("/v1/embeddings", input="some words")["data"][0]["embedding"]
        return vector

    text, vector = chat(0), embed(0)
    with ThreadPoolExecutor(8) as pool:
        texts, vectors = pool.map(chat, range(4)), pool.map(embed, range(8))
        # Batched sums differ in the last bits, so greedy texts may part after a while; they are whole and of one start.
        assert all(one.startswith(text[:2]) for one in texts)
        assert all(one == pytest.approx(vector, abs=1e-3) for one in vectors)


def test_too_long_a_prompt_is_the_callers_mistake(child: RunningChild) -> None:
    with child.post("/v1/chat/completions", messages=[{"role": "user", "content": "word " * 9000}]) as answer:
        error = json.load(answer)["error"]
    assert (answer.status, error["type"]) == (400, "exceed_context_size_error")
    assert error["n_ctx"] == 8192


def test_input_of_600_tokens_is_embedded(child: RunningChild) -> None:
    with child.post("/v1/embeddings", input="word " * 600) as answer:
        assert answer.status == 200, answer.read()


def test_web_pages_of_others_are_not_let_in(child: RunningChild) -> None:
    origin = "http://evil.example"
    with child.post("/v1/chat/completions", origin, messages=ASK, max_tokens=1) as answer:
        answer.read()
        assert answer.getheader("Access-Control-Allow-Origin") not in ("*", origin)


@pytest.mark.slow
def test_memory_does_not_grow_with_every_prompt(model: EmbeddedModel) -> None:
    running = RunningChild(model)
    try:
        sizes = []
        for number in range(8):
            prompt = f"{number} " + f"w{number} " * 40
            running.ask("/v1/chat/completions", messages=[{"role": "user", "content": prompt}], max_tokens=1)
            sizes.append(running.memory_mb())
    finally:
        running.end()
    assert sizes[-1] - sizes[3] < 5, sizes  # the first four fill the slots; a prompt's cache is 2.4 MB


def test_ctrl_c_is_left_to_the_parent(model: EmbeddedModel) -> None:
    running = RunningChild(model)
    running.process.send_signal(signal.SIGINT)
    assert running.ask("/v1/completions", prompt="a", max_tokens=1)
    assert running.end() == 0


def test_child_of_a_parent_that_is_gone_ends_at_once(model: EmbeddedModel) -> None:
    running = RunningChild(model, parent=1)
    assert running.line == b""
    assert running.end() == 1


def test_file_that_is_no_model_ends_with_a_code(tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"no model")
    running = RunningChild(EmbeddedModel(path, "bad"))
    assert running.line == b""
    assert running.end() != 0


def test_starts_and_stops_leave_nothing(model: EmbeddedModel) -> None:
    before = set(psutil.Process().children(recursive=True))
    for _ in range(4):
        assert RunningChild(model).end() == 0
    assert set(psutil.Process().children(recursive=True)) <= before


@pytest.mark.parametrize("run", ["asyncio.run", "uvloop.run"])
@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_kill_9_of_the_parent_takes_the_child_along(model: EmbeddedModel, run: str, stopped: bool) -> None:
    script = textwrap.dedent(PARENT).format(run=run)
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=env) as parent:
        assert parent.stdout is not None
        orphan = psutil.Process(int(parent.stdout.readline()))
        if stopped:
            orphan.suspend()  # deaf to the end of its input: only the kernel's promise is left
        parent.kill()
    wait_until(lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE, "the child to be gone")


def test_inputs_that_are_too_long_do_not_take_the_model_from_everyone(model: EmbeddedModel, work: Path) -> None:
    body = json.dumps({"model": model.name, "input": "word " * 3000}).encode()
    with ProxyProcess(work, embedded="always") as proxy:
        codes = []
        for _ in range(4):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(proxy.url + "/api/embed", body)
            codes.append(caught.value.code)
            caught.value.close()
        assert "embedded: healthy" in proxy.health()
        assert codes == [400] * 4
