"""Bodies that cannot be read are refused in words for their senders."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.bodies.model_name import with_model
from ollama_proxy.net.http_request import decode_body, without_key

DEEP = b'{"x":' + b"[" * 5_000 + b"]" * 5_000 + b"}"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (DEEP, "invalid JSON: it is nested too deeply"),
        (b'{"x":"ab\xc0"}', "invalid JSON: it is not UTF-8 at byte 2 of a text"),
        (b'{"x"', "invalid JSON: Input data was truncated"),
    ],
)
def test_what_is_wrong_is_told_plainly(body: bytes, message: str) -> None:
    with pytest.raises(ProxyError) as caught:
        decode_body(msgspec.json.Decoder(dict[str, Any]), body)
    assert (caught.value.kind, caught.value.message) == (ErrorKind.INVALID_REQUEST, message)


def test_a_name_cannot_be_put_into_what_is_too_deep() -> None:
    with pytest.raises(ProxyError) as caught:
        with_model(DEEP, "m")
    assert caught.value.message == "invalid JSON: it is nested too deeply"


def test_a_member_is_taken_out_and_no_other_is_read() -> None:
    assert without_key(b'{"a":1e400,"b":{"c": 1},"d":"\xc0"}', "b") == b'{"a":1e400,"d":"\xc0"}'
    assert without_key(b'{"a":1.50}', "b") == b'{"a":1.50}'
    with pytest.raises(ProxyError):
        without_key(DEEP, "x")
