"""The one rewrite of the fast lane: a model's name, and not a byte more."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.net.bodies.model_name import NameEcho, with_model


@pytest.mark.parametrize(
    ("body", "changed"),
    [
        (b'{"model":"a","x":1.50}', b'{"model":"b","x":1.50}'),
        (b'{ "x": 1e2 , "model" : "a" }', b'{ "x": 1e2 , "model" : "b" }'),
        (b'{"model":"a","messages":[{"content":"\\"model\\":\\"a\\""}]}', None),
    ],
)
def test_every_other_byte_stays(body: bytes, changed: bytes | None) -> None:
    found = with_model(body, "b")
    assert found == (changed or body.replace(b'"model":"a"', b'"model":"b"', 1))


@pytest.mark.parametrize(
    "body",
    [b'{"tools":[{"model":"a"}],"model":"a"}', b'{"prompt":"x"}', b'{"model":"a","model":"a"}'],
)
def test_what_cannot_be_told_apart_is_written_anew(body: bytes) -> None:
    before, after = json.loads(body), json.loads(with_model(body, "b"))
    assert after == {**before, "model": "b"}


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=40))
def test_a_name_goes_there_and_back(there: str, name: str, text: str) -> None:
    line = json.dumps({"model": there, "response": text}, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    said = json.loads(NameEcho(there, name).rewrite(line))
    assert said == {"model": name, "response": text}


def test_each_event_is_named_once_and_the_text_is_left_alone() -> None:
    event = b'data: {"id":"1","model":"there","choices":[{"delta":{"content":"\\"model\\":\\"there\\""}}]}\n\n'
    arguments = b'data: {"model":"there","choices":[{"arguments":{"model":"there"}}]}\n\n'
    said = NameEcho("there", "here").rewrite(event + arguments)
    assert said == event.replace(b"there", b"here", 1) + arguments.replace(b"there", b"here", 1)


def test_other_names_stay() -> None:
    assert NameEcho("a", "b").rewrite(b'{"model":"ab"}') == b'{"model":"ab"}'


def test_a_body_too_deep_to_read_is_refused() -> None:
    body = b'{"prompt":%b%b}' % (b"[" * 100_000, b"]" * 100_000)
    with pytest.raises(ProxyError, match="invalid JSON"):
        with_model(body, "b")
