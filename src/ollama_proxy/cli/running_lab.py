"""Talk to an emulated fleet that runs, through its control port."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import NoReturn

import typer

CONTROL_PORT = 11400


def fail(message: str) -> NoReturn:
    """End with a sentence and code 2."""
    typer.echo(f"ollama-proxy lab: {message}", err=True)
    raise typer.Exit(2)


def ask_lab(control_port: int, path: str, body: bytes | None = None) -> str:
    """The answer's text; a refusal, or nobody there, ends the program."""
    request = urllib.request.Request(f"http://127.0.0.1:{control_port}{path}", body)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            text: str = answer.read().decode()
            return text.strip()
    except urllib.error.HTTPError as error:
        fail(error.read().decode().strip())
    except OSError:
        fail(f"no lab answers on control port {control_port}; start one with: ollama-proxy lab up")
