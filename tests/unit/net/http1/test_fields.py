"""What is remembered of field lines: what repeats, bounded, and never a secret."""

from __future__ import annotations

import pytest

from ollama_proxy.net.http1.fields import BadField, count_field, index_fields, read_field, read_fields, read_tokens


def kept(line: bytes) -> bool:
    """Whether a second look gives the very same object: it was remembered."""
    return read_field(line) is read_field(bytes(bytearray(line)))


def test_a_line_that_repeats_is_read_once() -> None:
    assert read_field(b"X-Some-Name: \t some value ") == (b"x-some-name", b"some value")
    assert kept(b"X-Some-Name: \t some value ")


@pytest.mark.parametrize(
    "line",
    [
        b"Authorization: Bearer word",
        b"PROXY-AUTHORIZATION: Basic word",
        b"Cookie: session=word",
        b"Set-Cookie: session=word",
        b"X-API-Key: word",
        b"api-key: word",
        b"X-Amz-Security-Token: word",
        b"X-Goog-Signature: word",
        b"X-Long: " + b"a" * 200,
    ],
)
def test_secrets_and_long_lines_are_not_kept(line: bytes) -> None:
    assert not kept(line)


def test_what_is_kept_is_bounded() -> None:
    first = read_field(b"X-First: 1")
    assert kept(b"X-First: 1")
    for number in range(3000):
        read_field(b"X-Number: %d" % number)
    assert read_field(b"X-First: 1") is not first


@pytest.mark.parametrize(
    "line", [b"", b"no colon", b": v", b"a b: v", b"a : v", b" a: v", b"a: \x00", b"a: b\r", b"a: b\n"]
)
def test_what_is_no_field_is_refused_each_time(line: bytes) -> None:
    for _ in range(2):
        with pytest.raises(BadField):
            read_field(line)


def test_the_first_of_a_name_is_its_value_and_all_its_lines_are_one_list() -> None:
    fields = read_fields([b"A: 1", b"B: x, ,Y ,", b"a: 2", b"b:z"])
    assert index_fields(fields) == {b"a": b"1", b"b": b"x, ,Y ,"}
    assert count_field(fields, b"a") == 2
    assert read_tokens(fields, b"b") == {b"x", b"y", b"z"}
