"""The whole command on workloads of a few requests: everything is run, in other processes, and written."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.evaluation.__main__ import evaluate, parse_arguments, plan
from bench.evaluation.charts import CHARTS, draw_chart
from bench.evaluation.results import Spread
from bench.evaluation.workload import find_workloads


@pytest.mark.slow
def test_a_small_evaluation_writes_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OLLAMA_PROXY_TRACES", raising=False)
    asked = parse_arguments(["--quick", "--requests", "8", "--into", str(tmp_path)])
    assert evaluate(asked, find_workloads(8, 1, {})) == 0
    page = (tmp_path / "evaluation.md").read_text()
    for goal in range(1, 10):
        assert f"| G{goal} |" in page
    assert "No joule here was measured" in page
    assert "seed 1" in page
    for picture in (tmp_path / "images").iterdir():
        ElementTree.parse(picture)
        assert f"](images/{picture.name})" in page
    assert page.count("](images/") == len(list((tmp_path / "images").iterdir()))
    printed = capsys.readouterr()
    assert "| G1 | deadlines met |" in printed.out
    assert "runs" in printed.err


def test_every_run_is_planned_once_and_with_its_bound_where_one_is_asked_for() -> None:
    tasks = plan(["conv", "code"])
    cases = [case for case, _ in tasks]
    assert len(cases) == len(set(cases))
    assert {case.part for case in cases} == {1, 2, 3}
    assert all(has_bound for case, has_bound in tasks if case.policy == "predictive" and case.workload == "code")


@pytest.mark.parametrize(
    ("words", "requests", "into"),
    [(["--quick"], 150, None), (["--quick", "--into", "x"], 150, Path("x")), (["--requests", "9"], 9, "docs")],
)
def test_what_is_asked(words: list[str], requests: int, into: Path | str | None) -> None:
    asked = parse_arguments(words)
    assert asked.requests == requests
    assert into in (asked.into, asked.into and asked.into.name)


def test_two_requests_make_no_three_slices(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--requests", "2"])
    assert "at least 3" in capsys.readouterr().err


def test_a_chart_has_a_line_each_policy_and_may_lack_points() -> None:
    lines = {"predictive": {2.0: Spread(1.0, 0.9, 1.0), 5.0: Spread(0.9, 0.8, 1.0)}, "other": {}}
    root = ElementTree.fromstring(draw_chart(CHARTS[1], lines))
    assert len(root.findall("{http://www.w3.org/2000/svg}polyline")) == 1
