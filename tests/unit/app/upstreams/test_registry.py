"""Every kind in the house is in its table, and every line of a table leads somewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_proxy.app.upstreams.backends import build_backend
from ollama_proxy.app.upstreams.registry import BACKENDS, HTTP_APIS, STORES, load_kind
from ollama_proxy.config.load import load_config
from ollama_proxy.config.problems import ConfigError
from ollama_proxy.config.schema import Config
from ollama_proxy.config.sections.backends import KINDS
from tests.support.processes import ROOT

SOURCE = ROOT / "src" / "ollama_proxy"
#: No kinds of their own: the embedded model is an openai server, stubs are stubs.
NOT_A_TABLE_LINE = {"gen", "embedded"}


def packages(folder: str) -> set[str]:
    return {one.name for one in (SOURCE / folder).iterdir() if (one / "__init__.py").is_file()} - NOT_A_TABLE_LINE


def test_every_backend_kind_is_in_the_table() -> None:
    # Those of type `vectordb` hold vectors and answer no model: they are in `vectors`.
    assert packages("backends") == set(BACKENDS) - {"vectordb"}
    assert set(BACKENDS) == set(KINDS)
    for name in BACKENDS:
        assert callable(load_kind(BACKENDS, name))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package of a third party that brings a kind of backend."""
    facts = tmp_path / "theirs-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[ollama_proxy.backends]\ntheirs = theirs:build\n")
    (tmp_path / "theirs.py").write_text(
        "from ollama_proxy.app.upstreams.backends import build_ollama\n"
        "def build(spec, endpoint, config):\n"
        "    return build_ollama(spec, endpoint, config)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


def load(tmp_path: Path, kind: str) -> Config:
    file = tmp_path / "config.yaml"
    file.write_text(f"backends:\n  - {{id: a, type: {kind}, endpoint: 'http://127.0.0.1:1'}}\n")
    return load_config(file, {})


def test_a_package_brings_a_kind_of_backend(package: None, tmp_path: Path) -> None:
    (entry,) = load(tmp_path, "theirs").backends
    backend = build_backend(entry, {})
    assert (type(backend).__name__, backend.spec.kind) == ("OllamaBackend", "theirs")


def test_a_type_that_nobody_brings_is_named_beside_those_that_are_there(package: None, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'ours' is none of ollama, openai, anthropic, vectordb, theirs"):
        load(tmp_path, "ours")


def test_every_http_dialect_is_in_the_table() -> None:
    # A package may have several: `compute` and `compute-rpc`.
    there = packages("api")
    named = {name.replace("-", "_") for name in HTTP_APIS}
    assert there == {name if name in there else name.partition("_")[0] for name in named}
    for name in HTTP_APIS:
        assert callable(load_kind(HTTP_APIS, name))


def test_every_store_of_answers_is_in_the_table() -> None:
    for name in STORES:
        assert callable(load_kind(STORES, name))
    modules = {path.stem for path in (SOURCE / "cache").glob("*.py")}
    assert set(STORES) - {"redis"} <= modules
