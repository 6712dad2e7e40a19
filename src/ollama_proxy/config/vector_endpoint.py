"""Addresses of vector databases: what kind of server is there is in the scheme."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from ollama_proxy.config.endpoint import EndpointError, parse_endpoint

_POSTGRES = ("postgresql", "postgres")


class VectorEndpoint(msgspec.Struct, frozen=True):
    """A server of Qdrant by its URL, or a database of Postgres by its parts; `user` "" for the server's own rule."""

    kind: Literal["qdrant", "pgvector"]
    url: str
    host: str
    port: int
    database: str = ""
    user: str = ""


def parse_vector_endpoint(text: str) -> VectorEndpoint:
    """Read `http(s)://host[:port]` (Qdrant) or `postgresql://[user@]host[:port]/database`; a host that is an absolute
    path with %2F for each slash is a folder with a socket. Raises `EndpointError`."""
    text = text.strip()
    scheme = text.partition("://")[0]
    if scheme not in _POSTGRES:
        endpoint = parse_endpoint(text)
        if endpoint.unix_path:
            raise EndpointError("Qdrant is asked over http:// or https://")
        return VectorEndpoint("qdrant", text.rstrip("/"), endpoint.host, endpoint.port)
    try:
        parts = urlsplit(text)
        port = parts.port or 5432
    except ValueError as error:
        raise EndpointError(f"{text[:100]!r} is not an address: {error}") from None
    if parts.password is not None:
        raise EndpointError("no password in an endpoint; name a variable with api_key_env")
    database = parts.path.removeprefix("/")
    if not parts.hostname or not re.fullmatch(r"[\w.-]+", database) or parts.query:
        raise EndpointError(f"{text[:100]!r} is not an address; expected postgresql://user@host:5432/database")
    host = parts.netloc.rpartition("@")[2].replace("%2F", "/").replace("%2f", "/")
    host = host if host.startswith("/") else parts.hostname
    return VectorEndpoint("pgvector", text, host, port, database, parts.username or "")
