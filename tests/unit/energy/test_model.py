"""Modelled joules: watts times seconds, and honest where nothing is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.energy.model import energy_kind, model_figure


@pytest.mark.parametrize(
    ("watts", "seconds", "emulated", "joules", "kind"),
    [
        (12.0, 2.0, False, 24.0, "modelled"),
        (12.0, 2.0, True, 24.0, "emulated"),
        (0.0, 2.0, False, None, "unknown"),
        (0.0, 2.0, True, None, "unknown"),
        (12.0, 0.0, False, 0.0, "modelled"),
        (12.0, -1.0, False, 0.0, "modelled"),
    ],
)
def test_energy(watts: float, seconds: float, emulated: bool, joules: float | None, kind: str) -> None:
    figure = model_figure(watts, seconds, emulated=emulated)
    assert (figure.joules, figure.full_j, figure.kind) == (joules, joules, kind)
    assert energy_kind(watts, emulated=emulated) == kind


@given(st.floats(0, 1e9), st.floats(-1e9, 1e9), st.booleans())
def test_joules_are_never_negative_and_unknown_only_without_watts(watts: float, seconds: float, emulated: bool) -> None:
    joules = model_figure(watts, seconds, emulated=emulated).joules
    assert (joules is None) is (energy_kind(watts, emulated=emulated) == "unknown") is (watts == 0)
    assert joules is None or joules >= 0
