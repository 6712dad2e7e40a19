"""What the status of a backend's answer says of the request and of the backend."""

from __future__ import annotations

import pytest

from ollama_proxy.net.lanes.upstream import failure_kind


@pytest.mark.parametrize(
    ("status", "text"), [(400, "bad"), (404, "model 'x' not found"), (429, "slow down"), (501, "no")]
)
def test_a_refusal_does_not_make_a_backend_ill(status: int, text: str) -> None:
    assert not failure_kind(status, text).blames_backend


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_fault_does(status: int) -> None:
    assert failure_kind(status, "internal error").blames_backend
