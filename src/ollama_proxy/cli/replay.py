"""`ollama-proxy replay`: recorded decisions taken again, under the policy they were taken under or another."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from ollama_proxy.cli.running_proxy import DEFAULT_URL, ask, fail, quote

if TYPE_CHECKING:
    from ollama_proxy.domain.decision import Policy
    from ollama_proxy.routing.record import Record

_COMMAND = "replay"
_MOST_NAMED = 20


def replay(
    file: Annotated[
        Path | None, typer.Argument(help="What routing.record_file wrote; left off, the running proxy's latest.")
    ] = None,
    mode: Annotated[str, typer.Option(help="Under this efficiency mode instead of the recorded one.")] = "",
    policy: Annotated[str, typer.Option(help="Under this rule, such as round-robin or greenest.")] = "",
    out: Annotated[Path | None, typer.Option(help="Write the replayed decisions here.", metavar="FILE")] = None,
    limit: Annotated[int, typer.Option(help="Without FILE: how many of the latest.", min=1, max=1000)] = 1000,
    url: Annotated[str, typer.Option(help="Without FILE: the running proxy.")] = DEFAULT_URL,
) -> None:
    """Take recorded decisions again. Under their own policy each must come out the same to the byte."""
    from ollama_proxy.routing.record import replay as take_again
    from ollama_proxy.routing.record_lines import RecordError, read_record, write_record

    mode, policy = _find_mode(mode), _check_rule(policy)
    pairs: list[tuple[Record, Record]] = []
    differing: list[str] = []
    written: list[bytes] = []
    unreadable = 0
    for number, line in enumerate(_read_file(file) if file else _fetch(url, limit), 1):
        try:
            before = read_record(line)
        except RecordError as error:
            unreadable += 1
            typer.echo(f"ollama-proxy replay: record {number}: {error}", err=True)
            continue
        after = take_again(before, _change(before.policy, mode, policy))
        written.append(write_record(after))
        if written[-1] != line:
            differing.append(before.id)
        pairs.append((before, after))
    if out:
        _write(out, written)
    if not pairs and not unreadable:
        fail(_COMMAND, f"{file or url}: there is no decision to replay")
    if mode or policy:
        typer.echo(compare(pairs, " and ".join(filter(None, (mode and f"mode {mode}", policy and f"rule {policy}")))))
    else:
        typer.echo(_tell_same(len(pairs), differing))
    if unreadable or (differing and not (mode or policy)):
        raise typer.Exit(1)


# -- what is asked -------------------------------------------------------------


def _find_mode(name: str) -> str:
    from ollama_proxy.routing.policies import MODES, find_mode

    found = find_mode(name) if name else ""
    if found is None:
        fail(_COMMAND, f"--mode: {name[:40]!r} is none of {', '.join(MODES)}")
    return found


def _check_rule(name: str) -> str:
    from ollama_proxy.routing.rules import POLICY_RULES

    if name and name not in POLICY_RULES:
        fail(_COMMAND, f"--policy: {name[:40]!r} is none of {', '.join(POLICY_RULES)}")
    return name


def _change(policy: Policy, mode: str, rule: str) -> Policy:
    from ollama_proxy.routing.policies import build_policy

    changed = build_policy(mode, policy) if mode else policy
    return msgspec.structs.replace(changed, rule=rule) if rule else changed


def _read_file(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as lines:
            for line in lines:
                if line.strip():
                    yield line.strip()
    except OSError as error:
        fail(_COMMAND, f"{path}: {error.strerror}")


def _fetch(url: str, limit: int) -> Iterator[bytes]:
    """Oldest first, as they are in a file; those that new ones push out meanwhile are left out."""
    listed = json.loads(ask(_COMMAND, url, f"/proxy/decisions?limit={limit}"))["decisions"]
    for one in reversed(listed):
        line = ask(_COMMAND, url, f"/proxy/decisions/{quote(one['id'])}", gone=b"").strip()
        if line:
            yield line


def _write(path: Path, lines: Iterable[bytes]) -> None:
    try:
        path.write_bytes(b"".join(line + b"\n" for line in lines))
    except OSError as error:
        fail(_COMMAND, f"{path}: {error.strerror}")


# -- what is told --------------------------------------------------------------


def _tell_same(count: int, differing: list[str]) -> str:
    if not differing:
        return f"{count} decision(s) replayed under their own policies: each is the same to the byte."
    named = ", ".join(differing[:_MOST_NAMED]) + (", ..." if len(differing) > _MOST_NAMED else "")
    return f"{count} decision(s) replayed under their own policies; {len(differing)} came out otherwise: {named}"


def compare(pairs: list[tuple[Record, Record]], policy: str) -> str:
    """What another policy would have chosen, in words; all figures are the predictions of the choices."""
    moved = Counter((_choice(one), _choice(other)) for one, other in pairs)
    same = sum(count for (one, other), count in moved.items() if one == other)
    lines = [f"{len(pairs)} decision(s) replayed under {policy}: {same} choose the same backend."]
    for (one, other), count in moved.most_common():
        if one != other:
            lines.append(f"  {count:>6}  {one} -> {other}")
    both = [(one, other) for one, other in pairs if one.verdict.candidates and other.verdict.candidates]
    if both:
        lines.append(f"Predicted, means of {len(both)} (as recorded, then under {policy}):")
        for name, unit in (("joules", "J"), ("ttft_s", "s to the first token"), ("e2e_s", "s to the last token")):
            before = sum(getattr(one.verdict.candidates[0], name) for one, _ in both) / len(both)
            after = sum(getattr(other.verdict.candidates[0], name) for _, other in both) / len(both)
            lines.append(f"  {before:10.2f} -> {after:10.2f} {unit}")
        lines.append("Each decision sees the fleet as it was recorded: queues that would have grown otherwise do not.")
    return "\n".join(lines)


def _choice(record: Record) -> str:
    return record.verdict.backend or "refused"
