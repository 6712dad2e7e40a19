"""A minute of traffic through the real proxy over emulated devices, and through the simulator: they agree.

The full hour is `bin/evaluate --live`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.evaluation.live.experiment import run_experiment
from ollama_proxy.lab.device import DEVICES
from ollama_proxy.lab.simulation.mix import DEFAULT_MIX, apply_mix
from ollama_proxy.lab.simulation.synthetic import generate

pytestmark = pytest.mark.e2e
REQUESTS = 12


def test_a_minute_of_requests_is_served_as_the_simulator_says(tmp_path: Path) -> None:
    found = run_experiment(apply_mix(generate("conv", REQUESTS, 12.0, 3), DEFAULT_MIX, 3), 20, tmp_path)
    assert found.as_told == REQUESTS
    assert found.decisions == REQUESTS
    assert found.differing == ()
    same, answered = found.same_choices("followed")
    assert answered == REQUESTS
    # A machine that stands still may swap two events of the same moment.
    assert same >= REQUESTS - 1
    # Whoever is late draws power for longer, never for less than the work takes; a lab's device saves its last token.
    for device, joules in found.device_joules.items():
        spec = DEVICES[device.removeprefix("ollama-")]
        requests = sum(one.device == device for one in found.runs["live"].served)
        assert joules >= found.expected_joules[device] - requests * spec.watts / spec.decode_tps - 0.01
