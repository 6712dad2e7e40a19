"""What holds of the emulated machine whatever is asked of it."""

from __future__ import annotations

import math
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.lab.simulation.devices import DEFAULT_DEVICES, DEFAULT_HOST, DeviceModel, HostModel
from ollama_proxy.lab.simulation.host import PackageLimiter, limit_speeds
from ollama_proxy.lab.simulation.physics import Ended, Event, FirstToken, Started, World
from ollama_proxy.lab.simulation.thermal import Heat

NAMES = [one.name for one in DEFAULT_DEVICES]
#: A machine in which nothing is lost or won by what came before: no sleep, no unloading.
AWAKE = [msgspec.structs.replace(one, suspend_after_s=0, linger_s=0) for one in DEFAULT_DEVICES]
FOREVER = msgspec.structs.replace(DEFAULT_HOST, keep_alive_s=-1)


class Act(msgspec.Struct, frozen=True):
    """Wait, then hand a request to a device, or abort one that was handed over before."""

    wait_s: float
    device: str
    prompt_tokens: int
    output_tokens: int
    model: str
    aborted: int


acts = st.lists(
    st.builds(
        Act,
        wait_s=st.floats(0, 40),
        device=st.sampled_from(NAMES),
        prompt_tokens=st.integers(0, 4000),
        output_tokens=st.integers(0, 600),
        model=st.sampled_from(("llama3:7b", "b", "c")),
        aborted=st.integers(-30, 20),
    ),
    max_size=15,
)
#: Limits from tight to loose, so that every law comes to bear.
hosts = st.builds(
    HostModel,
    package_sustained_w=st.floats(10, 60),
    package_burst_w=st.floats(60, 90),
    memory_gb_s=st.floats(20, 200),
    keep_alive_s=st.sampled_from((-1, 0, 20, 300)),
    ambient_c=st.floats(15, 60),
)


@st.composite
def machines(draw: st.DrawFn) -> tuple[list[DeviceModel], HostModel]:
    host = draw(hosts)
    devices = [
        msgspec.structs.replace(
            one,
            slots=draw(st.integers(1, 3)),
            drift=draw(st.sampled_from(((), ((20.0, 90.0, 2.2),)))),
        )
        for one in DEFAULT_DEVICES
    ]
    return devices, host


def play(world: World, script: list[Act], step_s: float = math.inf) -> list[Event]:
    """All that happens, to the end; the clock is moved in steps of at most `step_s`."""
    events: list[Event] = []

    def move(to_s: float) -> None:
        while world.now_s < to_s:
            events.extend(world.advance(min(to_s, world.now_s + step_s)))

    in_flight: set[int] = set()
    for job, act in enumerate(script):
        move(world.now_s + act.wait_s)
        in_flight -= {one.job for one in events if isinstance(one, Ended)}
        if act.aborted in in_flight:
            world.abort(act.aborted)
            in_flight.discard(act.aborted)
        world.start(act.device, job, act.prompt_tokens, act.output_tokens, act.model)
        in_flight.add(job)
        events += world.advance(world.now_s)
    while world.next_s() < math.inf:
        events += world.advance(world.next_s())
    return events


@settings(deadline=None)
@given(machines(), acts, st.integers(0, 5))
def test_energy_is_conserved(machine: tuple[list[DeviceModel], HostModel], script: list[Act], seed: int) -> None:
    """Joules of jobs, aborted ones and standby are the integral of the power that could be read."""
    world = World(*machine, seed)
    integral_j = 0.0
    jobs_j = 0.0
    for job, act in enumerate(script):
        to_s = world.now_s + act.wait_s
        while world.now_s < to_s:
            power_w, at_s = world.power_w(), world.now_s
            jobs_j += sum(one.joules for one in world.advance(min(to_s, world.next_s())) if isinstance(one, Ended))
            integral_j += power_w * (world.now_s - at_s)
        if job == act.aborted + 1 and job:
            try:
                world.abort(job - 1)
            except KeyError:
                assert world.joules_in_flight >= 0
        world.start(act.device, job, act.prompt_tokens, act.output_tokens, act.model)
        known_j = jobs_j + world.joules_aborted + world.joules_in_flight
        assert world.joules_dynamic == pytest.approx(known_j, rel=1e-9, abs=1e-6)
        assert world.joules_dynamic + world.joules_standby == pytest.approx(integral_j, rel=1e-9, abs=1e-6)
    assert sum(sum(world.device_joules(name)) for name in NAMES) == pytest.approx(integral_j, rel=1e-9, abs=1e-6)


