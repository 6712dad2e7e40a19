"""`ollama-proxy cache calibrate`: which threshold fits a model and the prompts that one has."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ollama_proxy.cli.running_proxy import DEFAULT_URL, ask, fail

if TYPE_CHECKING:
    from ollama_proxy.cache.calibration import Judged, Pair, Quality

_COMMAND = "cache calibrate"
_AT_ONCE = 32
_PATIENCE_S = 120


def calibrate(
    pairs: Annotated[
        Path, typer.Argument(help='Lines of JSON: {"a": prompt, "b": prompt, "same": true or false}.', metavar="PAIRS")
    ],
    model: Annotated[str, typer.Option(help="That makes the vectors.")] = "all-minilm",
    url: Annotated[str, typer.Option(help="The running proxy.")] = DEFAULT_URL,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Print precision and recall of each threshold on pairs of prompts, with the guards and without."""
    from ollama_proxy.cache.calibration import THRESHOLDS, Judged, judge, suggest
    from ollama_proxy.cache.guards import find_anchors, find_difference

    found = _read(pairs)
    texts = list(dict.fromkeys(text for pair in found for text in (pair.a, pair.b)))
    vectors = dict(zip(texts, _embed(texts, model, url), strict=True))
    anchors = {text: find_anchors(text) for text in texts}
    judged = [
        Judged(pair, _cosine(vectors[pair.a], vectors[pair.b]), find_difference(anchors[pair.a], anchors[pair.b]))
        for pair in found
    ]
    rows = [(judge(judged, one), judge(judged, one, guarded=False)) for one in THRESHOLDS]
    best = suggest(judged)
    if as_json:
        from msgspec import json as fast
        from msgspec import to_builtins

        report = {"pairs": len(found), "thresholds": to_builtins(rows), "suggested": to_builtins(best)}
        typer.echo(fast.encode(report).decode())
    else:
        typer.echo(render(judged, rows, best))


def render(judged: Sequence[Judged], rows: Sequence[tuple[Quality, Quality]], best: Quality | None) -> str:
    """The report, for people."""
    same = sum(one.pair.same for one in judged)
    lines = [
        f"{same} pairs mean the same, {len(judged) - same} do not. Wrong hits are those among the latter.",
        "",
        "threshold   hits  wrong  precision  recall     without guards: wrong  precision  recall",
    ]
    for guarded, bare in rows:
        lines.append(
            f"     {guarded.threshold:.2f} {guarded.hits:6d} {guarded.wrong:6d} {_share(guarded.precision):>10} "
            f"{_share(guarded.recall):>7}                     {bare.wrong:6d} {_share(bare.precision):>10} "
            f"{_share(bare.recall):>7}"
        )
    told = (
        "No threshold keeps wrong hits to 1 %: leave the semantic cache off for this model."
        if best is None
        else f"cache.semantic.threshold: {best.threshold:.2f} finds {_share(best.recall)} with {best.wrong} wrong."
    )
    missed = [one for one in judged if not one.pair.same and not one.difference]
    lines += ["", told]
    if missed:
        lines += ["", "Pairs that mean something else and that no guard tells apart:"]
        lines += [f"  {one.similarity:.3f}  {one.pair.a} | {one.pair.b}" for one in missed[:20]]
    return "\n".join(lines)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value * 100:.1f} %"


def _read(path: Path) -> list[Pair]:
    import msgspec

    from ollama_proxy.cache.calibration import Pair

    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        fail(_COMMAND, f"{path} cannot be read: {error}")
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(msgspec.json.decode(line, type=Pair))
            except msgspec.DecodeError as error:
                fail(_COMMAND, f"{path}, line {number}: {error}")
    if not found:
        fail(_COMMAND, f"{path} holds no pairs")
    return found


def _embed(texts: Sequence[str], model: str, url: str) -> list[list[float]]:
    vectors: list[list[float]] = []
    for begin in range(0, len(texts), _AT_ONCE):
        body = json.dumps({"model": model, "input": texts[begin : begin + _AT_ONCE]}).encode()
        vectors += json.loads(ask(_COMMAND, url, "/api/embed", body, timeout_s=_PATIENCE_S))["embeddings"]
    return vectors


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    lengths = math.sqrt(sum(value * value for value in one) * sum(value * value for value in other))
    return sum(a * b for a, b in zip(one, other, strict=True)) / lengths if lengths else 0.0
