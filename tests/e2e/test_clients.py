"""The official `ollama` and `openai` clients against emulated devices, the embedded model and real Ollama servers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import ollama
import openai
import pytest

from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e


@dataclass
class Door:
    """A proxy and a model that is behind it."""

    proxy: ProxyProcess
    model: str
    opened: contextlib.ExitStack

    def ollama(self) -> ollama.Client:
        client = ollama.Client(host=self.proxy.url)
        self.opened.callback(client._client.close)
        return client

    def openai(self) -> openai.OpenAI:
        return self.opened.enter_context(
            openai.OpenAI(base_url=self.proxy.url + "/v1", api_key="unused", max_retries=0)
        )


@pytest.fixture(params=["lab", "embedded", pytest.param("ollama", marks=pytest.mark.ollama)])
def door(request: pytest.FixtureRequest) -> Iterator[Door]:
    fixture, model = {
        "lab": ("lab_proxy", "qwen2.5:0.5b"),
        "embedded": ("embedded_proxy", "smollm2:135m"),
        "ollama": ("ollama_proxy_process", "qwen2.5:0.5b"),
    }[request.param]
    with contextlib.ExitStack() as opened:
        yield Door(request.getfixturevalue(fixture), model, opened)


MESSAGES = [{"role": "user", "content": "Say hello."}]
OPTIONS = {"num_predict": 12, "seed": 1, "temperature": 0}


def test_ollama_list_has_the_model(door: Door) -> None:
    assert door.model in [model.model for model in door.ollama().list().models]


def test_ollama_show_and_ps_parse(door: Door) -> None:
    client = door.ollama()
    assert client.show(door.model).modelinfo is not None
    client.generate(door.model, "hi", options={"num_predict": 1})
    client.ps()


def test_ollama_chat(door: Door) -> None:
    answer = door.ollama().chat(door.model, MESSAGES, options=OPTIONS)
    assert answer.message.content
    assert answer.done
    assert answer.done_reason in ("stop", "length")
    assert 0 < answer.eval_count <= 12
    assert answer.prompt_eval_count > 0
    assert answer.eval_duration > 0
    assert answer.total_duration > 0


def test_ollama_chat_stream_joins_to_the_same_text(door: Door) -> None:
    client = door.ollama()
    chunks = list(client.chat(door.model, MESSAGES, options=OPTIONS, stream=True))
    text = "".join(chunk.message.content for chunk in chunks)
    assert [chunk.done for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert len(chunks) > 3
    assert text == client.chat(door.model, MESSAGES, options=OPTIONS).message.content


def test_ollama_generate_streamed_or_not(door: Door) -> None:
    client = door.ollama()
    whole = client.generate(door.model, "Say hello.", options=OPTIONS)
    pieces = client.generate(door.model, "Say hello.", options=OPTIONS, stream=True)
    assert "".join(piece.response for piece in pieces) == whole.response
    assert whole.eval_count <= 12


def test_ollama_limit_ends_with_length(door: Door) -> None:
    answer = door.ollama().generate(door.model, "Tell a long story.", options={**OPTIONS, "num_predict": 3})
    assert answer.done_reason == "length"
    assert answer.eval_count == 3


def test_ollama_stop_ends_the_text_before_it(door: Door) -> None:
    client = door.ollama()
    free = client.generate(door.model, "Say hello.", options=OPTIONS).response
    word = free.split()[2]
    cut = client.generate(door.model, "Say hello.", options={**OPTIONS, "stop": [word]})
    assert word not in cut.response
    assert free.startswith(cut.response)
    assert cut.done_reason == "stop"


def test_ollama_embed(door: Door) -> None:
    vectors = door.ollama().embed(door.model, ["one", "two", "one"]).embeddings
    assert len(vectors) == 3
    assert len(vectors[0]) > 100
    assert vectors[0] == pytest.approx(vectors[2], abs=1e-3)
    assert sum(value * value for value in vectors[0]) == pytest.approx(1, rel=0.01)


def test_ollama_older_embeddings(door: Door) -> None:
    assert len(door.ollama().embeddings(door.model, "one").embedding) > 100


def test_openai_list_and_one(door: Door) -> None:
    client = door.openai()
    assert door.model in [model.id for model in client.models.list()]
    assert client.models.retrieve(door.model).id == door.model


def test_openai_chat(door: Door) -> None:
    answer = door.openai().chat.completions.create(model=door.model, messages=MESSAGES, max_tokens=12, temperature=0)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert 0 < answer.usage.completion_tokens <= 12


def test_openai_stream_with_usage(door: Door) -> None:
    stream = door.openai().chat.completions.create(
        model=door.model,
        messages=MESSAGES,
        max_tokens=12,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]
    assert text
    assert reasons in (["stop"], ["length"])
    assert chunks[-1].usage.completion_tokens > 0


def test_openai_newer_limit_holds_on_every_backend(door: Door) -> None:
    answer = door.openai().chat.completions.create(
        model=door.model, messages=[{"role": "user", "content": "Tell a long story."}], max_completion_tokens=4
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens <= 4


def test_openai_completions(door: Door) -> None:
    answer = door.openai().completions.create(model=door.model, prompt="Say hello.", max_tokens=5)
    assert answer.choices[0].text is not None
    assert answer.usage.completion_tokens <= 5


def test_openai_embeddings_default_to_base64(door: Door) -> None:
    data = door.openai().embeddings.create(model=door.model, input=["one", "two"]).data
    assert [vector.index for vector in data] == [0, 1]
    assert len(data[0].embedding) > 100


def test_missing_model_is_a_404_in_each_dialect(door: Door) -> None:
    if door.proxy.log_lines("stands in") or door.model == "smollm2:135m":
        pytest.skip("the embedded model answers for any name")
    with pytest.raises(ollama.ResponseError, match="not found") as native:
        door.ollama().chat("nope:1b", MESSAGES)
    assert native.value.status_code == 404
    with pytest.raises(openai.NotFoundError, match="not found"):
        door.openai().chat.completions.create(model="nope:1b", messages=MESSAGES)


def test_structured_output_is_json(door: Door) -> None:
    schema = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
    text = door.ollama().chat(door.model, MESSAGES, format=schema, options={"num_predict": 60, "temperature": 0})
    assert text.message.content.lstrip().startswith("{")
