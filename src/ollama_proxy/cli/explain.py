"""`ollama-proxy explain`: why a request went where it went, or where one would go."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any

import typer

from ollama_proxy.cli.running_proxy import DEFAULT_URL, ask, fail, quote

_COMMAND = "explain"
_LATEST = 20


def explain(
    ident: Annotated[
        str | None, typer.Argument(help="X-Decision-ID of an answer; left off, the latest.", metavar="ID")
    ] = None,
    model: Annotated[str, typer.Option(help="Ask what would be decided for this model; nothing is sent.")] = "",
    prompt: Annotated[str, typer.Option(help="With a prompt like this; only its size matters.")] = "",
    prompt_bytes: Annotated[int, typer.Option(help="Its size instead.", min=0)] = 0,
    max_tokens: Annotated[int, typer.Option(help="Limit of the answer.", min=0)] = 0,
    embed: Annotated[bool, typer.Option("--embed", help="Vectors instead of text.")] = False,
    without: Annotated[list[str] | None, typer.Option(help="As if this backend were not there; repeatable.")] = None,
    cap: Annotated[float, typer.Option(help="At most so many watts.", min=0)] = 0,
    mode: Annotated[str, typer.Option(help="In another efficiency mode.")] = "",
    wish: Annotated[
        list[str] | None,
        typer.Option(help="An annotation, such as latency_critical=true or max_latency_ms=8000.", metavar="KEY=VALUE"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The whole record, for programs.")] = False,
    url: Annotated[str, typer.Option(help="The running proxy.")] = DEFAULT_URL,
) -> None:
    """Tell why a request went where it went; or, with --model, where one would go, without sending it."""
    if ident is not None and model:
        fail(_COMMAND, "either the ID of a decision or --model with --prompt, not both")
    supposed = {
        "--prompt": prompt,
        "--prompt-bytes": prompt_bytes,
        "--max-tokens": max_tokens,
        "--embed": embed,
        "--without": without,
        "--cap": cap,
        "--mode": mode,
        "--wish": wish,
    }
    if not model and any(supposed.values()):
        fail(_COMMAND, f"{next(name for name, value in supposed.items() if value)} needs --model")
    accept = "application/json" if as_json else "text/plain"
    if model:
        question = {
            "model": model,
            "prompt_bytes": prompt_bytes or len(prompt.encode("utf-8", "replace")),
            "max_tokens": max_tokens,
            "embed": embed,
            "annotations": _read_wishes(wish or []),
            "without": without or [],
            "cap_watts": cap,
            "mode": mode,
        }
        found = ask(_COMMAND, url, "/proxy/decide", json.dumps(question).encode(), accept)
    elif ident is not None:
        found = ask(_COMMAND, url, f"/proxy/decisions/{quote(ident)}", accept=accept)
    else:
        found = ask(_COMMAND, url, f"/proxy/decisions?limit={_LATEST}")
        if not as_json:
            typer.echo(render_list(json.loads(found)["decisions"]))
            return
    typer.echo(found.decode("utf-8", "replace").rstrip("\n"))


def _read_wishes(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            fail(_COMMAND, f"--wish: expected KEY=VALUE, not {pair[:100]!r}")
    return dict(pair.split("=", 1) for pair in pairs)


def render_list(decisions: list[dict[str, Any]]) -> str:
    """The latest decisions as a table of one line each."""
    if not decisions:
        return "No decision yet. Each answer names its own in X-Decision-ID."
    rows = [("decision", "time", "model", "backend", "result", "seconds", "joules")]
    for one in decisions:
        clock = datetime.fromtimestamp(one["decided_unix_s"]).strftime("%H:%M:%S")
        seconds = f"{one['e2e_s']:.2f}" if "e2e_s" in one else "-"
        joules = f"{one['joules']:.1f} {one.get('joules_kind', '')}".strip() if "joules" in one else "-"
        backend = one.get("backend", "-")
        rows.append((one["id"], clock, _clean(one["model"]), backend, one["result"], seconds, joules))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", f"More of one: ollama-proxy explain {decisions[0]['id']}"])


def _clean(text: str) -> str:
    """A name as a client sent it, without what a terminal would obey."""
    shown = "".join(char if char.isprintable() else "?" for char in text)
    return shown if len(shown) <= 40 else shown[:37] + "..."
