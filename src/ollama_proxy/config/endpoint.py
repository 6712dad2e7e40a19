"""Endpoints of backends, in one normal form."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

_DEFAULT_PORTS = {"http": 80, "https": 443}
_OLLAMA_PORT = 11434
_UNIX = "http+unix"


class EndpointError(ValueError):
    """An endpoint that cannot be used; the text says why."""


class Endpoint(msgspec.Struct, frozen=True):
    """Scheme, host, port, and the path in front of every route, without a slash at its end.

    A server on a Unix socket has the socket's path besides, and is called localhost.
    """

    scheme: str
    host: str
    port: int
    prefix: str = ""
    unix_path: str = ""


def parse_endpoint(text: str) -> Endpoint:
    """Read `http(s)://host[:port][/path]`, Ollama's bare `host[:port]`, or `http+unix://%2Fpath%2Fof%2Fsocket[/path]`.

    Raises `EndpointError`.
    """
    text = text.strip()
    bare = "://" not in text
    if "@" in text:
        raise EndpointError("no credentials in an endpoint; name a variable with api_key_env")
    if "?" in text or "#" in text:
        raise EndpointError("no query or fragment in an endpoint")
    if not re.fullmatch(r"(?:http\+unix:)?[A-Za-z0-9._~:/\[\]%-]+", text) or (bare and ":/" in text):
        raise EndpointError(f"{text[:100]!r} is not an address; expected something like http://localhost:11434")
    try:
        parts = urlsplit(f"http://{text}" if bare else text)
        port = parts.port
    except ValueError as error:
        raise EndpointError(f"{text[:100]!r} is not an address: {error}") from None
    if parts.scheme == _UNIX:
        return _read_unix(parts)
    if parts.scheme not in _DEFAULT_PORTS:
        raise EndpointError(f"{parts.scheme}:// is not served; use http:// or https://")
    if not parts.hostname:
        raise EndpointError(f"{text[:100]!r} has no host; expected something like http://localhost:11434")
    if port == 0:
        raise EndpointError(f"{text[:100]!r} has port 0; name the port the server listens on")
    default = _OLLAMA_PORT if bare else _DEFAULT_PORTS[parts.scheme]
    return Endpoint(parts.scheme, parts.hostname, port or default, parts.path.rstrip("/"))


def _read_unix(parts: SplitResult) -> Endpoint:
    path = unquote(parts.netloc)
    if not path.startswith("/") or "\0" in path:
        raise EndpointError("the socket of http+unix:// is an absolute path with %2F for each slash")
    return Endpoint("http", "localhost", _DEFAULT_PORTS["http"], parts.path.rstrip("/"), path)
