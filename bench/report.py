"""A run as Markdown: the machine, the targets, the tables, what could not be measured, the versions."""

from __future__ import annotations

from bench.results import Results
from bench.tables import TABLES, render_table
from bench.targets import TARGETS, judge

_PROBLEM_CHARACTERS = 200


def render_report(results: Results, machine: dict[str, str], rounds: int) -> list[str]:
    """All lines below the title."""
    lines = ["## The run", "", f"Medians of {rounds} rounds, least and most in brackets.", ""]
    lines += [f"- {name}: {value}" for name, value in machine.items()]
    lines += ["", *render_targets(results)]
    for table in TABLES:
        lines += render_table(table, results)
    return lines + render_problems(results) + render_versions(results)


def render_targets(results: Results) -> list[str]:
    """Each target, what was found, and whether it holds."""
    lines = ["## Targets", "", "| target | at most | found | holds |", "|---|---|---|---|"]
    for target in TARGETS:
        value, verdict = judge(target, results)
        lines.append(f"| {target.text} | {target.limit:.3g} | {value} | {verdict} |")
    return [*lines, ""]


def render_problems(results: Results) -> list[str]:
    """Who could not take part in what, and why."""
    if not results.problems:
        return []
    lines = ["## Not measured, or not in every round", ""]
    for (participant, measure), reason in results.problems.items():
        short = " ".join(reason.split())[:_PROBLEM_CHARACTERS]
        lines.append(f"- {participant}, {measure}: {short}")
    return [*lines, ""]


def render_versions(results: Results) -> list[str]:
    """What was measured, exactly."""
    return ["## Versions", "", *(f"- {name}: {version}" for name, version in results.versions.items()), ""]
