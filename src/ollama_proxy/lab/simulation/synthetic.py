"""Synthetic workloads with the published statistics of the Azure LLM inference traces of 2023.

`conv` is chat: arrivals a little burstier than chance (CV of the gaps 1.09), answers of two humps, around 90 and 400
tokens. `code` is completion: long prompts, short answers, arrivals in bursts (CV 13).

Lengths come from quantile functions through the published quantiles (conv input p50 1,020, p90 2,734, p99 4,142;
output p50 129, p90 424, p99 601; code input p50 1,500, output p50 13, p99 251), with points between them so chosen that
the means are those published (1,155 and 211; 2,048 and 28). Prompt and output are drawn independently: in the recorded
chat their logarithms correlate at less than 0.1. Gaps are hyperexponential of two phases with balanced means, the
simplest law with a given CV above 1.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

import msgspec

from ollama_proxy.lab.simulation.workload import Arrival


class Shape(msgspec.Struct, frozen=True):
    """A kind of workload. Lengths are points (probability, tokens) of a quantile function, log-linear in between."""

    gap_cv: float
    prompt_tokens: tuple[tuple[float, float], ...]
    output_tokens: tuple[tuple[float, float], ...]


SHAPES: Final[dict[str, Shape]] = {
    "conv": Shape(
        gap_cv=1.09,
        prompt_tokens=(
            (0.0, 3),
            (0.01, 40),
            (0.05, 180),
            (0.1, 310),
            (0.17, 385),
            (0.38, 440),
            (0.44, 960),
            (0.5, 1_020),
            (0.72, 1_160),
            (0.82, 1_450),
            (0.9, 2_734),
            (0.93, 4_070),
            (0.99, 4_142),
            (0.999, 5_300),
            (1.0, 14_050),
        ),
        output_tokens=(
            (0.0, 7),
            (0.02, 25),
            (0.1, 50),
            (0.25, 80),
            (0.42, 102),
            (0.5, 129),
            (0.6, 176),
            (0.65, 330),
            (0.69, 376),
            (0.8, 400),
            (0.9, 424),
            (0.95, 455),
            (0.99, 601),
            (1.0, 1_000),
        ),
    ),
    "code": Shape(
        gap_cv=13.0,
        prompt_tokens=(
            (0.0, 3),
            (0.05, 300),
            (0.25, 900),
            (0.5, 1_500),
            (0.75, 2_940),
            (0.9, 4_300),
            (0.99, 6_800),
            (1.0, 7_437),
        ),
        output_tokens=(
            (0.0, 1),
            (0.1, 6),
            (0.25, 8),
            (0.5, 13),
            (0.75, 24),
            (0.9, 48),
            (0.97, 98),
            (0.99, 251),
            (1.0, 1_500),
        ),
    ),
}


def generate(kind: str, requests: int, rate_per_min: float, seed: int) -> tuple[Arrival, ...]:
    """`requests` arrivals from 0 s on, `rate_per_min` a minute in the mean. Same arguments, same arrivals.

    Raises `KeyError` for a kind that is not in `SHAPES`.
    """
    shape = SHAPES[kind]
    dice = random.Random(f"{kind}:{seed}")
    gaps = [_gap(u, shape.gap_cv) for u in _draw_strata(requests - 1, dice)]
    prompts = [_quantile(shape.prompt_tokens, u) for u in _draw_strata(requests, dice)]
    outputs = [_quantile(shape.output_tokens, u) for u in _draw_strata(requests, dice)]
    scale = (requests - 1) * 60.0 / rate_per_min / math.fsum(gaps) if gaps else 0.0
    arrivals = []
    at = 0.0
    for number in range(requests):
        arrivals.append(Arrival(number, at * scale, round(prompts[number]), round(outputs[number])))
        at += gaps[number] if number < len(gaps) else 0.0
    return tuple(arrivals)


def _draw_strata(count: int, dice: random.Random) -> list[float]:
    """Uniform draws, one from each of `count` equal strata, in random order.

    So a workload of a thousand requests has its share of the rare long gaps and long prompts, whatever the seed.
    """
    strata = [(number + dice.random()) / count for number in range(count)]
    dice.shuffle(strata)
    return strata


def _gap(u: float, cv: float) -> float:
    """The gap of mean 1 at probability `u`: two exponential phases that each take half of the time in the mean."""
    square = cv * cv
    often = 0.5 * (1.0 + math.sqrt((square - 1.0) / (square + 1.0)))
    # The upper end of `u` chooses the rare phase, so that strata spread over both.
    share, within = (often, u / often) if u < often else (1.0 - often, (u - often) / (1.0 - often))
    return -math.log1p(-min(within, 1.0 - 1e-12)) / (2.0 * share)


def _quantile(points: Sequence[tuple[float, float]], u: float) -> float:
    upper = min(bisect_right(points, u, key=lambda point: point[0]), len(points) - 1)
    (low, a), (high, b) = points[upper - 1], points[upper]
    return math.exp(math.log(a) + (math.log(b) - math.log(a)) * (u - low) / (high - low))