@settings(deadline=None)
@given(machines(), acts, st.integers(0, 5))
def test_every_request_starts_reads_and_ends_once_and_in_order(
    machine: tuple[list[DeviceModel], HostModel], script: list[Act], seed: int
) -> None:
    events = play(World(*machine, seed), script)
    assert all(one.at_s <= two.at_s for one, two in pairwise(events))
    by_job: dict[int, list[Event]] = {}
    for event in events:
        by_job.setdefault(event.job, []).append(event)
    for story in by_job.values():
        assert [type(one) for one in story] == [Started, FirstToken, Ended][: len(story)]
        last = story[-1]
        if isinstance(last, Ended):
            assert last.at_s - story[0].at_s == pytest.approx(last.load_s + last.prefill_s + last.decode_s, abs=1e-6)
    aborted = len(script) - sum(isinstance(one, Ended) for one in events)
    assert aborted <= sum(act.aborted >= 0 for act in script)


@settings(deadline=None, max_examples=50)
@given(machines(), acts, st.integers(0, 5), st.floats(0.3, 7))
def test_the_same_seed_gives_the_same_world_however_the_clock_is_cut(
    machine: tuple[list[DeviceModel], HostModel], script: list[Act], seed: int, step_s: float
) -> None:
    first, second, cut = (World(*machine, seed) for _ in range(3))
    told = play(first, script)
    assert play(second, script) == told
    pieces = [one for one in play(cut, script, step_s) if isinstance(one, Ended)]
    assert [one.job for one in pieces] == [one.job for one in told if isinstance(one, Ended)]
    for one, other in zip(pieces, (one for one in told if isinstance(one, Ended)), strict=True):
        assert one.at_s == pytest.approx(other.at_s, abs=1e-3)


@settings(deadline=None)
@given(machines(), acts, st.integers(0, 5))
def test_counters_never_fall(machine: tuple[list[DeviceModel], HostModel], script: list[Act], seed: int) -> None:
    world = World(*machine, seed)
    before = [0.0] * (3 * len(NAMES))
    for job, act in enumerate(script):
        world.advance(world.now_s + act.wait_s)
        world.start(act.device, job, act.prompt_tokens, act.output_tokens, act.model)
        now = [value for name in NAMES for value in (*world.device_joules(name), world.busy_s(name))]
        assert all(new >= old >= 0 for new, old in zip(now, before, strict=True))
        assert world.power_w() >= 0
        before = now


@settings(deadline=None)
@given(acts, st.integers(1, 3), st.integers(0, 14))
def test_one_more_request_never_helps_those_on_the_same_device(script: list[Act], slots: int, left_out: int) -> None:
    """On a device that is awake and whose limits do not bind; where they do, a neighbour's delay may be a gain."""
    device = msgspec.structs.replace(AWAKE[2], slots=slots, thermal=None)

    def end_of(skip: int) -> dict[int, float]:
        world = World([device], FOREVER, 1)
        found: list[Event] = []
        for job, act in enumerate(script):
            found += world.advance(world.now_s + act.wait_s)
            if job != skip:
                world.start(device.name, job, act.prompt_tokens, act.output_tokens)
        found += world.advance(1e7)
        return {one.job: one.at_s for one in found if isinstance(one, Ended)}

    with_it, without = end_of(-1), end_of(left_out)
    assert all(with_it[job] >= at_s - 1e-4 for job, at_s in without.items())


@settings(deadline=None)
@given(acts, st.sampled_from(range(4)), st.integers(1, 4000), st.integers(1, 600))
def test_nobody_is_faster_in_company_than_alone(script: list[Act], place: int, prompt: int, output: int) -> None:
    device = AWAKE[place]

    def end_of(neighbours: list[Act]) -> float:
        world = World(AWAKE, FOREVER, 1)
        for job, act in enumerate(neighbours):
            world.advance(world.now_s + act.wait_s)
            world.start(act.device, job, act.prompt_tokens, act.output_tokens)
        at_s = sum(act.wait_s for act in script)
        told = world.advance(at_s)
        world.start(device.name, 99, prompt, output)
        told += world.advance(1e7)
        return next(one.at_s for one in told if isinstance(one, Ended) and one.job == 99)

    assert end_of(script) >= end_of([]) - 1e-4


