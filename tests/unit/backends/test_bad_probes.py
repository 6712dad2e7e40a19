"""A backend that answers a probe with nonsense: a failed probe with a reason, never anything else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from ollama_proxy.backends.ollama.backend import OllamaBackend
from ollama_proxy.backends.openai.backend import OpenAiBackend
from ollama_proxy.domain.device import BackendSpec
from ollama_proxy.domain.ports import Backend, ProbeError
from ollama_proxy.net.http1.client import OriginPool
from tests.support.http1 import talk_to

BAD = {
    "no UTF-8": b'{"models":[{"name":"caf\xff"}],"data":[{"id":"caf\xff"}]}',
    "too deep": b"[" * 200_000,
    "cut off": b'{"models":[',
    "another shape": b'{"models":7,"data":7}',
}
MAKE: dict[str, Callable[[OriginPool], Backend]] = {
    "ollama": lambda pool: OllamaBackend(BackendSpec("a", "ollama", "a", "cpu"), pool),
    "openai": lambda pool: OpenAiBackend(BackendSpec("a", "openai", "a", "cpu"), pool),
}


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_read_is_a_failed_probe(kind: str, what: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while await reader.read(65536):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BAD[what]), BAD[what]))

    async def scene(pool: OriginPool) -> None:
        with pytest.raises(ProbeError, match="unreadable"):
            await MAKE[kind](pool).probe(10)

    talk_to(talk, scene)
