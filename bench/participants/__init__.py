"""The participants by name, in the order of the tables. A new one is a file here and a line in the table."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.participant import Participant

PARTICIPANTS = {
    "direct": "direct:Direct",
    "nginx": "nginx:Nginx",
    "haproxy": "haproxy:Haproxy",
    "envoy": "envoy:Envoy",
    "vllm-router": "model_routers:VllmRouter",
    "sglang-router": "model_routers:SglangRouter",
    "olla": "go_routers:Olla",
    "llama-swap": "go_routers:LlamaSwap",
    "litellm": "litellm:Litellm",
    "grpc-go": "grpc_go:GrpcGo",
    "grpcio-aio": "grpc_aio:GrpcAio",
    "ours": "ours:Ours",
    "ours-1": "ours:Ours1",
    "ours-64": "ours:Ours64",
    "ours-sqlite": "ours_caches:OursSqlite",
    "ours-valkey": "ours_caches:OursValkey",
}


def make_participant(name: str) -> Participant:
    """Import its module only now: what cannot be installed costs nothing."""
    module, kind = PARTICIPANTS[name].split(":")
    participant: Participant = getattr(import_module(f"bench.participants.{module}"), kind)()
    return participant
