"""What a run may not do: begin with wrong inputs, or take more than its budgets."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.pipelines.stages import Pipeline

_SHOWN = 64


def find_left(*budgets: tuple[float, float, str]) -> float:
    """The least that is left of some budgets (limit, spent, unit); 0 where there is no limit. Raises `ProxyError`."""
    left = []
    for limit, spent, unit in budgets:
        if limit and spent >= limit:
            raise ProxyError(ErrorKind.OVERLOADED, f"its budget is spent: {spent:.4g} of {limit:g} {unit}")
        if limit:
            left.append(limit - spent)
    return min(left, default=0.0)


def check_inputs(pipeline: Pipeline, inputs: Mapping[str, str]) -> None:
    """Raises `ProxyError` for inputs that are missing, or are not its."""
    wanted = ", ".join(pipeline.inputs) or "none"
    for name in pipeline.inputs:
        if name not in inputs:
            told = f"pipeline {pipeline.id}: input {name!r} is missing; its inputs are {wanted}"
            raise ProxyError(ErrorKind.INVALID_REQUEST, told)
    for name in inputs:
        if name not in pipeline.inputs:
            told = f"pipeline {pipeline.id} has no input {name[:_SHOWN]!r}; its inputs are {wanted}"
            raise ProxyError(ErrorKind.INVALID_REQUEST, told)


def refuse_unknown(name: str, known: list[str]) -> ProxyError:
    """The error for a pipeline that is not there; `known` are those that are."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(known)) or 'none'}"
    return ProxyError(ErrorKind.NOT_FOUND, f"there is no pipeline {name[:_SHOWN]!r}{hint}")
