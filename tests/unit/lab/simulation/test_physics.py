"""The emulated machine, one law at a time."""

from __future__ import annotations

import math

import msgspec
import pytest

from ollama_proxy.lab.simulation.devices import DEFAULT_DEVICES, DEFAULT_HOST, DeviceModel, HostModel, ThermalModel
from ollama_proxy.lab.simulation.physics import Ended, Event, FirstToken, Started, World

EXACT = [msgspec.structs.replace(one, noise=0, stall_probability=0) for one in DEFAULT_DEVICES]
NPU, IGPU, NVIDIA, CPU = EXACT
FOREVER = msgspec.structs.replace(DEFAULT_HOST, keep_alive_s=-1)


def build(*devices: DeviceModel, host: HostModel = FOREVER, warm: bool = True) -> World:
    return World(devices or EXACT, host, 1, warm=warm)


def change(device: DeviceModel, **fields: object) -> DeviceModel:
    return msgspec.structs.replace(device, **fields)


def ends(events: list[Event]) -> dict[int, Ended]:
    return {one.job: one for one in events if isinstance(one, Ended)}


# -- one request ---------------------------------------------------------------


@pytest.mark.parametrize("device", [NPU, IGPU, CPU])
def test_a_lone_request_takes_its_service_time_and_energy(device: DeviceModel) -> None:
    world = build(device)
    world.start(device.name, 7, 300, 100)
    started, first, ended = world.advance(1000)
    prefill_s = device.overhead_s + 300 / device.prefill_tps
    assert started == Started(7, 0.0)
    assert first == FirstToken(7, pytest.approx(prefill_s))
    assert isinstance(ended, Ended)
    assert ended.at_s == pytest.approx(device.service_s(300, 100))
    assert (ended.load_s, ended.prefill_s) == (0, pytest.approx(prefill_s))
    assert ended.decode_s == pytest.approx(100 / device.decode_tps)
    assert ended.joules == pytest.approx(device.energy_j(300, 100))
    assert world.device_joules(device.name) == (
        pytest.approx(ended.joules),
        pytest.approx(device.idle_w * (1000 - ended.at_s)),
    )


def test_without_tokens_it_still_ends() -> None:
    world = build(change(IGPU, overhead_s=0))
    world.start(IGPU.name, 1, 0, 0)
    assert [type(one) for one in world.advance(0)] == [Started, FirstToken, Ended]


def test_the_start_is_told_at_once() -> None:
    world = build(IGPU)
    assert world.next_s() == math.inf
    world.start(IGPU.name, 1, 10, 10)
    assert world.next_s() == 0
    assert world.advance(0) == [Started(1, 0.0)]
    assert world.next_s() == pytest.approx(0.15 + 10 / 300)


def test_the_clock_never_goes_back() -> None:
    world = build()
    world.advance(5)
    with pytest.raises(ValueError, match="5 s"):
        world.advance(4)


def test_a_job_in_flight_and_an_unknown_device_are_refused() -> None:
    world = build(IGPU)
    world.start(IGPU.name, 1, 10, 10)
    with pytest.raises(ValueError, match="job 1"):
        world.start(IGPU.name, 1, 10, 10)
    with pytest.raises(KeyError):
        world.start("nobody", 2, 10, 10)


# -- queue, slots, abort ---------------------------------------------------------


def test_requests_beyond_the_slots_wait_in_order() -> None:
    world = build(IGPU)
    for job in (1, 2, 3):
        world.start(IGPU.name, job, 300, 22)
    events = world.advance(100)
    one_s = IGPU.service_s(300, 22)
    assert [(one.job, one.at_s) for one in events if isinstance(one, Started)] == [
        (1, 0),
        (2, pytest.approx(one_s)),
        (3, pytest.approx(2 * one_s)),
    ]


def test_two_slots_run_at_the_power_of_the_batch_and_share_its_draw() -> None:
    device = change(NVIDIA, slots=2, suspend_after_s=0, overhead_s=0)
    world = build(device)
    world.start(device.name, 1, 0, 650)
    world.start(device.name, 2, 0, 650)
    both = ends(world.advance(100))
    assert both[1].at_s == both[2].at_s == pytest.approx(10 * 2**0.2)
    assert both[1].joules == both[2].joules == pytest.approx(10 * 2**0.2 * 55 * 1.03 / 2)


