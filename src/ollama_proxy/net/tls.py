"""TLS contexts for both sides: what a listening port shows, and what is asked of an upstream."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path


class TlsError(ValueError):
    """Certificate files that cannot be used; the text says which and why."""


def make_server_context(
    cert_file: str | Path,
    key_file: str | Path,
    *,
    client_ca_file: str | Path | None = None,
    alpn: Sequence[str] = ("http/1.1",),
) -> ssl.SSLContext:
    """A context for listening: TLS 1.2 or newer; with `client_ca_file`, only for clients it has signed.

    `alpn` names the protocols in order of preference. Raises `TlsError`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A client that starts over and over within one connection costs more than it pays.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    try:
        context.load_cert_chain(cert_file, key_file)
    except (OSError, ssl.SSLError) as error:
        raise TlsError(f"cannot use {cert_file} with the key {key_file}: {_reason(error)}") from None
    if client_ca_file is not None:
        _load_authority(context, client_ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(list(alpn))
    return context


def make_client_context(ca_file: str | Path | None = None, *, alpn: Sequence[str] = ("http/1.1",)) -> ssl.SSLContext:
    """A context for connecting: TLS 1.2 or newer, certificate and name checked by the machine's authorities.

    With `ca_file`, by those in it alone. Raises `TlsError`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is None:
        context.load_default_certs()
    else:
        _load_authority(context, ca_file)
    context.set_alpn_protocols(list(alpn))
    return context


def _load_authority(context: ssl.SSLContext, ca_file: str | Path) -> None:
    try:
        context.load_verify_locations(ca_file)
    except (OSError, ssl.SSLError) as error:
        raise TlsError(f"cannot read the authority {ca_file}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not a certificate in PEM form").replace("_", " ").lower()
    return (getattr(error, "strerror", None) or str(error)).lower()
