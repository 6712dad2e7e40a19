"""`ollama-proxy lab load`: open-loop load on anything that speaks one of three dialects."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ollama_proxy.cli.running_lab import fail

if TYPE_CHECKING:
    from ollama_proxy.lab.load import Plan
    from ollama_proxy.net.http1.client import Origin

_ROWS = ("first_piece", "whole", "longest_gap", "refusal", "late_start")


def load(
    url: Annotated[str, typer.Option(help="Where to ask: http://HOST:PORT.")],
    rate: Annotated[float, typer.Option(help="Requests a second.", min=0.01)],
    duration: Annotated[float, typer.Option(help="Seconds.", min=0.1)],
    stream: Annotated[bool, typer.Option("--stream", help="Ask for streams.")] = False,
    model: Annotated[str, typer.Option(help="The model to ask for.")] = "qwen2.5:0.5b",
    api: Annotated[str, typer.Option(help="ollama, openai or anthropic.")] = "ollama",
    tokens: Annotated[int, typer.Option(help="Length of the lab's answers.", min=1, max=8192)] = 20,
    seed: Annotated[int, typer.Option(help="Of the prompts, and of the moments.")] = 1,
    at_random: Annotated[bool, typer.Option("--at-random", help="Ask at random moments, not evenly.")] = False,
    text_seed: Annotated[
        int | None, typer.Option(help="Hold answers against the lab's synthetic text of this seed.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds from a request's time to give it up.")] = 60.0,
    header: Annotated[list[str] | None, typer.Option(help="NAME: VALUE, sent with each request.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the report there; - prints it.")] = None,
) -> None:
    """Ask at a fixed rate, whatever the answers take, and tell how long they took from when they were due."""
    import uvloop

    from ollama_proxy.lab.load import Plan, run_load
    from ollama_proxy.lab.load_dialect import PATHS

    if api not in PATHS:
        fail(f"--api: expected one of {', '.join(PATHS)}")
    plan = Plan(
        _read_origin(url),
        api,
        model,
        stream,
        rate,
        duration,
        tokens,
        seed,
        text_seed,
        timeout,
        headers=tuple(_read_header(one) for one in header or ()),
        at_random=at_random,
    )
    tally, took_s = uvloop.run(run_load(plan))
    report = {"url": url, **tally.describe(plan, took_s)}
    if json_file is None or str(json_file) != "-":
        typer.echo("\n".join(_render(plan, report)))
    if json_file is not None:
        text = json.dumps(report, indent=1)
        if str(json_file) == "-":
            typer.echo(text)
        else:
            json_file.write_text(text + "\n")
    raise typer.Exit(1 if tally.failed or tally.wrong_text else 0)


def _read_origin(url: str) -> Origin:
    from ollama_proxy.net.http1.client import Origin

    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        fail(f"--url: expected http://HOST:PORT, not {url!r}")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        fail(f"--url: expected http://HOST:PORT, not {url!r}")
    tls = parts.scheme == "https"
    return Origin(parts.hostname, port or (443 if tls else 80), tls)


def _read_header(text: str) -> tuple[bytes, bytes]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or "\r" in text or "\n" in text:
        fail("--header: expected NAME: VALUE")
    return name.strip().encode(), value.strip().encode()


def _render(plan: Plan, report: dict[str, Any]) -> Sequence[str]:
    refused = ", ".join(f"{count} with {status}" for status, count in report["refused"].items()) or "none"
    failed = ", ".join(f"{count} {kind}" for kind, count in report["failed"].items()) or "none"
    lines = [
        f"{plan.api}, {plan.model}, {'streams' if plan.stream else 'whole answers'},"
        f" {plan.rate_per_s:g}/s for {plan.duration_s:g} s, seed {plan.seed}",
        f"sent {report['sent']}, answered {report['answered']} ({report['answered_per_s']:g}/s)",
        f"refused: {refused}; failed: {failed}",
    ]
    if "wrong_text" in report:
        lines.append(f"texts that are not the lab's: {report['wrong_text']}")
    lines.append(f"{'ms, from when it was due':<26}{'p50':>10}{'p90':>10}{'p99':>10}{'p99.9':>10}{'max':>10}")
    for name in _ROWS:
        if times := report.get(f"{name}_ms"):
            cells = "".join(f"{times[column]:>10.1f}" for column in ("p50", "p90", "p99", "p99.9", "max"))
            lines.append(f"{name.replace('_', ' '):<26}{cells}")
    return lines
