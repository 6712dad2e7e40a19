"""What a run of rows leaves: verdicts, a report that is added to, a page that says what was not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.reliability.__main__ import run_row
from bench.reliability.page import render_page
from bench.reliability.report import Report
from bench.reliability.row import NotRun, Outcome, Row, Setting
from bench.reliability.rows import ROWS
from bench.reliability.tested import ProvenByTests


def row(outcome: Outcome | Exception) -> Row:
    def run(setting: Setting) -> Outcome:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return Row("X1", "check|this", "0 faults", "by looking", run)


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Outcome(True, "0 faults"), "holds"),
        (Outcome(False, "1 fault"), "misses"),
        (NotRun("no tool"), "not run"),
        (ValueError("the check is wrong"), "misses"),
    ],
)
def test_each_end_of_a_row_is_told_as_what_it_is(outcome: Outcome | Exception, state: str) -> None:
    result = run_row(row(outcome), 7, quick=True)
    assert (result.state, result.seed, result.quick) == (state, 7, True)
    page = render_page([row(outcome)], Report({}, {"X1": result}))
    assert "check\\|this" in page
    assert ("**misses**" in page) is (state == "misses")
    assert f"{int(state == 'holds')} hold" in page
    not_run = page.partition("## Not run, and why")[2]
    assert ("X1" in not_run) is (state == "not run")


def test_a_report_is_added_to(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    report = Report.read(path)
    report.results["X1"] = run_row(row(Outcome(True, "well", {"count": 3})), 1, quick=False)
    report.write(path)
    again = Report.read(path)
    assert again.results["X1"].figures == {"count": 3}
    assert [one.name for one in tmp_path.iterdir()] == ["report.json"]


def test_a_row_that_nobody_ran_or_that_could_not_be_says_so() -> None:
    def miss_its_tool(setting: Setting) -> Outcome:
        raise NotRun("a tool is not here")

    other = Row("X2", "much", "all", "-", miss_its_tool)
    result = run_row(other, 1, quick=False)
    page = render_page([row(Outcome(True, "")), other], Report({}, {"X2": result}))
    assert "X1** check|this: never run here" in page
    assert "X2** much: a tool is not here" in page


def test_rows_have_ids_of_their_own_in_order() -> None:
    assert list(ROWS) == sorted(ROWS, key=lambda name: (name[0], int(name[1:])))
    assert {"A1", "B1", "C1", "D1", "E1", "F2", "H1"} <= set(ROWS)


def test_tests_that_are_run_for_a_row_exist() -> None:
    root = Path(__file__).resolve().parents[4]
    for one in ROWS.values():
        tests = getattr(one.run, "__self__", None)
        if isinstance(tests, ProvenByTests):
            for node in tests.nodes:
                path, _, name = node.partition("::")
                assert (root / path).exists(), node
                assert not name or f"def {name}(" in (root / path).read_text(), node
