"""Each fault as a client of the emulated server sees it, and the commands that switch faults."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import ollama
import pytest

from tests.support.lab import LabProcess
from tests.support.processes import ROOT, Child, free_port, http_get, wait_until

pytestmark = pytest.mark.e2e
MODEL = "qwen2.5:0.5b"
BODY = json.dumps({"model": MODEL, "prompt": "hi", "options": {"num_predict": 12}})


@pytest.fixture
def port(lab: LabProcess) -> int:
    return lab.ports["nvidia"]


@contextlib.contextmanager
def sent(port: int, body: str = BODY, timeout_s: float = 20) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    with contextlib.closing(connection):
        connection.request("POST", "/api/generate", body)
        yield connection


def lines_until_the_break(port: int) -> list[str]:
    with sent(port) as connection, connection.getresponse() as answer:
        try:
            return answer.read().decode().splitlines()
        except http.client.IncompleteRead as error:
            return [*error.partial.decode().splitlines(), "(broken)"]


def is_well(port: int) -> bool:
    lines = lines_until_the_break(port)
    return bool(json.loads(lines[-1])["done"])


def test_refuse_closes_the_port_and_none_opens_it_again(lab: LabProcess, port: int) -> None:
    with lab.fault("nvidia", "refuse"):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=20).close()
        assert lab.state("nvidia")["listening"] is False
        assert http_get(lab.url("igpu") + "/api/version")[0] == 200
    assert is_well(port)


def test_refuse_breaks_what_is_under_way(lab: LabProcess, port: int) -> None:
    before = lab.state("nvidia")["cancelled"]
    lab.set_fault("nvidia", "slow", factor=100)
    long = json.dumps({"model": MODEL, "prompt": "hi"})
    with sent(port, long) as connection, connection.getresponse() as answer:
        answer.readline()
        with lab.fault("nvidia", "refuse"), pytest.raises((http.client.IncompleteRead, ConnectionError)):
            answer.read()
    assert lab.state("nvidia")["cancelled"] == before + 1


def test_stall_says_nothing_and_notices_the_client_leaving(lab: LabProcess, port: int) -> None:
    before = lab.state("nvidia")["cancelled"]
    with lab.fault("nvidia", "stall", times=1):
        with sent(port, timeout_s=0.3) as connection, pytest.raises(TimeoutError):
            connection.getresponse()
        wait_until(lambda: lab.state("nvidia")["cancelled"] == before + 1, "the cancellation")
    assert is_well(port)


@pytest.mark.parametrize("pieces", [1, 3])
def test_cut_lets_so_many_pieces_through(lab: LabProcess, port: int, pieces: int) -> None:
    with lab.fault("nvidia", "cut", after_chunks=pieces):
        lines = lines_until_the_break(port)
    assert lines[-1] == "(broken)"
    assert [json.loads(line)["done"] for line in lines[:-1]] == [False] * pieces


def test_cut_at_once_gives_no_answer_at_all(lab: LabProcess, port: int) -> None:
    with lab.fault("nvidia", "cut", after_chunks=0), sent(port) as connection, pytest.raises(ConnectionError):
        connection.getresponse()


@pytest.mark.parametrize("status", [404, 429, 500, 503])
def test_status_answers_it(lab: LabProcess, port: int, status: int) -> None:
    with lab.fault("nvidia", "status", status=status), sent(port) as connection:
        answer = connection.getresponse()
        assert answer.status == status
        assert answer.getheader("X-Emulated") == "nvidia"
        assert "emulated fault" in json.loads(answer.read())["error"]


def test_too_many_requests_says_when_to_come_back(lab: LabProcess, port: int) -> None:
    with lab.fault("nvidia", "status", status=429), sent(port) as connection:
        assert connection.getresponse().getheader("Retry-After")


def test_garbage_cannot_be_parsed(lab: LabProcess, port: int) -> None:
    client = ollama.Client(host=f"http://127.0.0.1:{port}")
    with contextlib.closing(client._client), lab.fault("nvidia", "garbage"), pytest.raises(json.JSONDecodeError):
        list(client.generate(MODEL, "hi", stream=True))


def test_slow_divides_the_speed(lab: LabProcess, port: int) -> None:
    def rate() -> float:
        last = json.loads(lines_until_the_break(port)[-1])
        return float(last["eval_count"] / last["eval_duration"])

    usual = rate()
    with lab.fault("nvidia", "slow", factor=5):
        assert rate() == pytest.approx(usual / 5, rel=0.01)


def test_reset_drops_the_connection(lab: LabProcess, port: int) -> None:
    with lab.fault("nvidia", "reset"), sent(port) as connection, pytest.raises(ConnectionError):
        connection.getresponse()


def test_reset_is_a_reset(lab: LabProcess, port: int) -> None:
    request = f"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY}"
    with lab.fault("nvidia", "reset"), socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(request.encode())
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_counted_fault_goes_away_by_itself(lab: LabProcess, port: int) -> None:
    lab.set_fault("nvidia", "status", times=1)
    with sent(port) as connection:
        assert connection.getresponse().status == 503
    assert is_well(port)
    assert lab.state("nvidia")["fault"] == "none"


def test_a_fault_on_one_path_leaves_others_alone(lab: LabProcess, port: int) -> None:
    with lab.fault("nvidia", "status", paths=["/api/chat"]):
        assert is_well(port)


def test_lists_and_version_stay_well_under_a_fault(lab: LabProcess) -> None:
    with lab.fault("nvidia", "stall"):
        for path in ("/api/version", "/api/tags", "/api/ps", "/lab/state"):
            assert http_get(lab.url("nvidia") + path)[0] == 200


def test_control_port_shows_clears_and_refuses(lab: LabProcess) -> None:
    def control(method: str, name: str, body: bytes | None = None) -> tuple[int, dict[str, object]]:
        connection = http.client.HTTPConnection("127.0.0.1", lab.control_port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, f"/lab/devices/{name}/faults", body)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    lab.set_fault("npu", "slow", factor=3)
    assert control("GET", "npu")[1]["factor"] == 3
    assert control("DELETE", "npu")[1]["fault"] == "none"
    assert control("POST", "npu", b'{"fault": "burn"}')[0] == 400
    status, answer = control("GET", "tpu")
    assert status == 404
    assert "npu" in str(answer["error"])


# -- the commands ------------------------------------------------------------------


def lab_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "ollama_proxy", "lab", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd=ROOT)


def test_commands_switch_a_fault_and_show_it(lab: LabProcess) -> None:
    control = ("--control-port", str(lab.control_port))
    try:
        assert lab_command("fault", "npu", "stall", *control).returncode == 0
        shown = lab_command("status", *control).stdout.splitlines()
        assert "fault stall" in next(line for line in shown if line.startswith("npu"))
        assert all("(emulated)" in line for line in shown)
    finally:
        assert lab_command("fault", "npu", "none", *control).returncode == 0
    assert lab.state("npu")["fault"] == "none"


@pytest.mark.parametrize(("arguments", "said"), [(("tpu", "stall"), "no such device"), (("npu", "burn"), "invalid")])
def test_commands_refuse_what_is_not_there(lab: LabProcess, arguments: tuple[str, str], said: str) -> None:
    done = lab_command("fault", *arguments, "--control-port", str(lab.control_port))
    assert done.returncode == 2
    assert said in done.stderr


def test_status_without_a_lab_says_how_to_start_one() -> None:
    done = lab_command("status", "--control-port", str(free_port()))
    assert done.returncode == 2
    assert "lab up" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--devices", "npu,tpu", "--ports", "0,0"), "--devices"),
        (("--devices", "npu,npu", "--ports", "0,0"), "--devices"),
        (("--ports", "0,0"), "--ports"),
        (("--ports", "0,0,0,x"), "--ports"),
        (("--ports", "0,0,0,70000"), "--ports"),
        (("--text", "loud"), "--text"),
    ],
)
def test_up_refuses_bad_flags_in_one_sentence(arguments: tuple[str, ...], said: str) -> None:
    done = lab_command("up", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("which", ["device", "control"])
def test_up_says_in_one_sentence_that_a_port_is_in_use(which: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ports, control = (f"0,0,{port},0", "0") if which == "device" else ("0,0,0,0", port)
        done = lab_command("up", "--text", "synthetic", "--ports", ports, "--control-port", control)
    assert done.returncode == 2
    assert f"port {port} is in use" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_up_on_an_address_that_is_not_ours_says_so() -> None:
    done = lab_command("up", "--text", "synthetic", "--host", "192.0.2.1", "--ports", "0,0,0,0", "--control-port", "0")
    assert done.returncode == 2
    assert "192.0.2.1" in done.stderr


def test_printed_commands_reach_the_lab_they_belong_to(lab: LabProcess) -> None:
    (line,) = [line for line in lab.child.text().splitlines() if "lab status" in line]
    assert str(lab.control_port) in line


def test_printed_commands_name_a_device_that_is_there(work: Path) -> None:
    child = _start(work, "--devices", "npu", "--ports", "0")
    try:
        assert "fault nvidia" not in child.text()
    finally:
        child.stop()


@pytest.mark.parametrize("number", [2, 15])
def test_up_ends_well_on_a_signal_even_with_clients_connected(work: Path, number: int) -> None:
    port = free_port()
    child = _start(work, "--devices", "npu", "--ports", str(port))
    with sent(port):
        assert child.stop(number) == 0
    assert "Traceback" not in child.text()


def _start(work: Path, *arguments: str) -> Child:
    command = [sys.executable, "-P", "-m", "ollama_proxy", "lab", "up", "--text", "synthetic", "--control-port", "0"]
    child = Child([*command, *arguments], work / f"more-lab-{free_port()}.txt", {"PYTHONPATH": str(ROOT / "src")})

    def is_up() -> bool:
        child.check_alive()
        return "Stop with Ctrl-C." in child.text()

    wait_until(is_up, "the lab")
    return child