def test_an_aborted_request_frees_its_slot_and_tells_its_cost() -> None:
    world = build(IGPU)
    world.start(IGPU.name, 1, 0, 2200)
    world.start(IGPU.name, 2, 0, 22)
    world.advance(10.15)
    assert world.abort(1) == pytest.approx(0.15 * 12 * 1.3 + 10 * 12)
    assert world.joules_aborted == pytest.approx(0.15 * 12 * 1.3 + 10 * 12)
    assert ends(world.advance(100))[2].at_s == pytest.approx(10.15 + IGPU.service_s(0, 22))
    with pytest.raises(KeyError):
        world.abort(1)


def test_whoever_leaves_the_queue_costs_nothing() -> None:
    world = build(IGPU)
    world.start(IGPU.name, 1, 0, 22)
    world.start(IGPU.name, 2, 0, 22)
    assert world.abort(2) == 0
    assert [one.job for one in world.advance(100)] == [1, 1, 1]


# -- models ----------------------------------------------------------------------


def test_a_cold_model_is_loaded_first_and_paid_by_who_asked() -> None:
    world = build(IGPU, warm=False)
    world.start(IGPU.name, 1, 300, 22)
    world.start(IGPU.name, 2, 300, 22)
    assert world.resident(IGPU.name) == frozenset()
    done = ends(world.advance(100))
    assert (done[1].load_s, done[2].load_s) == (pytest.approx(IGPU.load_s), 0)
    assert done[1].joules - done[2].joules == pytest.approx(IGPU.load_s * IGPU.load_w)
    assert world.resident(IGPU.name) == {"llama3:7b"}


def test_a_model_goes_when_the_keep_alive_is_over() -> None:
    world = build(IGPU, host=DEFAULT_HOST)
    world.advance(299)
    world.start(IGPU.name, 1, 0, 22)
    ended_s = ends(world.advance(598))[1].at_s
    assert world.resident(IGPU.name) == {"llama3:7b"}
    assert world.next_s() == pytest.approx(ended_s + 300)
    world.advance(ended_s + 300.1)
    assert world.resident(IGPU.name) == frozenset()
    assert world.next_s() == math.inf


def test_a_model_stays_while_it_is_used() -> None:
    world = build(CPU, host=DEFAULT_HOST)
    world.start(CPU.name, 1, 0, 6 * 400)
    world.advance(390)
    assert world.resident(CPU.name) == {"llama3:7b"}


def test_what_does_not_fit_sends_the_least_recently_used_away() -> None:
    device = change(IGPU, memory_gb=8)
    world = build(device)
    for job, model in enumerate(("a", "llama3:7b", "b")):
        world.start(device.name, job, 0, 22, model)
    world.advance(100)
    assert world.resident(device.name) == {"llama3:7b", "b"}


def test_a_model_in_use_is_not_sent_away() -> None:
    device = change(NVIDIA, memory_gb=4, slots=2, suspend_after_s=0)
    world = build(device)
    world.start(device.name, 1, 0, 650)
    world.start(device.name, 2, 0, 650, "other")
    started = {one.job: one.at_s for one in world.advance(100) if isinstance(one, Started)}
    assert started[2] == pytest.approx(NVIDIA.service_s(0, 650))
    assert world.resident(device.name) == {"other"}


def test_one_model_loads_at_a_time_while_others_work_on() -> None:
    device = change(NVIDIA, slots=3, suspend_after_s=0)
    world = build(device)
    world.start(device.name, 1, 0, 6500)
    world.start(device.name, 2, 0, 65, "b")
    world.start(device.name, 3, 0, 65)
    world.advance(2.9)
    assert world.power_w() == pytest.approx(NVIDIA.decode_w + NVIDIA.load_w)
    started = {one.job: one.at_s for one in world.advance(300) if isinstance(one, Started)}
    assert started == {3: pytest.approx(NVIDIA.load_s)}


def test_a_load_that_nobody_waits_for_any_more_is_given_up() -> None:
    world = build(IGPU, warm=False)
    world.start(IGPU.name, 1, 0, 22)
    world.advance(1)
    assert world.abort(1) == pytest.approx(IGPU.load_w)
    assert world.resident(IGPU.name) == frozenset()
    assert world.power_w() == IGPU.idle_w


