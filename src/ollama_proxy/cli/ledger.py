"""`ollama-proxy ledger`: what requests cost, by model, backend, key or day."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Literal

import typer


def ledger(
    by: Annotated[Literal["model", "backend", "key", "day"], typer.Option(help="What a line is.")] = "model",
    since: Annotated[str, typer.Option(help="30m, 24h, 7d, 2w, or a date such as 2026-11-01.")] = "7d",
    until: Annotated[str, typer.Option(help="The same; left off, now.")] = "",
    accounting: Annotated[
        Literal["marginal", "full"], typer.Option(help="Joules above idle, or with a share of the idle draw.")
    ] = "marginal",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    file: Annotated[Path | None, typer.Option(help="The ledger, if not the configured one.", metavar="FILE")] = None,
    config: Annotated[str | None, typer.Option(help="Configuration file.", metavar="FILE")] = None,
) -> None:
    """Show the energy that requests took, what it cost and what was saved. Changes nothing."""
    import sqlite3

    from ollama_proxy.cli.ledger_report import render_summary
    from ollama_proxy.config.load import find_config, load_config
    from ollama_proxy.config.problems import ConfigError
    from ollama_proxy.energy.ledger.document import as_document
    from ollama_proxy.energy.ledger.file import LedgerError, default_path, open_for_reading
    from ollama_proxy.energy.ledger.summary import Tariff, summarise

    now_unix_s = time.time()
    span = (_read_time(since, now_unix_s, "--since"), _read_time(until or "0m", now_unix_s, "--until"))
    try:
        energy = load_config(find_config(config, os.environ, Path.cwd()), os.environ).energy
        path = file or (Path(energy.ledger_path) if energy.ledger_path else default_path(os.environ))
        connection = open_for_reading(path)
    except (ConfigError, LedgerError) as error:
        typer.echo(f"ollama-proxy ledger: {error}", err=True)
        raise typer.Exit(2) from None
    if connection is None:
        typer.echo(f"ollama-proxy ledger: there is no ledger at {path} yet; it begins with the first request", err=True)
        raise typer.Exit(1)
    tariff = Tariff(energy.price_per_kwh, energy.currency, energy.carbon_g_per_kwh)
    try:
        summary = summarise(connection, by, *span, accounting)
    except sqlite3.Error as error:
        typer.echo(f"ollama-proxy ledger: the ledger {path} cannot be read: {error}", err=True)
        raise typer.Exit(2) from None
    finally:
        connection.close()
    if as_json:
        from msgspec import json

        typer.echo(json.format(json.encode(as_document(summary, tariff, span, str(path))), indent=2).decode())
    else:
        typer.echo(render_summary(summary, tariff, span, str(path)))


def _read_time(text: str, now_unix_s: float, option: str) -> float:
    from ollama_proxy.energy.ledger.document import read_time

    try:
        return read_time(text, now_unix_s)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
