"""Every client dialect to every kind of backend, streamed and not: the pair table, cell by cell."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.pairs.cells import CLIENTS, FEATURES, LAB_HINT, SERVERS, WORDLESS, is_asked
from tests.pairs.conversation import Ask, Got
from tests.pairs.servers import backend, llama_cpp
from tests.support.lab import LabProcess
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e

Open = Callable[[str], str]


@pytest.fixture(scope="module")
def open_proxy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    """The address of a proxy in front of one upstream only; each is started when it is first asked for."""
    urls: dict[str, str] = {}
    work: Path = tmp_path_factory.mktemp("pairs")
    with contextlib.ExitStack() as opened:

        def open_one(name: str) -> str:
            if name not in urls:
                entry = _backend_entry(name, request, opened)
                only = {"backends": [entry], "routing": {"default_backend": ""}}
                urls[name] = opened.enter_context(ProxyProcess(work, replace=only)).url
            return urls[name]

        yield open_one


def _backend_entry(name: str, request: pytest.FixtureRequest, opened: contextlib.ExitStack) -> dict[str, Any]:
    kind = SERVERS[name].kind
    if name == "Ollama":
        return backend(kind, request.getfixturevalue("ollamas").endpoints[0])
    if name == "llama.cpp":
        return backend(kind, opened.enter_context(llama_cpp()))
    lab: LabProcess = request.getfixturevalue("lab")
    return backend(kind, lab.endpoints[2])


#: Long prompts: a small real model reads them for seconds each, so they are asked on command.
_SLOW = {"tools", "tool result", "thinking"}


def _marked(server: str, *more: str) -> Any:
    marks = [pytest.mark.ollama] if server == "Ollama" else []
    if SERVERS[server].real and _SLOW & {*more}:
        marks.append(pytest.mark.long)
    return pytest.param(server, *more, id=" ".join([server, *more]), marks=marks)


#: One test a server and a question: the prompts are much the same there, and a server that has just read one reads the
#: next for nothing.
QUESTIONS = [_marked(server, name) for server, about in SERVERS.items() for name in FEATURES if is_asked(about, name)]


@pytest.mark.parametrize(("server", "feature"), QUESTIONS)
def test_pairs(open_proxy: Open, subtests: pytest.Subtests, server: str, feature: str) -> None:
    asked = FEATURES[feature]
    url, about = open_proxy(server), SERVERS[server]
    model = about.thinker if asked.thinks else about.model
    hint = LAB_HINT if not about.real and (asked.ask.tool or asked.ask.answered_tool) else ""
    for client, ask in CLIENTS.items():
        if feature in WORDLESS.get(client, ()):
            continue
        for stream in (False, True):
            with subtests.test(client=client, stream=stream):
                got = ask(url, model, replace(asked.ask, stream=stream, prompt=asked.ask.prompt + hint))
                assert got.status == 200, got.error
                assert not got.error
                assert got.headers["x-backend-used"] == "only"
                asked.check(got)
                if stream and feature == "text":
                    assert got.pieces > 1


@pytest.mark.parametrize("server", [_marked(server) for server in SERVERS])
def test_stop_sequences(open_proxy: Open, subtests: pytest.Subtests, server: str) -> None:
    """What ends a text is no part of it."""
    url, model = open_proxy(server), SERVERS[server].model
    for client, ask in CLIENTS.items():
        if "stop sequences" in WORDLESS.get(client, ()):
            continue
        for stream in (False, True):
            with subtests.test(client=client, stream=stream):
                free = ask(url, model, Ask("Say hello.", stream=stream))
                word = next(word for word in free.text.split()[2:] if word.isalpha())
                cut: Got = ask(url, model, Ask("Say hello.", stream=stream, stop=word))
                assert cut.status == 200, cut.error
                assert cut.text.strip()
                assert word not in cut.text
                assert free.text.startswith(cut.text.rstrip())
