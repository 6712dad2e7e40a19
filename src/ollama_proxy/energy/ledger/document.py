"""A ledger's summary as a document for programs, and the span of time that it is asked for."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from ollama_proxy.energy.ledger.summary import Group, Summary, Tariff

#: Unix seconds, the first included.
Span = tuple[float, float]
_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def read_time(text: str, now_unix_s: float) -> float:
    """Unix seconds of `7d` (ago; also m, h, w) or of a local date or time. Raises `ValueError` for anything else."""
    if span := re.fullmatch(r"([0-9]{1,6})([mhdw])", text):
        return max(0.0, now_unix_s - int(span[1]) * _SECONDS[span[2]])
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{text[:100]!r} is neither a span such as 7d nor a date") from None


def as_document(summary: Summary, tariff: Tariff, span: Span, path: str) -> dict[str, Any]:
    """The same for programs: plain joules, null for what is not known."""
    return {
        "ledger": path,
        "since_unix_s": span[0],
        "until_unix_s": span[1],
        "by": summary.by,
        "accounting": summary.accounting,
        "currency": tariff.currency,
        "groups": [_group_document(group, tariff) for group in summary.groups],
        "total": _group_document(summary.total, tariff),
    }


def _group_document(group: Group, tariff: Tariff) -> dict[str, Any]:
    return {
        "name": group.name,
        "requests": group.requests,
        "attempts": group.attempts,
        "prompt_tokens": group.prompt_tokens,
        "output_tokens": group.output_tokens,
        "seconds": group.seconds,
        "joules": group.joules,
        "plus_minus_j": group.plus_minus_j,
        "wh": None if group.joules is None else group.joules / 3600,
        "cost": group.cost(tariff),
        "carbon_g": group.carbon_g(tariff),
        "kinds": {kind: {"attempts": one.attempts, "joules": one.joules} for kind, one in group.kinds.items()},
        "attempts_without_figure": group.unknown,
        "attempts_with_other_figure_only": group.otherwise_known,
        "static_j": group.static_j,
        "saved_j": group.saved_j,
        "attempts_compared": group.compared,
    }
