"""Asking a proxy that runs, for subcommands that show what it knows."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from typing import NoReturn

import typer

DEFAULT_URL = "http://127.0.0.1:8080"
#: Where the command line finds a key for a proxy that asks for one.
KEY_VARIABLE = "OLLAMA_PROXY_API_KEY"
_TIMEOUT_S = 10


def ask(
    command: str,
    url: str,
    path: str,
    body: bytes | None = None,
    accept: str = "application/json",
    *,
    gone: bytes | None = None,
    method: str | None = None,
    timeout_s: float = _TIMEOUT_S,
) -> bytes:
    """The body of the answer. Ends the command with a sentence where there is none, or a refusal.

    `gone` is taken for the answer where the proxy has no such thing any more.
    """
    headers = {"Accept": accept, "Content-Type": "application/json"}
    key = os.environ.get(KEY_VARIABLE, "")
    if key:
        headers["Authorization"] = f"Bearer {key}"
    try:
        request = urllib.request.Request(url.rstrip("/") + path, body, headers, method=method)
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            found: bytes = answer.read()
            return found
    except urllib.error.HTTPError as error:
        if gone is not None and error.code == 404:
            return gone
        hint = f"; set {KEY_VARIABLE} to one that may" if error.code in (401, 403) else ""
        fail(command, (_read_refusal(error.read()) or f"{url} answers with status {error.code}") + hint)
    except ValueError:
        fail(command, f"--url: expected an address like {DEFAULT_URL}, not {url[:200]!r}")
    except OSError as error:
        reason = getattr(error, "reason", error)
        fail(command, f"no proxy answers at {url} ({reason}); start one, or say --url where it is", 1)


def fail(command: str, message: str, code: int = 2) -> NoReturn:
    """End the command with a sentence on standard error."""
    typer.echo(f"ollama-proxy {command}: {message}", err=True)
    raise typer.Exit(code)


def quote(ident: str) -> str:
    """An id as a part of a path."""
    return urllib.parse.quote(ident, safe="")


def _read_refusal(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, LookupError, TypeError):
        return body.decode("utf-8", "replace").strip()[:500]
