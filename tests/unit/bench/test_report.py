"""Tables, targets and plots as they are printed."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.documents import write_documents
from bench.measures import NAMES, make_measure
from bench.plots import draw_bars
from bench.report import render_problems, render_report
from bench.results import Results
from bench.tables import TABLES, Column, Table, render_cell, render_table
from bench.targets import TARGETS, Target, judge

CPU = Column("CPU", "unary", "cpu_us", 1, ratio_to="nginx", shows_range=True)
LATENCY = Column("added", "latency", "p50_us_1", 0, without="direct")


def make_results() -> Results:
    results = Results(versions={"direct": "-", "nginx": "1.22", "ours": "0.1"})
    for cpu_us in (9.0, 10.0, 12.0):
        results.add("direct", "unary", {"cpu_us": 0.0})
        results.add("nginx", "unary", {"cpu_us": cpu_us})
        results.add("ours", "unary", {"cpu_us": cpu_us * 2.5})
    for name, p50_us in (("direct", 40.0), ("nginx", 140.0), ("ours", 160.0)):
        results.add(name, "latency", {"p50_us_1": p50_us})
    return results


@pytest.mark.parametrize(
    ("column", "participant", "text"),
    [
        (CPU, "nginx", "10.0 (9.0-12.0)"),
        (CPU, "ours", "25.0 (22.5-30.0) = 2.50 x"),
        (CPU, "direct", "-"),
        (CPU, "nobody", "-"),
        (LATENCY, "direct", "-"),
        (LATENCY, "ours", "120"),
    ],
)
def test_cell(column: Column, participant: str, text: str) -> None:
    assert render_cell(column, participant, make_results()) == text


def test_a_core_that_was_used_up_is_bold() -> None:
    results = Results()
    results.add("slow", "streams-100", {"core": 0.97, "saturated": 1.0})
    assert render_cell(Column("core", "streams-100", "core", 2), "slow", results) == "**0.97**"


def test_table_keeps_the_order_and_leaves_out_who_has_nothing() -> None:
    lines = render_table(Table("Title", "Text.", (CPU,)), make_results())
    assert [line.split(" | ")[0].strip("| ") for line in lines if line.startswith("| ")] == ["", "nginx", "ours"]


def test_table_of_nothing_is_nothing() -> None:
    assert render_table(Table("Title", "Text.", (CPU,)), Results(versions={"ours": "0.1"})) == []


@pytest.mark.parametrize(
    ("target", "value", "verdict"),
    [
        (Target("", ("ours", "unary", "cpu_us"), 2.0, ("nginx", "unary", "cpu_us")), "2.5", "**no**"),
        (Target("", ("ours", "unary", "cpu_us"), 2.5, ("nginx", "unary", "cpu_us")), "2.5", "yes"),
        (Target("", ("ours", "unary", "cpu_us"), 30.0), "25", "yes"),
        (
            Target(
                "",
                ("ours", "latency", "p50_us_1"),
                1.5,
                ("nginx", "latency", "p50_us_1"),
                ("direct", "latency", "p50_us_1"),
            ),
            "1.2",
            "yes",
        ),
        (Target("", ("ours", "unary", "cpu_us"), 2.5, ("olla", "unary", "cpu_us")), "-", "not measured"),
    ],
)
def test_target(target: Target, value: str, verdict: str) -> None:
    assert judge(target, make_results()) == (value, verdict)


def test_tables_and_targets_name_measures_that_exist() -> None:
    assert {column.measure for table in TABLES for column in table.columns} <= set(NAMES)
    assert {key[1] for target in TARGETS for key in (target.above, target.below) if key} <= set(NAMES)


def test_measures_have_the_names_they_are_found_by() -> None:
    assert tuple(make_measure(name).name for name in NAMES) == NAMES


def test_reasons_are_one_short_line() -> None:
    results = Results(problems={("olla", "install"): "a\nb  c " + "x" * 999})
    (line,) = [line for line in render_problems(results) if line.startswith("- ")]
    assert line.startswith("- olla, install: a b c x")
    assert len(line) < 250


def test_plot_is_well_formed_and_cuts_what_is_out_of_all_proportion() -> None:
    text = draw_bars("A & B", "us", [(10.0, "nginx"), (20.0, "ours"), (5000.0, "litellm")])
    root = ElementTree.fromstring(text)
    widths = [float(bar.attrib["width"]) for bar in root if bar.tag.endswith("rect")][1:]
    assert widths == [235.0, 470.0, 470.0]
    assert "5,000.0 (cut)" in text


def test_documents_name_only_pictures_that_are_there(tmp_path: Path) -> None:
    page = write_documents(make_results(), {"kernel": "Linux"}, 3, tmp_path).read_text()
    pictures = re.findall(r"\]\((.*?)\)", page)
    assert pictures == ["benchmarks/unary.svg"]
    assert all((tmp_path / picture).exists() for picture in pictures)
    assert (tmp_path / "benchmarks/results.json").exists()


def test_report_without_any_result_is_still_a_report() -> None:
    assert "## Targets" in render_report(Results(), {}, 1)
