"""`ollama` and `langchain-ollama` as they come from PyPI: through the proxy they get what a real Ollama gives them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ollama
import pytest
from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM
from pydantic import BaseModel

from tests.support.gguf import tiny_gguf
from tests.support.ollama import RealOllama
from tests.support.processes import wait_until
from tests.support.proxy import ProxyProcess
from tests.support.same import same

pytestmark = [pytest.mark.e2e, pytest.mark.ollama]

MODEL, THINKER = "smollm2:135m", "think:135m"
OPTIONS = {"temperature": 0, "seed": 1, "num_predict": 8}
#: A pixel.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYGAAAAAEAAH2FzhVAAAAAElFTkSuQmCC"
USER = {"role": "user", "content": "What is the weather in Oslo?"}
SNOW = {"role": "user", "content": "Which colour is grass?"}


@pytest.fixture(scope="module")
def doors(ollamas: RealOllama, work: Path) -> Iterator[tuple[str, str]]:
    """The address of a real server, and that of a proxy with nothing else behind it."""
    direct = ollamas.url("ollama-nvidia")
    only = {"id": "only", "type": "ollama", "endpoint": direct}
    changes = {"backends": [only], "routing": {"default_backend": ""}}
    with ProxyProcess(work, changes=changes) as proxy:
        yield direct, proxy.url


class Waited:
    """`AsyncClient` with the methods of `Client`: each call is waited for, each stream read to its end."""

    def __init__(self, host: str) -> None:
        self._runner = asyncio.Runner()
        self._client = ollama.AsyncClient(host=host)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        async def call(*args: Any, **options: Any) -> Any:
            found = await method(*args, **options)
            return [part async for part in found] if inspect.isasyncgen(found) else found

        return lambda *args, **options: self._runner.run(call(*args, **options))

    def close(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()


def get_weather(city: str) -> str:
    """Tell the weather.

    Args:
        city: Where.
    """
    return f"sunny in {city}"


class Answer(BaseModel):
    """What a model is made to say."""

    colour: str


# -- what is asked: each takes a client, and what it returns must be the same ------------------


def lists(client: Any) -> Any:
    listed = client.list()
    digest = next(one.digest for one in listed.models if one.model == MODEL)

    def loaded() -> list[Any]:
        # Each time anew: the server may have thrown it out for a model that somebody before us had still asked for.
        client.generate(MODEL, "hi", options={"num_predict": 1})
        # By digest: what is loaded has the name of whoever loaded it, and two more names stand for the same.
        return [{**one.model_dump(), "name": "", "model": ""} for one in client.ps().models if one.digest == digest]

    # A list that is shared by several clients may be a second old.
    found: list[Any] = []
    wait_until(lambda: found.extend(loaded()) or found, "the model to be listed")
    return listed, found


def show(client: Any) -> Any:
    return client.show(MODEL), client.show(THINKER)


def generate(client: Any) -> Any:
    return client.generate(MODEL, "Say hello.", options=OPTIONS)


def generate_stream(client: Any) -> Any:
    return list(client.generate(MODEL, "Say hello.", options=OPTIONS, stream=True))


def generate_with_all(client: Any) -> Any:
    more = {"system": "Be brief.", "template": "{{ .System }} {{ .Prompt }}", "keep_alive": "5m"}
    return client.generate(MODEL, "Say hello.", options=OPTIONS, logprobs=True, top_logprobs=2, **more)


def generate_on(client: Any) -> Any:
    first = client.generate(MODEL, "Say hello.", options=OPTIONS)
    return client.generate(MODEL, "Again.", context=first.context, options=OPTIONS)


def generate_raw(client: Any) -> Any:
    return client.generate(MODEL, "One two three", raw=True, options={**OPTIONS, "stop": ["\n"]})


def load_and_unload(client: Any) -> Any:
    loaded = client.generate("qwen2.5:0.5b", keep_alive=60)
    unloaded = client.chat("qwen2.5:0.5b", messages=[], keep_alive=0)
    return loaded, unloaded


def chat(client: Any) -> Any:
    return client.chat(MODEL, [SNOW], options=OPTIONS)


def chat_stream(client: Any) -> Any:
    return list(client.chat(MODEL, [SNOW], options=OPTIONS, stream=True))


def chat_thinks(client: Any) -> Any:
    options = {**OPTIONS, "num_predict": 16}
    whole = client.chat(THINKER, [SNOW], think=True, options=options)
    streamed = list(client.chat(THINKER, [SNOW], think=True, options=options, stream=True))
    return whole, streamed, client.chat(THINKER, [SNOW], think=False, options=OPTIONS)


def chat_calls_tools(client: Any) -> Any:
    options = {**OPTIONS, "num_predict": 40}
    first = client.chat(MODEL, [USER], tools=[get_weather], options=options)
    result = {"role": "tool", "tool_name": "get_weather", "content": get_weather("Oslo")}
    second = client.chat(MODEL, [USER, first.message, result], tools=[get_weather], options=OPTIONS)
    return first, second


def chat_streams_tools(client: Any) -> Any:
    options = {**OPTIONS, "num_predict": 40}
    return list(client.chat(MODEL, [USER], tools=[get_weather], options=options, stream=True))


def chat_in_a_schema(client: Any) -> Any:
    options = {**OPTIONS, "num_predict": 24}
    answer = client.chat(MODEL, [SNOW], format=Answer.model_json_schema(), options=options)
    return answer, client.generate(MODEL, "A JSON object.", format="json", options=OPTIONS)


def chat_with_an_image(client: Any) -> Any:
    return client.chat(MODEL, [{**SNOW, "images": [PNG]}], options=OPTIONS)


def generate_with_an_image(client: Any) -> Any:
    return client.generate(MODEL, "What is this?", images=[PNG], options=OPTIONS)


def embeds(client: Any) -> Any:
    several = client.embed(MODEL, ["one", "two"])
    return several, client.embed(MODEL, "one", dimensions=16, truncate=True), client.embeddings(MODEL, "one")


def copies_creates_and_deletes(client: Any) -> Any:
    copied = client.copy(MODEL, "sdk-copy:1")
    steps = list(client.create("sdk-made:1", from_="sdk-copy:1", system="Be brief.", stream=True))
    made = client.show("sdk-made:1").modelfile.splitlines()[-20:]
    deleted = [client.delete(name) for name in ("sdk-copy:1", "sdk-made:1")]
    names = [model.model for model in client.list().models]
    return copied, steps, made, deleted, names


def uploads(client: Any, folder: Path) -> Any:
    path = folder / "tiny.gguf"
    path.write_bytes(tiny_gguf(3))
    digest = client.create_blob(path)
    assert digest == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    made = client.create("sdk-tiny:1", files={path.name: digest})
    return digest, made, client.delete("sdk-tiny:1")


def errs(client: Any) -> Any:
    asked = [
        lambda: client.chat("nope:1b", [SNOW]),
        lambda: list(client.chat("nope:1b", [SNOW], stream=True)),
        lambda: client.generate("nope:1b", "x"),
        lambda: client.embed("nope:1b", "x"),
        lambda: client.show("nope:1b"),
        lambda: client.delete("nope:1b"),
        lambda: client.copy("nope:1b", "other:1b"),
        lambda: client.create("made:1b", from_="nope:1b"),
        lambda: client.chat("plain" + MODEL, [USER], tools=[get_weather]),
        lambda: client.chat(MODEL, [SNOW], think=True),
        lambda: client.chat(MODEL, [SNOW], options={"num_predict": "many"}),
        lambda: client.generate(MODEL, "x", suffix="y"),
        lambda: client.push("nope:1b"),
        lambda: client.systemone(MODEL, "x", {}),
    ]
    return [failure(ask) for ask in asked]


def failure(ask: Callable[[], Any]) -> Any:
    """How a call fails, in the client's own words."""
    with contextlib.suppress(ValueError):
        try:
            return ask()
        except ollama.ResponseError as error:
            return error.status_code, error.error
    return "refused by the client"


