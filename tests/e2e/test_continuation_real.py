"""Streams of real servers that break off and go on at another with the same model: greedy, so the text is the same.

The fault proxy cuts between two pieces, which is between two tokens; so does a server that is killed. Servers of one
kind reckon alike. Those of two kinds do not, and where two tokens are nearly as likely each goes its own way; so there,
the rest has to be what the second server writes when it is asked straight.
"""

from __future__ import annotations

import concurrent.futures
import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_continuation import Answer
from tests.pairs.servers import llama_cpp
from tests.support.faults import FaultProcess
from tests.support.ollama import RealOllama
from tests.support.processes import wait_until
from tests.support.proxy import ProxyProcess

pytestmark = [pytest.mark.e2e, pytest.mark.ollama]

MODEL, TOKENS = "smollm2:135m", 16
#: Said in the request, since llama.cpp does not know what an Ollama model has as its own.
SYSTEM = {"role": "system", "content": "You are a helpful AI assistant."}
GREEDY = {"temperature": 0, "num_predict": TOKENS}


def turns_of(prompt: str) -> list[dict[str, str]]:
    return [SYSTEM, {"role": "user", "content": prompt}]


def document_of(path: str, prompt: str) -> dict[str, Any]:
    turns = turns_of(prompt)
    if path == "/api/generate":
        return {"prompt": prompt, "system": SYSTEM["content"], "options": GREEDY}
    if path == "/api/chat":
        return {"messages": turns, "options": GREEDY}
    if path == "/v1/messages":
        return {"messages": turns[1:], "system": SYSTEM["content"], "temperature": 0, "max_tokens": TOKENS}
    return {"messages": turns, "temperature": 0, "max_tokens": TOKENS, "stream_options": {"include_usage": True}}


class Pair:
    """A server that can be cut off, one to go on at, and the proxy in front of both."""

    def __init__(self, proxy: ProxyProcess, faults: FaultProcess, second: str) -> None:
        self.proxy = proxy
        self.faults = faults
        #: The address of the one to go on at.
        self.second = second

    def count_seams(self) -> int:
        return len(self.proxy.log_lines('"backend":"second","attempts":2'))

    def ask(self, path: str, prompt: str, **members: Any) -> Answer:
        document = {"model": MODEL, "stream": True, **document_of(path, prompt), **members}
        headers = {"X-Target-Backend": "first"}
        request = urllib.request.Request(self.proxy.url + path, json.dumps(document).encode(), headers)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return Answer(path, answer.headers["X-Backend-Used"], answer.read().decode())

    def wait_until_well(self) -> None:
        wait_until(lambda: self.proxy.health().startswith("Status: healthy"), "both to be healthy", 60)

    def ask_twice(self, path: str, prompt: str, after: int, **members: Any) -> tuple[Answer, Answer]:
        """The same request uncut and cut."""
        self.wait_until_well()
        before = self.count_seams()
        whole = self.ask(path, prompt, **members)
        with self.faults.on(direction="down", end="reset", after_chunks=after):
            mended = self.ask(path, prompt, **members)
        wait_until(lambda: self.count_seams() == before + 1, "the other to have gone on")
        assert whole.backend == mended.backend == "first", (whole.backend, mended.backend)
        return whole, mended


def open_pair(opened: ExitStack, work: Path, first: str, second: dict[str, Any], kind: str = "ollama") -> Pair:
    faults = opened.enter_context(FaultProcess(work, first))
    entries = [{"id": "first", "type": kind, "endpoint": faults.url}, {"id": "second", **second}]
    only = {"backends": entries, "routing": {"default_backend": ""}}
    return Pair(opened.enter_context(ProxyProcess(work, replace=only)), faults, second["endpoint"])


@pytest.fixture(scope="module")
def ollama_pair(ollamas: RealOllama, work: Path) -> Iterator[Pair]:
    with ExitStack() as opened:
        second = {"type": "ollama", "endpoint": ollamas.url("ollama-nvidia")}
        yield open_pair(opened, work, ollamas.url("ollama-igpu"), second)


@pytest.fixture(scope="module")
def mixed_pair(ollamas: RealOllama, work: Path) -> Iterator[Pair]:
    with ExitStack() as opened:
        second = {"type": "openai", "endpoint": opened.enter_context(llama_cpp(own_template=True))}
        yield open_pair(opened, work, ollamas.url("ollama-igpu"), second)


@pytest.fixture(scope="module")
def llama_cpp_pair(work: Path) -> Iterator[Pair]:
    with ExitStack() as opened:
        first, second = (opened.enter_context(llama_cpp(own_template=True)) for _ in range(2))
        yield open_pair(opened, work, first, {"type": "openai", "endpoint": second}, "openai")


def check_mended(whole: Answer, mended: Answer) -> None:
    assert mended.errors == []
    assert mended.ends == whole.ends == 1
    assert len(mended.ids) == len(whole.ids)
    assert mended.roles <= whole.roles
    assert mended.tokens == whole.tokens == TOKENS


@pytest.mark.parametrize(
    "path",
    [
        "/api/chat",
        pytest.param("/api/generate", marks=pytest.mark.long),
        pytest.param("/v1/chat/completions", marks=pytest.mark.long),
        pytest.param("/v1/messages", marks=pytest.mark.long),
    ],
)
def test_from_one_ollama_to_another(ollama_pair: Pair, path: str) -> None:
    whole, mended = ollama_pair.ask_twice(path, "Tell me about the sea.", 7)
    check_mended(whole, mended)
    assert mended.text == whole.text


