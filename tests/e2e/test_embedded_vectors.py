"""The built-in model for vectors, the real one: started by the first request for it, known vectors, long texts."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop

from ollama_proxy.app.embeds.builtin import BuiltinVectors
from ollama_proxy.backends.embedded.minilm import find_weights, prepare
from ollama_proxy.domain.ports import Backend
from tests.support.http1 import until
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e

#: What others publish of these weights: likeness to "That is a happy person".
HAPPY = {"That is a happy dog": 0.695, "That is a very happy person": 0.943, "Today is a sunny day": 0.257}


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    with ProxyProcess(tmp_path_factory.mktemp("vectors")) as running:
        yield running


def ask(proxy: ProxyProcess, path: str, **document: Any) -> tuple[int, dict[str, str], Any]:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.http_port, timeout=60)
    connection.request("POST", path, json.dumps(document), {"Content-Type": "application/json"})
    with connection.getresponse() as answer:
        headers = {name.lower(): value for name, value in answer.getheaders()}
        found = answer.status, headers, json.loads(answer.read())
    connection.close()
    return found


def likeness(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_it_is_there_when_it_is_asked_for_and_not_before(tmp_path: Path) -> None:
    with ProxyProcess(tmp_path) as proxy:
        look_before_and_after(proxy)


def look_before_and_after(proxy: ProxyProcess) -> None:
    with urllib.request.urlopen(f"{proxy.url}/backends", timeout=30) as answer:
        assert b"embedded-vectors" not in answer.read()
    before = {child.pid for child in psutil.Process(proxy.child.process.pid).children(recursive=True)}
    status, headers, answer = ask(proxy, "/api/embed", model="all-minilm", input=["That is a happy person", *HAPPY])
    assert status == 200, answer
    assert headers["x-backend-used"] == "embedded-vectors"
    first, *others = answer["embeddings"]
    assert len(first) == 384
    for vector, expected in zip(others, HAPPY.values(), strict=True):
        assert likeness(first, vector) == pytest.approx(expected, abs=0.002)
    status, _, answer = ask(proxy, "/v1/embeddings", model="all-minilm", input="That is a happy person")
    assert status == 200, answer
    assert likeness(first, answer["data"][0]["embedding"]) == pytest.approx(1, abs=1e-4)
    after = {child.pid for child in psutil.Process(proxy.child.process.pid).children(recursive=True)}
    assert len(after - before) == 1


def test_the_end_of_a_long_text_is_left_off_unless_that_is_forbidden(proxy: ProxyProcess) -> None:
    words = "The harvest was late that year. " * 400
    status, _, answer = ask(proxy, "/api/embed", model="all-minilm", input=[words, "!?" * 3000, "日本" * 900])
    assert status == 200, answer
    assert [len(vector) for vector in answer["embeddings"]] == [384] * 3
    status, _, answer = ask(proxy, "/api/embed", model="all-minilm", input=words, truncate=False)
    assert status == 400
    assert answer["error"] == "the input length exceeds the context length"
    status, _, answer = ask(proxy, "/api/embed", model="all-minilm", input="x", dimensions=100)
    assert status == 400
    assert "384 dimensions" in answer["error"]


def test_it_does_nothing_but_vectors(proxy: ProxyProcess) -> None:
    ask(proxy, "/api/embed", model="all-minilm", input="x")
    status, _, answer = ask(proxy, "/api/generate", model="all-minilm", prompt="x", stream=False)
    assert status >= 400, answer


def test_where_it_is_switched_off_nobody_has_it(tmp_path: Path) -> None:
    with ProxyProcess(tmp_path, changes={"embeddings": {"builtin": "never"}}) as proxy:
        status, _, answer = ask(proxy, "/api/embed", model="all-minilm", input="x")
        assert status >= 400, answer


def test_its_file_is_made_once_and_is_whole(tmp_path: Path) -> None:
    weights = find_weights()
    assert weights is not None
    path, digest = prepare(weights, tmp_path)
    assert os.listdir(tmp_path) == [path.name]
    made = path.stat().st_mtime_ns
    assert prepare(weights, tmp_path) == (path, digest)
    assert path.stat().st_mtime_ns == made
    (tmp_path / "empty").mkdir()
    broken = tmp_path / "empty" / "model.safetensors"
    broken.write_bytes((2).to_bytes(8, "little") + b"{}")
    for name in ("config.json", "vocab.txt"):
        (tmp_path / "empty" / name).write_bytes((weights / name).read_bytes())
    with pytest.raises(ValueError, match="no weights"):
        prepare(tmp_path / "empty", tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []


def test_it_goes_when_nobody_asks_and_comes_back(tmp_path: Path) -> None:
    async def scene() -> None:
        there: list[str] = []

        async def join(backend: Backend) -> None:
            there.append(backend.spec.id)

        builtin = BuiltinVectors(1, join, there.remove, idle_s=0.3)
        children = psutil.Process().children
        before = len(children(recursive=True))
        for _ in range(2):
            assert builtin.is_called("all-minilm:latest")
            assert not builtin.is_called("m:1")
            await asyncio.gather(builtin.ready(), builtin.ready())
            assert there == ["embedded-vectors"]
            assert len(children(recursive=True)) == before + 1
            async with asyncio.timeout(20):
                await until(lambda: not there and len(children(recursive=True)) == before)
            assert builtin.is_wanted
        await builtin.stop()

    uvloop.run(scene())
