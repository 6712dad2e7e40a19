"""`ollama-proxy lab`: a fleet to try on."""

from __future__ import annotations

import typer

app = typer.Typer(help="An emulated fleet to try on, with faults to switch on.", no_args_is_help=True)
