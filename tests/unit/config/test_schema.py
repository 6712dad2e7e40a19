"""The schema, the shipped file and the loader say the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.config.load import load_config, parse_config
from ollama_proxy.config.problems import ConfigError
from ollama_proxy.config.schema import Config, json_schema

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = ROOT / "config" / "config.yaml"
COMMITTED: dict[str, Any] = json.loads((ROOT / "config" / "config.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(COMMITTED)


def test_the_committed_schema_is_current() -> None:
    assert json.loads(json.dumps(json_schema())) == COMMITTED
    jsonschema.Draft202012Validator.check_schema(COMMITTED)


def test_the_shipped_file_is_good_by_schema_and_by_loader() -> None:
    VALIDATOR.validate(yaml.safe_load(SHIPPED.read_text()))
    assert [backend.id for backend in load_config(SHIPPED, {}).backends] == [
        "ollama-npu",
        "ollama-igpu",
        "ollama-nvidia",
        "ollama-cpu",
    ]


#: id -> endpoint, hardware, watts, ms, tokens/s, priority, GB.
FLEET = {
    "ollama-npu": ("http://localhost:11434", "npu", 3, 800, 10, 1, 2),
    "ollama-igpu": ("http://localhost:11435", "igpu", 12, 350, 22, 5, 8),
    "ollama-nvidia": ("http://localhost:11436", "nvidia", 55, 150, 65, 10, 24),
    "ollama-cpu": ("http://localhost:11437", "cpu", 28, 1200, 6, 2, 16),
}


def test_the_shipped_fleet_has_the_figures_of_the_guide() -> None:
    found = {}
    for backend in load_config(SHIPPED, {}).backends:
        figures = backend.characteristics
        found[backend.id] = (
            backend.endpoint,
            backend.hardware,
            figures.power_watts,
            figures.avg_latency_ms,
            figures.max_tokens_per_second,
            figures.priority,
            backend.model_capability.max_model_size_gb,
        )
    assert found == FLEET


def test_the_shipped_sections_are_the_defaults() -> None:
    shipped, default = load_config(SHIPPED, {}), Config()
    for section in ("server", "embedded", "cache", "health", "thermal", "efficiency", "pipelines"):
        assert getattr(shipped, section) == getattr(default, section)


def test_the_shipped_monitoring_is_the_default() -> None:
    assert load_config(SHIPPED, {}).monitoring == Config().monitoring


@pytest.mark.parametrize(
    "data",
    [
        {"bogus": 1},
        {"server": {"http_port": 65536}},
        {"server": {"http_port": -1}},
        {"server": {"http_port": "80"}},
        {"server": {"rate_limit": {"rate": 0}}},
        {"backends": [{"id": "a"}]},
        {"backends": [{"id": "a b", "endpoint": "x"}]},
        {"backends": [{"id": "a", "endpoint": "x", "hardware": "gpu"}]},
        {"backends": [{"id": "a", "endpoint": "x", "slots": -1}]},
        {"backends": [{"id": "a", "endpoint": "x", "characteristics": {"power_watts": -1}}]},
        {"efficiency": {"default_mode": "balanced"}},
        {"embedded": {"enabled": True}},
        {"health": {"unhealthy_threshold": 0}},
        {"server": {"auth": {"api_keys": {"bob": {"key_env": "A", "models": []}}}}},
        {"server": {"auth": {"api_keys": {"bob": {"key_env": "A", "backends": []}}}}},
        {"server": {"auth": {"api_keys": {"bob": {"key_env": "A", "models": [" "]}}}}},
    ],
)
def test_schema_and_loader_refuse_the_same(data: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(data)
    with pytest.raises(ConfigError):
        parse_config(yaml.safe_dump(data), "c.yaml")


PORTS = st.integers(0, 65535)
SECONDS = st.floats(0.001, 1e6)
IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)
BACKENDS = st.fixed_dictionaries(
    {"id": IDS, "endpoint": st.sampled_from(["localhost", "http://[::1]:1", "https://box/v1"])},
    optional={
        "name": st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"])),
        "hardware": st.sampled_from(["npu", "igpu", "nvidia", "cpu", "cloud"]),
        "enabled": st.booleans(),
        "slots": st.integers(1, 4096),
        "characteristics": st.fixed_dictionaries({}, optional={"power_watts": st.floats(0, 1e6)}),
    },
)
FILES = st.fixed_dictionaries(
    {},
    optional={
        "server": st.fixed_dictionaries({}, optional={"http_port": PORTS, "grpc_port": PORTS}),
        "health": st.fixed_dictionaries({}, optional={"interval_seconds": SECONDS, "enabled": st.booleans()}),
        "backends": st.lists(BACKENDS, max_size=3),
    },
)


@given(FILES)
@settings(max_examples=100, deadline=None, database=None)
def test_what_the_schema_allows_is_read_with_every_value_in_place(data: dict[str, Any]) -> None:
    VALIDATOR.validate(data)
    config, lines = parse_config(yaml.safe_dump(data, allow_unicode=True), "c.yaml")
    for section in ("server", "health"):
        for key, value in data.get(section, {}).items():
            assert getattr(getattr(config, section), key) == value
            assert lines[f"{section}.{key}"] > 0
    for given_backend, backend in zip(data.get("backends", []), config.backends, strict=True):
        assert backend.id == given_backend["id"]
        assert backend.name == given_backend.get("name", "")
        assert backend.characteristics.power_watts == given_backend.get("characteristics", {}).get("power_watts", 0)
