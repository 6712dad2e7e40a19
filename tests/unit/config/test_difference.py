"""What a reload says of two configurations: keys, never values."""

from __future__ import annotations

import msgspec
import pytest

from ollama_proxy.config.difference import FIXED, find_changes, find_fixed
from ollama_proxy.config.schema import Backend, Config, Embedded, Energy, Routing, Server

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


@pytest.mark.parametrize("path", FIXED)
def test_what_takes_a_restart_is_in_the_file(path: str) -> None:
    kind: object = Config()
    for step in path.split("."):
        kind = getattr(kind, step)
