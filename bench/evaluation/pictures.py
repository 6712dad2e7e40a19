"""The pictures of the page: joules against deadlines at each rate, and figures by rate."""

from __future__ import annotations

from pathlib import Path

from bench.evaluation.case import Case
from bench.evaluation.charts import CHARTS, draw_chart
from bench.evaluation.results import Results
from bench.evaluation.survey import OTHER_POLICIES, OURS, RATES, list_policies
from bench.evaluation.workload import PARTS, Workload
from ollama_proxy.lab.simulation.devices import DEFAULT_DEVICES
from ollama_proxy.lab.simulation.plots import draw_plot
from ollama_proxy.lab.simulation.report import Figures, Meta, Report

#: So far from the others that these could not be told apart beside them.
_NOT_DRAWN = ("greenest", "round-robin")


def write_pictures(results: Results, workload: Workload, folder: Path) -> list[tuple[str, str]]:
    """Write them; file names with what they show."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for chart in CHARTS:
        lines = {}
        for policy in OTHER_POLICIES:
            found = {rate: results.spread(Case(workload.name, rate, policy), chart.figure) for rate in RATES}
            lines[policy] = {rate: spread for rate, spread in found.items() if spread is not None}
        (folder / chart.file).write_text(draw_chart(chart, lines))
        written.append((chart.file, chart.title))
    for rate in RATES:
        file = f"evaluation-{rate:g}-per-minute.svg"
        (folder / file).write_text(draw_plot(_report(results, workload, rate)))
        written.append((file, f"Joules a request and deadlines met at {rate:g} a minute"))
    return written


def _report(results: Results, workload: Workload, rate: float) -> Report:
    """The means of the slices in the form that `lab simulate` draws."""
    policies: dict[str, Figures] = {}
    for policy in list_policies(is_first=True):
        case = Case(workload.name, rate, policy)
        spreads = {name: results.spread(case, name) for name in ("joules_per_request", "deadline_met_ratio")}
        if policy not in _NOT_DRAWN:
            policies[policy] = {name: one.mean for name, one in spreads.items() if one is not None}
    least = results.spread(Case(workload.name, rate, OURS), "bound_joules_per_request")
    if least is not None:
        policies["bound"] = {"joules_per_request": least.mean}
    meta = Meta(
        seed=workload.seed,
        rate_per_min=rate,
        requests=PARTS * len(workload.take(1)),
        trace=workload.name,
        slice=f"1/{PARTS} to {PARTS}/{PARTS}, means",
        mix="default",
        devices=tuple(one.name for one in DEFAULT_DEVICES),
        versions={},
        bound_like=OURS,
    )
    return Report(meta, policies)
