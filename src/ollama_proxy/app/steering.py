"""What sets the policy in force: configuration, efficiency mode, power supply, quiet hours, power cap."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, time

import msgspec

from ollama_proxy.config.schema import Config
from ollama_proxy.domain.decision import Policy, PowerSet
from ollama_proxy.domain.device import BackendView, FleetView
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.energy.meters.supply import PowerSupply
from ollama_proxy.routing.policies import MODES, Supply, build_policy, effective_mode, find_mode, judge_supply
from ollama_proxy.routing.power_set import Draw, Want, exchange_power_set

_log = logging.getLogger(__name__)

#: How often the supply is looked at, in calls of `tick`, which come about once a second.
_LOOK_EVERY = 5
#: What holds where `efficiency.enabled` is off.
_WITHOUT_MODES = "Balanced"


class Steering:
    """Holds the policy; `tick` keeps it up to date."""

    def __init__(
        self,
        config: Config,
        fleet: Callable[[], FleetView],
        read_supply: Callable[[], PowerSupply],
        wall_clock: Callable[[], datetime] = datetime.now,
    ) -> None:
        self._fleet = fleet
        self._read_supply = read_supply
        self._wall_clock = wall_clock
        #: Who waits for a power set that has somebody for it; the queue says so.
        self.wants: Callable[[], Sequence[Want]] = tuple
        self.supply = Supply.MAINS
        self._ticks = 0
        self._take(config)
        self.mode: str = self._default_mode
        self.policy = self._base
        self._look_at_supply()
        self._steer()

    def adopt(self, config: Config) -> None:
        """Steer by another configuration. A mode that was set meanwhile stays, unless another is configured now."""
        before = self._default_mode
        self._take(config)
        if self._default_mode != before or not self._enabled:
            self.mode = self._default_mode
        self._steer()

    def _take(self, config: Config) -> None:
        routing, efficiency = config.routing, config.efficiency
        self._enabled = efficiency.enabled
        self._default_mode = efficiency.default_mode if self._enabled else _WITHOUT_MODES
        self._quiet_hours = parse_hours(efficiency.quiet_hours) if self._enabled else None
        self._quiet_watts = efficiency.quiet_max_watts
        self._cap_watts = routing.system_cap_watts
        self._base = Policy(
            default_backend=routing.default_backend,
            power_aware=routing.power_aware,
            auto_optimize_latency=routing.auto_optimize_latency,
            rule=routing.policy,
            probability=routing.latency_probability,
            metric=routing.latency_metric,
            on_infeasible=routing.on_infeasible,
            efficient_patience=routing.efficient_patience,
        )

    @property
    def effective_mode(self) -> str:
        """The mode in effect now."""
        return effective_mode(self.mode, self.supply, quiet=self._is_quiet_hour())

    @property
    def description(self) -> str:
        """A sentence on the mode as set, and on what decides where it leaves something open."""
        told = MODES[self.mode][1]
        if self.mode == "Auto":
            told += f"; now {self.policy.lambda_watts:g} J ({self.supply.value})"
        return told if self._enabled else f"{told}; modes are off (efficiency.enabled)"

    @property
    def mode_by_hand(self) -> str:
        """The mode where it is not the configured one, else ""."""
        return "" if self.mode == self._default_mode else self.mode

    def inherit(self, mode: str) -> None:
        """Go on with the mode that a process before was set to by hand, if there was one and modes are on."""
        if mode and self._enabled:
            self.mode = mode

    def set_mode(self, name: str) -> None:
        """Choose a mode. Raises `ProxyError` that lists them, or says that modes are off."""
        if not self._enabled:
            raise ProxyError(ErrorKind.INVALID_REQUEST, "efficiency modes are off: efficiency.enabled is false")
        mode = find_mode(name)
        if mode is None:
            raise ProxyError(ErrorKind.INVALID_REQUEST, f"unknown mode {name[:40]!r}; known are {', '.join(MODES)}")
        self.mode = mode
        self._steer()
        _log.info("efficiency mode is now %s", mode)

    def tick(self) -> bool:
        """Look again, about once a second; whether the policy has changed."""
        self._ticks += 1
        if self._ticks % _LOOK_EVERY == 0:
            self._look_at_supply()
        before = self.policy
        self._steer()
        return self.policy is not before

    def _look_at_supply(self) -> None:
        found = self._read_supply()
        self.supply = judge_supply(self.supply, found.on_battery, found.percent)

    def _steer(self) -> None:
        policy = self.policy_in(self.mode)
        # The same policy must stay the same object: what is remembered of backends goes by it.
        if policy != self.policy:
            self.policy = policy

    def policy_in(self, mode: str) -> Policy:
        """The policy that a mode, by its own spelling, would be now."""
        quiet = effective_mode(mode, self.supply, quiet=self._is_quiet_hour()) == "Quiet"
        policy = build_policy("Quiet" if quiet else mode, self._base, self.supply)
        return msgspec.structs.replace(policy, name=mode, power_set=self._choose_set(quiet=quiet))

    def _choose_set(self, *, quiet: bool) -> PowerSet | None:
        if not (quiet or self._cap_watts):
            return None
        views = [view for view in self._fleet().backends if view.health.serves]
        if quiet:
            views = [view for view in views if view.spec.power_watts <= self._quiet_watts] or views
        if not self._cap_watts:
            return PowerSet(frozenset(view.id for view in views), quiet_watts=self._quiet_watts)
        running = {view.id for view in self._fleet().backends if view.in_flight}
        draws = [_draw_of(view) for view in views]
        chosen = exchange_power_set(self.policy.power_set, running, draws, self._cap_watts, wants=self.wants())
        return msgspec.structs.replace(chosen, quiet_watts=self._quiet_watts) if quiet else chosen

    def _is_quiet_hour(self) -> bool:
        if self._quiet_hours is None:
            return False
        begin, end = self._quiet_hours
        now = self._wall_clock().time()
        return begin <= now < end if begin <= end else now >= begin or now < end


def _draw_of(view: BackendView) -> Draw:
    """By its configured speed: what traffic teaches must not make devices come and go."""
    spec = view.spec
    tokens_per_s = (spec.max_tokens_per_second or 1.0) * spec.slots**spec.parallel_exponent
    return Draw(spec.id, spec.power_watts, spec.prefill_watts or spec.power_watts, tokens_per_s)


def parse_hours(text: str) -> tuple[time, time] | None:
    """`22:00-07:00` as two times; None for an empty text. Raises `ValueError`."""
    if not text:
        return None
    begin, dash, end = text.partition("-")
    if not dash:
        raise ValueError(f"expected hours like 22:00-07:00, not {text[:20]!r}")
    return time.fromisoformat(begin.strip()), time.fromisoformat(end.strip())
