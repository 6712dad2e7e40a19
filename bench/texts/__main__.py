"""`python -m bench.texts`: the semantic cache on prompts that others wrote, at the threshold that ships."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from bench.texts import fetch_texts
from bench.texts.alice import MOST, pair_nearest, read_alice
from bench.texts.alone import start_alone
from bench.texts.faqs import read_faqs
from ollama_proxy.cache.calibration import Judged, Pair, judge
from ollama_proxy.cache.guards import find_anchors, find_difference
from ollama_proxy.config.sections.cache import Semantic
from ollama_proxy.domain.vectors import EmbedWish

_THRESHOLDS = (0.70, 0.80, 0.86, Semantic().threshold, 0.94)
_AT_ONCE = 256


def main() -> None:
    """Measure, and print a table in Markdown; `--show` prints what went wrong in the first halves."""
    parser = argparse.ArgumentParser(prog="bin/bench-meanings", description="The semantic cache on others' prompts")
    parser.add_argument("--show", action="store_true", help="the wrong hits of the halves that are not held out")
    parser.add_argument("--pairs", type=Path, help="write the pairs there, for `ollama-proxy cache calibrate`")
    asked = parser.parse_args()
    sets = asyncio.run(_gather())
    if asked.pairs:
        lines = [msgspec.json.encode(one.pair) for judged in sets.values() for one in judged]
        asked.pairs.write_bytes(b"\n".join(lines) + b"\n")
    print(write_table(sets))
    if asked.show:
        for name, judged in sets.items():
            wrong = [one for one in _open_half(judged) if not one.pair.same and not one.difference]
            for one in sorted(wrong, key=lambda one: -one.similarity)[:100]:
                print(f"{name}  {one.similarity:.3f}  {one.pair.a} | {one.pair.b}")


def write_table(sets: dict[str, list[Judged]]) -> str:
    """Wrong hits and found ones by threshold, of both halves."""
    rows = [f"| | | {' | '.join(f'{one:.2f}' for one in _THRESHOLDS)} |", "|---" * (len(_THRESHOLDS) + 2) + "|"]
    for name, judged in sets.items():
        for half, part in (("", _open_half(judged)), (", held out", judged[1::2])):
            same = sum(one.pair.same for one in part)
            found = [judge(part, one) for one in _THRESHOLDS]
            bare = [judge(part, one, guarded=False) for one in _THRESHOLDS]
            if same < len(part):
                named = f"{name}{half}"
                rows.append(_row(named, f"wrong hits, of {len(part) - same}", [str(one.wrong) for one in found]))
                rows.append(_row("", "without the guards", [str(one.wrong) for one in bare]))
            if same:
                rows.append(_row(f"{name}{half}", f"found, of {same}", [f"{one.recall:.1%}" for one in found]))
                rows.append(_row("", "without the guards", [f"{one.recall:.1%}" for one in bare]))
    return "\n".join(rows)


def _row(name: str, what: str, cells: Sequence[str]) -> str:
    return f"| {name} | {what} | {' | '.join(cells)} |"


def _open_half(judged: list[Judged]) -> list[Judged]:
    return judged[::2]


async def _gather() -> dict[str, list[Judged]]:
    """All pairs, judged, by set."""
    folder = fetch_texts()
    prompts = read_alice(folder / "alice")
    asked = {one.question: one.answer for one in read_faqs(folder)}
    same = [Pair(text, other, same=True) for text, other in prompts.same]
    texts = list(dict.fromkeys([*prompts.answers, *asked, *(text for one in same for text in (one.a, one.b))]))
    found: list[Sequence[float]] = []
    async with start_alone() as proxy:
        for begin in range(0, len(texts), _AT_ONCE):
            made = await proxy.embedder.embed(texts[begin : begin + _AT_ONCE], "", EmbedWish("bench"))
            found += made.vectors
    vectors = dict(zip(texts, found, strict=True))
    sets = {
        "ALICE, same answer": same,
        "ALICE, the nearest of other answers": pair_nearest(
            prompts.answers, [vectors[one] for one in prompts.answers], MOST
        ),
        "FAQs, the nearest of other answers": pair_nearest(asked, [vectors[one] for one in asked], len(asked)),
    }
    return {name: [_judge(pair, vectors) for pair in pairs] for name, pairs in sets.items()}


def _judge(pair: Pair, vectors: dict[str, Sequence[float]]) -> Judged:
    one, other = (np.asarray(vectors[text], "f8") for text in (pair.a, pair.b))
    cosine = float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))
    return Judged(pair, cosine, find_difference(find_anchors(pair.a), find_anchors(pair.b)))


if __name__ == "__main__":
    main()
