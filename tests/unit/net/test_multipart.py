"""Fields of forms: found, replaced, and not looked for among more parts than anybody reads."""

from __future__ import annotations

import pytest

from ollama_proxy.net.multipart import MOST_PARTS, FormError, find_field, with_field

END = b"--b--\r\n"


def part(name: bytes, value: bytes) -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (name, value)


def test_a_field_is_found_and_replaced() -> None:
    body = part(b"file", b"x") + part(b"model", b"one") + END
    assert with_field(body, b"b", b"model", b"two") == part(b"file", b"x") + part(b"model", b"two") + END
    assert with_field(END, b"b", b"model", b"two") == part(b"model", b"two") + END


def test_the_last_part_that_is_read_may_be_the_one() -> None:
    body = part(b"a", b"") * (MOST_PARTS - 1) + part(b"model", b"one") + END
    place = find_field(body, b"b", b"model")
    assert place is not None
    assert body[slice(*place)] == b"one"


@pytest.mark.parametrize("rest", [part(b"a", b"") * MOST_PARTS, part(b"a", b"") * 500_000])
def test_a_flood_of_parts_is_refused(rest: bytes) -> None:
    with pytest.raises(FormError, match="too many parts"):
        find_field(rest + part(b"model", b"one") + END, b"b", b"model")


def test_a_field_before_a_flood_of_parts_is_found() -> None:
    assert find_field(part(b"model", b"one") + part(b"a", b"") * 500_000, b"b", b"model") is not None
