"""The mix of wishes: shares, independence of order and slice, and what a file may not say."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.config.problems import ConfigError
from ollama_proxy.lab.simulation.mix import BALANCED_MIX, DEFAULT_MIX, apply_mix, find_mix, read_mix
from ollama_proxy.lab.simulation.synthetic import generate
from ollama_proxy.lab.simulation.workload import Arrival

ARRIVALS = generate("conv", 4_000, 5.0, 1)


def test_default_mix_has_its_shares() -> None:
    mixed = apply_mix(ARRIVALS, DEFAULT_MIX, 1)
    wishes = Counter(one.wish for one in mixed)
    # Three standard deviations of a share of 4,000.
    assert wishes["critical"] / 4_000 == pytest.approx(0.2, abs=0.02)
    assert wishes["efficient"] / 4_000 == pytest.approx(0.3, abs=0.022)
    assert wishes["deadline"] / 4_000 == pytest.approx(0.5, abs=0.024)
    deadlines = Counter(one.deadline_s for one in mixed if one.wish == "deadline")
    assert set(deadlines) == {15.0, 30.0, 60.0, 120.0}
    assert all(count / wishes["deadline"] == pytest.approx(0.25, abs=0.03) for count in deadlines.values())
    assert {one.deadline_s for one in mixed if one.wish != "deadline"} == {0.0}
    assert {one.probability for one in mixed} == {0.95}


@given(st.integers(0, 2**40), st.permutations(range(50)))
def test_a_wish_depends_on_number_and_seed_alone(seed: int, order: list[int]) -> None:
    mix = read_mix("shares: {critical: 0.5, deadline: 0.5}\ndeadlines_s: [1, 2, 3]\ncallers: {ann: 0.3, bob: 0.7}", "f")
    straight = {one.id: one for one in apply_mix([Arrival(n, float(n), 10, 10) for n in range(50)], mix, seed)}
    other = apply_mix([Arrival(n, 0.0, 99, 1) for n in order[:20]], mix, seed)
    for one in other:
        assert (one.wish, one.deadline_s, one.caller) == (
            straight[one.id].wish,
            straight[one.id].deadline_s,
            straight[one.id].caller,
        )


def test_nothing_else_of_a_request_changes() -> None:
    for before, after in zip(ARRIVALS, apply_mix(ARRIVALS, DEFAULT_MIX, 7), strict=True):
        assert (after.id, after.at_s, after.prompt_tokens, after.output_tokens, after.model) == (
            before.id,
            before.at_s,
            before.prompt_tokens,
            before.output_tokens,
            before.model,
        )
    assert apply_mix(ARRIVALS, DEFAULT_MIX, 1) != apply_mix(ARRIVALS, DEFAULT_MIX, 2)


def test_balanced_mix_wishes_nothing() -> None:
    assert {one.wish for one in apply_mix(ARRIVALS, BALANCED_MIX, 1)} == {"balanced"}


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mix.yaml"
    path.write_text(
        "shares:\n  critical: 0.25\n  balanced: 0.5\n  deadline: 0.25\n"
        "deadlines_s: [5, 10.5]\nprobability: 0.9\ncallers:\n  ann: 0.75\n  bob: 0.25\n"
    )
    mix = find_mix(str(path))
    mixed = apply_mix(ARRIVALS, mix, 1)
    assert {one.deadline_s for one in mixed if one.wish == "deadline"} == {5.0, 10.5}
    assert {one.probability for one in mixed} == {0.9}
    assert Counter(one.caller for one in mixed)["ann"] / 4_000 == pytest.approx(0.75, abs=0.03)


def test_presets_come_before_files() -> None:
    assert find_mix("default") is DEFAULT_MIX
    assert find_mix("balanced") is BALANCED_MIX


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file must hold keys and values"),
        ("- a\n", "the file must hold keys and values"),
        ("share: {critical: 1}\n", 'f.yaml:1: share: unknown key; did you mean "shares"?'),
        ("shares:\n  critical: 0.5\n  efficent: 0.5\n", 'f.yaml:3: shares.efficent: unknown key; did you mean "eff'),
        ("shares: {critical: 0.5, efficient: 0.4}\n", "f.yaml:1: shares: the shares add up to 0.9, not to 1"),
        ("shares: {critical: 1.5, efficient: -0.5}\n", "shares.critical: expected a share between 0 and 1"),
        ("shares: {critical: yes}\n", "shares.critical: expected a number"),
        ("shares: {critical: .nan}\n", "shares.critical: expected a number"),
        ("shares: 3\n", "shares: expected names with their shares"),
        ("probability: 0.9\n", "shares: is missing"),
        ("shares: {deadline: 1}\n", "deadlines_s: is missing, while some requests have deadlines"),
        ("shares: {deadline: 1}\ndeadlines_s: 5\n", "f.yaml:2: deadlines_s: expected a list of seconds"),
        ("shares: {deadline: 1}\ndeadlines_s: [5, 0]\n", "deadlines_s[1]: expected more than 0 seconds"),
        ("shares: {deadline: 1}\ndeadlines_s: [a]\n", "deadlines_s[0]: expected a number"),
        ("shares: {critical: 1}\nprobability: 1\n", "f.yaml:2: probability: expected a number between 0 and 1"),
        ("shares: {critical: 1}\ncallers: {ann: 0.5}\n", "callers: the shares add up to 0.5"),
        ("shares: {critical: 1}\nshares: {critical: 1}\n", "f.yaml"),
    ],
)
def test_faults_name_file_key_and_line(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_mix(text, "f.yaml")
    assert words in str(caught.value)


def test_a_missing_file_is_told() -> None:
    with pytest.raises(ConfigError, match="no such file"):
        find_mix("/nowhere/mix.yaml")
