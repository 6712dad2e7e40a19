"""Fields of forms: found, replaced, and not looked for among more parts than anybody reads."""

from __future__ import annotations

import pytest

from ollama_proxy.net.bodies.multipart import MOST_PARTS, FormError, find_field, read_boundary, with_field

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


def test_a_flood_of_parts_behind_the_field_is_refused() -> None:
    with pytest.raises(FormError, match="too many parts"):
        find_field(part(b"model", b"one") + part(b"a", b"") * 500_000, b"b", b"model")


def disposition(text: bytes, value: bytes = b"other") -> bytes:
    """A part whose head is written out."""
    return b"--b\r\n%b\r\n\r\n%b\r\n" % (text, value)


FIELD = b"Content-Disposition: form-data"


@pytest.mark.parametrize(
    "hidden",
    [
        part(b"model", b"other"),
        disposition(FIELD.lower() + b"; name=model"),
        disposition(FIELD + b'; filename="x"; name="model"'),
        disposition(FIELD + b"; name=\"model\"; x='; name=y'"),
        disposition(FIELD + b'; name="model"; filename="; name=y"'),
        disposition(FIELD + b'; name="y"; name="model"'),
        disposition(FIELD + b'; name="mod\\el"'),
        disposition(FIELD + b"; name*=utf-8''model"),
        disposition(FIELD + b'; name*0="mo"; name*1="del"'),
        disposition(FIELD + b';\r\n name="model"'),
        disposition(b"X: y\n" + FIELD + b'; name="model"'),
        disposition(FIELD + b'; name="y"\r\n' + FIELD + b'; name="model"'),
        disposition(FIELD.replace(b":", b" :") + b'; name="model"'),
        disposition(b"X: " + b"y" * 9000 + b"\r\n" + FIELD + b'; name="model"'),
        b"--b--x\r\n" + part(b"model", b"other"),
        b"--b\nX: y\r\n\r\nx\r\n" + part(b"model", b"other"),
    ],
)
def test_a_second_model_is_hidden_from_nobody(hidden: bytes) -> None:
    with pytest.raises(FormError):
        find_field(part(b"model", b"one") + hidden + END, b"b", b"model")
    with pytest.raises(FormError):
        find_field(hidden + part(b"model", b"one") + END, b"b", b"model")


def test_a_part_before_the_first_that_everybody_finds() -> None:
    with pytest.raises(FormError):
        find_field(b"x\n" + part(b"model", b"other") + part(b"model", b"one") + END, b"b", b"model")
    assert find_field(b"\r\n" + part(b"model", b"one") + END, b"b", b"model") is not None


@pytest.mark.parametrize(
    "head",
    [
        FIELD + b'; name="file"; filename="a\\"; name=\\"model.wav"',
        FIELD + b'; name="file"; filename="a.wav"; filename*=utf-8\'\'%c3%a9.wav',
        FIELD + b'; name=file; filename="C:\\a.wav"\r\nContent-Type: audio/wav',
        FIELD + b'; name="temperature"',
        FIELD + b'; name="timestamp_granularities[]";',
        b"Content-Type: text/plain; name=model",
    ],
)
def test_ordinary_parts_beside_the_model(head: bytes) -> None:
    body = disposition(head) + part(b"model", b"one") + END
    place = find_field(body, b"b", b"model")
    assert place is not None
    assert body[slice(*place)] == b"one"


@pytest.mark.parametrize(
    "parameters",
    [
        b"boundary=a; boundary=b",
        b'x="; boundary=b"; boundary=a',
        b'boundary="a\\"; x=\\"b"',
        b"boundary=a; BOUNDARY*=b",
    ],
)
def test_a_body_is_one_form(parameters: bytes) -> None:
    with pytest.raises(FormError):
        read_boundary(b"multipart/form-data; " + parameters)


@pytest.mark.parametrize("parameters", [b"boundary=a", b'charset=utf-8;boundary="a"', b"Boundary=a;"])
def test_ordinary_boundaries(parameters: bytes) -> None:
    assert read_boundary(b"multipart/form-data; " + parameters) == b"a"