#: The two clients share all but their sending and reading, so the second one need not say everything again.
BOTH = [
    lists,
    show,
    generate,
    generate_stream,
    chat,
    chat_stream,
    chat_streams_tools,
    embeds,
    copies_creates_and_deletes,
    errs,
]
SCENARIOS = [
    *BOTH,
    generate_with_all,
    generate_on,
    generate_raw,
    load_and_unload,
    chat_thinks,
    chat_calls_tools,
    chat_in_a_schema,
]
FAILING = [chat_with_an_image, generate_with_an_image]


def plain(value: Any) -> Any:
    """Documents instead of objects."""
    if isinstance(value, BaseModel):
        return same(value.model_dump())
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return same(value)


@contextlib.contextmanager
def opened(host: str, *, waited: bool = False) -> Iterator[Any]:
    client: Any = Waited(host) if waited else ollama.Client(host=host)
    try:
        yield client
    finally:
        client.close()


@pytest.fixture(scope="module")
def told(doors: tuple[str, str]) -> Iterator[Callable[[Callable[[Any], Any]], Any]]:
    """What the real server says in a scenario; asked once."""
    known: dict[str, Any] = {}
    with opened(doors[0]) as direct:

        def ask(scenario: Callable[[Any], Any]) -> Any:
            if scenario.__name__ not in known:
                known[scenario.__name__] = plain(scenario(direct))
            return known[scenario.__name__]

        yield ask


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_client_gets_what_ollama_says(
    doors: tuple[str, str], told: Callable[..., Any], scenario: Callable[[Any], Any]
) -> None:
    with opened(doors[1]) as client:
        assert plain(scenario(client)) == told(scenario)