# -- sleep -----------------------------------------------------------------------


def test_a_sleeping_card_wakes_works_lingers_idles_and_sleeps() -> None:
    world = build(NVIDIA)
    assert (world.state(NVIDIA.name), world.power_w()) == ("asleep", 0)
    world.start(NVIDIA.name, 1, 0, 65)
    assert (world.state(NVIDIA.name), world.power_w()) == ("waking", 10)
    done = ends(world.advance(1.5))
    assert (world.state(NVIDIA.name), world.power_w()) == ("working", 55)
    done = ends(world.advance(3))
    assert done[1].load_s == pytest.approx(1)
    assert done[1].joules == pytest.approx(NVIDIA.energy_j(0, 65))
    assert (world.state(NVIDIA.name), world.power_w()) == ("lingering", 12)
    world.advance(2.05 + 10.1)
    assert (world.state(NVIDIA.name), world.power_w()) == ("idle", 5)
    world.advance(2.05 + 40.1)
    assert (world.state(NVIDIA.name), world.power_w()) == ("asleep", 0)
    assert world.joules_standby == pytest.approx(1 * 10 + 10 * 12 + 30 * 5)


def test_who_comes_while_it_lingers_need_not_wait() -> None:
    world = build(NVIDIA)
    world.start(NVIDIA.name, 1, 0, 65)
    world.advance(20)
    world.start(NVIDIA.name, 2, 0, 65)
    assert ends(world.advance(40))[2].load_s == 0


def test_a_card_that_was_woken_for_nothing_goes_back_to_sleep() -> None:
    world = build(NVIDIA)
    world.start(NVIDIA.name, 1, 0, 65)
    world.advance(0.5)
    world.abort(1)
    world.advance(200)
    assert world.state(NVIDIA.name) == "asleep"
    assert world.joules_dynamic == 0


# -- what devices share ------------------------------------------------------------


def test_decoding_from_one_memory_slows_down_together() -> None:
    world = build(host=msgspec.structs.replace(FOREVER, package_sustained_w=500, package_burst_w=500))
    for job, device in enumerate((NPU, IGPU)):
        world.start(device.name, job, 0, 10 * int(device.decode_tps))
    world.advance(1)
    # Of 40 + 88 GB/s there are 100; each works 100/128 of its time and draws half of its power in the rest.
    share = 100 / 128
    assert world.power_w(NPU.name) == pytest.approx(3 * (share + (1 - share) / 2))
    done = ends(world.advance(100))
    assert done[1].at_s == pytest.approx(0.15 + (0.4 - 0.15) + (10 - 0.25) / share)


def test_a_card_with_its_own_memory_is_not_slowed() -> None:
    world = build()
    for job, device in enumerate(EXACT):
        world.start(device.name, job, 0, 100)
    assert ends(world.advance(300))[2].decode_s == pytest.approx(100 / 65)


def test_the_processor_gives_way_first_when_the_burst_is_over() -> None:
    host = msgspec.structs.replace(FOREVER, package_sustained_w=30, package_burst_w=42, memory_gb_s=1000)
    world = build(IGPU, CPU, host=host)
    world.start(IGPU.name, 1, 0, 22 * 200)
    world.start(CPU.name, 2, 0, 6 * 200)
    world.advance(1)
    assert world.package_w() == pytest.approx(42)
    assert world.power_w(IGPU.name) == pytest.approx(12)
    world.advance(60)
    assert world.package_w() == pytest.approx(30)
    assert world.power_w(IGPU.name) == pytest.approx(12)
    assert world.power_w(CPU.name) == pytest.approx(30 - 2 - 12)
    assert ends(world.advance(150)) == {}
    done = ends(world.advance(1000))
    assert done[1].at_s == pytest.approx(200.15)
    assert done[2].decode_s > 250


def test_all_give_way_when_the_processor_alone_is_not_enough() -> None:
    host = msgspec.structs.replace(FOREVER, package_sustained_w=5, package_burst_w=5)
    world = build(NPU, IGPU, CPU, host=host)
    for job, device in enumerate((NPU, IGPU, CPU)):
        world.start(device.name, job, 0, 100)
    world.advance(1)
    assert world.package_w() == pytest.approx(5)
    assert len(ends(world.advance(100_000))) == 3


