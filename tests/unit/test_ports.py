"""Ports for the servers of tests: what two tests cannot both have."""

from __future__ import annotations

import socket

import pytest

from tests.support.processes import free_port


def test_no_port_is_handed_out_twice() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == len(ports)


def test_no_outgoing_connection_takes_one() -> None:
    ports = {free_port() for _ in range(50)}
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        clients = [socket.create_connection(listener.getsockname()) for _ in range(50)]
        taken = {client.getsockname()[1] for client in clients}
        for client in clients:
            client.close()
    assert not taken & ports


def test_no_two_workers_are_given_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "3")
    lanes = []
    # The third died, and the fourth took its place.
    for worker in ("gw0", "gw1", "gw3"):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
        lanes.append({free_port() % 3 for _ in range(20)})
    assert [len(lane) for lane in lanes] == [1, 1, 1]
    assert len(lanes[0] | lanes[1]) == 2
    assert lanes[2] == lanes[0]