@pytest.mark.long
@pytest.mark.parametrize("scenario", BOTH, ids=lambda scenario: scenario.__name__)
def test_a_client_that_awaits_does_too(
    doors: tuple[str, str], told: Callable[..., Any], scenario: Callable[[Any], Any]
) -> None:
    with opened(doors[1], waited=True) as client:
        assert plain(scenario(client)) == told(scenario)


def test_the_scenarios_say_something(told: Callable[..., Any]) -> None:
    """Two empty answers are the same as well."""
    assert told(generate)["eval_count"] == 8
    assert len(told(chat_stream)) > 3
    assert told(chat_thinks)[0]["message"]["thinking"]
    first, second = told(chat_calls_tools)
    assert first["message"]["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": {"city": "Oslo"}}
    assert second["message"]["content"]
    assert told(chat_in_a_schema)[0]["message"]["content"].lstrip().startswith("{")
    assert len(told(embeds)[1]["embeddings"][0]) == 16
    assert told(copies_creates_and_deletes)[1][-1]["status"] == "success"


@pytest.mark.parametrize("scenario", FAILING, ids=lambda scenario: scenario.__name__)
def test_an_image_fares_as_with_ollama(doors: tuple[str, str], scenario: Callable[[Any], Any]) -> None:
    direct, through = doors
    found = []
    for host in (direct, through):
        with opened(host) as client:
            found.append(plain(failure(lambda client=client: scenario(client))))
    assert found[0] == found[1]


def test_a_blob_is_uploaded(doors: tuple[str, str], tmp_path: Path) -> None:
    found = []
    for host in doors:
        with opened(host) as client:
            found.append(plain(uploads(client, tmp_path)))
    assert found[0] == found[1]


def test_every_method_of_the_client_is_among_them() -> None:
    """Those that are not ask ollama.com, whatever the host."""
    methods = {name for name, _ in inspect.getmembers(ollama.Client, inspect.isfunction) if name[0] != "_"}
    source = Path(__file__).read_text()
    asked = {name for name in methods if f"client.{name}(" in source}
    assert methods - asked == {"pull", "web_fetch", "web_search"}


# -- langchain-ollama -------------------------------------------------------------------------


@contextlib.contextmanager
def chain(host: str, model: str = MODEL, **more: Any) -> Iterator[ChatOllama]:
    options = {"temperature": 0, "seed": 1, "num_predict": 8, **more}
    with released(ChatOllama(model=model, base_url=host, **options)) as chat_model:
        yield chat_model


@contextlib.contextmanager
def released(model: Any) -> Iterator[Any]:
    """Without its connections behind it, which it would leave to the collector."""
    try:
        yield model
    finally:
        model._client.close()


def invokes(host: str) -> Any:
    with chain(host) as model:
        return model.invoke("Say hello."), model.batch(["Say hello."])


def streams(host: str) -> Any:
    with chain(host) as model:
        return list(model.stream("Say hello."))


def waits(host: str) -> Any:
    async def ask() -> Any:
        with chain(host) as model:
            found = [part async for part in model.astream("Say hello.")]
            await model._async_client.close()
        return found

    return asyncio.run(ask())


def reasons(host: str) -> Any:
    with chain(host, THINKER, reasoning=True, num_predict=16) as model:
        return model.invoke("Which colour is grass?")


def binds_tools(host: str) -> Any:
    with chain(host, num_predict=40) as plain_model:
        model = plain_model.bind_tools([get_weather])
        question = HumanMessage(USER["content"])
        first = model.invoke([question])
        results = [ToolMessage(get_weather(**call["args"]), tool_call_id=call["id"]) for call in first.tool_calls]
    with chain(host) as plain_model:
        return first, plain_model.bind_tools([get_weather]).invoke([question, first, *results])


def structures(host: str) -> Any:
    with chain(host, num_predict=24) as model:
        answer = model.with_structured_output(Answer, include_raw=True).invoke("Which colour is grass?")
        return answer["raw"], str(answer["parsed"])


def completes(host: str) -> Any:
    with released(OllamaLLM(model=MODEL, base_url=host, temperature=0, seed=1, num_predict=8)) as model:
        return model.invoke("Say hello."), list(model.stream("Say hello."))


def embeds_documents(host: str) -> Any:
    with released(OllamaEmbeddings(model=MODEL, base_url=host)) as model:
        return model.embed_documents(["one", "two"]), model.embed_query("one")


CHAINS = [invokes, streams, waits, reasons, binds_tools, structures, completes, embeds_documents]


def flat(value: Any) -> Any:
    """Messages as documents."""
    if isinstance(value, BaseMessage):
        return same(value.model_dump())
    if isinstance(value, list | tuple):
        return [flat(inner) for inner in value]
    return same(value)


@pytest.mark.long
@pytest.mark.parametrize("scenario", CHAINS, ids=lambda scenario: scenario.__name__)
def test_a_chain_gets_what_ollama_says(doors: tuple[str, str], scenario: Callable[[str], Any]) -> None:
    direct, through = (flat(scenario(host)) for host in doors)
    assert direct
    assert through == direct
