"""An endpoint has one normal form, and what has none is refused without showing a password."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.config.endpoint import Endpoint, EndpointError, parse_endpoint


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
        ("http+unix://%2Frun%2FOllama.sock", Endpoint("http", "localhost", 80, "", "/run/Ollama.sock")),
        ("http+unix://%2Frun%2Fa.sock/v1/", Endpoint("http", "localhost", 80, "/v1", "/run/a.sock")),
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
        "http+unix://run%2Fx.sock",
        "http+unix:///run/x.sock",
        "http+unix://%2Frun%00",
        "http://box:abc",
        "http://box:99999",
        "http://box:80:80",
        "http://[::1",
        "http://user@box",
        "http://user:word@box",
        "http://box?key=1",
        "http://box#part",
        "http://box:0",
        "http://a b",
        "http://box/a b",
        "http://box/ä",
        "http://bo\nx/\r\ny",
        "http://@box",
        "http://box?",
        "http:/localhost",
    ],
)
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(EndpointError):
        parse_endpoint(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://user:hunter2@box",
        "http://user:hunter2@box:port",
        "user:hunter2@box:99999",
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
