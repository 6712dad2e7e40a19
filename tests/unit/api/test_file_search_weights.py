"""A `file_search` that would look at nothing."""

from __future__ import annotations

import pytest

from ollama_proxy.api.responses.file_search import _read_tool
from ollama_proxy.domain.errors import ProxyError


def test_a_search_by_neither_meaning_nor_words_is_refused() -> None:
    weights = {"embedding_weight": 0, "text_weight": 0}
    tool = {"type": "file_search", "vector_store_ids": ["vs_1"], "ranking_options": {"hybrid_search": weights}}
    with pytest.raises(ProxyError, match="one of the weights is above 0"):
        _read_tool(tool)
    weights["text_weight"] = 1
    assert _read_tool(tool).vector_store_ids == ["vs_1"]
