"""Who is at the other end of a client's connection: its address, and the names in the certificate it has shown."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

#: The kinds of subjectAltName that name somebody.
_KINDS = ("DNS", "URI", "email")


class Peer(str):
    """An address and port, `local` where there is none; with the names in a certificate that was checked."""

    __slots__ = ("names",)

    names: tuple[str, ...]


def find_peer(transport: asyncio.BaseTransport) -> str:
    """Who it is; a `Peer` where the client had to show a certificate."""
    address = transport.get_extra_info("peername")
    told = f"{address[0]}:{address[1]}" if isinstance(address, tuple) and len(address) >= 2 else "local"
    shown = transport.get_extra_info("peercert")
    if not shown:
        return told
    peer = Peer(told)
    peer.names = read_names(shown)
    return peer


def read_names(certificate: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of a certificate as `ssl` tells it: those of subjectAltName, or the common name where it has none."""
    found = tuple(value for kind, value in certificate.get("subjectAltName", ()) if kind in _KINDS)
    if found:
        return found
    parts = (part for group in certificate.get("subject", ()) for part in group)
    return tuple(value for kind, value in parts if kind == "commonName")
