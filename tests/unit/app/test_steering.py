"""What sets the policy in force, over a fleet whose backends come and go."""

from __future__ import annotations

from datetime import datetime

import pytest

from ollama_proxy.app.steering import Steering
from ollama_proxy.config.schema import Config, Efficiency, Routing
from ollama_proxy.domain.decision import Policy
from ollama_proxy.domain.device import FleetView
from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.energy.meters.supply import PowerSupply
from ollama_proxy.routing.decide import decide
from tests.support.fleets import shipped, wants


class Machine:
    """A fleet, a power supply and a wall clock to be set."""

    def __init__(self) -> None:
        self.fleet = FleetView(1, ())
        self.supply = PowerSupply(None, None, None, ())
        self.hour = 12

    def steer(self, *, cap_w: float = 0, quiet_hours: str = "", mode: str = "Balanced") -> Steering:
        config = Config(
            routing=Routing(system_cap_watts=cap_w),
            efficiency=Efficiency(default_mode=mode, quiet_hours=quiet_hours),  # type: ignore[arg-type]
        )
        return Steering(config, lambda: self.fleet, lambda: self.supply, lambda: datetime(2026, 1, 1, self.hour))


def active(policy: Policy) -> set[str] | None:
    return None if policy.power_set is None else {name.removeprefix("ollama-") for name in policy.power_set.active}


def test_the_first_look_after_the_probes_lets_those_run_that_fit_under_the_cap() -> None:
    machine = Machine()
    steering = machine.steer(cap_w=60)
    assert active(steering.policy) == set()
    machine.fleet = shipped()
    assert steering.tick()
    assert active(steering.policy) == {"npu", "nvidia"}
    assert not steering.tick()


def test_what_if_of_a_mode_is_what_the_mode_then_is() -> None:
    machine = Machine()
    machine.fleet = shipped()
    steering = machine.steer()
    for mode in ("Quiet", "Performance", "Balanced", "Auto", "UltraEfficiency"):
        supposed = steering.policy_in(mode)
        steering.set_mode(mode)
        assert steering.policy == supposed
    assert active(steering.policy_in("Quiet")) == {"npu", "igpu", "cpu"}
    assert active(steering.policy_in("Performance")) is None


def test_quiet_hours_run_over_midnight_and_spare_those_who_chose_another_mode() -> None:
    machine = Machine()
    machine.fleet = shipped()
    steering = machine.steer(quiet_hours="22:00-07:00")
    for hour, quiet in ((21, False), (22, True), (3, True), (7, False), (23, True), (12, False)):
        machine.hour = hour
        steering.tick()
        assert (steering.effective_mode == "Quiet") is quiet
        assert (active(steering.policy) is not None) is quiet
    machine.hour = 23
    assert active(steering.policy_in("Performance")) is None


def test_a_clock_that_jumps_changes_the_hour_and_nothing_else() -> None:
    machine = Machine()
    machine.fleet = shipped()
    steering = machine.steer()
    before = steering.policy
    for hour in (23, 0, 5, 12):
        machine.hour = hour
        assert not steering.tick()
    assert steering.policy is before


def test_mode_quiet_and_the_cap_are_told_apart() -> None:
    machine = Machine()
    machine.fleet = shipped()

    def why(steering: Steering) -> dict[str, str]:
        verdict = decide(wants(), machine.fleet, steering.policy)
        return {one.backend.removeprefix("ollama-"): one.detail for one in verdict.rejections}

    louder = "draws 55.0 W, and mode Quiet leaves alone what draws more than 30 W"
    assert why(machine.steer(mode="Quiet")) == {"nvidia": louder}
    beyond = "not among those that may run together within 16 W"
    assert why(machine.steer(mode="Quiet", cap_w=16)) == {"nvidia": louder, "cpu": beyond}
    assert why(machine.steer(cap_w=16)) == {"nvidia": beyond, "cpu": beyond}


def test_another_configuration_keeps_a_mode_that_was_set_by_hand_unless_it_names_another() -> None:
    steering = Machine().steer()
    steering.set_mode("Performance")
    steering.adopt(Config(routing=Routing(policy="fastest")))
    assert (steering.mode, steering.policy.rule) == ("Performance", "fastest")
    steering.adopt(Config(efficiency=Efficiency(default_mode="Efficiency")))
    assert (steering.mode, steering.policy.rule) == ("Efficiency", "predictive")


def test_without_modes_it_is_balanced_whatever_is_configured_set_or_inherited() -> None:
    off = Efficiency(enabled=False, default_mode="Quiet", quiet_hours="00:00-23:59")
    machine = Machine()
    machine.fleet = shipped()
    steering = machine.steer(mode="Performance")
    steering.adopt(Config(efficiency=off))
    balanced = Machine().steer().policy
    assert (steering.mode, steering.effective_mode, steering.policy) == ("Balanced", "Balanced", balanced)
    assert "modes are off" in steering.description
    with pytest.raises(ProxyError, match=r"modes are off: efficiency\.enabled is false"):
        steering.set_mode("Quiet")
    steering.inherit("Quiet")
    steering.tick()
    assert (steering.policy, steering.mode_by_hand) == (balanced, "")
    steering.adopt(Config())
    steering.set_mode("Quiet")
    assert steering.mode_by_hand == "Quiet"
    steering.adopt(Config(efficiency=off))
    assert steering.policy == balanced
