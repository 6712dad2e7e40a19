"""What the audit log says an act is about is what the server takes it to be about."""

from __future__ import annotations

import pytest

from ollama_proxy.app.access.audit import name_target
from tests.unit.api.test_openai_requests import make_exchange


@pytest.mark.parametrize(
    ("body", "target"),
    [
        (b'{"model":"a"}', "a"),
        (b'{"model":"harmless","Model":"real"}', "real"),
        (b'{"\xc5\xbfource":"a","destination":"b"} behind', "a b"),
        (b'{"model":"a","insecure":[[[]]]}', "a"),
        (b'{"mode":"Quiet"}', "Quiet"),
        (b'{"model":5}', "delete"),
        (b"Quiet", "delete"),
        (b"null", "delete"),
        (b"", "delete"),
    ],
)
def test_the_target_of_an_act(body: bytes, target: str) -> None:
    assert name_target(make_exchange(b"/api/delete", body)) == target
