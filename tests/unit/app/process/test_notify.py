"""What a service manager hears."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from ollama_proxy.app.process.notify import READY, STOPPING, notify, reloading


def hear(address: str, environ: dict[str, str], *states: str) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(5)
        notify(*states, environ=environ)
        return manager.recv(1000)


def test_states_go_to_the_socket_that_was_named(tmp_path: Path) -> None:
    path = f"/tmp/notify-{tmp_path.name[-40:]}-{id(tmp_path)}"
    try:
        assert hear(path, {"NOTIFY_SOCKET": path}, READY, "STATUS=well") == b"READY=1\nSTATUS=well"
    finally:
        Path(path).unlink()


def test_an_at_sign_stands_for_an_abstract_name() -> None:
    name = f"notify-{id(hear)}"
    assert hear("\0" + name, {"NOTIFY_SOCKET": "@" + name}, STOPPING) == b"STOPPING=1"


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all", "@nobody-listens-here"])
def test_without_a_manager_nothing_happens(address: str) -> None:
    notify(READY, environ={"NOTIFY_SOCKET": address})


def test_a_reload_tells_its_time() -> None:
    first, second = reloading()
    assert first == "RELOADING=1"
    assert second.startswith("MONOTONIC_USEC=")
    assert int(second.partition("=")[2]) > 0
