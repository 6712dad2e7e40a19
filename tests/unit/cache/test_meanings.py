"""The prompts that are remembered, and the nearest of them."""

import math
import random

import pytest

from ollama_proxy.cache.calibration import Judged, Pair, judge, suggest
from ollama_proxy.cache.guards import find_anchors
from ollama_proxy.cache.meanings import Meanings
from ollama_proxy.domain.vectors import VectorSpace

SPACE = VectorSpace("m", "digest", 2)
BLUE, SAME, GREEN = "Why is the sky blue?", "Please explain why the sky is blue.", "Why is the sky green?"


def at(degrees: float) -> tuple[float, float]:
    return 3 * math.cos(math.radians(degrees)), 3 * math.sin(math.radians(degrees))


def test_the_nearest_that_nothing_tells_apart() -> None:
    known = Meanings(100)
    known.add(b"f", SPACE, at(0), b"far", find_anchors(BLUE))
    known.add(b"f", SPACE, at(10), b"near", find_anchors(BLUE))
    known.add(b"f", SPACE, at(20), b"another", find_anchors(GREEN))
    found = known.find(b"f", SPACE, at(19), find_anchors(SAME), 0.9)
    assert found is not None
    assert found.key == b"near"
    assert found.similarity == pytest.approx(math.cos(math.radians(9)))
    assert known.find(b"f", SPACE, at(90), find_anchors(SAME), 0.9) is None
    assert known.find(b"f", SPACE, at(19), find_anchors(SAME), 0.999) is None


def test_frames_and_spaces_never_meet() -> None:
    known = Meanings(100)
    known.add(b"f", SPACE, at(0), b"k", find_anchors(BLUE))
    assert known.find(b"g", SPACE, at(0), find_anchors(BLUE), 0.5) is None
    for other in (VectorSpace("m", "another", 2), VectorSpace("n", "digest", 2), VectorSpace("m", "digest", 3)):
        assert known.find(b"f", other, at(0), find_anchors(BLUE), 0.5) is None
    assert known.find(b"f", SPACE, at(0), find_anchors(BLUE), 0.5) is not None


def test_what_is_no_direction_is_like_nothing() -> None:
    known = Meanings(100)
    known.add(b"f", SPACE, (0.0, 0.0), b"k", find_anchors(BLUE))
    known.add(b"f", SPACE, (math.nan, 0.0), b"n", find_anchors(BLUE))
    assert known.find(b"f", SPACE, at(0), find_anchors(BLUE), 0.5) is None


def test_no_more_are_remembered_than_may_be() -> None:
    known = Meanings(5)
    for number in range(8):
        known.add(b"f", SPACE, at(number * 10), b"%d" % number, find_anchors(BLUE))
        if number == 4:
            assert known.find(b"f", SPACE, at(0), find_anchors(BLUE), 0.999) is not None
    assert len(known) == 5
    found = [known.find(b"f", SPACE, at(number * 10), find_anchors(BLUE), 0.999) for number in range(8)]
    assert [one is not None for one in found] == [True, False, False, False, True, True, True, True]
    for number in range(8):
        known.drop(b"%d" % number)
    known.drop(b"nobody")
    assert len(known) == 0
    assert known.find(b"f", SPACE, at(0), find_anchors(BLUE), 0.1) is None


def test_it_is_the_same_as_looking_at_all_of_them() -> None:
    dice = random.Random(3)
    space, anchors, known = VectorSpace("m", "d", 8), find_anchors(BLUE), Meanings(60)
    kept: dict[bytes, list[float]] = {}
    for step in range(300):
        key = b"%d" % dice.randrange(120)
        if dice.random() < 0.3:
            known.drop(key)
            kept.pop(key, None)
        else:
            kept.pop(key, None)
            kept[key] = [dice.gauss(0, 1) for _ in range(8)]
            known.add(b"f", space, kept[key], key, anchors)
            while len(kept) > 60:
                del kept[next(iter(kept))]
        assert len(known) == len(kept), step
        asked = [dice.gauss(0, 1) for _ in range(8)]
        best = max((_cosine(asked, one), key) for key, one in kept.items()) if kept else (-1.0, b"")
        found = known.find(b"f", space, asked, anchors, -1.0)
        if found is not None:
            assert found.key == best[1]
            assert found.similarity == pytest.approx(best[0], abs=1e-5)
            kept[found.key] = kept.pop(found.key)


def _cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*one) / math.hypot(*other)


def test_what_a_threshold_does() -> None:
    same, other = Pair("a", "b", True), Pair("a", "c", False)
    judged = [Judged(same, 0.95, ""), Judged(same, 0.8, ""), Judged(same, 0.99, "order"), Judged(other, 0.85, "")]
    judged += [Judged(other, 0.97, "numbers")] + [Judged(other, 0.1, "")] * 8
    found = judge(judged, 0.9)
    assert (found.hits, found.wrong, found.precision) == (1, 0, 1.0)
    assert found.recall == pytest.approx(1 / 3)
    bare = judge(judged, 0.9, guarded=False)
    assert (bare.hits, bare.wrong) == (3, 1)
    assert judge(judged, 1.0).precision is None
    best = suggest(judged)
    assert best is not None
    assert best.threshold == 0.86
    assert suggest([Judged(other, 1.0, "")]) is None
