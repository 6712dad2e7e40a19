"""Bodies as Go reads them. The texts are a real Ollama's; `tests/golden` holds many more bodies against one."""

from __future__ import annotations

import json

import pytest

from ollama_proxy.api.ollama.go_types import (
    CHAT,
    COPY,
    EMBED,
    GENERATE,
    SHOW,
    read_duration,
    read_request,
)
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.bodies.go_json import GoType, find_bad_base64, tidy
from ollama_proxy.net.bodies.go_syntax import GoError

SYNTAX = [
    (b"", "missing request body"),
    (b" \n", "missing request body"),
    (b"{", "unexpected EOF"),
    (b'{"model"', "unexpected EOF"),
    (b'"', "unexpected EOF"),
    (b"-", "unexpected EOF"),
    (b"{,}", "invalid character ',' looking for beginning of object key string"),
    (b'{"a" 1}', "invalid character '1' after object key"),
    (b'{"a":1 2}', "invalid character '2' after object key:value pair"),
    (b'{"a":[1 2]}', "invalid character '2' after array element"),
    (b'{"a":01}', "invalid character '1' after object key:value pair"),
    (b'{"a":}', "invalid character '}' looking for beginning of value"),
    (b'{"a":nope}', "invalid character 'o' in literal null (expecting 'u')"),
    (b'{"a":trie}', "invalid character 'i' in literal true (expecting 'u')"),
    (b'{"a":-x}', "invalid character 'x' in numeric literal"),
    (b'{"a":1.x}', "invalid character 'x' after decimal point in numeric literal"),
    (b'{"a":1e+x}', "invalid character 'x' in exponent of numeric literal"),
    (b'{"a":"\n"}', "invalid character '\\n' in string literal"),
    (b'{"a":"\\q"}', "invalid character 'q' in string escape code"),
    (b'{"a":"\\u12g4"}', "invalid character 'g' in \\u hexadecimal character escape"),
    (b"{'a':1}", "invalid character '\\'' looking for beginning of object key string"),
    (b"\xe9", "invalid character '\N{LATIN SMALL LETTER E WITH ACUTE}' looking for beginning of value"),
    (b"\x7f", "invalid character '\\x7f' looking for beginning of value"),
    (b"[" * 10_001, "invalid character '[' exceeded max depth"),
    (b"[" + b"0," * 300_000, "too many values in a body that cannot be read"),
]

TYPES = [
    (GENERATE, b"[1]", "json: cannot unmarshal array into Go value of type api.GenerateRequest"),
    (GENERATE, b'"x"', "json: cannot unmarshal string into Go value of type api.GenerateRequest"),
    (
        GENERATE,
        b'{"STREAM":"x"}',
        "json: cannot unmarshal string into Go struct field GenerateRequest.stream of type bool",
    ),
    (
        GENERATE,
        b'{"context":[1.5]}',
        "json: cannot unmarshal number 1.5 into Go struct field GenerateRequest.context of type int",
    ),
    (
        GENERATE,
        b'{"width":3000000000}',
        "json: cannot unmarshal number 3000000000 into Go struct field GenerateRequest.width of type int32",
    ),
    (
        GENERATE,
        b'{"options":[]}',
        "json: cannot unmarshal array into Go struct field GenerateRequest.options of type map[string]interface {}",
    ),
    (
        GENERATE,
        b'{"options":{"a":1e999}}',
        "json: cannot unmarshal number 1e999 into Go struct field GenerateRequest.options of type float64",
    ),
    (GENERATE, b'{"images":["QUJ"]}', "illegal base64 data at input byte 0"),
    (GENERATE, b'{"keep_alive":true}', "Unsupported type: 'bool'"),
    (GENERATE, b'{"keep_alive":[]}', "Unsupported type: '[]interface {}'"),
    (GENERATE, b'{"keep_alive":"10"}', 'time: missing unit in duration "10"'),
    (GENERATE, b'{"keep_alive":"1x"}', 'time: unknown unit "x" in duration "1x"'),
    (
        GENERATE,
        b'{"think":"lots"}',
        'invalid think value: "lots" (must be "high", "medium", "low", "max", true, or false)',
    ),
    (
        CHAT,
        b'{"messages":["x"]}',
        "json: cannot unmarshal string into Go struct field ChatRequest.messages of type api.Alias",
    ),
    (
        CHAT,
        b'{"messages":[{"content":[]}]}',
        "json: cannot unmarshal array into Go struct field ChatRequest.messages.content of type string",
    ),
    (
        CHAT,
        b'{"messages":[{"tool_calls":[{"function":{"arguments":"x"}}]}]}',
        "Value looks like object, but can't find closing '}' symbol",
    ),
    (
        CHAT,
        b'{"tools":[{"function":{"name":1}}]}',
        "json: cannot unmarshal number into Go struct field ToolFunction.tools.function.name of type string",
    ),
    (
        COPY,
        b'{"source":{},"destination":1}',
        "json: cannot unmarshal object into Go struct field CopyRequest.source of type string",
    ),
]


