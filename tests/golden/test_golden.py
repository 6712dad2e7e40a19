"""The proxy in front of a real Ollama answers as that Ollama does; in front of four, as one of them would."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from fnmatch import fnmatch
from pathlib import Path
from queue import SimpleQueue
from typing import TypeGuard

import pytest

from tests.golden.cases import Document, find_differences, load_cases, play
from tests.support.ollama import RealOllama
from tests.support.proxy import ProxyProcess

pytestmark = [pytest.mark.e2e, pytest.mark.ollama, pytest.mark.slow]

CASES = load_cases()

#: Where the proxy means to differ, and why.
EXCEPTIONS = {
    "v1-chat-max-completion-tokens": "the real server ignores the limit; a request for at most four tokens gets four",
    "messages-count-tokens": "the real server has no such route; the proxy counts where a backend can count",
    "v1-responses-get": "the real server keeps no responses; the proxy does, and says that there is none of that name",
}
#: Played against four backends: what is said without a model, where routing differs, and what changes models.
BY_FOUR = (
    "generate-stream-*",
    "generate-*load*",
    "generate-*missing*",
    "generate-wrong-*",
    "generate-think-default",
    "chat-tools*",
    "chat-*load*",
    "chat-missing*",
    "chat-stream-default",
    "chat-format-bad",
    "embed-*missing*",
    "embed-string",
    "show*",
    "tags*",
    "ps*",
    "copy*",
    "create-[bens]*",
    "create",
    "delete*",
    "pull*",
    "push*",
    "blob*",
    "cors*",
    "method*",
    "slash*",
    "version*",
    "v1-models*",
    "v1-chat-missing*",
    "messages-missing*",
)
FOUR = [name for name in CASES if any(fnmatch(name, pattern) for pattern in BY_FOUR) and name != "show-verbose"]


class Player:
    """Plays cases ahead of their tests, two at a time: each real server has a core of its own, and a proxy."""

    def __init__(self, proxies: Sequence[ProxyProcess], names: Sequence[str]) -> None:
        self._free: SimpleQueue[ProxyProcess] = SimpleQueue()
        for proxy in proxies:
            self._free.put(proxy)
        self._pool = ThreadPoolExecutor(len(proxies))
        self._answers = {name: self._pool.submit(self._play, name) for name in names}

    def _play(self, name: str) -> Document:
        proxy = self._free.get()
        try:
            return play(proxy.url, CASES[name]["request"])
        finally:
            self._free.put(proxy)

    def answer(self, name: str) -> Document:
        """What came; raises what went wrong."""
        return self._answers[name].result()

    def close(self) -> None:
        """Leave what has not been played."""
        self._pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def by_one(ollamas: RealOllama, work: Path, request: pytest.FixtureRequest) -> Iterator[Player]:
    """The answers of proxies that have one real Ollama each."""
    names = [str(item.callspec.params["name"]) for item in request.session.items if _is_by_one(item)]
    with ExitStack() as stack:
        proxies = [stack.enter_context(_front_of(ollamas, endpoint, work)) for endpoint in ollamas.endpoints[:2]]
        player = Player(proxies, names)
        stack.callback(player.close)
        yield player


def _is_by_one(item: pytest.Item) -> TypeGuard[pytest.Function]:
    return isinstance(item, pytest.Function) and item.originalname == "test_one_ollama"


def _front_of(ollamas: RealOllama, endpoint: str, work: Path) -> ProxyProcess:
    one = {"id": "only", "type": "ollama", "hardware": "nvidia", "endpoint": endpoint}
    changes = {"backends": [one], "routing": {"default_backend": ""}}
    return ProxyProcess(work, endpoints=ollamas.endpoints, changes=changes)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CASES)
def test_one_ollama(name: str, by_one: Player) -> None:
    found = find_differences(CASES[name]["answer"], by_one.answer(name))
    if name in EXCEPTIONS:
        assert found, f"{name} is no exception any more: {EXCEPTIONS[name]}"
    else:
        assert not found, "\n".join(found)


@pytest.mark.long
@pytest.mark.parametrize("name", FOUR)
def test_four_ollamas(name: str, ollama_proxy_process: ProxyProcess) -> None:
    case = CASES[name]
    found = find_differences(case["answer"], play(ollama_proxy_process.url, case["request"]))
    if name not in EXCEPTIONS:
        assert not found, "\n".join(found)
