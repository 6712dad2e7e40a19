"""The picture: well formed, every policy labelled once, no label on another or on a point, scales that hold."""

import itertools
import math
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.lab.simulation.label_layout import Box, measure_text, place_labels
from ollama_proxy.lab.simulation.plots import draw_plot
from ollama_proxy.lab.simulation.report import Figures, Meta, Report
from ollama_proxy.lab.simulation.scale import Scale

SVG = "{http://www.w3.org/2000/svg}"
META = Meta(1, 5.0, 1_500, "t.csv", "1/3", "default", ("a",), {"python": "3"})
FRAME = Box(0, 0, 700, 400)


def figures(joules: float, met: float | None = None, tail_s: float = 10.0) -> Figures:
    found: Figures = {"joules_per_request": joules, "e2e_p99_s": tail_s}
    return found if met is None else {**found, "deadline_met_ratio": met}


def texts(document: str) -> list[str]:
    return [one.text or "" for one in ElementTree.fromstring(document).iter(f"{SVG}text")]


def circles(document: str) -> dict[str, tuple[float, float]]:
    found = {}
    for one in ElementTree.fromstring(document).iter(f"{SVG}circle"):
        title = one.find(f"{SVG}title")
        assert title is not None
        found[title.text or ""] = (float(one.attrib["cx"]), float(one.attrib["cy"]))
    return found


def test_each_policy_is_a_point_with_a_label() -> None:
    policies = {"one": figures(200, 0.8), "predictive": figures(180, 0.98), "bound": figures(150, 0.98)}
    document = draw_plot(Report(msgspec.structs.replace(META, bound_like="predictive"), policies))
    points = circles(document)
    assert set(points) == {"one", "predictive"}
    assert points["predictive"][0] > points["one"][0]
    assert points["predictive"][1] > points["one"][1]  # y grows downwards: fewer joules
    found = texts(document)
    assert found.count("one") == found.count("predictive") == 1
    assert any("the least for what predictive achieves" in one for one in found)
    assert any("no joule here was measured" in one for one in found)
    assert any("deadlines met" in one for one in found)


def test_without_deadlines_the_tail_is_across() -> None:
    document = draw_plot(Report(META, {"slow": figures(100, tail_s=50), "quick": figures(200, tail_s=5)}))
    assert circles(document)["quick"][0] < circles(document)["slow"][0]
    assert any("end-to-end p99" in one for one in texts(document))


def test_policies_without_figures_are_named_below() -> None:
    document = draw_plot(Report(META, {"one": figures(100, 0.9), "none": {"requests": 3}}))
    assert set(circles(document)) == {"one"}
    assert any("no figures: none" in one for one in texts(document))
    assert circles(draw_plot(Report(META, {}))) == {}


def test_names_from_outside_are_escaped() -> None:
    meta = msgspec.structs.replace(META, trace='<script>"&.csv')
    assert any('<script>"&.csv' in one for one in texts(draw_plot(Report(meta, {"<a>": figures(1, 1.0)}))))


points_in_frame = st.lists(st.tuples(st.floats(20, 680), st.floats(20, 380)), min_size=1, max_size=9)


@given(points_in_frame)
def test_labels_of_nine_points_never_overlap(points: list[tuple[float, float]]) -> None:
    names = [f"{'shortest-expected-delay' if number % 2 else 'fastest'}" for number in range(len(points))]
    boxes = place_labels(points, names, 13, FRAME, [])
    assert len(boxes) == len(points)
    for one, other in itertools.combinations(boxes, 2):
        assert one.overlap(other) == 0
    for name, box in zip(names, boxes, strict=True):
        assert box.right - box.left == pytest.approx(measure_text(name, 13))


def test_labels_of_points_in_one_place_part() -> None:
    boxes = place_labels([(690.0, 200.0)] * 5, ["a-label"] * 5, 13, FRAME, [Box(0, 190, 700, 194)])
    for one, other in itertools.combinations(boxes, 2):
        assert one.overlap(other) == 0
    assert all(box.right <= FRAME.right for box in boxes)
    assert all(box.overlap(Box(0, 190, 700, 194)) == 0 for box in boxes)


@given(st.lists(st.floats(0, 1e6), max_size=9), st.sampled_from([math.inf, 100.0]))
def test_scales_hold_all_values_and_their_ticks(values: list[float], most: float) -> None:
    scale = Scale.spanning(values, 10, 500, most)
    assert all(10 - 1e-6 <= scale.place(value) <= 500 + 1e-6 for value in values)
    assert scale.low >= 0
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 8
    assert all(10 - 1e-3 <= scale.place(tick) <= 500 + 1e-3 for tick in ticks)


def test_shares_do_not_pass_the_whole() -> None:
    assert Scale.spanning([98.0, 100.0], 0, 1, 100.0).high == 100.0
    assert Scale.spanning([5.0, 5.0], 500, 0).place(5.0) == pytest.approx(250)
