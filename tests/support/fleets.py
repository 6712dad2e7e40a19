"""Fleets for tests of pure code: the shipped four, all well, holding the guide's small model."""

from __future__ import annotations

from typing import Any

import msgspec

from ollama_proxy.app.upstreams.backends import build_spec
from ollama_proxy.config.load import parse_config
from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.call import Need
from ollama_proxy.domain.decision import Policy, RoutingRequest
from ollama_proxy.domain.device import BackendSpec, BackendView, FleetView, Health, ModelFacts
from tests.support.processes import ROOT

SMALL, LARGE = "qwen2.5:0.5b", "llama3:7b"
POLICY = Policy("Balanced", 10.0, "ollama-igpu")
CONFIG, _ = parse_config((ROOT / "config" / "config.yaml").read_text(), "config.yaml")
SPECS = {backend.id: build_spec(backend, CONFIG.models.aliases) for backend in CONFIG.backends}


def view(spec: BackendSpec, *models: str, **fields: Any) -> BackendView:
    """A healthy backend that holds some models."""
    facts = {name: ModelFacts(name, size_bytes=400_000_000) for name in models or (SMALL,)}
    return msgspec.structs.replace(BackendView(spec, Health.HEALTHY, models=facts), **fields)


def shipped(**changes: dict[str, Any]) -> FleetView:
    """The four shipped backends; `npu={"in_flight": 3}` changes one."""
    views = []
    for name, spec in SPECS.items():
        models = (SMALL,) if spec.hardware == "npu" else (SMALL, LARGE)
        views.append(view(spec, *models, **changes.get(spec.hardware, {})))
        assert name == views[-1].id
    return FleetView(1, tuple(views))


def wants(model: str = SMALL, max_tokens: int = 0, **annotations: Any) -> RoutingRequest:
    """A request with annotations."""
    return RoutingRequest(model, model, frozenset((Need.GENERATE,)), Annotations(**annotations), max_tokens=max_tokens)


DOWN = {"health": Health.UNHEALTHY, "message": "connection refused"}
