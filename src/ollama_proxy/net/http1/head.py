"""What a request's head must satisfy beyond what the parser checks: rules of RFC 9112, and our limits."""

from __future__ import annotations

import re

from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http1.limits import HttpLimits

#: RFC 9112, 3.2: uri-host and port; no user, no path, no blanks.
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%-]*(\[[0-9A-Fa-f:.]+\])?(:[0-9]*)?")


def check_head(exchange: Exchange, version: str, limits: HttpLimits) -> tuple[int, str] | None:
    """What llhttp leaves open: version, target, Host (RFC 9112, 3.2), coding (6.1), size: status and sentence."""
    if version not in ("1.0", "1.1"):
        return 505, f"HTTP version {version} is not served; use HTTP/1.1"
    return _check_target(exchange) or _check_fields(exchange, limits)


def _check_target(exchange: Exchange) -> tuple[int, str] | None:
    method, target = exchange.method, exchange.target
    if method == b"CONNECT":
        return 405, "CONNECT is not served"
    if method == b"SOURCE":
        return 501, "the method SOURCE is not served"
    if not target.startswith(b"/") and not (target == b"*" and method == b"OPTIONS"):
        return 400, "the request target must be a path"
    return (400, "a request target has no fragment") if b"#" in target else None


def _check_fields(exchange: Exchange, limits: HttpLimits) -> tuple[int, str] | None:
    hosts, codings, length = [], 0, 0
    for name, value in exchange.headers:
        if name == b"host":
            hosts.append(value)
        elif name == b"transfer-encoding":
            codings += 1
            if value.lower() != b"chunked" or exchange.http10 or codings > 1:
                return 501, "only the transfer coding 'chunked' is served, and only in HTTP/1.1"
        elif name == b"content-length" and value.isdigit():
            length = int(value)
    if length > limits.body_bytes:
        return 413, f"the body is larger than {limits.body_bytes} bytes"
    if len(hosts) > 1 or (not hosts and not exchange.http10):
        return 400, "exactly one Host header is needed"
    if hosts and not _HOST.fullmatch(hosts[0]):
        return 400, "the Host header must be a host and a port"
    return None


def has_body(exchange: Exchange) -> bool:
    """Whether the head announces a body."""
    length = exchange.header(b"content-length")
    return exchange.header(b"transfer-encoding") is not None or (length is not None and length.strip(b"0") != b"")


def expects_continue(exchange: Exchange) -> bool:
    """Whether the client waits for our word before it sends the body."""
    value = exchange.header(b"expect")
    return value is not None and value.lower() == b"100-continue"
