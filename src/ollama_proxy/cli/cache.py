"""`ollama-proxy cache`: the answers that a running proxy keeps."""

from __future__ import annotations

import json
import urllib.parse
from typing import Annotated, Any

import typer

from ollama_proxy.cli.cache_calibrate import calibrate
from ollama_proxy.cli.running_proxy import DEFAULT_URL, ask

app = typer.Typer(
    help="Kept answers of a proxy that runs: show, purge; and which threshold fits the semantic cache.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("calibrate")(calibrate)
#: A proxy waits for a slow server of answers before it says that they are not purged.
_PURGE_TIMEOUT_S = 30
UrlFlag = Annotated[str, typer.Option(help="The running proxy.")]


@app.command()
def show(
    url: UrlFlag = DEFAULT_URL, as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False
) -> None:
    """Show how much is kept, how often it was asked for, and what that saved."""
    found = ask("cache", url, "/proxy/cache")
    typer.echo(found.decode().strip() if as_json else render(json.loads(found)))


@app.command()
def purge(
    model: Annotated[str, typer.Option(help="Answers of this model; else of all.")] = "",
    key: Annotated[str, typer.Option(help="Answers for the API key of this name; else of all.")] = "",
    older_than: Annotated[float, typer.Option(help="Answers of so many seconds and more.", min=0)] = 0,
    url: UrlFlag = DEFAULT_URL,
) -> None:
    """Let go of kept answers."""
    asked = {"model": model, "key": key, "older_than_seconds": f"{older_than:g}" if older_than else ""}
    query = urllib.parse.urlencode({name: value for name, value in asked.items() if value})
    found = json.loads(ask("cache", url, f"/proxy/cache?{query}", method="DELETE", timeout_s=_PURGE_TIMEOUT_S))
    typer.echo(f"{found['purged']} answers are gone")


def render(found: dict[str, Any]) -> str:
    """What is kept, for people."""
    asked = found["requests"]
    held_mb, most_mb = found["bytes"] / 1e6, found["max_bytes"] / 1e6
    lines = [
        f"Answers   {found['entries']} in {found['type']}, {held_mb:.2f} of {most_mb:g} MB",
        f"Evicted   {found['evicted']} for want of room",
        f"Requests  {asked['hit']} hits, {asked['similar']} to prompts that mean the same, {asked['joined']} with an "
        f"equal request under way, {asked['miss']} misses, "
        f"{asked['bypass']} went past",
    ]
    saved = ", ".join(f"{joules:.1f} J ({kind})" for kind, joules in found["saved_joules"].items())
    lines.append(f"Saved     {saved or 'nothing yet'}")
    if found.get("problem"):
        lines.append(f"Problem   {found['problem']}")
    return "\n".join(lines)
