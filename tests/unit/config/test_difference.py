"""What a reload says of two configurations: keys, never values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_type_hints

import msgspec
import pytest

from ollama_proxy.config.difference import FIXED, find_changes, find_fixed
from ollama_proxy.config.schema import Backend, Config, Embedded, Energy, Routing, Section, Server

NPU = Backend(id="npu", endpoint="http://localhost:1")
GPU = Backend(id="gpu", endpoint="http://localhost:2")


def test_nothing_has_changed() -> None:
    assert find_changes(Config(backends=(NPU,)), Config(backends=(NPU,))) == []


def test_keys_are_named_and_values_are_not() -> None:
    old = Config(server=Server(allowed_hosts=("secret-a",)), routing=Routing(policy="fastest"))
    new = Config(server=Server(allowed_hosts=("secret-b",)), routing=Routing(max_waiting=7))
    assert find_changes(old, new) == ["server.allowed_hosts", "routing.policy", "routing.max_waiting"]


def test_backends_go_by_their_ids() -> None:
    faster = msgspec.structs.replace(GPU, slots=4, api_key_env="KEY")
    old, new = Config(backends=(NPU, GPU)), Config(backends=(faster, msgspec.structs.replace(NPU, id="cpu")))
    assert find_changes(old, new) == [
        "backends[gpu].api_key_env",
        "backends[gpu].slots",
        "backends[cpu] added",
        "backends[npu] removed",
    ]
    assert find_changes(Config(backends=(NPU, GPU)), Config(backends=(GPU, NPU))) == ["backends reordered"]


def test_what_takes_a_restart() -> None:
    new = Config(embedded=Embedded(threads=2), energy=Energy(ledger_path="/x", budget_wh_per_hour=5))
    changes = find_changes(Config(), new)
    assert find_fixed(changes) == ["embedded.threads", "energy.ledger_path"]
    assert find_fixed(["embedded_things", "energy.ledgers"]) == []


#: What `Proxy.adopt` brings into force, or what the running proxy does not read.
APPLIED = (
    "backends",
    "efficiency",
    "embeddings",
    "energy.budget_wh_per_hour",
    "energy.carbon_g_per_kwh",
    "energy.currency",
    "energy.price_per_kwh",
    "health",
    "models",
    "monitoring",
    "process.drain_delay_seconds",
    "process.grace_seconds",
    "process.reload_on_change",
    "routing.adaptive_slots",
    "routing.auto_optimize_latency",
    "routing.continuation",
    "routing.default_backend",
    "routing.efficient_patience",
    "routing.fallback_strategy",
    "routing.hedge",
    "routing.preemption",
    "routing.latency_metric",
    "routing.latency_probability",
    "process.memory_limit_mb",
    "process.shed_all_at",
    "process.shed_low_at",
    "routing.max_wait_seconds",
    "routing.max_waiting",
    "routing.max_waiting_mb",
    "routing.on_infeasible",
    "routing.policy",
    "routing.power_aware",
    "routing.prefix_affinity",
    "routing.system_cap_watts",
    "server.allow_public_without_keys",
    "server.allowed_hosts",
    "server.allowed_origins",
    "server.auth",
    "server.grpc_port",
    "server.host",
    "server.http_port",
    "server.rate_limit",
    "server.slow_readers",
    "server.tls",
    "timeouts",
    "vectors.backend",
    "vectors.chunk_overlap_tokens",
    "vectors.chunk_tokens",
    "vectors.embedding_model",
    "vectors.enabled",
    "vectors.ingest",
    "vectors.max_file_mb",
    "vectors.max_mb_per_key",
    "vectors.rerank_model",
)


def leaves(kind: type[Section], path: str = "") -> Iterator[str]:
    for name, inner in get_type_hints(kind).items():
        here = f"{path}.{name}".removeprefix(".")
        if isinstance(inner, type) and issubclass(inner, Section):
            yield from leaves(inner, here)
        else:
            yield here


def test_it_is_known_of_every_key_whether_a_reload_brings_it_into_force() -> None:
    """A new key that is in no list would be taken up in silence and change nothing: apply it, or name it in `FIXED`."""
    known = [path for path in leaves(Config) if not find_fixed([path])]
    unknown = [path for path in known if not any(path == one or path.startswith(one + ".") for one in APPLIED)]
    assert not unknown


@pytest.mark.parametrize("path", FIXED)
def test_what_takes_a_restart_is_in_the_file(path: str) -> None:
    kind: object = Config()
    for step in path.split("."):
        kind = getattr(kind, step)
