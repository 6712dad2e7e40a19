"""The measures by name, in the order in which they are taken. A new one is a file here and a line in the table.

A participant lists the names of those it takes part in. `memory` and `start` come with every start and have no code.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from bench.stage import Found, Stage

HTTP = frozenset({"unary", "latency", "streams-100", "streams-400", "streams-2000", "memory", "start"})
TRANSLATED = frozenset({"translated-ollama-openai", "translated-openai-anthropic"})
GRPC_ALONE = frozenset({"grpc-health"})
GRPC_THROUGH = frozenset({"grpc-unary", "grpc-stream"})
CACHED = frozenset({"cache-hit"})
IN_PROCESS = frozenset({"decision"})

#: "module:Class" and the arguments of the class.
_MEASURES: dict[str, tuple[str, tuple[object, ...]]] = {
    "memory": ("start:Memory", ()),
    "start": ("start:Start", ()),
    "unary": ("unary:Unary", ()),
    "latency": ("unary:Latency", ()),
    "cache-hit": ("unary:CacheHit", ()),
    "streams-100": ("streams:Streams", (100,)),
    "streams-400": ("streams:Streams", (400,)),
    "streams-2000": ("streams:Streams", (2000,)),
    "translated-ollama-openai": ("streams:Translated", ("ollama", "openai")),
    "translated-openai-anthropic": ("streams:Translated", ("openai", "anthropic")),
    "grpc-health": ("grpc:GrpcHealth", ()),
    "grpc-unary": ("grpc:GrpcUnary", ()),
    "grpc-stream": ("grpc:GrpcStream", ()),
    "decision": ("decision:Decision", ()),
}
NAMES = tuple(_MEASURES)


class Measure(Protocol):
    """One thing that is measured while a participant runs."""

    name: str
    dialect: str  # of the upstreams; "" where it needs no running server
    expected_s: float  # how long it takes, for the plan

    def run(self, stage: Stage) -> Found:
        """Numbers by metric. Raises Failed."""
        ...


def make_measure(name: str) -> Measure:
    """The measure of that name."""
    place, arguments = _MEASURES[name]
    module, kind = place.split(":")
    measure: Measure = getattr(import_module(f"bench.measures.{module}"), kind)(*arguments)
    return measure
