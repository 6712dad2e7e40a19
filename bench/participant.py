"""A participant of the bench: something that can be installed, started on a port, and left running under load."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "bench-model"  # what the mock upstream serves; Ollama lists call it bench-model:latest


class Unavailable(Exception):
    """It cannot be installed or started here; the text says why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One start of a participant. All addresses are on 127.0.0.1."""

    tools: Path  # what is installed once stays here
    work: Path  # fresh folder of this start: configuration, logs
    port: int  # to listen on for HTTP
    grpc_port: int  # to listen on for gRPC, where there is any
    upstreams: tuple[str, ...]  # "http://127.0.0.1:21001": the mock's addresses
    upstream_dialect: str  # "openai", "ollama" or "anthropic": what the upstreams are to be configured as


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start it. The bench pins it to its core, starts it in `Plan.work`, waits for it, and stops it."""

    command: list[str]
    env: dict[str, str] = field(default_factory=dict)  # added to the bench's own
    ready_path: str = (
        "/"  # asked over HTTP on `port` until it answers below 500; "" = until the gRPC port takes connections
    )


class Participant(Protocol):
    """One server that is measured; found by name in `bench/participants/__init__.py`."""

    name: str  # its word on the command line
    measures: frozenset[str]  # those it takes part in, by the names in `bench/measures/__init__.py`

    def install(self, tools: Path) -> str:
        """Install once into `tools`; returns the version. Raises Unavailable."""
        ...

    def launch(self, plan: Plan) -> Launch:
        """Write its configuration into `plan.work`; say how to start it."""
        ...
