"""The runs: their workloads, what is changed in them, and that they come out the same again."""

import gzip
from pathlib import Path

import pytest

from bench.evaluation import case as words
from bench.evaluation.case import Case, build_setting, run_case
from bench.evaluation.goals.cap import list_fitting
from bench.evaluation.workload import TRACE, find_workloads
from ollama_proxy.lab.simulation.synthetic import generate


def test_slices_are_disjoint_and_those_of_lab_simulate() -> None:
    workload = find_workloads(20, 3, {})["conv"]
    numbers = [row.number for part in (1, 2, 3) for row in workload.take(part)]
    assert numbers == list(range(60))
    lengths = [(one.prompt_tokens, one.output_tokens) for one in generate("conv", 60, 60.0, 3)]
    assert [(row.prompt_tokens, row.output_tokens) for part in (1, 2, 3) for row in workload.take(part)] == lengths


def test_a_recorded_trace_comes_first_where_there_is_one(tmp_path: Path) -> None:
    rows = [f"2023-11-16 18:15:{second:02}.0,{100 + second},10" for second in range(30)]
    text = "\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows])
    (tmp_path / TRACE).write_bytes(gzip.compress(text.encode()))
    found = find_workloads(5, 1, {"OLLAMA_PROXY_TRACES": str(tmp_path)})
    assert list(found) == ["recorded", "conv", "code"]
    assert [row.prompt_tokens for row in found["recorded"].take(2)] == [110, 111, 112, 113, 114]
    assert len(found["recorded"].sha256) == 64
    assert list(find_workloads(5, 1, {"OLLAMA_PROXY_TRACES": str(tmp_path / "nowhere")})) == ["conv", "code"]


def test_capacity_is_what_all_devices_do_that_never_idle() -> None:
    workload = find_workloads(500, 1, {})["conv"]
    assert 15.0 < workload.capacity_per_min(1) < 30.0


def test_changes_change_what_they_say() -> None:
    setting = build_setting((words.SPEEDS_LOW, words.CARD_SLOWED, words.LEARNS_NOT, "cap 60"), 300.0, 7)
    assert (setting.prior_factor, setting.learns, setting.cap_w, setting.seed) == (2.0, False, 60.0, 7)
    assert {one.hardware: one.drift for one in setting.devices if one.drift} == {"nvidia": ((100.0, 200.0, 2.2),)}
    setting = build_setting((words.LAMBDA_3, words.FIRST_COME, words.LENGTHS_KNOWN, words.MEMORY_AMPLE), 1.0, 1)
    assert (setting.policy.lambda_watts, setting.in_order, setting.knows_lengths) == (3.0, False, True)
    assert setting.host.memory_gb_s == 1000.0
    few = build_setting(("only ollama-npu+ollama-cpu",), 1.0, 1)
    assert [one.name for one in few.devices] == ["ollama-npu", "ollama-cpu"]
    with pytest.raises(KeyError):
        build_setting(("lambda 4 W",), 1.0, 1)


def test_sets_that_fit_under_the_cap() -> None:
    fitting = list(list_fitting())
    assert "only ollama-npu+ollama-nvidia" in fitting
    assert "only ollama-igpu+ollama-nvidia" not in fitting
    assert "only ollama-npu+ollama-igpu+ollama-cpu" in fitting


def test_a_case_has_the_figures_that_goals_ask_for_and_no_clock() -> None:
    workload = find_workloads(40, 1, {})["conv"]
    case = Case("conv", 8.0, changes=("cap 60",), part=2)
    figures = run_case(case, workload, has_bound=True)
    assert figures == run_case(case, workload, has_bound=True)
    assert {"joules_per_request", "longest_above_s", "longest_wait_efficient_s", "e2e_p99_deadline_s"} <= set(figures)
    assert figures["bound_ratio"] >= 1.0
    assert not [name for name in figures if name.startswith("decide")]


def test_predictions_are_judged_only_after_thirty_requests_of_a_device() -> None:
    workload = find_workloads(80, 1, {})["conv"]
    only_card = ("only ollama-nvidia",)
    few = run_case(Case("conv", 2.0, changes=only_card, part=1), find_workloads(30, 1, {})["conv"])
    assert "prediction_error" not in few
    many = run_case(Case("conv", 2.0, changes=only_card, part=1), workload)
    assert 0.0 < many["prediction_error"] == many["worst_prediction_error"] < 0.1


def test_the_books_of_the_emulated_machine_add_up_and_are_near_the_truth() -> None:
    workload = find_workloads(100, 1, {})["conv"]
    case = Case("conv", 8.0, changes=(words.ACCOUNTED,), part=1)
    figures = run_case(case, workload)
    assert figures["nvidia_balance_error"] < 1e-3  # its last moments before it sleeps are not read
    assert figures["package_balance_error"] < 1e-9
    assert figures["nvidia_error"] < 0.05
    assert figures["igpu_error"] < 0.01
    assert figures["npu_error"] < 0.5
    booked = sum(figures[f"{name}_requests"] for name in ("npu", "igpu", "nvidia", "cpu"))
    # One comes when the queue is too long already for its deadline.
    assert booked == 99
    assert figures == run_case(case, workload)
