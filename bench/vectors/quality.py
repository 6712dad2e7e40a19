"""How well documents are found by what they say: nDCG@10 of dense, of words, and of both, on what people judged.

The stories are the 50 that Lee, Pincombe and Welsh (2005) had people compare in pairs; gensim's package has them in its
tests, with the mean rating of each pair. Each is looked up by its own text, and should find the others in the order of
those ratings. The questions are those of the FAQs of Perl, Python and Git (`bench/texts`): each should find its own
answer among all. Vectors are the built-in model's, and everything goes through a real proxy.
"""

from __future__ import annotations

import asyncio
import importlib.util
import math
import random
from pathlib import Path

import msgspec

from bench.texts import NoTexts, fetch_texts
from bench.texts.alone import start_alone
from bench.texts.faqs import read_faqs
from ollama_proxy.app.proxy import Proxy
from ollama_proxy.domain.caller import ANYBODY
from ollama_proxy.domain.library import DENSE_WEIGHT, TEXT_WEIGHT, Query, Wanted

_DEEP = 10
_LOOK_S = 0.2
#: Of the answer; several may be of one document.
_PASSAGES = 150
_WAYS = {
    "dense (all-minilm)": (1.0, 0.0),
    "words (BM25)": (0.0, 1.0),
    "both (hybrid, equal weights)": (1.0, 1.0),
    "both (hybrid, the default)": (DENSE_WEIGHT, TEXT_WEIGHT),
}
#: Ratings are fifths, from "not at all alike" on.
_LEAST, _STEPS = 0.2, 5


class Collection(msgspec.Struct, frozen=True):
    """Documents, what is asked, and by question how much each document is worth (0 for nothing). `is_own` says that
    each question is the document of the same place, which does not count."""

    documents: list[str]
    questions: list[str]
    gains: list[dict[int, float]]
    is_own: bool = False


def measure_quality() -> str:
    """The table, and why anything is left out."""
    columns: dict[str, dict[str, float]] = {}
    left_out = []
    for name, read in (("50 stories", read_stories), ("487 questions", read_questions)):
        try:
            held = read()
        except NoTexts as error:
            left_out.append(f"- left out: {name}: {error}")
            continue
        found = asyncio.run(_look_up(held))
        dice = random.Random(1)
        places = range(len(held.documents))
        found["by chance"] = [dice.sample(places, len(places)) for _ in held.questions]
        columns[name] = {way: mean(rankings, held) for way, rankings in found.items()}
    ways = list(next(iter(columns.values()), {}))
    rows = [f"| {way} | {' | '.join(f'{one[way]:.3f}' for one in columns.values())} |" for way in ways]
    return "\n".join([f"| nDCG@10 | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|", *rows, *left_out])


def read_stories() -> Collection:
    """Raises `NoTexts`."""
    spec = importlib.util.find_spec("gensim")
    if spec is None or spec.submodule_search_locations is None:
        raise NoTexts("the texts are in the package gensim, which is not installed")
    data = Path(next(iter(spec.submodule_search_locations))) / "test" / "test_data"
    texts = [line.strip() for line in (data / "lee.cor").read_text("latin-1").splitlines() if line.strip()]
    gains = read_gains(data / "similarities0-1.txt")
    return Collection(texts, texts, [dict(enumerate(row)) for row in gains], is_own=True)


def read_questions() -> Collection:
    """Raises `NoTexts`."""
    faqs = read_faqs(fetch_texts())
    gains = [{place: 1.0} for place in range(len(faqs))]
    return Collection([one.answer for one in faqs], [one.question for one in faqs], gains)


def read_gains(path: Path) -> list[list[float]]:
    """How much each story is worth to each other: 0 for the lowest rating, 4 for the highest."""
    upper = [[float(cell) for cell in line.split()] for line in path.read_text().splitlines() if line.strip()]
    count = len(upper)
    return [
        [max(0.0, (upper[min(one, two)][max(one, two)] - _LEAST) * _STEPS) for two in range(count)]
        for one in range(count)
    ]


def mean(rankings: list[list[int]], held: Collection) -> float:
    """nDCG@10 over all questions."""
    total = 0.0
    for place, (ranking, gains) in enumerate(zip(rankings, held.gains, strict=True)):
        own = place if held.is_own else -1
        found = [gains.get(one, 0.0) for one in ranking if one != own][:_DEEP]
        best = sorted((gain for one, gain in gains.items() if one != own), reverse=True)[:_DEEP]
        total += _discount(found) / _discount(best)
    return total / len(rankings)


def _discount(gains: list[float]) -> float:
    return sum(gain / math.log2(place + 2) for place, gain in enumerate(gains))


async def _look_up(held: Collection) -> dict[str, list[list[int]]]:
    """The documents as they are found by each question, by way."""
    async with start_alone() as proxy:
        return await _ask(proxy, held)


async def _ask(proxy: Proxy, held: Collection) -> dict[str, list[list[int]]]:
    library = proxy.vectors.library
    assert library is not None
    store = (await library.add_store(ANYBODY, {"name": "texts"})).id
    files: list[str] = []
    for place, text in enumerate(held.documents):
        files.append((await library.add_file(ANYBODY, f"{place}.txt", "assistants", text.encode(), None)).id)
    await library.attach(ANYBODY, store, [Wanted(file) for file in files], batch=False)
    while (counts := (await library.store(ANYBODY, store)).counts).in_progress:  # noqa: ASYNC110  # as a client would
        await asyncio.sleep(_LOOK_S)
    assert counts.completed == len(held.documents), counts
    found: dict[str, list[list[int]]] = {}
    for way, (dense, words) in _WAYS.items():
        found[way] = []
        for text in held.questions:
            query = Query((text[:4000],), most=_PASSAGES, dense=dense, text=words)
            hits = await library.search(ANYBODY, store, query)
            found[way].append(list(dict.fromkeys(files.index(hit.file) for hit in hits)))
    return found
