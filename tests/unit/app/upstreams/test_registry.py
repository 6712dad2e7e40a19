"""Every kind in the house is in its table, and every line of a table leads somewhere."""

from __future__ import annotations

from ollama_proxy.app.upstreams.registry import BACKENDS, HTTP_APIS, STORES, load_kind
from tests.support.processes import ROOT

SOURCE = ROOT / "src" / "ollama_proxy"
#: No kinds of their own: the embedded model is an openai server, stubs are stubs.
NOT_A_TABLE_LINE = {"gen", "embedded"}


def packages(folder: str) -> set[str]:
    return {one.name for one in (SOURCE / folder).iterdir() if (one / "__init__.py").is_file()} - NOT_A_TABLE_LINE


def test_every_backend_kind_is_in_the_table() -> None:
    # Those of type `vectordb` hold vectors and answer no model: they are in `vectors`.
    assert packages("backends") == set(BACKENDS) - {"vectordb"}
    for name in BACKENDS:
        assert callable(load_kind(BACKENDS, name))


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
