"""Generated workloads: the statistics they are fitted to, and that the seed is all that varies."""

import itertools
import math
import statistics

import pytest

from ollama_proxy.lab.simulation.synthetic import SHAPES, generate


def quantile(values: list[int], share: float) -> float:
    return sorted(values)[math.ceil(share * len(values)) - 1]


def gap_cv(kind: str, requests: int, seed: int) -> float:
    arrivals = generate(kind, requests, 5.0, seed)
    gaps = [after.at_s - before.at_s for before, after in itertools.pairwise(arrivals)]
    return statistics.pstdev(gaps) / statistics.fmean(gaps)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_chat_has_the_published_lengths(seed: int) -> None:
    arrivals = generate("conv", 5_000, 5.0, seed)
    prompts = [one.prompt_tokens for one in arrivals]
    outputs = [one.output_tokens for one in arrivals]
    for share, tokens in ((0.5, 1_020), (0.9, 2_734), (0.99, 4_142)):
        assert quantile(prompts, share) == pytest.approx(tokens, rel=0.03)
    for share, tokens in ((0.5, 129), (0.9, 424), (0.99, 601)):
        assert quantile(outputs, share) == pytest.approx(tokens, rel=0.03)
    assert statistics.fmean(prompts) == pytest.approx(1_155, rel=0.02)
    assert statistics.fmean(outputs) == pytest.approx(211, rel=0.02)
    assert max(prompts) <= 14_050
    assert max(outputs) <= 1_000


def test_chat_answers_have_two_humps() -> None:
    outputs = [one.output_tokens for one in generate("conv", 5_000, 5.0, 1)]

    def density(low: int, high: int) -> float:
        return sum(low <= one < high for one in outputs) / (high - low)

    assert density(75, 115) > 5 * density(230, 330)
    assert density(370, 430) > 5 * density(230, 330)


def test_prompt_and_answer_are_hardly_related() -> None:
    arrivals = generate("conv", 5_000, 5.0, 1)
    prompts = [math.log(one.prompt_tokens) for one in arrivals]
    outputs = [math.log(one.output_tokens) for one in arrivals]
    assert abs(statistics.correlation(prompts, outputs)) < 0.1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_code_has_the_published_lengths(seed: int) -> None:
    arrivals = generate("code", 5_000, 5.0, seed)
    prompts = [one.prompt_tokens for one in arrivals]
    outputs = [one.output_tokens for one in arrivals]
    assert statistics.fmean(prompts) == pytest.approx(2_048, rel=0.02)
    assert statistics.fmean(outputs) == pytest.approx(28, rel=0.05)
    assert quantile(outputs, 0.5) == pytest.approx(13, abs=1)
    assert quantile(outputs, 0.99) == pytest.approx(251, rel=0.05)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_arrivals_are_as_bursty_as_published(seed: int) -> None:
    assert gap_cv("conv", 5_000, seed) == pytest.approx(1.09, rel=0.03)
    # A third of the variance comes from a few gaps: the tolerance is that of the tail, not of the fit.
    assert gap_cv("code", 9_000, seed) == pytest.approx(13, rel=0.15)


@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_same_arguments_same_workload(kind: str) -> None:
    assert generate(kind, 300, 5.0, 1) == generate(kind, 300, 5.0, 1)
    assert generate(kind, 300, 5.0, 1) != generate(kind, 300, 5.0, 2)


@pytest.mark.parametrize("kind", sorted(SHAPES))
@pytest.mark.parametrize("requests", [1, 2, 500])
def test_rate_and_order(kind: str, requests: int) -> None:
    arrivals = generate(kind, requests, 3.0, 1)
    assert [one.id for one in arrivals] == list(range(requests))
    assert arrivals[0].at_s == 0.0
    assert arrivals[-1].at_s == pytest.approx((requests - 1) * 20.0)
    assert all(after.at_s >= before.at_s for before, after in itertools.pairwise(arrivals))
    assert all(one.prompt_tokens >= 1 and one.output_tokens >= 1 for one in arrivals)


def test_unknown_kind_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        generate("chat", 10, 5.0, 1)
