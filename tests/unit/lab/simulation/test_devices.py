"""The machine's parameters, and the file they may come from."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ollama_proxy.config.problems import ConfigError
from ollama_proxy.lab.simulation.devices import DEFAULT_DEVICES, DEFAULT_HOST, DeviceModel, HostModel, read_devices

NPU, IGPU, NVIDIA, CPU = DEFAULT_DEVICES

ONE = """
devices:
  - name: solo
    hardware: nvidia
    prefill_tps: 1000
    decode_tps: 50
    overhead_s: 0.1
    prefill_w: 100
    decode_w: 80
    load_s: 2
    load_w: 20
    memory_gb: 24
    on_package: false
    bandwidth_gb_s: 900
    drift: [[10, 20, 2.2]]
    thermal: {die_k_per_w: 0.5, die_tau_s: 60, throttle_c: 83, resume_c: 78}
"""


def read(tmp_path: Path, text: str) -> tuple[tuple[DeviceModel, ...], HostModel]:
    path = tmp_path / "machine.yaml"
    path.write_text(text, encoding="utf-8")
    return read_devices(path)


def test_the_default_four_are_those_of_the_quick_start() -> None:
    assert [one.name for one in DEFAULT_DEVICES] == ["ollama-npu", "ollama-igpu", "ollama-nvidia", "ollama-cpu"]
    assert [one.decode_w for one in DEFAULT_DEVICES] == [3, 12, 55, 28]
    assert [one.decode_tps for one in DEFAULT_DEVICES] == [10, 22, 65, 6]
    assert all(one.slots == 1 for one in DEFAULT_DEVICES)


@pytest.mark.parametrize(("device", "per_min"), [(NVIDIA, 14.8), (IGPU, 4.4), (NPU, 2.05), (CPU, 0.98)])
def test_the_mean_request_of_the_conversation_trace_takes_what_it_should(device: DeviceModel, per_min: float) -> None:
    """1,155 tokens in, 211 out, as published; capacities as the facts of the four devices give them."""
    assert 60 / device.service_s(1155, 211) == pytest.approx(per_min, rel=0.02)


def test_energy_is_draw_times_time_phase_by_phase() -> None:
    assert IGPU.energy_j(300, 220) == pytest.approx((0.15 + 1) * 12 * 1.3 + 10 * 12)
    assert NVIDIA.service_s(1500, 650) == pytest.approx(11.05)


def test_a_file_tells_the_whole_machine(tmp_path: Path) -> None:
    devices, host = read(tmp_path, ONE + "host: {package_sustained_w: 28}\n")
    assert devices[0].decode_tps == 50
    assert devices[0].drift == ((10, 20, 2.2),)
    assert devices[0].thermal is not None
    assert devices[0].thermal.throttle_c == 83
    assert host == msgspec.structs.replace(DEFAULT_HOST, package_sustained_w=28)


def test_an_entry_may_be_like_a_default_device(tmp_path: Path) -> None:
    devices, host = read(
        tmp_path, "devices:\n  - {like: ollama-nvidia, decode_w: 36, slots: 4}\n  - {like: ollama-npu, name: second}\n"
    )
    assert devices[0] == msgspec.structs.replace(NVIDIA, decode_w=36, slots=4)
    assert devices[1] == msgspec.structs.replace(NPU, name="second")
    assert host == DEFAULT_HOST


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "devices: a list of at least one device is needed"),
        ("- 1\n", ":1: the file must hold keys and values"),
        ("devices: []\n", ":1: devices: a list of at least one"),
        ("devices:\n  - 7\n", ":2: devices[0]: must hold keys and values"),
        (ONE + "hosts: {}\n", 'hosts: unknown key; did you mean "host"?'),
        (ONE.replace("decode_tps", "decode_tbs"), ':6: devices[0].decode_tbs: unknown key; did you mean "decode_tps"?'),
        (ONE.replace("decode_tps: 50", "decode_tps: 0"), ":6: devices[0].decode_tps: expected float > 0"),
        (ONE.replace("decode_tps: 50", "decode_tps: fast"), ":6: devices[0].decode_tps: expected float, got str"),
        (ONE.replace("load_w: 20", "load_w: .inf"), ":11: devices[0].load_w: must be a finite number"),
        (ONE.replace("load_w: 20", "load_w: .nan"), ":11: devices[0].load_w: "),
        (ONE.replace("    load_s: 2\n", ""), "devices[0]: object missing required field load_s"),
        (ONE.replace("hardware: nvidia", "hardware: tpu"), ":4: devices[0].hardware: 'tpu' is none of npu, igpu"),
        (ONE.replace("memory_gb: 24", "memory_gb: 3"), ":12: devices[0].memory_gb: a model takes 4 GB"),
        (ONE.replace("[[10, 20, 2.2]]", "[[20, 10, 2.2]]"), ":15: devices[0].drift[0]: ends before it begins"),
        (ONE.replace("on_package: false", "on_package: true"), ":16: devices[0].thermal: a device on the package"),
        (ONE.replace("resume_c: 78", "resume_c: 90"), ":16: devices[0].thermal: needs ambient_c < resume_c"),
        (ONE.replace("die_tau_s: 60", "die_tau_s: 900"), ":16: devices[0].thermal: die_tau_s must be below"),
        ("devices:\n  - like: ollama-gpu\n", ":2: devices[0].like: 'ollama-gpu' is not a default device; did you mean"),
        ("devices:\n  - like: ollama-npu\n  - like: ollama-npu\n", "devices[1].name: 'ollama-npu' is given twice"),
        (ONE + "host: {package_burst_w: 40}\n", "host.package_burst_w: is below package_sustained_w"),
        (ONE + "host: {package_floor_w: 50}\n", "host.package_sustained_w: the idle package alone draws 50 W"),
        (ONE + "host: {package_foor_w: 5}\n", 'host.package_foor_w: unknown key; did you mean "package_floor_w"?'),
        (ONE + "host: 3\n", "host: must hold keys and values"),
    ],
)
def test_a_faulty_file_is_refused_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        read(tmp_path, text)
    assert message in str(refusal.value)
    assert "machine.yaml" in str(refusal.value)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        read(tmp_path, "devices:\n  - {like: ollama-npu, slot: 2}\n  - {like: ollama-cpu, decode_w: -1}\n")
    assert [one.where for one in refusal.value.problems] == ["devices[0].slot", "devices[1].decode_w"]


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_devices(tmp_path / "nothing.yaml")


@pytest.mark.parametrize("name", ["[a]", "{a: 1}", "3", "null"])
def test_a_device_can_only_be_like_one_that_has_a_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="is not a default device"):
        read(tmp_path, f"devices:\n  - like: {name}\n")


def test_more_slots_than_any_server_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="slots"):
        read(tmp_path, "devices:\n  - {like: ollama-cpu, slots: 1000000000}\n")
