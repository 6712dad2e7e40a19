"""Names of models, taken apart as Ollama does."""

from __future__ import annotations

import pytest

from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.net.bodies.model_ref import parse_ref


@pytest.mark.parametrize(
    ("name", "base", "source", "shortest"),
    [
        ("llama3", "llama3", "", "llama3:latest"),
        (" llama3:8b ", "llama3:8b", "", "llama3:8b"),
        ("library/llama3", "library/llama3", "", "llama3:latest"),
        ("registry.ollama.ai/library/llama3:8b", "registry.ollama.ai/library/llama3:8b", "", "llama3:8b"),
        ("https://registry.ollama.ai/library/a", "https://registry.ollama.ai/library/a", "", "a:latest"),
        ("me/llama3", "me/llama3", "", "me/llama3:latest"),
        ("hf.co/org/repo:Q4", "hf.co/org/repo:Q4", "", "hf.co/org/repo:Q4"),
        ("host:5000/a/b", "host:5000/a/b", "", "host:5000/a/b:latest"),
        ("llama3:local", "llama3", "local", "llama3:latest"),
        ("llama3:8b:LOCAL", "llama3:8b", "local", "llama3:8b"),
        ("llama3:cloud", "llama3", "cloud", "llama3:latest"),
        ("llama3:8b-cloud", "llama3:8b", "cloud", "llama3:8b"),
    ],
)
def test_names(name: str, base: str, source: str, shortest: str) -> None:
    ref = parse_ref(name)
    assert ref is not None
    assert (ref.base, ref.source, ref.shortest) == (base, source, shortest)


@pytest.mark.parametrize("name", ["", " ", "\t\n"])
def test_no_name(name: str) -> None:
    assert parse_ref(name) is None


@pytest.mark.parametrize("name", ["a b", "a:", ":a", "/a", "a/", "-a", "a:b c", "a.b/c", "a" * 81, "a@b"])
def test_bad_names(name: str) -> None:
    with pytest.raises(ProxyError, match=r"^invalid model name$"):
        parse_ref(name)


@pytest.mark.parametrize("name", ["a:local:cloud", "a:cloud:local", "a:8b-cloud:local"])
def test_two_sources(name: str) -> None:
    with pytest.raises(ProxyError, match=f'^use either :local or :cloud, not both: "{name}"$'):
        parse_ref(name)
