"""`ollama-proxy lab simulate`: from files and flags to table, report and picture, and what it refuses."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from ollama_proxy.cli.main import app
from ollama_proxy.cli.simulate import read_rate

TRACE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:{number // 60:02}:{number % 60:02}.1234567,{100 + 37 * number % 900},{20 + 13 * number % 300}\n"
    for number in range(120)
)


def simulate(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["lab", "simulate", *map(str, arguments)])


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text(TRACE)
    return path


def test_a_trace_becomes_table_report_and_picture(trace: Path, tmp_path: Path) -> None:
    out, svg = tmp_path / "out.json", tmp_path / "out.svg"
    result = simulate(
        "--trace", trace, "--rate", 6, "--slice", "2/3", "--policy", "bound,static-documented,predictive",
        "--cap", 60, "--json", out, "--plot", svg,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.stdout.splitlines()] == [
        "policy",
        "bound",
        "static-documented",
        "predictive",
    ]
    report = json.loads(out.read_text())
    meta, policies = report["meta"], report["policies"]
    assert (meta["requests"], meta["slice"], meta["trace"], meta["cap_w"]) == (40, "2/3", "trace.csv", 60)
    assert len(meta["trace_sha256"]) == 64
    assert meta["bound_like"] == "predictive"
    assert meta["energy_kind"] == "emulated"
    assert {one["requests"] for one in policies.values()} == {40}
    assert len({one["deadline_requests"] for one in policies.values()}) == 1
    assert "e2e_p99_s" not in policies["bound"]
    assert policies["predictive"]["seconds_above_cap"] >= 0
    assert svg.read_text().startswith("<svg ")


def test_the_same_command_gives_the_same_figures(tmp_path: Path) -> None:
    found = []
    for name in ("one.json", "two.json"):
        result = simulate(
            "--synthetic", "conv", "--requests", 60, "--policy", "predictive,round-robin", "--json", tmp_path / name
        )
        assert result.exit_code == 0, result.output
        policies = json.loads((tmp_path / name).read_text())["policies"]
        found.append([{k: v for k, v in one.items() if "decide" not in k} for one in policies.values()])
    assert found[0] == found[1]


def test_no_schedule_of_a_policy_is_below_its_bound(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    result = simulate(
        "--synthetic", "conv", "--requests", 150, "--rate", 8, "--policy", "predictive,bound", "--json", out
    )
    assert result.exit_code == 0, result.output
    policies = json.loads(out.read_text())["policies"]
    assert policies["bound"]["joules"] <= policies["predictive"]["joules"]


def test_slices_of_a_synthetic_workload_differ(tmp_path: Path) -> None:
    joules = []
    for part in ("1/2", "2/2"):
        out = tmp_path / "out.json"
        result = simulate(
            "--synthetic", "code", "--requests", 30, "--slice", part, "--policy", "round-robin", "--json", out
        )
        assert result.exit_code == 0, result.output
        figures = json.loads(out.read_text())["policies"]["round-robin"]
        assert figures["requests"] == 30
        joules.append(figures["joules"])
    assert joules[0] != joules[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "either --trace FILE or --synthetic conv|code"),
        (["--trace", "a.csv", "--synthetic", "conv"], "either --trace FILE or --synthetic"),
        (["--trace", "/nowhere/a.csv"], "/nowhere/a.csv: cannot be read"),
        (["--synthetic", "chat"], "--synthetic: chat is none of conv, code"),
        (["--synthetic", "conv", "--policy", "predictive,luck"], "--policy: luck is none of predictive"),
        (["--synthetic", "conv", "--policy", ","], "--policy: nothing is none of"),
        (["--synthetic", "conv", "--slice", "third"], "--slice: expected K/N"),
        (["--synthetic", "conv", "--slice", "4/3"], "slice 4/3: expected K/N with 1 <= K <= N"),
        (["--synthetic", "conv", "--mix", "/nowhere/mix.yaml"], "/nowhere/mix.yaml: no such file"),
        (["--synthetic", "conv", "--devices", "/nowhere/devices.yaml"], "/nowhere/devices.yaml"),
        (["--synthetic", "conv", "--bound-like", "fastest"], "--bound-like: fastest is not among the policies"),
        (["--synthetic", "conv", "--json", "/nowhere/out.json"], "there is no folder /nowhere"),
        (["--synthetic", "conv", "--rate", "0"], "--rate"),
        (["--synthetic", "conv", "--requests", "9999999", "--slice", "1/999"], "more than 10,000,000"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(arguments: list[str], words: str) -> None:
    result = simulate(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stdout == ""


def test_a_bound_that_cannot_be_is_told_and_leaves_no_figures(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    result = simulate(
        "--synthetic", "conv", "--rate", 1000, "--requests", 60, "--policy", "bound", "--json", out,
        "--plot", tmp_path / "out.svg",
    )  # fmt: skip
    assert result.exit_code == 0
    assert "no schedule meets the deadlines" in result.stderr
    assert json.loads(out.read_text())["policies"] == {"bound": {}}


def test_a_cap_under_which_nobody_may_run_is_refused_with_the_nearest(trace: Path) -> None:
    result = simulate("--trace", trace, "--cap", 2)
    assert result.exit_code == 2
    assert "the least that allows one, ollama-npu, is 3.3 W" in " ".join(result.output.split())
    assert simulate("--trace", trace, "--cap", 3.3, "--policy", "greenest").exit_code == 0


@pytest.mark.parametrize(("text", "rate"), [("5", 5.0), ("5/min", 5.0), ("0.25/min", 0.25)])
def test_a_rate_may_say_its_unit(text: str, rate: float) -> None:
    assert read_rate(text) == rate


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "5/s", "", "many"])
def test_a_rate_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="no number of requests a minute"):
        read_rate(text)