@settings(deadline=None)
@given(machines(), acts, st.integers(0, 5))
def test_the_package_keeps_its_burst_budget(
    machine: tuple[list[DeviceModel], HostModel], script: list[Act], seed: int
) -> None:
    """Never above the burst limit, and in no interval more than sustained * T + what the average was below it."""
    devices, host = machine
    world = World(devices, host, seed)
    average_w = world.package_w()
    budget_j = host.burst_s * (host.package_sustained_w - average_w)
    for job, act in enumerate(script):
        to_s = world.now_s + act.wait_s
        while world.now_s < to_s:
            watts, at_s = world.package_w(), world.now_s
            assert watts <= host.package_burst_w + 1e-6
            world.advance(min(to_s, world.next_s()))
            seconds = world.now_s - at_s
            average_w = watts + (average_w - watts) * math.exp(-seconds / host.burst_s)
            assert average_w <= host.package_sustained_w + 1e-4
            # The largest sum of any interval that ends here, less its sustained part: never beyond the whole budget.
            budget_j = min(host.burst_s * host.package_sustained_w, budget_j)
            budget_j -= (watts - host.package_sustained_w) * seconds
            assert budget_j >= -1e-3
        world.start(act.device, job, act.prompt_tokens, act.output_tokens, act.model)


@given(st.lists(st.just(0.0) | st.floats(0.01, 80), min_size=1, max_size=4), st.floats(0, 100))
def test_limited_devices_fit_the_budget_and_earlier_ones_give_more(watts: list[float], budget_w: float) -> None:
    speeds = limit_speeds(watts, budget_w)
    assert all(0 <= speed <= 1 for speed in speeds)
    total_w = sum(one * speed for one, speed in zip(watts, speeds, strict=True))
    assert total_w <= budget_w + 1e-5
    assert total_w == pytest.approx(min(sum(watts), budget_w), abs=1e-5)
    used = [speed for one, speed in zip(watts, speeds, strict=True) if one > 0]
    assert all(one <= two + 1e-9 for one, two in pairwise(used))


@given(st.floats(0, 44.9), st.floats(45.1, 120))
def test_the_burst_ends_exactly_when_the_average_has_reached_the_limit(average_w: float, watts: float) -> None:
    limiter = PackageLimiter(DEFAULT_HOST, average_w)
    left_s = limiter.exhausted_in_s(watts)
    limiter.pass_time(watts, left_s)
    assert limiter.average_w == pytest.approx(45, abs=1e-6)
    assert limiter.cap_w == 45


@given(st.floats(0, 200), st.floats(0, 200), st.floats(0, 150), st.floats(0, 150), st.floats(1, 2000))
def test_a_threshold_is_found_where_small_steps_find_it(
    idle_w: float, machine_w: float, die_w: float, before_s: float, horizon_s: float
) -> None:
    model = DEFAULT_HOST.package_thermal

    def warm_up() -> Heat:
        heat = Heat(DEFAULT_HOST, [model], [idle_w / 2], idle_w)
        heat.dies[0].watts, heat.watts = die_w, machine_w + die_w
        heat.pass_time(before_s)
        heat.dies[0].check_throttle()
        heat.dies[0].watts = die_w / 2 if heat.dies[0].throttled else die_w
        heat.watts = machine_w + heat.dies[0].watts
        return heat

    heat = warm_up()
    found_s = heat.next_crossing_s(horizon_s)
    throttled = heat.dies[0].throttled
    step_s = horizon_s / 400
    for step in range(401):
        walker = warm_up()
        walker.pass_time(step * step_s)
        walker.dies[0].check_throttle()
        if walker.dies[0].throttled != throttled:
            assert found_s <= step * step_s + 1e-3 or abs(walker.dies[0].temperature_c - _level(throttled)) < 0.01
            return
    if found_s < math.inf:
        heat.pass_time(found_s)
        heat.dies[0].check_throttle()
        assert heat.dies[0].throttled != throttled


def _level(throttled: bool) -> float:
    model = DEFAULT_HOST.package_thermal
    return model.resume_c if throttled else model.throttle_c