@pytest.mark.parametrize(("body", "text"), SYNTAX)
def test_syntax(body: bytes, text: str) -> None:
    with pytest.raises(ProxyError) as caught:
        read_request(body, GENERATE)
    assert (caught.value.kind, caught.value.message) == (ErrorKind.INVALID_REQUEST, text)


@pytest.mark.parametrize(("kind", "body", "text"), TYPES)
def test_types(kind: GoType, body: bytes, text: str) -> None:
    with pytest.raises(ProxyError) as caught:
        read_request(body, kind)
    assert caught.value.message == text


@pytest.mark.parametrize(
    ("kind", "body", "found"),
    [
        (SHOW, b"null", {}),
        (SHOW, b"nullx", {}),
        (SHOW, b'{"model":"a"} and more', {"model": "a"}),
        (SHOW, b'{"MODEL":"a","Model":"b"}', {"model": "b"}),
        (SHOW, b'{"m\\u006fdel":"a","model":null,"x":[{}]}', {"model": "a"}),
        (SHOW, b'{"model":"\\ud800\xff"}', {"model": "\N{REPLACEMENT CHARACTER}" * 2}),
        (SHOW, '{"verbo\N{LATIN SMALL LETTER LONG S}e":true}'.encode(), {"verbose": True}),
        (SHOW, b'{"options":{"a":1},"options":{"b":null}}', {"options": {"a": 1, "b": None}}),
        (EMBED, b'{"input":["a",1],"dimensions":2}', {"input": ["a", 1], "dimensions": 2}),
        (GENERATE, b'{"keep_alive":"-1s","think":"high","stream":null}', {"keep_alive": "-1s", "think": "high"}),
        (CHAT, b'{"messages":[null,{"ROLE":"user","x":1}]}', {"messages": [{}, {"role": "user"}]}),
    ],
)
def test_what_is_taken(kind: GoType, body: bytes, found: dict[str, object]) -> None:
    assert read_request(body, kind) == found


def test_a_tidy_body_says_the_same_to_stricter_readers() -> None:
    body = b'{"MODEL":"a", "model":"b", "x":{"Y":1.50}, "prompt":"\xff", "stream":null} {"model":"c"}'
    assert tidy(body, GENERATE) == (
        b'{"model":"b","x":{"Y":1.50},"prompt":"%b","stream":null}' % "\N{REPLACEMENT CHARACTER}".encode()
    )
    assert json.loads(tidy(b'{"model":"a","model":null}', GENERATE)) == {"model": "a"}


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("-0", 0),
        ("1.5h", 5_400_000_000_000),
        ("1h30m", 5_400_000_000_000),
        ("-1s", -1_000_000_000),
        (".5us", 500),
    ],
)
def test_durations(text: str, nanoseconds: int) -> None:
    assert read_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "-", "s", ".s", "1", "1 s", "9999999999h", "1h-1m"])
def test_no_durations(text: str) -> None:
    with pytest.raises(GoError, match=r"^time: "):
        read_duration(text)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        (b"", None),
        (b"QUJD", None),
        (b"QU\r\nJD", None),
        (b"QQ==", None),
        (b"QQ=\n=\n", None),
        (b"Q", 0),
        (b"QUJ", 0),
        (b"Q=", 1),
        (b"QQ=", 3),
        (b"QQ=x", 2),
        (b"QUI=x", 4),
        (b"QU-D", 2),
    ],
)
def test_base64(text: bytes, at: int | None) -> None:
    found = find_bad_base64(text)
    assert (found is None) is (at is None)
