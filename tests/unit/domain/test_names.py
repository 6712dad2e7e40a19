"""Names of models in their one form."""

from __future__ import annotations

import pytest

from ollama_proxy.domain.names import canonical_model


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("Llama3", "llama3:latest"),
        ("llama3:8B", "llama3:8b"),
        ("library/llama3:8b", "llama3:8b"),
        ("registry.ollama.ai/library/llama3", "llama3:latest"),
        ("https://registry.ollama.ai/library/llama3", "llama3:latest"),
        ("user/llama3", "user/llama3:latest"),
        ("hf.co:443/org/repo", "hf.co:443/org/repo:latest"),
        (" ", ""),
    ],
)
def test_canonical(name: str, canonical: str) -> None:
    assert canonical_model(name) == canonical
