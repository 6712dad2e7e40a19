"""The command `ollama-proxy`: serves when it is given no subcommand.

Flags may be written with one dash (`-config`), as the program that this one replaces had them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ollama_proxy.cli import check, doctor, explain, keys, lab, ledger, replay, serve

app = typer.Typer(
    name="ollama-proxy",
    help="One endpoint in front of every model server you own.",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(lab.app, name="lab")
app.command("check")(check.check)
app.command("doctor")(doctor.doctor)
app.command("explain")(explain.explain)
app.add_typer(keys.app, name="keys")
app.command("ledger")(ledger.ledger)
app.command("replay")(replay.replay)

_LONG_FLAGS = (
    "config",
    "log-level",
    "grpc-port",
    "http-port",
    "host",
    "take-over",
    "validate-config",
    "version",
    "help",
)


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    config: Annotated[str | None, typer.Option(help="Configuration file.", metavar="FILE")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="gRPC port.", min=0, max=65535)] = None,
    http_port: Annotated[int | None, typer.Option(help="HTTP port.", min=0, max=65535)] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Follow the proxy that runs on these ports, without a gap.")
    ] = False,
    validate_config: Annotated[bool, typer.Option("--validate-config", help="Check the file and exit.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Serve, or run a subcommand."""
    if version:
        import ollama_proxy

        typer.echo(f"ollama-proxy {ollama_proxy.__version__}")
        raise typer.Exit
    if context.invoked_subcommand is not None:
        return
    from ollama_proxy.config.load import Overrides, find_config, load_config
    from ollama_proxy.config.problems import ConfigError

    path = find_config(config, os.environ, Path.cwd()).absolute()
    flags = Overrides(host, grpc_port, http_port, log_level)
    try:
        loaded = load_config(path, os.environ, flags)
    except ConfigError as error:
        typer.echo(f"ollama-proxy: {error}", err=True)
        raise typer.Exit(2) from None
    if validate_config:
        typer.echo(f"{path}: good")
        raise typer.Exit
    raise typer.Exit(serve.serve(loaded, path, lambda: load_config(path, os.environ, flags), take_over=take_over))


def normalise_flags(arguments: list[str]) -> list[str]:
    """Long flags with one dash become long flags with two."""
    found = []
    for argument in arguments:
        name = argument[1:].partition("=")[0]
        known = argument.startswith("-") and not argument.startswith("--") and name in _LONG_FLAGS
        found.append("-" + argument if known else argument)
    return found


def main() -> None:
    """Entry point."""
    app(args=normalise_flags(sys.argv[1:]), prog_name="ollama-proxy")
