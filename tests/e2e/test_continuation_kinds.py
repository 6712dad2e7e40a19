"""Streams of an Ollama server that go on at servers of other kinds, where the configuration says that these can."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_continuation import Answer, ask
from tests.support.lab import LabProcess
from tests.support.processes import wait_until
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e

#: As long as it may be is as long as an emulated answer is.
LIMITS: dict[str, dict[str, Any]] = {
    "/api/chat": {"options": {"num_predict": 20}},
    "/v1/chat/completions": {"max_tokens": 20},
    "/v1/messages": {"max_tokens": 20},
}


@contextmanager
def proxy_before(lab: LabProcess, work: Path, *others: dict[str, Any]) -> Iterator[ProxyProcess]:
    """A proxy with an Ollama server that will be cut, and others."""
    first = {"id": "ollama-nvidia", "type": "ollama", "endpoint": lab.url("nvidia")}
    rest = [{"id": f"other-{place}", "endpoint": lab.url("igpu"), **one} for place, one in enumerate(others)]
    with ProxyProcess(work, replace={"backends": [first, *rest], "routing": {"default_backend": ""}}) as proxy:
        wait_until(lambda: proxy.health().startswith("Status: healthy"), "all healthy")
        yield proxy


def ask_first(proxy: ProxyProcess, path: str) -> Answer:
    return ask(proxy, path, {"X-Target-Backend": "ollama-nvidia"}, **LIMITS[path])


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_who_is_said_to_be_able_goes_on(lab: LabProcess, work: Path, kind: str) -> None:
    with proxy_before(lab, work, {"type": kind, "capabilities": ["continuation"]}) as proxy:
        whole = [ask_first(proxy, path) for path in LIMITS]
        with lab.fault("nvidia", "cut", after_chunks=6):
            mended = [ask_first(proxy, path) for path in LIMITS]
    assert [one.errors for one in mended] == [[], [], []]
    assert [one.text for one in mended] == [one.text for one in whole]
    assert [one.ends for one in mended] == [1, 1, 1]
    assert [one.tokens for one in mended] == [20, 20, 20]


def test_nobody_else_is_asked(lab: LabProcess, work: Path) -> None:
    with (
        proxy_before(lab, work, {"type": "openai"}, {"type": "anthropic"}) as proxy,
        lab.fault("nvidia", "cut", after_chunks=6),
    ):
        broken = ask_first(proxy, "/v1/chat/completions")
    assert broken.ends == 0
    assert len(broken.errors) == 1