# -- heat ------------------------------------------------------------------------


def hot(**thermal: float) -> DeviceModel:
    model = ThermalModel(**{"die_k_per_w": 1.5, "die_tau_s": 60.0, "throttle_c": 87.0, "resume_c": 82.0} | thermal)
    return change(NVIDIA, thermal=model, suspend_after_s=0, linger_s=0)


def test_a_hot_die_throttles_and_cools_within_its_hysteresis() -> None:
    device = hot()
    world = build(device)
    world.start(device.name, 1, 0, 65 * 3000)
    speeds, highest, moments = set(), 0.0, []
    while world.next_s() < 1500:
        moments.append(world.next_s())
        world.advance(world.next_s())
        speeds.add(round(world.power_w(device.name)))
        highest = max(highest, world.temperature_c(device.name) or 0)
    assert speeds >= {55, 44}
    assert highest == pytest.approx(87, abs=0.01)
    assert len(moments) < 200
    assert ends(world.advance(10_000))[1].decode_s > 3000


def test_a_die_that_stays_too_hot_stays_slow() -> None:
    device = hot(throttle_c=50, resume_c=40)
    world = build(device)
    world.start(device.name, 1, 0, 65 * 1000)
    world.advance(500)
    assert world.power_w(device.name) == pytest.approx(55 * 0.8)
    world.advance(100_000)
    assert world.temperature_c(device.name) < 40  # type: ignore[operator]


def test_temperatures_follow_the_closed_form_however_the_clock_is_cut() -> None:
    whole, pieces = build(), build()
    for world in (whole, pieces):
        world.start(CPU.name, 1, 0, 6 * 500)
    whole.advance(400)
    for second in range(1, 401):
        pieces.advance(second)
    assert pieces.temperature_c(CPU.name) == pytest.approx(whole.temperature_c(CPU.name))
    assert whole.temperature_c(CPU.name) > 50  # type: ignore[operator]
    assert whole.temperature_c(NPU.name) == whole.temperature_c(CPU.name)
    assert pieces.joules_dynamic == pytest.approx(whole.joules_dynamic)


def test_heat_that_is_not_modelled_has_no_temperature() -> None:
    assert build(change(NVIDIA, thermal=None)).temperature_c(NVIDIA.name) is None


# -- luck and drift ----------------------------------------------------------------


def test_drift_slows_the_device_for_its_time() -> None:
    world = build(change(IGPU, overhead_s=0, drift=((10.0, 20.0, 2.0),)))
    world.start(IGPU.name, 1, 0, 22 * 30)
    ended = ends(world.advance(100))[1]
    assert ended.at_s == pytest.approx(35)
    assert ended.joules == pytest.approx(35 * 12)


def test_luck_is_of_seed_and_job_alone() -> None:
    device = DEFAULT_DEVICES[1]

    def time_of(job: int, seed: int, before: int) -> float:
        world = World([device], FOREVER, seed)
        for other in range(before):
            world.start(device.name, 100 + other, 100, 100)
        world.advance(1000)
        world.start(device.name, job, 300, 300)
        return ends(world.advance(2000))[job].at_s - 1000

    assert time_of(1, 5, 0) == pytest.approx(time_of(1, 5, 9))
    assert time_of(1, 5, 0) != pytest.approx(time_of(2, 5, 0))
    assert time_of(1, 5, 0) != pytest.approx(time_of(1, 6, 0))


def test_noise_has_its_sigma_and_stalls_their_share() -> None:
    device = change(DEFAULT_DEVICES[1], stall_probability=0.1, overhead_s=0)
    world = World([device], FOREVER, 3)
    for job in range(2000):
        world.start(device.name, job, 0, 22)
    decode_s = [one.decode_s for one in ends(world.advance(1e6)).values()]
    stalled = [one for one in decode_s if one > 1.5]
    logs = [math.log(one) for one in decode_s if one <= 1.5]
    assert len(stalled) / len(decode_s) == pytest.approx(0.1, abs=0.03)
    assert math.sqrt(sum(one * one for one in logs) / len(logs)) == pytest.approx(0.03, rel=0.1)
