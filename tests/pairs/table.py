"""Writes docs/dialects.md: which client reaches which backend, on which lane, and how each cell is tested.

python -m tests.pairs.table
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

from ollama_proxy.domain.call import Dialect, Need
from tests.pairs.cells import CLIENTS, FEATURES, SERVERS, WORDLESS, is_asked

PAGE = Path(__file__).parents[2] / "docs" / "dialects.md"
_KINDS = ("ollama", "openai", "anthropic")
_CLIENT_NAMES = {
    "ollama": "Ollama",
    "openai": "OpenAI chat/completions",
    "responses": "OpenAI responses",
    "anthropic": "Anthropic messages",
    "compute": "compute.v1 (gRPC, REST, Connect, WebSocket)",
}
_HEAD = """\
# Any client to any backend

Made by `python -m tests.pairs.table` from the code and the tests; a test fails when it is out of date.

## Lanes

*As it came*: the bytes pass unread in both directions, unknown members included. *Translated*: the request is read
whole and written anew, the answer event by event. What a backend cannot do is a limit of the decision, so such a
request goes elsewhere or is refused with the reason. More than 10,000 messages are not translated.

"""
_CELLS = """
## Cells

Each is asked streamed and not, through a proxy with that one backend, and its answer checked (`tests/pairs`).
*real*: a real Ollama, a real llama.cpp, with a small model that a template teaches tools and thinking. *lab*: the
emulated server of that dialect (`ollama-proxy lab`). `bin/test` asks all but the long prompts of the real ones (tools,
tool results, thinking), which `bin/test -m long tests` asks.

"""


def render() -> str:
    """The page."""
    return _HEAD + "\n".join([*_lanes(), ""]) + _CELLS + "\n".join([*_cells(), "", *_capabilities(), ""])


def _lanes() -> Iterator[str]:
    yield "| client | " + " | ".join(f"backend `{kind}`" for kind in _KINDS) + " |"
    yield "|---" * (len(_KINDS) + 1) + "|"
    for client, name in _CLIENT_NAMES.items():
        lanes = ("as it came" if Dialect(client) in _spoken(kind) else "translated" for kind in _KINDS)
        yield f"| {name} | " + " | ".join(lanes) + " |"


def _spoken(kind: str) -> frozenset[Dialect]:
    module = importlib.import_module(f"ollama_proxy.backends.{kind}.backend")
    spoken: frozenset[Dialect] = module.SPOKEN
    return spoken


def _cells() -> Iterator[str]:
    features = [*FEATURES, "stop sequences"]
    yield "| client | backend | " + " | ".join(features) + " |"
    yield "|---" * (len(features) + 2) + "|"
    for client, name in _CLIENT_NAMES.items():
        for kind in _KINDS:
            yield f"| {name} | {kind} | " + " | ".join(_cell(client, kind, one) for one in features) + " |"


def _cell(client: str, kind: str, feature: str) -> str:
    if feature in WORDLESS.get(client, ()):
        return "-"
    servers = [about for about in SERVERS.values() if about.kind == kind and is_asked(about, feature)]
    return ", ".join(sorted({"real" if about.real else "lab" for about in servers}, reverse=True))


def _capabilities() -> Iterator[str]:
    yield "## What the kinds can do"
    yield ""
    yield "A request that needs what a kind lacks is not sent there. Servers of type `openai` have more by"
    yield "configuration (`capabilities`), or by what they say of themselves."
    yield ""
    yield "| | " + " | ".join(f"`{kind}`" for kind in _KINDS) + " |"
    yield "|---" * (len(_KINDS) + 1) + "|"
    able = {kind: importlib.import_module(f"ollama_proxy.backends.{kind}.backend").CAPABILITIES for kind in _KINDS}
    for need in Need:
        yield f"| {need.value} | " + " | ".join("yes" if need in able[kind] else "-" for kind in _KINDS) + " |"


if __name__ == "__main__":
    assert set(_CLIENT_NAMES) == set(CLIENTS)
    PAGE.write_text(render())
