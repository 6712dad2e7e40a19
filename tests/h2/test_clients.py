"""Foreign clients of HTTP/2, each with a unary answer, a stream, a deadline, and a call that it gives up."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.h2.clients import CANCELLED, CLIENTS, DEADLINE_EXCEEDED, OK, Ask, Client, Outcome
from tests.support.lab import LabProcess
from tests.support.processes import ROOT, Child, find_tool, wait_until
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e

#: More than the emulated device makes within any of these tests.
_MANY = 100_000
_ENV = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}


@pytest.fixture(scope="module")
def slow(work: Path) -> Iterator[tuple[LabProcess, ProxyProcess]]:
    """Devices as slow as in life, and a proxy in front of them."""
    with LabProcess(work, speed=1) as lab, ProxyProcess(work, endpoints=lab.endpoints) as proxy:
        yield lab, proxy


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> Client:
    found = CLIENTS[request.param]
    if find_tool(found.tool) is None:
        pytest.skip(f"no {found.tool}")
    return found


def command_of(client: Client, ask: Ask) -> list[str]:
    return [str(find_tool(client.tool)), *client.command(ask)]


def call(client: Client, ask: Ask) -> Outcome:
    """Run the client to its end."""
    done = subprocess.run(
        command_of(client, ask), capture_output=True, timeout=60, check=False, env={**os.environ, **_ENV}
    )
    try:
        return client.read(done)
    except ValueError:
        raise AssertionError(f"{done.returncode}: {done.stdout!r} {done.stderr!r}") from None


def wait_for_rest(lab: LabProcess, cancelled: int) -> None:
    """The device has been told that often that nobody waits, and works for nobody."""
    wait_until(lambda: lab.state("nvidia")["cancelled"] == cancelled, "the device to hear of it")
    wait_until(lambda: lab.state("nvidia")["in_flight"] == 0, "the device to rest")


def test_a_unary_answer(lab_proxy: ProxyProcess, tmp_path: Path, client: Client) -> None:
    outcome = call(client, Ask(lab_proxy, tmp_path, stream=False))
    assert outcome.code == OK
    assert outcome.pieces in (1, None)


def test_a_stream(lab_proxy: ProxyProcess, tmp_path: Path, client: Client) -> None:
    # Enough that a device which was held up cannot send all of them at once.
    outcome = call(client, Ask(lab_proxy, tmp_path, stream=True, tokens=90))
    assert outcome.code == OK
    assert outcome.pieces is None or outcome.pieces > 3


@pytest.mark.parametrize(
    ("client", "stream"),
    [
        (name, stream)
        for name, one in CLIENTS.items()
        for stream in (False, True)
        if not (stream and one.counts_silence)
    ],
    indirect=["client"],
)
def test_a_deadline(slow: tuple[LabProcess, ProxyProcess], tmp_path: Path, client: Client, stream: bool) -> None:
    lab, proxy = slow
    before = lab.state("nvidia")["cancelled"]
    outcome = call(client, Ask(proxy, tmp_path, stream=stream, tokens=_MANY, deadline_s=1.5))
    assert outcome.code == DEADLINE_EXCEEDED
    assert stream or not outcome.pieces
    wait_for_rest(lab, before + 1)


@pytest.mark.parametrize("client", [name for name, one in CLIENTS.items() if one.breaks_off], indirect=True)
def test_a_client_that_cancels(slow: tuple[LabProcess, ProxyProcess], tmp_path: Path, client: Client) -> None:
    """RST_STREAM behind the first message."""
    lab, proxy = slow
    before = lab.state("nvidia")["cancelled"]
    assert call(client, Ask(proxy, tmp_path, stream=True, tokens=_MANY, cancel=True)) == (CANCELLED, 1)
    wait_for_rest(lab, before + 1)


def test_a_client_that_is_killed(slow: tuple[LabProcess, ProxyProcess], tmp_path: Path, client: Client) -> None:
    """In the middle of a stream."""
    lab, proxy = slow
    before = lab.state("nvidia")["cancelled"]
    ask = Ask(proxy, tmp_path, stream=True, tokens=_MANY)
    child = Child(command_of(client, ask), tmp_path / "out", _ENV)
    try:
        wait_until(lambda: lab.state("nvidia")["in_flight"] == 1, "the call to reach the device")
    finally:
        child.kill_group()
    wait_for_rest(lab, before + 1)


def test_many_tokens_reach_a_client_that_measures_the_line(lab_proxy: ProxyProcess, tmp_path: Path) -> None:
    """grpc-go sends WINDOW_UPDATE and PING behind nearly every token; 2,000 of them are no abuse."""
    client = CLIENTS["grpcurl"]
    if find_tool(client.tool) is None:
        pytest.skip(f"no {client.tool}")
    assert call(client, Ask(lab_proxy, tmp_path, stream=True, tokens=2000)).code == OK
