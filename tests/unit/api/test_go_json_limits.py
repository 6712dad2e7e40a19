"""What reading a broken body may cost; beyond it nobody looks for exact words. Long bodies that are whole are read."""

from __future__ import annotations

import pytest

from ollama_proxy.api.ollama.go_types import CHAT, GENERATE, read_request
from ollama_proxy.api.ollama.typed import read_typed
from ollama_proxy.domain.call import Operation
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.bodies import go_syntax

MB = 1024 * 1024


@pytest.fixture
def loose(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes were read letter by letter, each time."""
    sizes: list[int] = []
    read = go_syntax._unquote_loosely

    def count(inner: bytes) -> str:
        sizes.append(len(inner))
        return read(inner)

    monkeypatch.setattr(go_syntax, "_unquote_loosely", count)
    return sizes


@pytest.mark.parametrize("stray", [b"\\ud800", b"\xff", b"\xed\xa0\x80"])
@pytest.mark.parametrize(
    "form", [b'{"model":"%b"}', b'{"%b":1}', b'{"options":{"a":[{"%b":"x"}]}}', b'{"messages":[{"content":"%b"}]}']
)
def test_megabytes_that_are_no_text_are_refused_unread(stray: bytes, form: bytes, loose: list[int]) -> None:
    with pytest.raises(ProxyError, match="too much that is no text") as caught:
        read_request(form % (stray * (20 * MB // len(stray))), CHAT)
    assert caught.value.kind is ErrorKind.INVALID_REQUEST
    assert loose == []


def test_many_short_strings_that_are_no_text_are_refused_unread(loose: list[int]) -> None:
    with pytest.raises(ProxyError, match="too much that is no text"):
        read_request(b'{"options":{"a":[%b1]}}' % (b'"%b",' % (b"\xff" * 100) * 10_000), CHAT)
    assert loose == []


def test_a_little_that_is_no_text_is_mended_however_long_the_rest(loose: list[int]) -> None:
    image = b"QUJD" * MB
    found = read_request(b'{"prompt":"cut \\ud83d","images":["%b"],"system":"\xff"}' % image, GENERATE)
    assert found["prompt"] == "cut \N{REPLACEMENT CHARACTER}"
    assert found["system"] == "\N{REPLACEMENT CHARACTER}"
    assert found["images"] == [image.decode()]
    assert sum(loose) < 100


def test_many_values_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = 0

    class Counted(go_syntax.Node):
        def __post_init__(self) -> None:
            nonlocal nodes
            nodes += 1

    monkeypatch.setattr(go_syntax, "Node", Counted)
    with pytest.raises(ProxyError, match="too many values"):
        read_request(b'{"options":[%b' % (b"1," * 5 * MB), CHAT)
    assert nodes <= 20_000


def test_a_long_request_with_an_effort_needs_no_exact_reading() -> None:
    context = b",".join([b"1"] * 50_000)
    found = read_typed(b'{"model":"m","prompt":"x","think":"high","context":[%b]}' % context, Operation.GENERATE)
    assert found.think == "high"
    assert len(found.context) == 50_000
    with pytest.raises(ProxyError) as caught:
        read_typed(b'{"model":"m","think":"much","context":[%b]}' % context, Operation.GENERATE)
    words = '(must be "high", "medium", "low", "max", true, or false)'
    assert caught.value.message == f'invalid think value: "much" {words}'


def test_bytes_that_are_no_text_in_a_tools_arguments_are_read_as_go_reads_them() -> None:
    call = b'{"function":{"name":"f","arguments":{"a":"\xf5"}}}'
    body = b'{"model":"m","messages":[{"role":"assistant","tool_calls":[%b]}]}' % call
    [message] = read_typed(body, Operation.CHAT).messages
    assert [use.arguments for use in message.tool_uses] == ['{"a":"\ufffd"}']
