"""A ledger's summary as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ollama_proxy.energy.ledger.document import Span
from ollama_proxy.energy.ledger.summary import Group, Summary, Tariff

#: Up to so much of a name is shown.
_NAME_CHARS = 40
_UNKNOWN = "-"
#: Why an attempt may have the other figure only, and which that is.
_OTHER = {
    "marginal": ("the meter had not seen yet what is drawn when idle", "full"),
    "full": ("what is drawn when idle was not known", "marginal"),
}


def render_summary(summary: Summary, tariff: Tariff, span: Span, path: str) -> str:
    """The whole text, without a line end behind it."""
    title = f"Energy of {_count(summary.total.requests, 'request')}, {_moment(span[0])} to {_moment(span[1])} ({path})"
    if not summary.groups:
        return f"{title}\n\nNothing ended in that time."
    return "\n\n".join([title, _align(_columns(summary, tariff)), _notes(summary)])


def _columns(summary: Summary, tariff: Tariff) -> list[tuple[str, list[str]]]:
    """Head and cells of each column, the total last; what nobody could fill is left out."""
    groups = [*summary.groups, summary.total]
    columns = [
        (summary.by, [_shorten(group.name or "(none)") for group in groups]),
        ("requests", [f"{group.requests:,}" for group in groups]),
        ("tokens in", [f"{group.prompt_tokens:,}" for group in groups]),
        ("out", [f"{group.output_tokens:,}" for group in groups]),
        ("energy", [_joules(group.joules) for group in groups]),
        ("error", [_percent(group.plus_minus_j, group.joules, "±") for group in groups]),
        ("Wh", [_number(None if group.joules is None else group.joules / 3600) for group in groups]),
    ]
    if tariff.price_per_kwh is not None:
        columns.append((tariff.currency, [_number(group.cost(tariff)) for group in groups]))
    if tariff.carbon_g_per_kwh is not None:
        columns.append(("g CO2", [_number(group.carbon_g(tariff)) for group in groups]))
    if summary.total.compared:
        columns.append(("saved", [_saved(group) for group in groups]))
    columns.append(("figures", [_kinds(group) for group in groups]))
    return columns


def _notes(summary: Summary) -> str:
    total = summary.total
    notes = [
        "Energy is above idle (marginal)."
        if summary.accounting == "marginal"
        else "Energy has a share of the idle draw in it (full)."
    ]
    if total.unknown > total.otherwise_known:
        without = _count(total.unknown - total.otherwise_known, "attempt")
        notes.append(f"{without} without a figure: nobody knows what their backends draw.")
    if total.otherwise_known:
        left_out, other = _OTHER[summary.accounting]
        notes.append(f"{_count(total.otherwise_known, 'attempt')} left out: {left_out}. See --accounting {other}.")
    if total.compared:
        notes.append(
            f"Saved: against what the static rule would have spent, modelled, on {total.compared:,} of "
            f"{_count(total.attempts, 'attempt')}."
        )
    return "\n".join(notes)


def _align(columns: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Names and figures' kinds to the left, numbers to the right; a line above the total."""
    widths = [max(len(head), *map(len, cells)) for head, cells in columns]
    last = len(columns) - 1

    def line(cells: Sequence[str]) -> str:
        placed = [
            cell.ljust(width) if index in (0, last) else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(placed).rstrip()

    rows = [line(cells) for cells in zip(*(cells for _, cells in columns), strict=True)]
    rule = "-" * max(map(len, rows))
    return "\n".join([line([head for head, _ in columns]), *rows[:-1], rule, rows[-1]])


def _kinds(group: Group) -> str:
    """`measured 80 %, modelled 20 %` of the joules; of attempts where the joules are none."""
    shares = sorted(group.kinds.items(), key=lambda one: -one[1].joules)
    total_j = sum(share.joules for _, share in shares)
    total = sum(share.attempts for _, share in shares)
    words = [
        kind if len(shares) == 1 else f"{kind} {_round(share.joules / total_j if total_j else share.attempts / total)}"
        for kind, share in shares
    ]
    if group.unknown:
        words.append(f"unknown for {group.unknown:,}")
    return ", ".join(words)


def _round(share: float) -> str:
    if 0 < share < 0.01:
        return "<1 %"
    return f"{min(99, round(100 * share)) if share < 1 else 100} %"


def _saved(group: Group) -> str:
    if group.saved_j is None:
        return _UNKNOWN
    return f"{_joules(group.saved_j)} {_percent(group.saved_j, group.static_j)}".strip()


def _percent(part: float | None, whole: float | None, sign: str = "") -> str:
    """With a sign in front for errors, in brackets otherwise; nothing where there is no whole."""
    if part is None or not whole:
        return ""
    text = f"{sign}{100 * part / whole:.0f} %"
    return text if sign else f"({text})"


def _joules(joules: float | None) -> str:
    if joules is None:
        return _UNKNOWN
    for factor, unit in ((1e6, "MJ"), (1e3, "kJ")):
        if abs(joules) >= factor:
            return f"{joules / factor:.3g} {unit}"
    return f"{joules:.3g} J"


def _number(value: float | None) -> str:
    """Three digits that count, without exponents."""
    if value is None:
        return _UNKNOWN
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) < 0.0001:
        return "<0.0001"
    return f"{value:.4f}" if abs(value) < 1 else f"{value:.3g}"


def _shorten(name: str) -> str:
    # A model's name is the caller's to choose; what would move the cursor must not reach a terminal.
    plain = "".join(letter if letter.isprintable() else "?" for letter in name)
    return plain if len(plain) <= _NAME_CHARS else plain[: _NAME_CHARS - 1] + "…"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _moment(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s).strftime("%Y-%m-%d %H:%M")
