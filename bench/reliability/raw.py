"""Bytes as an attacker would send them, and the status that came back."""

from __future__ import annotations

import contextlib
import socket


def send(port: int, data: bytes, limit_s: float = 5.0) -> tuple[int, bytes]:
    """Send bytes on a connection of its own; the first status (0: none came) and all that was answered."""
    answer = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=limit_s) as connection, contextlib.suppress(OSError):
        connection.sendall(data)
        while piece := connection.recv(65536):
            answer += piece
            if len(answer) > 1 << 20:
                break
    words = bytes(answer[:16]).split(b" ")
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0, bytes(answer)


def head(target: bytes = b"/", host: bytes = b"localhost", fields: bytes = b"", method: bytes = b"GET") -> bytes:
    """A head that ends its connection; `fields` are whole lines."""
    return b"%b %b HTTP/1.1\r\nHost: %b\r\n%bConnection: close\r\n\r\n" % (method, target, host, fields)


def post(target: bytes, body: bytes, fields: bytes = b"") -> bytes:
    """A request with a body."""
    lines = b"Content-Type: application/json\r\nContent-Length: %d\r\n%b" % (len(body), fields)
    return head(target, fields=lines, method=b"POST") + body