@pytest.mark.long
@pytest.mark.parametrize("model", ["plain:135m", "fim:135m"])
def test_whatever_the_models_template(ollama_pair: Pair, model: str) -> None:
    # Of the first, an open turn would be taken for a closed one.
    whole, mended = ollama_pair.ask_twice("/api/generate", "How do plants grow?", 5, model=model)
    assert mended.errors == []
    assert mended.text == whole.text
    assert mended.tokens == whole.tokens


@pytest.mark.long
def test_a_models_own_limit_is_that_of_the_whole_answer(ollama_pair: Pair) -> None:
    members = {"model": "plain:135m", "options": {"temperature": 0}}
    whole, mended = ollama_pair.ask_twice("/api/chat", "Write a long story.", 20, **members)
    assert mended.text == whole.text
    assert mended.tokens == whole.tokens == 32


@pytest.mark.long
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
def test_from_one_llama_cpp_to_another(llama_cpp_pair: Pair, path: str) -> None:
    whole, mended = llama_cpp_pair.ask_twice(path, "Tell me about the sea.", 7)
    check_mended(whole, mended)
    assert mended.text == whole.text


@pytest.mark.long
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
def test_from_ollama_to_llama_cpp(mixed_pair: Pair, path: str) -> None:
    prompt, after = "Tell me about the sea.", 7
    whole, mended = mixed_pair.ask_twice(path, prompt, after)
    check_mended(whole, mended)
    turns = "".join([f"<|im_start|>{one['role']}\n{one['content']}<|im_end|>\n" for one in turns_of(prompt)])
    sent = join_pieces(whole, after)
    assert mended.text.startswith(sent)
    rest = {
        "prompt": f"{turns}<|im_start|>assistant\n{sent}",
        "temperature": 0,
        "top_p": 0.9,
        "n_predict": TOKENS - after,
    }
    with urllib.request.urlopen(mixed_pair.second + "/completion", json.dumps(rest).encode(), timeout=120) as answer:
        assert mended.text == sent + json.load(answer)["content"]


@pytest.mark.long
def test_an_open_tool_call_is_an_error(ollama_pair: Pair) -> None:
    city = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": city}}
    ollama_pair.wait_until_well()
    prompt, members = "What is the weather in Paris?", {"tools": [tool], "options": {"temperature": 0}}
    whole = ollama_pair.ask("/api/chat", prompt, **members)
    calls = [one for one in whole.events if one["message"].get("tool_calls")]
    assert len(calls) == 1
    with ollama_pair.faults.on(direction="down", end="reset", after_chunks=whole.events.index(calls[0]) + 1):
        broken = ollama_pair.ask("/api/chat", prompt, **members)
    assert broken.ends == 0
    assert len(broken.errors) == 1
    assert "tool" in broken.errors[0]["error"]


@pytest.mark.long
def test_streams_of_a_server_that_is_killed_are_all_continued(ollamas: RealOllama, work: Path) -> None:
    first, second = "ollama-npu", "ollama-cpu"
    entries = [
        {"id": "first", "type": "ollama", "endpoint": ollamas.url(first)},
        {"id": "second", "type": "ollama", "endpoint": ollamas.url(second)},
    ]
    prompts = ["Tell me about the sea.", "How do plants grow?"]
    only = {"backends": entries, "routing": {"default_backend": ""}}
    with ProxyProcess(work, replace=only) as proxy, concurrent.futures.ThreadPoolExecutor(len(prompts)) as pool:
        whole = [stream_text(proxy, prompt) for prompt in prompts]
        begun = [threading.Event() for _ in prompts]
        mended = [pool.submit(stream_text, proxy, prompt, one) for prompt, one in zip(prompts, begun, strict=True)]
        for one in begun:
            assert one.wait(120)
        ollamas.kill(first)
        assert [one.result() for one in mended] == whole
        wait_until(lambda: len(proxy.log_lines('"backend":"second","attempts":2')) == len(prompts), "the seams")
    ollamas.start(first)


def stream_text(proxy: ProxyProcess, prompt: str, begun: threading.Event | None = None) -> str:
    """The text of a stream from the first server; `begun` is set at its third piece."""
    options = {**GREEDY, "num_predict": 2 * TOKENS}
    document = {"model": MODEL, "messages": turns_of(prompt), "options": options}
    headers = {"X-Target-Backend": "first"}
    request = urllib.request.Request(proxy.url + "/api/chat", json.dumps(document).encode(), headers)
    pieces: list[str] = []
    with urllib.request.urlopen(request, timeout=120) as answer:
        for line in answer:
            pieces.append(json.loads(line)["message"]["content"])
            if begun is not None and len(pieces) == 3:
                begun.set()
    assert json.loads(line)["done"]
    return "".join(pieces)


def join_pieces(answer: Answer, count: int) -> str:
    """The text of the first pieces of a stream."""
    pieces = [one["message"] if "message" in one else one["choices"][0]["delta"] for one in answer.events[:count]]
    return "".join([piece["content"] for piece in pieces])
