"""The tables of the page, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from bench.evaluation.case import Case
from bench.evaluation.figures import WISHES
from bench.evaluation.goals.oracle import GIFTS
from bench.evaluation.line import Line, name_rate
from bench.evaluation.results import Results, Spread
from bench.evaluation.survey import OURS, list_policies, list_rates
from bench.evaluation.workload import PARTS, Workload

VERDICTS = {True: "holds", False: "**misses**", None: "-"}

#: Title, figure, how it is written.
_COLUMNS = (
    ("J a request", "joules_per_request", "{:.0f}"),
    ("deadlines met, %", "deadline_met_ratio", "{:.1%}"),
    ("critical p99, s", "critical_e2e_p99_s", "{:.0f}"),
    ("p99, s", "e2e_p99_s", "{:.0f}"),
    ("median, s", "e2e_p50_s", "{:.1f}"),
    ("rejected", "rejected", "{:.0f}"),
)


def render_rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table with the first column left and the others right."""
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def render_goals(lines: Sequence[Line]) -> list[str]:
    """The lines that have a target, each where it is hardest."""
    rows = []
    for line in lines:
        if line.target is not None:
            where, spread = line.worst or ("", None)
            rows.append([line.goal, line.what, line.show_target(), where, line.show(spread), VERDICTS[line.holds]])
    return render_rows(["goal", "figure", "target", "hardest at", "mean (range of the slices)", ""], rows)


def render_details(lines: Sequence[Line]) -> list[str]:
    """All lines everywhere."""
    found: list[str] = []
    for (goal, places), group in groupby(lines, key=lambda line: (line.goal, tuple(line.found))):
        rows = [
            [line.what, line.show_target(), *(line.show(line.found[where]) for where in places), VERDICTS[line.holds]]
            for line in group
        ]
        found += render_rows([goal, "target", *places, ""], rows)
    return found


def render_policies(results: Results, workload: str, is_first: bool) -> Iterator[str]:
    """A table a rate, a line a policy, and what the bound says of ours."""
    for rate in list_rates(is_first):
        yield f"**{name_rate(rate)}**"
        yield ""
        rows = []
        for policy in list_policies(is_first):
            case = Case(workload, rate, policy)
            rows.append([policy, *(show(results.spread(case, name), form) for _, name, form in _COLUMNS)])
        least = results.spread(Case(workload, rate, OURS), "bound_joules_per_request")
        rows.append([f"bound for {OURS}", show(least, "{:.0f}"), *("-" for _ in _COLUMNS[1:])])
        yield from render_rows(["policy", *(title for title, _, _ in _COLUMNS)], rows)


def render_gifts(results: Results, workload: str) -> list[str]:
    """What ours would reach if it knew the lengths of answers, or if devices did not share memory."""
    head = ["", "as it is", "lengths known", "memory ample", "both"]
    rows = []
    for title, name, form in (*_COLUMNS[:3], ("joules by the bound's", "bound_ratio", "{:.3f}")):
        for rate in list_rates(is_first=True):
            found = [results.spread(Case(workload, rate, OURS, changes=gift), name) for gift in GIFTS]
            if None not in found[1:]:
                rows.append([f"{title}, {name_rate(rate)}", *(show(one, form) for one in found)])
    return render_rows(head, rows)


def render_tails(results: Results, workload: str) -> list[str]:
    """The p99 of each wish, ours and that of the static rule as shipped, and which wish our slowest requests have."""
    head = ["p99, s", *(f"{wish}, {who}" for wish in WISHES for who in ("ours", "shipped"))]
    head.append("efficient among our slowest 1 %, %")
    rows = []
    for rate in list_rates(is_first=True):
        cases = [Case(workload, rate, policy) for policy in (OURS, "static-shipped")]
        spreads = [results.spread(case, f"e2e_p99_{wish}_s") for wish in WISHES for case in cases]
        share = results.spread(cases[0], "tail_share_efficient")
        rows.append([name_rate(rate), *(show(one, "{:.0f}") for one in spreads), show(share, "{:.0%}")])
    return render_rows(head, rows)


def render_loads(workload: Workload) -> list[str]:
    """What the slices are like, and what part of the devices' capacity the rates are."""
    rows = []
    for part in range(1, PARTS + 1):
        taken = workload.take(part)
        capacity = workload.capacity_per_min(part)
        lengths = [sum(getattr(one, name) for one in taken) / len(taken) for name in ("prompt_tokens", "output_tokens")]
        loads = [f"{rate / capacity:.2f}" for rate in list_rates(is_first=True)]
        rows.append(
            [f"{part}/{PARTS}", f"{len(taken):,}", *(f"{one:.0f}" for one in lengths), f"{capacity:.1f}", *loads]
        )
    rates = [name_rate(rate) for rate in list_rates(is_first=True)]
    return render_rows(["slice", "requests", "prompt tokens", "output tokens", "capacity, /min", *rates], rows)


def show(spread: Spread | None, form: str) -> str:
    """`190 (186-203)`, a dash for what is absent."""
    if spread is None:
        return "-"
    mean, low, high = (form.format(one).rstrip("%") for one in (spread.mean, spread.low, spread.high))
    return mean if low == high else f"{mean} ({low}-{high})"
