"""Medians, ratios and differences of what the rounds found."""

from __future__ import annotations

import json

import pytest

from bench.results import Results, Summary

KEY = ("nginx", "unary", "cpu_us")


def test_summary_is_median_least_and_most() -> None:
    results = make_results(nginx=[3.0, 1.0, 10.0])
    assert results.summary(KEY) == Summary(3.0, 1.0, 10.0, 3)


def test_what_was_not_measured_is_none() -> None:
    results = make_results(nginx=[2.0])
    nobody = ("nobody", "unary", "cpu_us")
    assert results.summary(nobody) is None
    assert results.median(nobody) is None
    assert results.ratio(nobody, KEY) is None
    assert results.ratio(KEY, nobody) is None
    assert results.difference(KEY, nobody) is None


def test_ratio_and_difference_are_of_medians() -> None:
    results = make_results(nginx=[2.0, 2.0, 50.0], ours=[5.0, 6.0, 7.0])
    ours = ("ours", "unary", "cpu_us")
    assert results.ratio(ours, KEY) == pytest.approx(3.0)
    assert results.difference(ours, KEY) == pytest.approx(4.0)


def test_ratio_to_nothing_is_none() -> None:
    assert make_results(nginx=[0.0], ours=[5.0]).ratio(("ours", "unary", "cpu_us"), KEY) is None


@pytest.mark.parametrize(("rounds", "saturated"), [([0.0, 0.0, 1.0], False), ([1.0, 1.0, 0.0], True), ([], False)])
def test_saturated_means_in_most_rounds(rounds: list[float], saturated: bool) -> None:
    results = Results()
    for value in rounds:
        results.add("slow", "streams-100", {"saturated": value})
    assert results.is_saturated("slow", "streams-100") is saturated


def test_document_goes_through_json() -> None:
    results = make_results(nginx=[1.0, 2.0])
    results.versions["nginx"] = "1.0"
    results.problems["olla", "install"] = "no Go"
    document = json.loads(json.dumps(results.as_document()))
    assert document["results"]["nginx"]["unary"]["cpu_us"] == {
        "median": 1.5,
        "low": 1.0,
        "high": 2.0,
        "rounds": [1.0, 2.0],
    }
    assert document["problems"] == [{"participant": "olla", "measure": "install", "reason": "no Go"}]


def make_results(**rounds: list[float]) -> Results:
    results = Results()
    for participant, values in rounds.items():
        for value in values:
            results.add(participant, "unary", {"cpu_us": value})
    return results
