"""An endpoint has one normal form, and what has none is refused without showing a password."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.config.endpoint import Endpoint, EndpointError, parse_endpoint


def bug(reason: str) -> pytest.MarkDecorator:
    """A fault known today; strict, so that its mend takes this mark away."""
    return pytest.mark.xfail(strict=True, reason=reason)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("http://localhost:11434", Endpoint("http", "localhost", 11434)),
        (" http://localhost:11434/ ", Endpoint("http", "localhost", 11434)),
        ("localhost", Endpoint("http", "localhost", 11434)),
        ("box:8000", Endpoint("http", "box", 8000)),
        ("box/v1", Endpoint("http", "box", 11434, "/v1")),
        ("https://api.example.com/v1/", Endpoint("https", "api.example.com", 443, "/v1")),
        ("http://example.com", Endpoint("http", "example.com", 80)),
        ("HTTP://Box:80/A/b", Endpoint("http", "box", 80, "/A/b")),
        ("http://[::1]:8080/v1", Endpoint("http", "::1", 8080, "/v1")),
        ("[::1]:8080", Endpoint("http", "::1", 8080)),
    ],
)
def test_the_normal_form(text: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(text) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://",
        "http:///path",
        "ftp://box",
        "unix:///run/x.sock",
        "http://box:abc",
        "http://box:99999",
        "http://box:80:80",
        "http://[::1",
        "http://user@box",
        "http://user:word@box",
        "http://box?key=1",
        "http://box#part",
        pytest.param("http://box:0", marks=bug("`port or default` turns 0 into 80")),
        pytest.param("http://a b", marks=bug("a host with a space can never be reached")),
        pytest.param("http://box/a b", marks=bug("a prefix with a space breaks the request line")),
        pytest.param("http://box/ä", marks=bug("a prefix that is not ASCII breaks the request line")),
        pytest.param("http://bo\nx/\r\ny", marks=bug("urlsplit drops line ends in silence")),
        pytest.param("http://@box", marks=bug("empty credentials, query and fragment pass")),
        pytest.param("http://box?", marks=bug("empty credentials, query and fragment pass")),
        pytest.param("http:/localhost", marks=bug("taken as the host `http`")),
    ],
)
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(EndpointError):
        parse_endpoint(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://user:hunter2@box",
        pytest.param("http://user:hunter2@box:port", marks=bug("credentials are looked for after the port")),
        pytest.param("user:hunter2@box:99999", marks=bug("credentials are looked for after the port")),
    ],
)
def test_a_refusal_shows_no_password(text: str) -> None:
    with pytest.raises(EndpointError) as caught:
        parse_endpoint(text)
    assert "hunter2" not in str(caught.value)


@given(st.text())
@settings(max_examples=300, deadline=None, database=None)
def test_any_text_is_an_endpoint_or_an_endpoint_error(text: str) -> None:
    for candidate in (text, f"http://{text}", f"http://box:{text}"):
        try:
            endpoint = parse_endpoint(candidate)
        except EndpointError:
            continue
        assert endpoint.host
        assert 0 < endpoint.port <= 65535
        assert not endpoint.prefix.endswith("/")


NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)


@given(st.sampled_from(["http", "https"]), NAMES, st.integers(1, 65535), st.sampled_from(["", "/v1", "/a/b"]))
@settings(max_examples=100, deadline=None, database=None)
def test_the_normal_form_written_out_is_read_as_itself(scheme: str, host: str, port: int, prefix: str) -> None:
    expected = Endpoint(scheme, host, port, prefix)
    assert parse_endpoint(f"{scheme}://{host}:{port}{prefix}") == expected
    assert parse_endpoint(f"{scheme}://{host}:{port}{prefix}/") == expected
