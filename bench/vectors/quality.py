"""How well documents are found by what they say: nDCG@10 of dense, of words, and of both, on judgements by people.

The texts are the 50 news stories that Lee, Pincombe and Welsh (2005) had people compare in pairs; gensim's package has
them in its tests, with the mean rating of each pair. Each story is looked up by its own text, and should find the
others in the order of those ratings. Vectors are the built-in model's, and everything goes through a real proxy.
"""

from __future__ import annotations

import asyncio
import importlib.util
import math
import os
import random
import tempfile
from pathlib import Path

from ollama_proxy.app.proxy import Proxy
from ollama_proxy.config.schema import Config, Embedded, Energy, Learning, Meters, Monitoring, Server
from ollama_proxy.config.sections.vectors import VectorStores
from ollama_proxy.domain.caller import ANYBODY
from ollama_proxy.domain.library import Query, Wanted

_DEEP = 10
_LOOK_S = 0.2
_WAYS = {"dense (all-minilm)": (1.0, 0.0), "words (BM25)": (0.0, 1.0), "both (hybrid, the default)": (1.0, 1.0)}
#: Ratings are fifths, from "not at all alike" on.
_LEAST, _STEPS = 0.2, 5


def measure_quality() -> str:
    """The table, or why there is none."""
    spec = importlib.util.find_spec("gensim")
    if spec is None or spec.submodule_search_locations is None:
        return "left out: the texts are in the package gensim, which is not installed"
    data = Path(next(iter(spec.submodule_search_locations))) / "test" / "test_data"
    texts = [line.strip() for line in (data / "lee.cor").read_text("latin-1").splitlines() if line.strip()]
    gains = read_gains(data / "similarities0-1.txt")
    found = asyncio.run(_look_up(texts))
    rows = [f"| {way} | {mean(rankings, gains):.3f} |" for way, rankings in found.items()]
    dice = random.Random(1)
    chance = mean([dice.sample(range(len(texts)), len(texts)) for _ in texts], gains)
    return "\n".join(["| ranking | nDCG@10 |", "|---|---|", *rows, f"| by chance | {chance:.3f} |"])


def read_gains(path: Path) -> list[list[float]]:
    """How much each story is worth to each other: 0 for the lowest rating, 4 for the highest."""
    upper = [[float(cell) for cell in line.split()] for line in path.read_text().splitlines() if line.strip()]
    count = len(upper)
    return [
        [max(0.0, (upper[min(one, two)][max(one, two)] - _LEAST) * _STEPS) for two in range(count)]
        for one in range(count)
    ]


def mean(rankings: list[list[int]], gains: list[list[float]]) -> float:
    """nDCG@10 over all stories, each without itself."""
    total = 0.0
    for story, ranking in enumerate(rankings):
        others = [one for one in ranking if one != story][:_DEEP]
        best = sorted((gain for one, gain in enumerate(gains[story]) if one != story), reverse=True)[:_DEEP]
        total += _discount([gains[story][one] for one in others]) / _discount(best)
    return total / len(rankings)


def _discount(gains: list[float]) -> float:
    return sum(gain / math.log2(place + 2) for place, gain in enumerate(gains))


async def _look_up(texts: list[str]) -> dict[str, list[list[int]]]:
    """Rankings of all stories for each, by way."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = folder
        proxy = Proxy(
            Config(
                server=Server(http_port=0, grpc_port=0),
                embedded=Embedded(enabled="never"),
                monitoring=Monitoring(prometheus_port=0, trace_requests=False),
                meters=Meters(enabled="never"),
                energy=Energy(ledger=False),
                learning=Learning(keep=False),
                vectors=VectorStores(folder=folder),
            )
        )
        await proxy.start()
        try:
            return await _ask(proxy, texts)
        finally:
            await proxy.stop()


async def _ask(proxy: Proxy, texts: list[str]) -> dict[str, list[list[int]]]:
    library = proxy.vectors.library
    assert library is not None
    store = (await library.add_store(ANYBODY, {"name": "stories"})).id
    files: list[str] = []
    for place, text in enumerate(texts):
        files.append((await library.add_file(ANYBODY, f"{place}.txt", "assistants", text.encode(), None)).id)
    await library.attach(ANYBODY, store, [Wanted(file) for file in files], batch=False)
    while (counts := (await library.store(ANYBODY, store)).counts).in_progress:  # noqa: ASYNC110  # as a client would
        await asyncio.sleep(_LOOK_S)
    assert counts.completed == len(texts), counts
    found: dict[str, list[list[int]]] = {}
    for way, (dense, words) in _WAYS.items():
        found[way] = []
        for text in texts:
            query = Query((text[:4000],), most=3 * len(texts), dense=dense, text=words)
            hits = await library.search(ANYBODY, store, query)
            found[way].append(list(dict.fromkeys(files.index(hit.file) for hit in hits)))
    return found
