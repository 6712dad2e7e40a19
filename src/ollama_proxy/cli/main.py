"""The command `ollama-proxy` in full: its flags, its subcommands and their help."""

from __future__ import annotations

from typing import Annotated

import typer

from ollama_proxy.cli import cache, check, doctor, explain, keys, lab, ledger, replay, start

app = typer.Typer(
    name="ollama-proxy",
    help="One endpoint in front of every model server you own.",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(lab.app, name="lab")
app.add_typer(cache.app, name="cache")
app.command("check")(check.check)
app.command("doctor")(doctor.doctor)
app.command("explain")(explain.explain)
app.add_typer(keys.app, name="keys")
app.command("ledger")(ledger.ledger)
app.command("replay")(replay.replay)


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
    raise typer.Exit(
        start.run(start.ServingFlags(config, host, grpc_port, http_port, log_level, take_over, validate_config))
    )
